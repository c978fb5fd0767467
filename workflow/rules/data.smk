# Stage 1: configuration and data, which every other stage reads.

from ddpm.data.listing import with_fingerprint


rule data:
    input:
        expand("resources/{data}/card.json", data=DATA),


rule stage_config:
    output:
        f"{RESULTS}/{{experiment}}/config/{{stage}}.json",
    log:
        f"{RESULTS}/logs/data/{{experiment}}-{{stage}}.log",
    localrule: True
    params:
        document=lambda wildcards: json.dumps(
            experiment_of(wildcards).stage_config(wildcards.stage), indent=2
        ),
    shell:
        "(printf '%s\\n' {params.document:q} > {output:q}.part && mv {output:q}.part {output:q}"
        " || (rm -f {output:q}.part && false)) 2> {log:q}"


# `localrule` is not handed on by `use rule`.
use rule stage_config as classifier_config with:
    output:
        f"{RESULTS}/reference/{{data}}/classifier.json",
    log:
        f"{RESULTS}/logs/data/{{data}}-classifier.log",
    localrule: True
    params:
        document=lambda wildcards: json.dumps(
            CONFIG.scale_config.classifier.model_dump(mode="json"), indent=2
        ),


use rule stage_config as source with:
    output:
        "resources/sources/{data}.json",
    log:
        "resources/logs/source-{data}.log",
    localrule: True
    params:
        # Without others' statistics, which are no reason to prepare the data again. With a fingerprint of the files in
        # a user's folder, which are one when they change.
        document=lambda wildcards: with_fingerprint(
            CONFIG.data_sets[wildcards.data]
        ).model_dump_json(indent=2, exclude={"statistics"}),


use rule stage_config as statistics_source with:
    output:
        "resources/statistics/{data}/source.json",
    log:
        "resources/logs/statistics-source-{data}.log",
    wildcard_constraints:
        data=one_of(WITH_STATISTICS),
    localrule: True
    params:
        document=lambda wildcards: CONFIG.data_sets[wildcards.data].model_dump_json(
            indent=2
        ),


use rule stage_config as network_source with:
    output:
        "resources/inception/source.json",
    log:
        "resources/logs/inception-source.log",
    localrule: True
    params:
        document=lambda wildcards: CONFIG.inception.model_dump_json(
            indent=2, exclude={"root"}
        ),


rule download_data:
    input:
        "resources/sources/{data}.json",
    output:
        # The files lie beside it and are not outputs, which Snakemake would delete when a later one fails.
        "resources/downloads/{data}/card.json",
    log:
        "resources/logs/download-{data}.log",
    localrule: True
    conda:
        TORCH_ENV
    params:
        command="download",
        out=subpath(output[0], parent=True),
    shell:
        "python -m ddpm {params.command:q} {input:q} --out {params.out:q} > {log:q} 2>&1"


use rule download_data as download_statistics with:
    # Never fails: its card says what could not be fetched, and why.
    input:
        "resources/statistics/{data}/source.json",
    output:
        "resources/statistics/{data}/card.json",
    log:
        "resources/logs/statistics-{data}.log",
    localrule: True
    params:
        command="download-statistics",


use rule download_data as download_network with:
    input:
        "resources/inception/source.json",
    output:
        # Not removed before the job, which needs no network where the right file is there.
        update("resources/inception/inception-2015-12-05.pt"),
    log:
        "resources/logs/inception.log",
    localrule: True
    params:
        command="download-network",


rule download:
    # All that needs the network, and nothing else: for a login node.
    input:
        [card for data in DATA for card in FILES.downloads(data)],
        [f"resources/weights/{checkpoint}/card.json" for checkpoint in CHECKPOINTS],
        lambda wildcards: (
            [FILES.inception] if CONFIG.scale_config.features == "inception" else []
        ),
        [card for data in DATA for card in FILES.statistics(data)],
    localrule: True


rule prepare:
    input:
        source="resources/sources/{data}.json",
        card=lambda wildcards: FILES.downloads(wildcards.data),
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
        TORCH_ENV
    threads: COMPUTE.threads
    params:
        files=lambda wildcards, input: repeat(
            "--source", [Path(card).parent for card in input.card]
        ),
    shell:
        "python -m ddpm prepare {input.source:q} {params.files:q} --out resources/{wildcards.data:q}"
        " --threads {threads:q} > {log:q} 2>&1"
