"""Options that several commands share, and what is checked before a command begins."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from ddpm.config.errors import UserError
from ddpm.jobs.failures import suppress_full_disk
from ddpm.storage.files import claim_file, read_json

OUTPUTS = "ddpm.outputs"  # in a command's context: the options that name what it writes, each with these files


def claim_output(context: typer.Context, option: typer.CallbackParam, out):
    """`out`, a file or several, which `GuardedCommand` looks at before the command begins."""
    files = [out] if isinstance(out, Path) else out or ()
    context.meta.setdefault(OUTPUTS, {})[option.name] = [path for file in files for path in output_files(context, file)]
    return out


def output_files(context: typer.Context, out: Path) -> list[Path]:
    """The files that a command with the option --out `out` writes."""
    if not os.path.basename(os.path.normpath(out)).strip("."):
        raise UserError(f"--out {out}: is a folder, where the name of a file was expected.")
    if context.info_name == "table":
        return [out.with_suffix(suffix) for suffix in TABLE_SUFFIXES]
    return [out]


TABLE_SUFFIXES = (".csv", ".md", ".tex", ".html")


class GuardedCommand(TyperCommand):
    """A command that overwrites neither what it reads nor what this project has not made."""

    def invoke(self, context: typer.Context):
        if os.environ.get("RANK", "0") == "0":
            writes = context.meta.get(OUTPUTS, {})
            others = (value for name, value in context.params.items() if name not in writes)
            given = chain.from_iterable(value if isinstance(value, list | tuple) else [value] for value in others)
            read = {os.path.realpath(path) for path in given if isinstance(path, Path)}
            written = list(chain(*writes.values()))
            for path in written:
                if os.path.realpath(path) in read:
                    raise UserError(f"{path}: would be read and overwritten. Give another name for what is written.")
            for path in written:
                claim_file(path)
        return super().invoke(context)


Config = Annotated[Path, typer.Option(help="The stage's JSON document, from results/SCALE/EXPERIMENT/config/.")]


def lock_output(context: typer.Context, out: Path) -> Path:
    """Lock `out` until this command ends; of several processes, the first one holds the lock."""
    if os.environ.get("RANK", "0") == "0" and os.environ.get(LOCKED_OUTPUT) != str(out):
        from ddpm.jobs.locks import Lock, lock_beside

        os.environ[LOCKED_OUTPUT] = str(out)
        lock = Lock(lock_beside(Path(os.path.abspath(out))), f"making {out}", log).acquire()  # "." has no name
        context.call_on_close(lambda: (lock.release(), os.environ.pop(LOCKED_OUTPUT)))
    return out


LOCKED_OUTPUT = "DDPM_MAKING"  # tells the processes that a command starts what it has locked


def lock_output_file(context: typer.Context, option: typer.CallbackParam, out: Path) -> Path:
    """`out` of `lock_output`, a file."""
    return lock_output(context, claim_output(context, option, out))


Out = Annotated[Path, typer.Option(help="File to write.", callback=lock_output_file)]
OutFolder = Annotated[Path, typer.Option(help="Folder to write to.", callback=lock_output)]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is a GPU.")]
Reference = Annotated[
    Path, typer.Option(help="Features of the real images: results/SCALE/reference/DATA/features.npz.")
]
Weights = Annotated[Path, typer.Option(help="model.safetensors of a training.")]
DataName = Annotated[str, typer.Argument(help="Data set by name, or its document from resources/sources/.")]
Shard = Annotated[int, typer.Option(min=1, help="Which part, from 1.")]
Network = Annotated[Path, typer.Option(help="Network of the scores: a classifier (.safetensors), or Inception (.pt).")]
NetworkSha256 = Annotated[
    str | None, typer.Option(help="sha256 of a TorchScript network that you trust, unless it is the published one.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per call of the network. Does not change the images.")]
Seed = Annotated[int, typer.Option(min=0, help="Names the noise.")]
State = Annotated[
    Path | None,
    typer.Option(help="Folder for finished batches; a killed call goes on, and a larger one starts, from them."),
]


def spawn_ranks(device: str) -> str:
    """Start the processes that `device` asks for, and end as they do; without a number, return it as it is."""
    count, _, name = device.rpartition("x")
    if count and "RANK" not in os.environ:  # which those have
        from ddpm.compute.launching import launch
        from ddpm.jobs import gpus

        if not count.isdecimal() or int(count) < 1:
            raise UserError(f"--device {device}: give a number of processes and what they run on, as in 2xcuda.")
        if name in ("auto", "cuda"):
            gpus.lease(int(count), log)  # for all of them, before the first one starts
        raise typer.Exit(launch(int(count)))
    return name


Devices = Annotated[
    str,
    typer.Option(
        help="cpu, cuda, or auto: CUDA where there is a GPU. 2xcuda: two processes with a GPU each share the batches.",
        callback=spawn_ranks,
    ),
]


@contextmanager
def processes(device: str, *timeout) -> Iterator[tuple]:
    """The torch device of this process, and its group."""
    from ddpm.compute.distributed import process_group

    torch_device = choose_device(device)
    with process_group(torch_device, *timeout) as group:
        yield torch_device, group


def choose_device(name: str):
    """The torch device of that name; a GPU is this process's own until it ends."""
    from ddpm.jobs import gpus

    return gpus.choose_device(name, log)


def find_data(name: str):
    """A data set of the registry by name, or that of a source's document."""
    from ddpm.config.base import validated
    from ddpm.config.registry import DATASETS, look_up
    from ddpm.config.sources import DataSet

    document = name.endswith(".json")
    return validated(DataSet, read_json(name), name) if document else look_up(DATASETS, name, "data set")


def section_of_shard(config: Path, section: str, shard: int):
    """The section of a stage's document that the job of a shard needs, which must ask for as many shards."""
    from ddpm.storage.documents import read_section

    settings = read_section(config, section)
    if shard > settings.shards:
        raise UserError(f"--shard {shard}: {config} asks for {settings.shards} shards; allowed: 1..{settings.shards}.")
    return settings


def log(message: str) -> None:
    """Print a line. A full disk under the log ends no work: the work meets the disk itself where that matters."""
    with suppress_full_disk():
        # A file's name need not be text.
        print(message.encode(errors="backslashreplace").decode(), flush=True)
