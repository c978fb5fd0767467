# Stage 3: sampling, in numbered shards.


rule sample:
    input:
        config=f"{RESULTS}/{{experiment}}/config/sampling.json",
        weights=f"{RESULTS}/{{experiment}}/model.safetensors",
    output:
        f"{RESULTS}/{{experiment}}/samples/{{shard}}-of-{{shards}}.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-{{shard}}-of-{{shards}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device,
    shell:
        "python -m ddpm sample --config {input.config} --weights {input.weights} --shard {wildcards.shard}"
        " --out {output} --device {resources.device} > {log} 2>&1"


rule few_steps:
    input:
        config=f"{RESULTS}/{{experiment}}/config/few_steps.json",
        weights=f"{RESULTS}/{{experiment}}/model.safetensors",
    output:
        f"{RESULTS}/{{experiment}}/few_steps/{{shard}}-of-{{shards}}.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-few-steps-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-few-steps-{{shard}}-of-{{shards}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device,
    shell:
        "python -m ddpm few-steps --config {input.config} --weights {input.weights} --shard {wildcards.shard}"
        " --out {output} --device {resources.device} > {log} 2>&1"


rule trajectory:
    input:
        weights=f"{RESULTS}/{{experiment}}/model.safetensors",
        data=prepared("test.npy"),
    output:
        f"{RESULTS}/{{experiment}}/trajectory.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-trajectory.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-trajectory.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device,
    shell:
        "python -m ddpm trajectory --weights {input.weights} --data {input.data} --out {output}"
        " --device {resources.device} > {log} 2>&1"


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
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device,
    shell:
        "python -m ddpm snapshot --config {input.config} --final {input.final} --snapshots {input.weights}"
        " --step {wildcards.step} --out {output} --device {resources.device} > {log} 2>&1"


rule snapshot_previews:
    input:
        config=f"{RESULTS}/{{experiment}}/config/snapshots.json",
        samples=lambda wildcards: snapshot_samples(wildcards.experiment),
    output:
        f"{RESULTS}/{{experiment}}/snapshots.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-snapshot-previews.log",
    conda:
        "../../envs/torch.yaml"
    shell:
        "python -m ddpm snapshot-previews --config {input.config} {input.samples} --out {output} > {log} 2>&1"


rule latents:
    input:
        config=f"{RESULTS}/{{experiment}}/config/latents.json",
        weights=f"{RESULTS}/{{experiment}}/model.safetensors",
    output:
        f"{RESULTS}/{{experiment}}/latents.npz",
    log:
        f"{RESULTS}/logs/sampling/{{experiment}}-latents.log",
    benchmark:
        f"{RESULTS}/benchmarks/sampling/{{experiment}}-latents.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device,
    shell:
        "python -m ddpm shared-latents --config {input.config} --weights {input.weights} --out {output}"
        " --device {resources.device} > {log} 2>&1"


for name, grid in (("interpolations", "--steps 500"), ("coarse-to-fine", "--coarse-to-fine")):

    rule:
        name:
            name.replace("-", "_")
        input:
            config=f"{RESULTS}/{{experiment}}/config/latents.json",
            weights=f"{RESULTS}/{{experiment}}/model.safetensors",
            data=prepared("train.npy"),
        output:
            f"{RESULTS}/{{experiment}}/{name}.npz",
        log:
            f"{RESULTS}/logs/sampling/{{experiment}}-{name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/sampling/{{experiment}}-{name}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: COMPUTE.threads
        resources:
            gpu=COMPUTE.gpus,
            device=COMPUTE.device,
        params:
            grid=grid,
        shell:
            "python -m ddpm interpolate --config {input.config} --weights {input.weights} --data {input.data}"
            " {params.grid} --out {output} --device {resources.device} > {log} 2>&1"
