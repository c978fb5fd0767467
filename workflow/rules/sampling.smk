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
