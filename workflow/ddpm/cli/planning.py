"""What a run takes, before it runs; how far it is; and putting a SLURM job back into the queue."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import choose_device
from ddpm.jobs.signals import stop_signal

ConfigFile = Annotated[Path, typer.Option(help="What to reproduce.")]
Scale = Annotated[str | None, typer.Option(help="Take this scale instead of the one that is named there.")]
app = typer.Typer()
WATCH_INTERVAL = 5  # seconds


@app.command()
def plan(
    config: ConfigFile = Path("config.yaml"),
    scale: Scale = None,
    document: Annotated[str | None, typer.Option(help="The whole configuration as JSON, instead of a file.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time each network on this machine first.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON document instead of a table.")] = False,
) -> None:
    """Say what would run: jobs, hours, downloads, disk, memory, and what this machine lacks for it."""
    from ddpm.config.resolving import read_config
    from ddpm.planning.plan import make_plan
    from ddpm.planning.rendering import as_json, as_text

    chosen = read_config(config, document, scale)
    planned = make_plan(chosen)
    if measure:
        from ddpm.planning.measuring import measure_plan

        measure_plan(planned, choose_device("cpu" if planned.on_cpu else "cuda"), partial(print, file=sys.stderr))
        planned = make_plan(chosen)
    print(as_json(planned) if json else as_text(planned))


@app.command()
def status(
    config: ConfigFile = Path("config.yaml"),
    scale: Scale = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until Ctrl-C.")] = False,
) -> None:
    """Show what a run has done, what runs now and how far it is, what waits, and what has failed."""
    import rich
    from rich.live import Live

    from ddpm.config.resolving import read_config
    from ddpm.planning.status import render

    chosen = read_config(config, None, scale)
    if not watch:
        rich.print(render(chosen))
        return
    with Live(render(chosen), auto_refresh=False) as live:
        while not stop_signal.should_stop():
            time.sleep(WATCH_INTERVAL)
            live.update(render(chosen), refresh=True)


@app.command()
def requeue() -> None:
    """Inside a SLURM job: put it back into the queue, to go on from its saved state."""
    from ddpm.jobs.slurm import requeue

    requeue()
