# Stage 4: features, likelihood, scores.


rule evaluation:
    input:
        expand(f"{RESULTS}/{{experiment}}/metrics.json", experiment=EXPERIMENTS),
        expand(f"{RESULTS}/reference/{{data}}/published.json", data=WITH_STATISTICS),
        FILES.evaluated_for_figures(),


rule classifier:
    input:
        config=f"{RESULTS}/reference/{{data}}/classifier.json",
        images="resources/{data}/train.npy",
        labels="resources/{data}/labels.npz",
    output:
        f"{RESULTS}/reference/{{data}}/classifier.safetensors",
    log:
        f"{RESULTS}/logs/evaluation/{{data}}-classifier.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{data}}-classifier.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    shell:
        "python -m ddpm classifier --config {input.config:q} --data resources/{wildcards.data:q}"
        " --out {output:q} --device {resources.device:q} > {log:q} 2>&1"


rule reference:
    input:
        images="resources/{data}/test.npy",
        labels="resources/{data}/labels.npz",
        network=lambda wildcards: FILES.network(wildcards.data),
    output:
        arrays=f"{RESULTS}/reference/{{data}}/features.npz",
        summary=f"{RESULTS}/reference/{{data}}/reference.json",
    log:
        f"{RESULTS}/logs/evaluation/{{data}}-reference.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{data}}-reference.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    params:
        trusted=TRUSTED_NETWORK,
        state=f"{RESULTS}/reference/{{data}}/state",
    shell:
        "python -m ddpm reference --network {input.network:q} {params.trusted:q} --data resources/{wildcards.data:q}"
        " --out {output.arrays:q} --summary {output.summary:q} --state {params.state:q} --device {resources.device:q} > {log:q} 2>&1"


rule published:
    input:
        reference=f"{RESULTS}/reference/{{data}}/features.npz",
        card="resources/statistics/{data}/card.json",
    output:
        f"{RESULTS}/reference/{{data}}/published.json",
    log:
        f"{RESULTS}/logs/evaluation/{{data}}-published.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{data}}-published.tsv"
    conda:
        TORCH_ENV
    shell:
        "python -m ddpm compare-reference {input.reference:q} --statistics {input.card:q} --out {output:q} > {log:q} 2>&1"


rule features:
    input:
        network=network,
        samples=f"{RESULTS}/{{experiment}}/samples/{{shard}}-of-{{shards}}.npz",
    output:
        f"{RESULTS}/{{experiment}}/features/{{shard}}-of-{{shards}}.npz",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-features-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-features-{{shard}}-of-{{shards}}.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(COMPUTE.gpus)
    resources:
        **on(COMPUTE.gpus),
    params:
        trusted=TRUSTED_NETWORK,
        state=f"{RESULTS}/{{experiment}}/state/features",
    shell:
        "python -m ddpm features --network {input.network:q} {params.trusted:q} --samples {input.samples:q}"
        " --out {output:q} --state {params.state:q} --device {resources.device:q} > {log:q} 2>&1"


rule likelihood:
    input:
        config=f"{RESULTS}/{{experiment}}/config/likelihood.json",
        weights=weights,
        data=prepared("{split}.npy"),
    output:
        f"{RESULTS}/{{experiment}}/likelihood/{{split}}/{{shard}}-of-{{shards}}.npz",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-likelihood-{{split}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-likelihood-{{split}}-{{shard}}-of-{{shards}}.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(COMPUTE.gpus)
    resources:
        **on(COMPUTE.gpus),
    params:
        state=f"{RESULTS}/{{experiment}}/state/likelihood/{{split}}",
    shell:
        "python -m ddpm likelihood --config {input.config:q} --weights {input.weights:q} --data {input.data:q}"
        " --shard {wildcards.shard:q} --out {output:q} --state {params.state:q} --device {resources.device:q} > {log:q} 2>&1"


rule evaluate:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        features=lambda wildcards: FILES.features(wildcards.experiment),
        bounds=lambda wildcards: [
            shard
            for split in ("test", "train")
            for shard in FILES.bounds(wildcards.experiment, split)
        ],
        reference=reference_of("features.npz"),
        card=prepared("card.json"),
        statistics=lambda wildcards: FILES.statistics(experiment_of(wildcards).data),
    output:
        f"{RESULTS}/{{experiment}}/metrics.json",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-metrics.tsv"
    conda:
        TORCH_ENV
    threads: COMPUTE.threads
    params:
        scale=SCALE,
        bounds=lambda wildcards, input: repeat("--bound", input.bounds),
        statistics=lambda wildcards, input: repeat("--statistics", input.statistics),
    shell:
        "python -m ddpm evaluate --config {input.config:q} {input.features:q} {params.bounds:q}"
        " --reference {input.reference:q} --card {input.card:q} {params.statistics:q} --scale {params.scale:q}"
        " --out {output:q} > {log:q} 2>&1"


rule rate_distortion:
    input:
        lambda wildcards: FILES.bounds(wildcards.experiment, "test"),
    output:
        f"{RESULTS}/{{experiment}}/rate_distortion.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-rate-distortion.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-rate-distortion.tsv"
    conda:
        TORCH_ENV
    shell:
        "python -m ddpm rate-distortion {input:q} --out {output:q} > {log:q} 2>&1"


rule progressive:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        features=lambda wildcards: FILES.features(wildcards.experiment),
        reference=reference_of("features.npz"),
    output:
        f"{RESULTS}/{{experiment}}/progressive.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-progressive.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-progressive.tsv"
    conda:
        TORCH_ENV
    shell:
        "python -m ddpm progressive --config {input.config:q} {input.features:q} --reference {input.reference:q}"
        " --out {output:q} > {log:q} 2>&1"


rule few_steps_scores:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        network=network,
        samples=lambda wildcards: FILES.few_steps(wildcards.experiment),
        reference=reference_of("features.npz"),
    output:
        f"{RESULTS}/{{experiment}}/few_steps.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-few-steps.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-few-steps.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    params:
        command="few-steps-scores",
        trusted=TRUSTED_NETWORK,
    shell:
        "python -m ddpm {params.command:q} --config {input.config:q} --network {input.network:q} {params.trusted:q} {input.samples:q}"
        " --reference {input.reference:q} --out {output:q} --device {resources.device:q} > {log:q} 2>&1"


use rule few_steps_scores as snapshot_scores with:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        network=network,
        samples=lambda wildcards: FILES.snapshots(wildcards.experiment),
        reference=reference_of("features.npz"),
    output:
        f"{RESULTS}/{{experiment}}/snapshots.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-snapshots.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-snapshots.tsv"
    params:
        command="snapshot-scores",


rule neighbours:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        samples=lambda wildcards: FILES.samples(wildcards.experiment)[0],
        features=lambda wildcards: FILES.features(wildcards.experiment)[0],
        data=prepared("train.npy"),
        reference=reference_of("features.npz"),
        network=network,
    output:
        f"{RESULTS}/{{experiment}}/neighbours{{kind}}.npz",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-neighbours{{kind}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-neighbours{{kind}}.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    params:
        trusted=TRUSTED_NETWORK,
        crop=lambda wildcards: "--crop" if wildcards.kind else "--no-crop",
    shell:
        "python -m ddpm neighbours --config {input.config:q} --samples {input.samples:q} --features {input.features:q}"
        " --data {input.data:q} --reference {input.reference:q} --network {input.network:q} {params.trusted:q} {params.crop:q} --out {output:q}"
        " --device {resources.device:q} > {log:q} 2>&1"
