# Stage 2: training, or weights that others have published. A changed shell line of `train`
# makes every training's job run again; it finds its state finished and writes the same outputs.


rule training:
    input:
        expand(
            f"{RESULTS}/{{experiment}}/{{file}}",
            experiment=OWN_WEIGHTS,
            file=["model.safetensors", "training.json"],
        ),


rule train:
    input:
        config=f"{RESULTS}/{{experiment}}/config/training.json",
        data=prepared("train.npy"),
        card=prepared("card.json"),
    output:
        weights=f"{RESULTS}/{{experiment}}/final.safetensors",
        history=f"{RESULTS}/{{experiment}}/training.csv",
        outcome=f"{RESULTS}/{{experiment}}/training.json",
        snapshots=directory(f"{RESULTS}/{{experiment}}/weights"),
    log:
        f"{RESULTS}/logs/training/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/training/{{experiment}}.tsv"
    wildcard_constraints:
        experiment=one_of(TRAINED),
    conda:
        TORCH_ENV
    threads: threads_of(COMPUTE.gpus_of_training)
    resources:
        **on(COMPUTE.gpus_of_training),
    params:
        # Not an output: Snakemake deletes the outputs of failed jobs, and the state must outlive them.
        state=lambda wildcards: f"{RESULTS}/{wildcards.experiment}/state/{experiment_of(wildcards).fingerprint()}",
        scale=SCALE,
    shell:
        "python -m ddpm train --config {input.config:q} --data {input.data:q} --state {params.state:q}"
        " --out {output.weights:q} --history {output.history:q} --outcome {output.outcome:q}"
        " --snapshots {output.snapshots:q} --scale {params.scale:q} --device {resources.device:q} > {log:q} 2>&1"


rule select:
    input:
        final=f"{RESULTS}/{{experiment}}/final.safetensors",
        snapshots=f"{RESULTS}/{{experiment}}/weights",
        scores=lambda wildcards: (
            f"{RESULTS}/{wildcards.experiment}/snapshots.csv"
            if experiment_of(wildcards).checkpoint is Selection.LOWEST_FID
            else []
        ),
    output:
        f"{RESULTS}/{{experiment}}/model.safetensors",
    log:
        f"{RESULTS}/logs/training/{{experiment}}-select.log",
    wildcard_constraints:
        experiment=one_of(TRAINED),
    conda:
        TORCH_ENV
    params:
        checkpoint=lambda wildcards: experiment_of(wildcards).checkpoint,
        scores=lambda wildcards, input: repeat(
            "--scores", [input.scores] if input.scores else []
        ),
    shell:
        "python -m ddpm select {input.final:q} --checkpoint {params.checkpoint:q} --snapshots {input.snapshots:q}"
        " {params.scores:q} --out {output:q} > {log:q} 2>&1"


use rule download_data as download_weights with:
    input:
        lambda wildcards: f"{RESULTS}/{CHECKPOINTS[wildcards.checkpoint]}/config/training.json",
    output:
        # The weights lie beside it and are not outputs, which Snakemake would delete when a later file fails.
        "resources/weights/{checkpoint}/card.json",
    log:
        "resources/logs/weights-{checkpoint}.log",
    localrule: True
    params:
        command="download-weights",


rule import_weights:
    input:
        config=f"{RESULTS}/{{experiment}}/config/training.json",
        card=lambda wildcards: f"resources/weights/{experiment_of(wildcards).checkpoint.name}/card.json",
    output:
        weights=f"{RESULTS}/{{experiment}}/model.safetensors",
        outcome=f"{RESULTS}/{{experiment}}/training.json",
    log:
        f"{RESULTS}/logs/training/{{experiment}}-import.log",
    benchmark:
        f"{RESULTS}/benchmarks/training/{{experiment}}-import.tsv"
    wildcard_constraints:
        experiment=one_of(RELEASED),
    conda:
        TORCH_ENV
    shell:
        "python -m ddpm import-weights {input.card:q} --config {input.config:q} --out {output.weights:q}"
        " --outcome {output.outcome:q} > {log:q} 2>&1"
