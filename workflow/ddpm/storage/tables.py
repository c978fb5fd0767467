"""Tables and curves as pandas frames, read from CSV and written to it."""

from pathlib import Path

import pandas as pd

from ddpm.config.errors import DamagedFile
from ddpm.storage.files import read_errors_naming, write_text

# All cells are strings, and an empty one is "". The parser in Python tells an empty cell from a missing one.
AS_TEXT = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False, "engine": "python"}


def read_table(path: Path, *columns: str, delimiter: str = ",") -> pd.DataFrame:
    """A CSV file as a frame of strings.

    Raises:
        UserError: the file is missing or damaged, or one of `columns` is not in its header.
    """
    with read_errors_naming(path, "not a whole table"):
        table = pd.read_csv(path, sep=delimiter, **AS_TEXT)
    if missing := [column for column in columns if column not in table]:
        raise DamagedFile(path, f"has the columns {list(table)} where {missing} was expected")
    # pandas fills a short row with NaN, and makes an index of what a long row has too much.
    if table.isna().any(axis=None) or not isinstance(table.index, pd.RangeIndex):
        raise DamagedFile(path, f"has a row with another number of cells than its {table.shape[1]} columns")
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a frame of strings as UTF-8 CSV, without its index; `read_table` gives it back."""
    write_text(path, table.to_csv(index=False))


def read_curve(path: Path, *columns: str) -> pd.DataFrame:
    """These columns of a numeric CSV file as float64; a file without rows gives none.

    Raises:
        UserError: as `read_table`, and where a cell is not a number.
    """
    try:
        return read_table(path, *columns)[list(columns)].astype(float)
    except ValueError as error:
        raise DamagedFile(path, f"holds a cell that is not a number ({error})") from None
