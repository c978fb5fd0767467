"""Commands of the report stage."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import TABLE_SUFFIXES, Out, claim_output

app = typer.Typer()


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="table1, table2, table3, table4 or scores.")],
    out: Annotated[
        Path, typer.Option(help="The .csv; .md, .tex and .html are written beside it.", callback=claim_output)
    ],
    metrics: Annotated[
        list[Path] | None, typer.Option(help="metrics.json of an experiment, or of its repeats; repeat.")
    ] = None,
    curve: Annotated[list[Path] | None, typer.Option(help="rate_distortion.csv, for table4.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="bedroom:EXPERIMENT, church:... or cat:..., for table3; repeat.")
    ] = None,
) -> None:
    """Make a table of the paper with our numbers beside, or that of other scores: CSV, Markdown, LaTeX and HTML."""
    from ddpm.report.tables import make_table

    outputs = [out.with_suffix(suffix) for suffix in TABLE_SUFFIXES]
    columns = {experiment: part for part, _, experiment in (one.partition(":") for one in column or [])}
    make_table(name, metrics or [], curve or [], *outputs, columns)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="figure1 to figure19, or diffusion, training-curve, reproduced, ...")],
    out: Annotated[list[Path], typer.Option(help="A file to write, by suffix; repeat.", callback=claim_output)],
    sources: Annotated[
        list[Path] | None, typer.Argument(help="The saved arrays that it is drawn from; none for figure2.")
    ] = None,
    stamp: Annotated[str, typer.Option(help="Small print in the picture: data set and scale.")] = "",
) -> None:
    """Draw a figure from saved arrays."""
    from ddpm.report.figures import draw

    draw(name, sources or [], out, stamp)


@app.command()
def report(
    out: Out,
    scale: Annotated[str, typer.Option(help="Name of the scale.")],
    description: Annotated[str, typer.Option(help="What the scale is.")],
    captions: Annotated[Path, typer.Option(help="Folder of captions (.rst).")],
    benchmarks: Annotated[Path, typer.Option(help="Folder of Snakemake's benchmarks, one sub-folder per stage.")],
    metrics: Annotated[list[Path], typer.Option(help="metrics.json of an experiment; repeat.")],
    reference: Annotated[list[Path], typer.Option(help="reference.json of a data set; repeat.")],
    card: Annotated[list[Path], typer.Option(help="card.json of a data set; repeat.")],
    config: Annotated[list[Path], typer.Option(help="A stage's JSON document; repeat.")],
    published: Annotated[
        list[Path] | None, typer.Option(help="published.json: a data set's statistics against published ones; repeat.")
    ] = None,
    table: Annotated[list[Path] | None, typer.Option(help="A table's .csv; repeat.")] = None,
    figure: Annotated[list[Path] | None, typer.Option(help="A figure's .png or .gif; repeat.")] = None,
    trajectory: Annotated[Path | None, typer.Option(help="trajectory.npz, which the page lets one watch.")] = None,
) -> None:
    """Write the report: one HTML file."""
    from ddpm.report.page import write_page

    times = sorted(benchmarks.rglob("*.tsv"))
    drawn = (table or [], figure or [], captions)
    write_page(out, scale, description, metrics, reference, published or [], card, config, *drawn, times, trajectory)
