# Stage 5: tables, figures and the page. Cheap rules: each lists the modules that it runs, so that editing one
# remakes its outputs.

CAPTIONS = f"{workflow.basedir}/workflow/report"
DRAWN = {name: f"{RESULTS}/figures/{name}.png" for name in CONFIG.figures}
TABULATED = {name: f"{RESULTS}/tables/{name}.csv" for name in CONFIG.tables}


def figure_sources(name):
    """The saved arrays that a figure is drawn from."""
    (experiment,) = CONFIG.experiments_of(name)
    if name in ("figure6", "figure13", "figure14"):
        return sample_shards(experiment)
    curve = {"figure5": "rate_distortion.csv", "figure10": "progressive.csv"}
    array = {"figure15": "neighbours.npz", "diffusion": "trajectory.npz"}
    return [f"{RESULTS}/{experiment}/{(curve | array)[name]}"]


def figure_inputs(name):
    """What else a figure needs: the metrics that say what its axes show."""
    (experiment,) = CONFIG.experiments_of(name)
    return [f"{RESULTS}/{experiment}/metrics.json"] if name == "figure10" else []


for name in CONFIG.figures:

    rule:
        name:
            name
        input:
            sources=figure_sources(name),
            code=code(f"report/figures/{name}", "report/figures/style"),
        output:
            report(
                DRAWN[name],
                caption=f"{CAPTIONS}/{name}.rst",
                category="Figures",
                labels={"figure": name, "scale": SCALE, "data": CONFIG.data_of(name)},
            ),
            f"{RESULTS}/figures/{name}.pdf",
            *([f"{RESULTS}/figures/{name}.gif"] if name == "diffusion" else []),
        params:
            name=name,
            data=CONFIG.data_of(name),
            scale=SCALE,
            out=lambda wildcards, output: repeat("--out", output),
        log:
            f"{RESULTS}/logs/report/{name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/report/{name}.tsv"
        conda:
            "../../envs/report.yaml"
        shell:
            "python -m ddpm figure {params.name} {input.sources} {params.out}"
            " --stamp '{params.data}, scale {params.scale}' > {log} 2>&1"


for name in CONFIG.tables:

    rule:
        name:
            name
        input:
            metrics=[f"{RESULTS}/{experiment}/metrics.json" for experiment in CONFIG.experiments_of(name)],
            curve=[
                f"{RESULTS}/{experiment}/rate_distortion.csv"
                for experiment in CONFIG.experiments_of(name)
                if name == "table4"
            ],
            code=code("report/tables", "report/rendering"),
            published=f"{PACKAGE}/report/published/{name}.csv",
        output:
            TABULATED[name],
            f"{RESULTS}/tables/{name}.md",
            f"{RESULTS}/tables/{name}.tex",
            report(
                f"{RESULTS}/tables/{name}.html",
                caption=f"{CAPTIONS}/{name}.rst",
                category="Tables",
                labels={"table": name, "scale": SCALE, "data": CONFIG.data_of(name)},
            ),
        params:
            name=name,
            data=CONFIG.data_of(name),
            scale=SCALE,
            metrics=lambda wildcards, input: repeat("--metrics", input.metrics),
            curve=lambda wildcards, input: repeat("--curve", input.curve),
        log:
            f"{RESULTS}/logs/report/{name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/report/{name}.tsv"
        conda:
            "../../envs/report.yaml"
        shell:
            "python -m ddpm table {params.name} {params.metrics} {params.curve} --out {output[0]} > {log} 2>&1"


rule page:
    input:
        metrics=expand(f"{RESULTS}/{{experiment}}/metrics.json", experiment=EXPERIMENTS),
        outcomes=expand(f"{RESULTS}/{{experiment}}/training.json", experiment=EXPERIMENTS),
        configs=expand(
            f"{RESULTS}/{{experiment}}/config/{{stage}}.json",
            experiment=EXPERIMENTS,
            stage=("training", "sampling", "evaluation"),
        ),
        references=expand(f"{RESULTS}/reference/{{data}}/reference.json", data=DATA),
        cards=expand("resources/{data}/card.json", data=DATA),
        tables=list(TABULATED.values()),
        figures=[
            *DRAWN.values(),
            *([f"{RESULTS}/figures/diffusion.gif"] if "diffusion" in CONFIG.figures else []),
        ],
        captions=[f"{CAPTIONS}/{name}.rst" for name in (*CONFIG.tables, *CONFIG.figures)],
        code=[*code("report/page", "report/rendering", "report/ordering"), f"{PACKAGE}/report/page.html"],
    output:
        f"{RESULTS}/report.html",
    params:
        scale=SCALE,
        description=CONFIG.scale_config.description.strip(),
        captions=CAPTIONS,
        files=lambda wildcards, input: " ".join(
            repeat(f"--{kind}", input[f"{kind}s" if kind != "metrics" else kind])
            for kind in ("metrics", "reference", "card", "config", "table", "figure")
        ),
        benchmarks=f"{RESULTS}/benchmarks",
    log:
        f"{RESULTS}/logs/report/page.log",
    conda:
        "../../envs/report.yaml"
    shell:
        "python -m ddpm report --out {output} --scale {params.scale} --description {params.description:q}"
        " {params.files} --captions {params.captions} --benchmarks {params.benchmarks} > {log} 2>&1"
