# Stage 3: sampling, in numbered shards. It goes before evaluation where both wait for a GPU.


rule sampling:
    input:
        [shard for name in EXPERIMENTS for shard in FILES.samples(name)],
        FILES.sampled_for_figures(),


rule sample:
    input:
        config=f"{RESULTS}/{{experiment}}/config/sampling.json",
        weights=weights,
    output:
        f"{RESULTS}/{{experiment}}/samples/{{shard}}-of-{{shards}}.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-{{shard}}-of-{{shards}}.tsv"
    priority: 1
    conda:
        TORCH_ENV
    threads: threads_of(COMPUTE.gpus)
    resources:
        **on(COMPUTE.gpus),
    params:
        command="sample",
        state=f"{RESULTS}/{{experiment}}/state/samples",
    shell:
        "python -m ddpm {params.command:q} --config {input.config:q} --weights {input.weights:q} --shard {wildcards.shard:q}"
        " --out {output:q} --state {params.state:q} --device {resources.device:q} > {log:q} 2>&1"


use rule sample as few_steps with:
    input:
        config=f"{RESULTS}/{{experiment}}/config/few_steps.json",
        weights=weights,
    output:
        f"{RESULTS}/{{experiment}}/few_steps/{{shard}}-of-{{shards}}.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-few-steps-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-few-steps-{{shard}}-of-{{shards}}.tsv"
    params:
        command="few-steps",
        state=f"{RESULTS}/{{experiment}}/state/few_steps",


rule trajectory:
    input:
        weights=weights,
        data=prepared("test.npy"),
    output:
        f"{RESULTS}/{{experiment}}/trajectory.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-trajectory.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-trajectory.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    shell:
        "python -m ddpm trajectory --weights {input.weights:q} --data {input.data:q} --out {output:q}"
        " --device {resources.device:q} > {log:q} 2>&1"


rule snapshot:
    input:
        config=f"{RESULTS}/{{experiment}}/config/snapshots.json",
        final=f"{RESULTS}/{{experiment}}/final.safetensors",
        weights=f"{RESULTS}/{{experiment}}/weights",
    output:
        f"{RESULTS}/{{experiment}}/snapshots/{{step}}.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-snapshot-{{step}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-snapshot-{{step}}.tsv"
    priority: 1
    conda:
        TORCH_ENV
    threads: threads_of(COMPUTE.gpus)
    resources:
        **on(COMPUTE.gpus),
    params:
        # Of this snapshot alone: what is kept of other weights would be removed.
        state=f"{RESULTS}/{{experiment}}/state/snapshots/{{step}}",
    shell:
        "python -m ddpm snapshot --config {input.config:q} --final {input.final:q} --snapshots {input.weights:q}"
        " --step {wildcards.step:q} --out {output:q} --state {params.state:q} --device {resources.device:q} > {log:q} 2>&1"


rule snapshot_previews:
    input:
        config=f"{RESULTS}/{{experiment}}/config/snapshots.json",
        samples=lambda wildcards: FILES.snapshots(wildcards.experiment),
    output:
        f"{RESULTS}/{{experiment}}/snapshots.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-snapshot-previews.log",
    conda:
        TORCH_ENV
    shell:
        "python -m ddpm snapshot-previews --config {input.config:q} {input.samples:q} --out {output:q} > {log:q} 2>&1"


rule latents:
    input:
        weights=weights,
    output:
        f"{RESULTS}/{{experiment}}/latents.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-latents.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-latents.tsv"
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    params:
        config=lambda wildcards: experiment_of(wildcards).latents,
    shell:
        "python -m ddpm shared-latents --weights {input.weights:q} --chains {params.config.chains:q}"
        " --batch-size {params.config.batch_size:q} --seed {params.config.seed:q} --out {output:q}"
        " --device {resources.device:q} > {log:q} 2>&1"


rule interpolate:
    input:
        weights=weights,
        data=prepared("train.npy"),
    output:
        f"{RESULTS}/{{experiment}}/{{grid}}.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-{{grid}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-{{grid}}.tsv"
    wildcard_constraints:
        grid="interpolations|coarse-to-fine",
    conda:
        TORCH_ENV
    threads: threads_of(ONE_GPU)
    resources:
        **on(ONE_GPU),
    params:
        config=lambda wildcards: experiment_of(wildcards).latents,
        # Figure 8: several pairs, half way; Figure 9: one pair, from the noise to the pixels.
        grid=lambda wildcards: {
            "interpolations": [
                *repeat("--pairs", [experiment_of(wildcards).latents.pairs]),
                *repeat("--steps", [500]),
            ],
            "coarse-to-fine": [
                *repeat("--pairs", [1]),
                *repeat("--steps", range(1000, -1, -125)),
            ],
        }[wildcards.grid],
    shell:
        "python -m ddpm interpolate --weights {input.weights:q} --data {input.data:q} {params.grid:q}"
        " --batch-size {params.config.batch_size:q} --seed {params.config.seed:q} --out {output:q}"
        " --device {resources.device:q} > {log:q} 2>&1"
