# Stage 5: tables, figures and the page. Cheap rules: each lists the modules that it runs, so that editing one
# remakes its outputs.

DRAWN = {name: f"{RESULTS}/figures/{name}.png" for name in CONFIG.figures}
# Which experiment each of Table 3's columns shows.
COLUMNS = [
    f"{column}:{experiment}"
    for column, experiment in zip(
        ("bedroom", "bedroom", "church", "cat"), CONFIG.experiments_of("table3")
    )
]
TABULATED = {name: f"{RESULTS}/tables/{name}.csv" for name in CONFIG.tables}


rule report:
    input:
        f"{RESULTS}/report.html",


for name in CONFIG.figures:

    rule:
        name:
            name
        input:
            sources=FILES.figure_sources(name),
            code=code.figure_code(name),
        output:
            report(
                DRAWN[name],
                caption=f"../report/{name}.rst",
                category="Beyond the paper" if name in BEYOND else "Figures",
                labels={"figure": name, "scale": SCALE, "data": CONFIG.data_of(name)},
            ),
            f"{RESULTS}/figures/{name}.pdf",
            [f"{RESULTS}/figures/{name}.gif"] if name == "diffusion" else [],
        log:
            f"{RESULTS}/logs/report/{name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/report/{name}.tsv"
        conda:
            REPORT_ENV
        params:
            names=name,
            data=CONFIG.data_of(name),
            scale=SCALE,
            stamp=FILES.figure_stamp(name),
            out=lambda wildcards, output: repeat("--out", output),
        shell:
            "python -m ddpm figure {params.names:q} {input.sources:q} {params.out:q}"
            " --stamp {params.stamp:q} > {log:q} 2>&1"


for name in CONFIG.tables:

    rule:
        name:
            name
        input:
            metrics=[
                f"{RESULTS}/{experiment}/metrics.json"
                for experiment in FILES.with_repeats(name)
            ],
            curve=FILES.curves(name),
            code=code.table_code(),
            published=[] if name == SCORES_TABLE else code.published(name),
        output:
            csv=TABULATED[name],
            markdown=f"{RESULTS}/tables/{name}.md",
            latex=f"{RESULTS}/tables/{name}.tex",
            html=report(
                f"{RESULTS}/tables/{name}.html",
                caption=f"../report/{name}.rst",
                category="Beyond the paper" if name == SCORES_TABLE else "Tables",
                labels={"table": name, "scale": SCALE, "data": CONFIG.data_of(name)},
            ),
        log:
            f"{RESULTS}/logs/report/{name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/report/{name}.tsv"
        conda:
            REPORT_ENV
        params:
            name=name,
            data=CONFIG.data_of(name),
            scale=SCALE,
            metrics=lambda wildcards, input: repeat("--metrics", input.metrics),
            curve=lambda wildcards, input: repeat("--curve", input.curve),
            columns=repeat("--column", COLUMNS if name == "table3" else []),
        shell:
            "python -m ddpm table {params.name:q} {params.metrics:q} {params.curve:q} {params.columns:q} --out {output.csv:q}"
            " > {log:q} 2>&1"


rule page:
    input:
        metrics=expand(f"{RESULTS}/{{experiment}}/metrics.json", experiment=EXPERIMENTS),
        outcomes=expand(
            f"{RESULTS}/{{experiment}}/training.json", experiment=OWN_WEIGHTS
        ),
        configs=expand(
            f"{RESULTS}/{{experiment}}/config/{{stage}}.json",
            experiment=EXPERIMENTS,
            stage=("training", "sampling", "evaluation"),
        ),
        references=expand(f"{RESULTS}/reference/{{data}}/reference.json", data=DATA),
        published=expand(
            f"{RESULTS}/reference/{{data}}/published.json", data=WITH_STATISTICS
        ),
        cards=expand("resources/{data}/card.json", data=DATA),
        tables=list(TABULATED.values()),
        figures=[
            *DRAWN.values(),
            *(
                [f"{RESULTS}/figures/diffusion.gif"]
                if "diffusion" in CONFIG.figures
                else []
            ),
        ],
        captions=code.captions(*CONFIG.tables, *CONFIG.figures),
        code=code.page_code(),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report/page.log",
    conda:
        REPORT_ENV
    params:
        scale=SCALE,
        description=lambda wildcards: CONFIG.scale_config.description.strip(),
        captions=lambda wildcards, input: Path(input.captions[0]).parent,
        files=lambda wildcards, input: [
            word
            for kind in (
                "metrics",
                "reference",
                "published",
                "card",
                "config",
                "table",
                "figure",
            )
            for word in repeat(
                f"--{kind}",
                input[kind if kind in ("metrics", "published") else f"{kind}s"],
            )
        ],
        benchmarks=f"{RESULTS}/benchmarks",
    shell:
        "python -m ddpm report --out {output:q} --scale {params.scale:q} --description {params.description:q}"
        " {params.files:q} --captions {params.captions:q} --benchmarks {params.benchmarks:q} > {log:q} 2>&1"


rule plan:
    # No output: it is asked for to be read, each time anew.
    log:
        f"{RESULTS}/logs/report/plan.log",
    localrule: True
    conda:
        TORCH_ENV
    params:
        document=lambda wildcards: json.dumps(config),
    shell:
        "python -m ddpm plan --document {params.document:q} 2> {log:q}"
