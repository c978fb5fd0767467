"""Reading what the earlier stages left: metrics, curves and CSV rows, checked where they are met."""

import csv
import io
from pathlib import Path

import numpy as np

from ddpm.files import DamagedFile, UserError, read_json, write_text

PUBLISHED = Path(__file__).parent / "published"

COLUMNS = ("is", "fid_train", "fid_test", "nll_test", "nll_train")  # what a deviation can affect
METRICS_KEYS = (
    "experiment",
    "scale",
    "data",
    "method",
    "status",
    "features",
    "inception_score",
    "fid",
    "fid_spread",
    "kid",
    "precision_recall",
    "nll",
    "deviations",
    "repeat",
)


def read_rows(path: Path, *columns: str, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV file as strings; every one of `columns` must be in its header."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        header, *lines = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run the step that makes it first.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedFile(path, f"not a whole table ({error})") from error
    except ValueError:
        raise DamagedFile(path, "an empty file where a table was expected") from None
    missing = [column for column in columns if column not in header]
    if missing:
        raise DamagedFile(path, f"has the columns {header} where {missing} was expected")
    if any(len(line) != len(header) for line in lines):
        raise DamagedFile(path, f"has a row with another number of cells than its {len(header)} columns")
    return [dict(zip(header, line, strict=True)) for line in lines]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows, all with the same keys, as UTF-8 CSV; read_rows gives them back."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_curve(path: Path, *columns: str) -> dict[str, np.ndarray]:
    """Columns of a numeric CSV as float64 arrays, one value per row; no rows gives empty arrays."""
    rows = read_rows(path, *columns)
    try:
        return {column: np.array([float(row[column]) for row in rows]) for column in columns}
    except ValueError as error:
        raise DamagedFile(path, f"holds a cell that is not a number ({error})") from None


def read_metrics(path: Path) -> dict:
    """One experiment's metrics.json with the keys that every table needs, and deviations that mark known numbers."""
    metrics = read_json(path)
    missing = [key for key in METRICS_KEYS if key not in metrics]
    if missing:
        raise DamagedFile(path, f"has no {', '.join(missing)}")
    for deviation in metrics["deviations"]:
        known = isinstance(deviation, dict) and set(deviation) == {"text", "affects"}
        if not known or not set(deviation["affects"]) <= set(COLUMNS):
            raise DamagedFile(path, f"has a deviation that does not say which numbers it affects: {deviation}")
    return metrics


def is_untrained(run: dict) -> bool:
    """Whether this is the yardstick of an untrained network, which belongs in no table."""
    return "untrained" in run["experiment"].split("-")


def is_large(experiment: str) -> bool:
    """Whether an experiment is of the larger network of Table 3, by its name."""
    return "large" in experiment.split("-")


def find_run(runs: list[dict], parameterization: str, objective: str, variance: str) -> dict | None:
    """The trained run of one row of the paper; `variance` is fixed or learned.

    The paper does not say which of its two fixed variances it used, so both count. Where both were run,
    fixedlarge is shown: it is the default of the released code for CIFAR10. A repeat with another seed is no run of
    its own.
    """
    trained = [run for run in runs if not is_untrained(run) and not run["repeat"]]
    found = [run for run in trained if row_of(run) == (parameterization, objective, variance)]
    return min(found, key=lambda run: run["method"]["variance"] != "fixedlarge", default=None)


def row_of(run: dict) -> tuple[str, str, str]:
    """(parameterization, objective, fixed or learned): what tells the rows of Tables 1 and 2 apart."""
    method = run["method"]
    variance = "learned" if method["variance"] == "learned" else "fixed"
    return method["parameterization"], method["objective"], variance


def main_run(runs: list[dict]) -> dict | None:
    """The run of the paper's best row: eps, L_simple, fixed variance."""
    return find_run(runs, "eps", "simple", "fixed")


def network_name(run: dict) -> str:
    """What gave the features and class probabilities, such as 'digits classifier'."""
    return run["features"]["network"]
