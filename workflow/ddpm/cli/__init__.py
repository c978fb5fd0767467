"""python -m ddpm COMMAND: one sub-command per kind of job, in a module per stage; nothing but argument handling."""

import atexit
import os
import sys
from typing import Annotated

import typer

from ddpm.cli import data, evaluation, planning, report, sampling, training
from ddpm.cli.options import GuardedCommand, log
from ddpm.config.enums import PRECISION_ENV, Precision
from ddpm.config.errors import list_exit_codes
from ddpm.jobs.failures import discard_unwritten_output, report_failure
from ddpm.jobs.signals import Interrupted, stop_signal

app = typer.Typer(
    help="Denoising Diffusion Probabilistic Models: every job of the workflow, by hand.",
    epilog=list_exit_codes(),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for stage in (data, training, sampling, evaluation, report, planning):
    for command in stage.app.registered_commands:
        command.cls = GuardedCommand
    app.add_typer(stage.app)


@app.callback()
def common(
    precision: Annotated[
        Precision,
        typer.Option(
            envvar=PRECISION_ENV,
            help="Precision of the network's layers; auto: bf16 if the network is wide and the device has bf16.",
        ),
    ] = Precision.AUTO,
) -> None:
    """What all commands share."""
    os.environ[PRECISION_ENV] = precision  # of the processes that it starts, too


def main() -> None:
    """Run a command. The last words of its output, and its exit status, say what ended it."""
    codes: list[int] = []

    def leave() -> None:
        if codes:
            discard_unwritten_output()
            os._exit(codes[0])

    # The last of all that is done at the end, since it comes first here. The interpreter would go on to take torch
    # apart, which takes up to half a second and leaves nothing behind.
    atexit.register(leave)
    stop_signal.listen()
    try:
        try:
            app()
        finally:
            stop_signal.at_once = (
                False  # there is nothing left to end: a signal from here on changes neither words nor status
            )
    except Interrupted as end:
        if str(end):  # one of several processes speaks for all
            log(str(end))
        code = end.status
    except SystemExit as end:
        code = end.code
    except Exception as error:
        code = report_failure(error, sys.argv[1:])
    discard_unwritten_output()
    # One of several processes that fails ends where it is. Their group is still there, and its threads would now and
    # then abort the process while the interpreter ends: another status, and nothing would go on.
    if code and "RANK" in os.environ:
        os._exit(code)
    codes.append(code or 0)
    sys.exit(code)
