"""CSV tables and curves, read and written."""

import csv
import io
from pathlib import Path

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.files import write_text


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
