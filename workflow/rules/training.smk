# Stage 2: training. The shell line is frozen: one changed space would train every model again.


rule train:
    input:
        config=f"{RESULTS}/{{experiment}}/config/training.json",
        data=prepared("train.npy"),
        card=prepared("card.json"),
    output:
        weights=f"{RESULTS}/{{experiment}}/model.safetensors",
        history=f"{RESULTS}/{{experiment}}/training.csv",
        outcome=f"{RESULTS}/{{experiment}}/training.json",
    log:
        f"{RESULTS}/logs/training/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/training/{{experiment}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: COMPUTE.threads
    resources:
        gpu=COMPUTE.gpus,
        device=COMPUTE.device,
    params:
        # Not an output: Snakemake deletes the outputs of failed jobs, and the state must outlive them.
        state=lambda wildcards: f"{RESULTS}/{wildcards.experiment}/state/{experiment_of(wildcards).fingerprint()}",
        scale=SCALE,
    shell:
        "python -m ddpm train --config {input.config} --data {input.data} --state {params.state}"
        " --out {output.weights} --history {output.history} --outcome {output.outcome}"
        " --scale {params.scale} --device {resources.device} > {log} 2>&1"
