"""The report: one HTML file that opens from disk without a network."""

import base64
import io
import re
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import jinja2
import pandas as pd
from docutils.core import publish_parts
from docutils.utils import SystemMessage
from PIL import Image

from ddpm.config.catalogue import SCORES_TABLE, TABLES
from ddpm.config.errors import UserError
from ddpm.report import rendering
from ddpm.report.comparisons import Comparison, compare_numbers, count_verdicts
from ddpm.report.figures import BEYOND
from ddpm.report.inputs import ending_of, is_untrained, main_run, network_name, read_metrics
from ddpm.report.numbers import group_repeats, mean_over_seeds
from ddpm.report.ordering import describe_ordering
from ddpm.report.tables import tabulate
from ddpm.report.verdicts import RULES
from ddpm.report.watch import make_viewer, read_trajectory
from ddpm.storage.files import read_json, write_text
from ddpm.storage.tables import read_table

FOLDER = Path(__file__).parent
STAGES = ("data", "training", "sampling", "evaluation", "report")
MACHINE = ("machine", "device", "python", "packages", "versions", "code")  # of what a number was made from
NOT_NUMBERS = ("experiment", "repeat", "scale", "data", "method", "deviations", "made_from")  # keys of metrics.json
MIME = {".png": "image/png", ".gif": "image/gif"}
IDEA = "diffusion"  # the figure that opens the page, still and moving
TITLES = {  # of those with no number
    IDEA: "The diffusion process",
    "fewsteps": "Few-step sampling with DDIM",
    "bound": "The bound, term by term",
    "training-curve": "The course of training",
    "reproduced": "Reproduced and published numbers",
    SCORES_TABLE: "Other scores, and how certain they are",
}


def write_page(
    out: Path,
    scale: str,
    description: str,
    experiments: list[Path],
    references: list[Path],
    published: list[Path],
    cards: list[Path],
    configs: list[Path],
    tables: list[Path],
    figures: list[Path],
    captions: Path,
    benchmarks: list[Path],
    trajectory: Path | None = None,
) -> None:
    """Write the report on one scale.

    experiments: metrics.json; references: reference.json; published: published.json; cards: card.json;
    configs: {experiment}/config/*.json; tables: CSV; figures: PNG and GIF, which are embedded;
    captions: the folder with a .rst for every table and figure, by its name; benchmarks: {stage}/*.tsv;
    trajectory: trajectory.npz, over which the slider moves.
    """
    runs = [read_metrics(path) for path in experiments]
    of_rows = group_repeats(runs)
    by_experiment = read_configs(configs)
    main = main_run(of_rows)
    shown = main or (runs[0] if runs else None)
    made_from = flatten((shown or {}).get("made_from") or {})
    names = [run["data"]["name"] for run in runs]
    pictures = [embed_picture(Path(path), Path(captions), scale, names) for path in figures]
    frames = {Path(path).stem: read_table(path, *rendering.REQUIRED) for path in tables}
    shown_tables = [embed_table(name, frames[name], Path(captions), scale, names) for name in frames]
    comparisons = compare_all(frames)
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    text = (
        make_environment()
        .get_template("page.html")
        .render(
            scale=scale,
            description=description,
            script=script,
            script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
            counts=count_verdicts(comparisons),
            main_numbers=choose_main(comparisons, main),
            data_sets=list(dict.fromkeys(run["data"].get("title") or run["data"]["name"] for run in runs)),
            viewer=make_viewer(read_trajectory(trajectory)) if trajectory else None,
            shown_name=shown["experiment"] if shown else "",
            moving=[p for p in pictures if p["name"] == IDEA and p["moving"]],
            still=[p for p in pictures if p["name"] == IDEA and not p["moving"]],
            figures=[p for p in pictures if p["name"] not in (IDEA, *BEYOND)],
            beyond=[p for p in pictures if p["name"] in BEYOND],
            experiments=[
                describe_run(run, path, by_experiment.get(run["experiment"], {}))
                for run, path in zip(runs, experiments, strict=True)
            ],
            cards=[flatten(read_json(path)) for path in cards],
            machine={key: value for key, value in made_from.items() if key.partition(".")[0] in MACHINE},
            baselines=describe_baselines(
                of_rows, *([read_json(path) for path in kind] for kind in (references, published))
            ),
            tables=[each for each in shown_tables if each["name"] != SCORES_TABLE],
            scores=[each for each in shown_tables if each["name"] == SCORES_TABLE],
            rules=RULES,
            stages=summarise_stages(benchmarks),
            ordering=describe_ordering([run for run in of_rows if run["data"] == shown["data"]]),
            deviations=list_deviations(runs),
        )
    )
    write_text(out, text)


def compare_all(frames: dict[str, pd.DataFrame]) -> list[Comparison]:
    """All numbers of the paper beside ours; those of a table that is not among the frames were not run."""
    of_the_paper = [name for name in TABLES if name != SCORES_TABLE]
    return compare_numbers(frames[name] if name in frames else tabulate(name, [], [], {}) for name in of_the_paper)


def choose_main(comparisons: list[Comparison], main: dict | None) -> list[Comparison]:
    """The scores of the main run; without it, the first scores of ours, or those of the paper's best model."""
    ours = [each for each in comparisons if "/metrics.json:" in each.entry]
    of_main = [each for each in ours if main and each.entry.startswith(f"{main['experiment']}/")]
    return of_main or ours[:5] or compare_numbers([tabulate("table1", [], [], {})])[-5:]


def make_environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters["number"] = format_value
    made.filters["duration"] = format_duration
    made.filters["share"] = lambda share: f"{100 * share:g} %"
    return made


def format_value(value: object) -> str:
    """A value as people read it: thousands are separated, floats have four digits, words stay as they are."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_configs(paths: list[Path]) -> dict[str, dict[str, dict]]:
    """{experiment: {stage: {dotted key: value}}} from results/{scale}/{experiment}/config/{stage}.json."""
    configs: dict[str, dict[str, dict]] = defaultdict(dict)
    for path in map(Path, paths):
        configs[path.parent.parent.name][path.stem] = flatten(read_json(path))
    return dict(configs)


def flatten(value: dict, prefix: str = "") -> dict[str, object]:
    """Nested dicts as one dict with dotted keys; lists become words."""
    result = {}
    for key, item in value.items():
        if isinstance(item, dict):
            result |= flatten(item, f"{prefix}{key}.")
        else:
            result[prefix + key] = ", ".join(map(str, item)) if isinstance(item, list) else item
    return result


def describe_run(run: dict, path: Path, config: dict[str, dict]) -> dict:
    """An experiment: what it is, its numbers, and what they were made from; None stands for what no config says."""
    return {
        "name": run["experiment"],
        "data": run["data"].get("title") or run["data"]["name"],
        "method": run["method"],
        "status": f"unstable{ending_of(run)}" if run["status"] == "unstable" else run["status"],
        "steps": config.get("training", {}).get("training.steps"),
        "timesteps": config.get("training", {}).get("diffusion.timesteps"),
        "images": config.get("sampling", {}).get("sampling.images"),
        "file": path,
        "curve": Path(path).with_name("rate_distortion.csv") if run["nll"] else None,
        "numbers": flatten({key: value for key, value in run.items() if key not in NOT_NUMBERS}),
        "made_from": flatten(run["made_from"] or {}),
        "config": config,
    }


def describe_baselines(runs: list[dict], references: list[dict], published: list[dict]) -> list[dict]:
    """Per data set: the real images' scores, published statistics of them, and the main and the untrained network's."""
    found = []
    for reference in references:
        own = [run for run in runs if run["data"]["name"] == reference["data"] and run["status"] == "measured"]
        main, untrained = main_run(own), next(filter(is_untrained, own), None)
        theirs = [document["comparisons"] for document in published if document["data"] == reference["data"]]
        found.append(
            {
                "data": reference["data"],
                "network": network_name(reference),
                "accuracy": reference.get("accuracy"),
                "scores": reference.get("inception_score") or {},
                "published": [comparison for each in theirs for comparison in each],
                "main": main,
                "ours": mean_over_seeds(main),
                "untrained": untrained,
                "other": mean_over_seeds(untrained),
            }
        )
    return found


def embed_picture(path: Path, captions: Path, scale: str, names: list[str]) -> dict:
    """A figure as a data URI, with its caption."""
    if path.suffix not in MIME:
        raise UserError(f"{path}: the report embeds {' and '.join(MIME)} pictures only")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run the step that makes it first.") from None
    moving, (width, height) = path.suffix == ".gif", Image.open(io.BytesIO(data)).size
    share = 1 if moving else 2  # a figure's pixels are half as large as the screen's, and stay sharp on a fine one
    return {
        "name": path.stem,
        "title": TITLES.get(path.stem) or f"Figure {path.stem.removeprefix('figure')}",
        "moving": moving,
        "width": width // share,
        "height": height // share,
        "uri": f"data:{MIME[path.suffix]};base64,{base64.b64encode(data).decode()}",
        "caption": render_caption(captions / f"{path.stem}.rst", scale, data_of(path, names)),
    }


def embed_table(name: str, table: pd.DataFrame, captions: Path, scale: str, names: list[str]) -> dict:
    data = table.loc[0, "Data"] or (names[0] if names else "no data")
    return {
        "name": name,
        "title": TITLES.get(name) or f"Table {name.removeprefix('table')}",
        "html": rendering.to_html(table, linked=True),
        "caption": render_caption(captions / f"{name}.rst", scale, data),
    }


def data_of(path: Path, names: list[str]) -> str:
    """The data set that a file is about: a folder of that name above it, or else the first one."""
    return next((name for name in names if name in path.parts), names[0] if names else "no data")


def escape_rst(text: str) -> str:
    """Words of others, such as a data set's title, so that reStructuredText finds no markup and no link in them."""
    return re.sub(r"([^\w\s])", r"\\\1", " ".join(text.split()))


def render_caption(path: Path, scale: str, data: str) -> str:
    """A caption (reStructuredText with snakemake.params.data and .scale) as HTML."""
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such caption; every table and figure needs one") from None
    try:
        plain = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - reStructuredText is no HTML yet
        template = plain.from_string(source)
        text = template.render(snakemake={"params": {"data": escape_rst(data), "scale": escape_rst(scale)}})
        settings = {"halt_level": 2, "report_level": 5, "file_insertion_enabled": False, "raw_enabled": False}
        return publish_parts(text, writer="html5", settings_overrides=settings)["body"]
    except (jinja2.TemplateError, SystemMessage) as error:
        raise UserError(f"{path}: this caption cannot be read ({error})") from None


def summarise_stages(benchmarks: list[Path]) -> list[dict]:
    """Per stage (a benchmark's folder): jobs, seconds of wall and CPU time, the longest job, the most memory in MB."""
    read = [read_table(path, "s", delimiter="\t").assign(stage=path.parent.name, job=path.stem) for path in benchmarks]
    jobs = pd.concat(read or [pd.DataFrame(columns=["stage", "job"])]).reindex(
        columns=["stage", "job", "s", "max_rss", "cpu_time"]
    )
    # What was too short to be measured is 'NA' or '-'.
    measured = jobs[["s", "max_rss", "cpu_time"]].apply(pd.to_numeric, errors="coerce").fillna(0)
    jobs = jobs.assign(**measured).sort_values(["s", "job"])
    order = {stage: i for i, stage in enumerate(STAGES)}
    return [
        {
            "stage": stage,
            "jobs": len(own),
            "wall": own["s"].sum(),
            "longest": own["job"].iloc[-1],
            "longest_wall": own["s"].iloc[-1],
            "cpu": own["cpu_time"].sum(),
            "memory": own["max_rss"].max(),
        }
        for stage, own in sorted(jobs.groupby("stage"), key=lambda each: (order.get(each[0], len(order)), each[0]))
    ]


def format_duration(value: float) -> str:
    """'4.2 s', '3 min 20 s', '2 h 5 min'."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def list_deviations(runs: list[dict]) -> list[str]:
    """The deviations of all trained runs from the paper's protocol, each once; with the data set, if several."""
    several = len({run["data"]["name"] for run in runs}) > 1
    said = [
        f"{run['data'].get('title') or run['data']['name']}: {item}" if several else item
        for run in runs
        if not is_untrained(run)
        for item in (deviation["text"] for deviation in run["deviations"])
    ]
    return list(dict.fromkeys(said))
