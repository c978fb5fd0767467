# Stage 4: features, likelihood, scores.


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
        "../../envs/torch.yaml"
    threads: threads_of(min(COMPUTE.gpus, 1))
    resources:
        gpu=min(COMPUTE.gpus, 1),
        device=COMPUTE.device,
    shell:
        "python -m ddpm classifier --config {input.config} --data resources/{wildcards.data}"
        " --out {output} --device {resources.device} > {log} 2>&1"


rule reference:
    input:
        images="resources/{data}/test.npy",
        labels="resources/{data}/labels.npz",
        network=lambda wildcards: network_of(wildcards.data),
    output:
        arrays=f"{RESULTS}/reference/{{data}}/features.npz",
        summary=f"{RESULTS}/reference/{{data}}/reference.json",
    log:
        f"{RESULTS}/logs/evaluation/{{data}}-reference.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{data}}-reference.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: threads_of(min(COMPUTE.gpus, 1))
    resources:
        gpu=min(COMPUTE.gpus, 1),
        device=COMPUTE.device,
    params:
        state=f"{RESULTS}/reference/{{data}}/state",
    shell:
        "python -m ddpm reference --network {input.network} --data resources/{wildcards.data}"
        " --out {output.arrays} --summary {output.summary} --state {params.state} --device {resources.device} > {log} 2>&1"


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
        "../../envs/torch.yaml"
    shell:
        "python -m ddpm compare-reference {input.reference} --statistics {input.card} --out {output} > {log} 2>&1"


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
        "../../envs/torch.yaml"
    threads: threads_of(COMPUTE.gpus)
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device_of(COMPUTE.gpus),
    params:
        state=f"{RESULTS}/{{experiment}}/state/features",
    shell:
        "python -m ddpm features --network {input.network} --samples {input.samples}"
        " --out {output} --state {params.state} --device {resources.device} > {log} 2>&1"


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
        "../../envs/torch.yaml"
    threads: threads_of(COMPUTE.gpus)
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device_of(COMPUTE.gpus),
    params:
        state=f"{RESULTS}/{{experiment}}/state/likelihood/{{split}}",
    shell:
        "python -m ddpm likelihood --config {input.config} --weights {input.weights} --data {input.data}"
        " --shard {wildcards.shard} --out {output} --state {params.state} --device {resources.device} > {log} 2>&1"


rule evaluate:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        features=lambda wildcards: feature_shards(wildcards.experiment),
        bounds=lambda wildcards: [
            shard
            for split in ("test", "train")
            for shard in bound_shards(wildcards.experiment, split)
        ],
        reference=reference_of("features.npz"),
        card=prepared("card.json"),
    output:
        f"{RESULTS}/{{experiment}}/metrics.json",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-metrics.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    params:
        scale=SCALE,
        bounds=lambda wildcards, input: repeat("--bound", input.bounds),
    shell:
        "python -m ddpm evaluate --config {input.config} {input.features} {params.bounds}"
        " --reference {input.reference} --card {input.card} --scale {params.scale} --out {output} > {log} 2>&1"


rule rate_distortion:
    input:
        lambda wildcards: bound_shards(wildcards.experiment, "test"),
    output:
        f"{RESULTS}/{{experiment}}/rate_distortion.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-rate-distortion.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-rate-distortion.tsv"
    conda:
        "../../envs/torch.yaml"
    shell:
        "python -m ddpm rate-distortion {input} --out {output} > {log} 2>&1"


rule progressive:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        features=lambda wildcards: feature_shards(wildcards.experiment),
        reference=reference_of("features.npz"),
    output:
        f"{RESULTS}/{{experiment}}/progressive.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-progressive.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-progressive.tsv"
    conda:
        "../../envs/torch.yaml"
    shell:
        "python -m ddpm progressive --config {input.config} {input.features} --reference {input.reference}"
        " --out {output} > {log} 2>&1"


rule few_steps_scores:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        network=network,
        samples=lambda wildcards: few_steps_shards(wildcards.experiment),
        reference=reference_of("features.npz"),
    output:
        f"{RESULTS}/{{experiment}}/few_steps.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-few-steps.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-few-steps.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: threads_of(min(COMPUTE.gpus, 1))
    resources:
        gpu=min(COMPUTE.gpus, 1),
        device=COMPUTE.device,
    shell:
        "python -m ddpm few-steps-scores --config {input.config} --network {input.network} {input.samples}"
        " --reference {input.reference} --out {output} --device {resources.device} > {log} 2>&1"


rule snapshot_scores:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        network=network,
        samples=lambda wildcards: snapshot_samples(wildcards.experiment),
        reference=reference_of("features.npz"),
    output:
        f"{RESULTS}/{{experiment}}/snapshots.csv",
    log:
        f"{RESULTS}/logs/evaluation/{{experiment}}-snapshots.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluation/{{experiment}}-snapshots.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: threads_of(min(COMPUTE.gpus, 1))
    resources:
        gpu=min(COMPUTE.gpus, 1),
        device=COMPUTE.device,
    shell:
        "python -m ddpm snapshot-scores --config {input.config} --network {input.network} {input.samples}"
        " --reference {input.reference} --out {output} --device {resources.device} > {log} 2>&1"


rule neighbours:
    input:
        config=f"{RESULTS}/{{experiment}}/config/evaluation.json",
        samples=lambda wildcards: sample_shards(wildcards.experiment)[0],
        features=lambda wildcards: feature_shards(wildcards.experiment)[0],
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
        "../../envs/torch.yaml"
    threads: threads_of(min(COMPUTE.gpus, 1))
    resources:
        gpu=min(COMPUTE.gpus, 1),
        device=COMPUTE.device,
    params:
        crop=lambda wildcards: "--crop" if wildcards.kind else "--no-crop",
    shell:
        "python -m ddpm neighbours --config {input.config} --samples {input.samples} --features {input.features}"
        " --data {input.data} --reference {input.reference} --network {input.network} {params.crop} --out {output}"
        " --device {resources.device} > {log} 2>&1"
