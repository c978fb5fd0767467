"""The files that make a table, a figure or the page: a change of one makes them again.

They are named from the folder that Snakemake runs in: braces in the name of a folder above it would be wildcards.
"""

import os
from pathlib import Path

from ddpm.report.figures import MODULES

PACKAGE = Path(os.path.relpath(Path(__file__).parents[1]))
# Modules of figures in the charts' theme.
CHARTS = ("figure5", "figure10", "fewsteps", "bound", "reproduced", "training_curve")
SHOWN = {"figure5": "table4", "fewsteps": "ddim"}  # published numbers beside ours
# What turns metrics into the numbers of tables.
NUMBERS = ("tables", "notes", "numbers", "scores", "verdicts", "rendering", "inputs")
PAGE = ("page", "watch", "ordering", "comparisons", "figures/__init__", "figures/samples")


def files(*modules: str) -> list[str]:
    """Modules of the package, named as in report/inputs, as its files."""
    return [str(PACKAGE / f"{module}.py") for module in modules]


def published(table: str) -> str:
    """The published numbers of a table."""
    return str(PACKAGE / f"report/published/{table}.csv")


def captions(*names: str) -> list[str]:
    """What stands below tables and figures."""
    return [str(PACKAGE.parent / f"report/{name}.rst") for name in names]


def figure_code(name: str) -> list[str]:
    """What draws a figure."""
    drawing = [MODULES[name], "__init__", "samples", "style"]
    if MODULES[name] in CHARTS:
        drawing.append("charts")
    used = files("report/inputs", "storage/tables", *(f"report/figures/{module}" for module in drawing))
    if name in SHOWN:
        used.append(published(SHOWN[name]))
    if name == "reproduced":
        used += files(*(f"report/{module}" for module in ("comparisons", "rendering", "verdicts", "numbers")))
    return used


def table_code() -> list[str]:
    """What makes every table."""
    used = files("storage/tables", *(f"report/{module}" for module in NUMBERS))
    return [*used, str(PACKAGE / "report/table.html")]


def page_code() -> list[str]:
    """What writes the report."""
    written = [str(PACKAGE / f"report/page.{suffix}") for suffix in ("html", "css", "js")]
    return [*table_code(), *files(*(f"report/{module}" for module in PAGE)), *written]
