"""Tables as the tests look into them."""

from pathlib import Path

from ddpm.storage.tables import read_table


def read_records(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file, each by column."""
    return read_table(path, *columns).to_dict("records")
