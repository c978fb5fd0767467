"""Commands of the data stage."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import DataName, OutFolder, find_data, log

app = typer.Typer()


@app.command()
def download(
    name: DataName,
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there.")],
) -> None:
    """Download a data set's files and check them. No other command for it needs the network."""
    from ddpm.data.prepare import download_data

    download_data(find_data(name), out, log)


@app.command()
def prepare(
    name: DataName,
    out: OutFolder,
    source: Annotated[Path | None, typer.Option(help="Folder of its download, if it has one.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 1,
) -> None:
    """Write a data set as uint8 arrays, or as a list of a database's images, with a card, into the folder OUT."""
    from ddpm.data.prepare import prepare

    prepare(find_data(name), source, out, threads, log)
