# Stage 1: configuration and data, which every other stage reads.


rule stage_config:
    output:
        f"{RESULTS}/{{experiment}}/config/{{stage}}.json",
    log:
        f"{RESULTS}/logs/data/{{experiment}}-{{stage}}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        document=lambda wildcards: json.dumps(experiment_of(wildcards).stage_config(wildcards.stage), indent=2),
    shell:
        "(printf '%s\\n' {params.document:q} > {output}.part && mv {output}.part {output}) 2> {log}"


rule classifier_config:
    output:
        f"{RESULTS}/reference/{{data}}/classifier.json",
    log:
        f"{RESULTS}/logs/data/{{data}}-classifier.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        document=json.dumps(CONFIG.scale_config.classifier.model_dump(mode="json"), indent=2),
    shell:
        "(printf '%s\\n' {params.document:q} > {output}.part && mv {output}.part {output}) 2> {log}"


rule download:
    output:
        # The files lie beside it and are not outputs, which Snakemake would delete when a later one fails.
        "resources/downloads/{data}/card.json",
    log:
        "resources/logs/download-{data}.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    shell:
        "python -m ddpm download {wildcards.data} --out resources/downloads/{wildcards.data} > {log} 2>&1"


rule prepare:
    input:
        lambda wildcards: downloads(wildcards.data),
    output:
        train="resources/{data}/train.npy",
        test="resources/{data}/test.npy",
        labels="resources/{data}/labels.npz",
        card="resources/{data}/card.json",
    log:
        "resources/logs/{data}.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{data}}.tsv"
    conda:
        "../../envs/torch.yaml"
    params:
        source=lambda wildcards, input: f" --source {Path(input[0]).parent}" if input else "",
    shell:
        "python -m ddpm prepare {wildcards.data}{params.source} --out resources/{wildcards.data} > {log} 2>&1"
