"""python -m ddpm COMMAND: one sub-command per kind of job, nothing but argument handling."""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from ddpm.errors import give_up_unsaid, report_failure, suppress_full_disk
from ddpm.exits import listed
from ddpm.files import UserError, claim_file, read_json
from ddpm.interruption import JOB, Interrupted
from ddpm.precision import ASKED, Precision, ask_for
from ddpm.training.selection import Selection

app = typer.Typer(
    help="Denoising Diffusion Probabilistic Models: every job of the workflow, by hand.",
    epilog=listed(),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def common(
    precision: Annotated[
        Precision,
        typer.Option(
            envvar=ASKED,
            help="What the layers of the network compute in; auto: bf16 where it is wide and the device has bf16.",
        ),
    ] = Precision.AUTO,
) -> None:
    """What all commands share."""
    ask_for(precision)


WRITES = "ddpm.writes"  # in a command's context: the options that name what it writes, each with these files


def written(context: typer.Context, option: typer.CallbackParam, out):
    """`out`, a file or several, which `Careful` looks at before the command begins."""
    files = [out] if isinstance(out, Path) else out or ()
    context.meta.setdefault(WRITES, {})[option.name] = [path for file in files for path in beside(context, file)]
    return out


def beside(context: typer.Context, out: Path) -> list[Path]:
    """The files that a command with the option --out `out` writes."""
    if not os.path.basename(os.path.normpath(out)).strip("."):
        raise UserError(f"--out {out}: is a folder, where the name of a file was expected.")
    if context.info_name == "table":
        return [out.with_suffix(suffix) for suffix in TABLE_SUFFIXES]
    return [out]


TABLE_SUFFIXES = (".csv", ".md", ".tex", ".html")


class Careful(TyperCommand):
    """A command that overwrites neither what it reads nor what this project has not made."""

    def invoke(self, context: typer.Context):
        if os.environ.get("RANK", "0") == "0":
            writes = context.meta.get(WRITES, {})
            others = [value for name, value in context.params.items() if name not in writes]
            read = {os.path.realpath(path) for path in paths_in(others)}
            for path in (path for paths in writes.values() for path in paths):
                if os.path.realpath(path) in read:
                    raise UserError(f"{path}: would be read and overwritten. Give another name for what is written.")
            for path in (path for paths in writes.values() for path in paths):
                claim_file(path)
        return super().invoke(context)


def paths_in(values) -> Iterator[Path]:
    for value in values:
        if isinstance(value, Path):
            yield value
        elif isinstance(value, list | tuple):
            yield from paths_in(value)


Config = Annotated[Path, typer.Option(help="The stage's JSON document, from results/SCALE/EXPERIMENT/config/.")]


def made_here(context: typer.Context, out: Path) -> Path:
    """`out`, which nobody else makes until this command ends; of several processes, the first one sees to that."""
    if os.environ.get("RANK", "0") == "0" and os.environ.get(MAKING) != str(out):
        from ddpm.locking import Lock

        os.environ[MAKING] = str(out)
        whole_name = Path(os.path.abspath(out))  # "." has no name
        lock = Lock(whole_name.with_name(f".{whole_name.name}.lock"), f"making {out}", log).acquire()
        context.call_on_close(lambda: (lock.release(), os.environ.pop(MAKING)))
    return out


MAKING = "DDPM_MAKING"  # tells the processes that a command starts what it has locked


def file_made_here(context: typer.Context, option: typer.CallbackParam, out: Path) -> Path:
    """`out` of `made_here`, a file."""
    return made_here(context, written(context, option, out))


Out = Annotated[Path, typer.Option(help="File to write.", callback=file_made_here)]
OutFolder = Annotated[Path, typer.Option(help="Folder to write to.", callback=made_here)]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is a GPU.")]
Reference = Annotated[
    Path, typer.Option(help="Features of the real images: results/SCALE/reference/DATA/features.npz.")
]
Weights = Annotated[Path, typer.Option(help="model.safetensors of a training.")]
DataName = Annotated[str, typer.Argument(help="Data set by name, or its document from resources/sources/.")]
Shard = Annotated[int, typer.Option(min=1, help="Which part, from 1.")]
Network = Annotated[Path, typer.Option(help="Network of the scores: a classifier (.safetensors), or Inception (.pt).")]
NetworkSha256 = Annotated[
    str | None, typer.Option(help="Of a TorchScript network that is not the published Inception, and that you trust.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per call of the network. Does not change the images.")]
Seed = Annotated[int, typer.Option(min=0, help="Names the noise.")]
State = Annotated[
    Path | None,
    typer.Option(help="Folder for what is done of the work, from which a killed call goes on and a larger one starts."),
]


def together(device: str) -> str:
    """`device` without its number of processes. Where it has one, they are started, and this one ends as they do."""
    count, _, name = device.rpartition("x")
    if count and "RANK" not in os.environ:  # which those have
        from ddpm import gpus
        from ddpm.launching import launch

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
        callback=together,
    ),
]


@contextmanager
def processes(device: str, *patience) -> Iterator[tuple]:
    """The torch device of this process, and the group that it is of."""
    from ddpm.parallel import process_group

    on = choose_device(device)
    with process_group(on, *patience) as group:
        yield on, group


def choose_device(name: str):
    """The torch device of that name; a GPU is this process's own until it ends."""
    from ddpm import gpus

    return gpus.choose_device(name, log)


def find_checkpoint(name: str):
    """Published weights by name, or those of an experiment's training document."""
    from ddpm.config import read_section
    from ddpm.training.released import published

    return read_section(Path(name), "checkpoint") if name.endswith(".json") else published(name)


def find_data(name: str):
    """A data set of the registry by name, or that of a source's document."""
    from ddpm.config import validated
    from ddpm.data.prepare import known
    from ddpm.data.registry import DataSet

    return validated(DataSet, read_json(name), name) if name.endswith(".json") else known(name)


def section_of_shard(config: Path, section: str, shard: int):
    """The section of a stage's document that the job of a shard needs, which must ask for as many shards."""
    from ddpm.config import read_section

    settings = read_section(config, section)
    if shard > settings.shards:
        raise UserError(f"--shard {shard}: {config} asks for {settings.shards} shards; allowed: 1..{settings.shards}.")
    return settings


@app.command()
def download(
    name: DataName,
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there.")],
) -> None:
    """Download a data set's files and check them; nothing else of it needs the network."""
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


@app.command()
def train(
    config: Config,
    data: Annotated[Path, typer.Option(help="train.npy of the prepared data set.")],
    state: Annotated[Path, typer.Option(help="Folder of the resumable state; kept between runs.")],
    out: Annotated[
        Path, typer.Option(help="final.safetensors: the averaged weights after the last step.", callback=written)
    ],
    history: Annotated[Path, typer.Option(help="training.csv: the loss over time.", callback=written)],
    outcome: Annotated[
        Path, typer.Option(help="training.json: trained, or unstable, with step and reason.", callback=written)
    ],
    snapshots: Annotated[Path, typer.Option(help="Folder for the weights of every training.snapshot_every steps.")],
    scale: Annotated[str, typer.Option(help="Name of the scale, for the record.")] = "",
    device: Devices = "auto",
) -> None:
    """Train a network, or go on where an earlier call stopped. Under torchrun, its processes share each batch."""
    from ddpm.config import read_stage_config
    from ddpm.data.store import Images
    from ddpm.parallel import STEP_PATIENCE
    from ddpm.training.loop import train

    document = read_stage_config(config, "network", "diffusion", "training")
    with processes(device, STEP_PATIENCE) as (on, group):
        train(document, Images(data), state, out, history, outcome, snapshots, on, scale, log, group)


@app.command()
def select(
    final: Annotated[Path, typer.Argument(help="final.safetensors of a training.")],
    checkpoint: Annotated[Selection, typer.Option(help="Which weights to score.")],
    out: Annotated[Path, typer.Option(help="model.safetensors to write.", callback=written)],
    snapshots: Annotated[Path | None, typer.Option(help="The training's folder of snapshots.")] = None,
    scores: Annotated[Path | None, typer.Option(help="snapshots.csv: the FID of each.")] = None,
) -> None:
    """Choose the weights that are scored: the last ones, or those of the lowest FID over the training."""
    from ddpm.training.selection import select_weights

    select_weights(final, checkpoint, out, snapshots, scores)


@app.command("download-weights")
def download_weights(
    name: Annotated[str, typer.Argument(help="Published weights by name, or an experiment's training document.")],
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there.")],
) -> None:
    """Download published weights and check them; nothing else needs the network."""
    from ddpm.training import released

    released.download_weights(find_checkpoint(name), out, log)


@app.command("import-weights")
def import_weights(
    source: Annotated[
        Path,
        typer.Argument(help="card.json of a download, a .ckpt, .pt, .bin or .safetensors, or a diffusers folder."),
    ],
    out: Annotated[Path, typer.Option(help="model.safetensors to write.", callback=written)],
    outcome: Annotated[
        Path | None, typer.Option(help="training.json to write: released, with the step.", callback=written)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="An experiment's training document, to be fitted.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Published weights that SOURCE is a copy of.")] = None,
) -> None:
    """Convert weights of other people, without ever running code that they hold."""
    from ddpm.config import read_stage_config
    from ddpm.training import importing

    document = read_stage_config(config, "network", "diffusion") if config else None
    importing.import_weights(source, out, outcome, document, find_checkpoint(checkpoint) if checkpoint else None)


@app.command("export-weights")
def export_weights(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of a training.")],
    out: Annotated[Path, typer.Option(help="Folder to write, for diffusers' DDPMPipeline.from_pretrained.")],
) -> None:
    """Write a trained network as a folder that diffusers loads."""
    from ddpm.training.diffusers_folder import export
    from ddpm.training.state import load_weights

    export(load_weights(weights), out)


@app.command()
def sample(
    config: Config,
    weights: Weights,
    shard: Shard,
    out: Out,
    device: Devices = "auto",
    state: State = None,
) -> None:
    """Draw one shard of images from a trained network."""
    from ddpm.sampling.ancestral import sample_shard
    from ddpm.training.state import load_weights

    settings = section_of_shard(config, "sampling", shard)
    with processes(device) as (on, group):
        sample_shard(load_weights(weights, on), settings, shard, out, on, log, state, group)


@app.command()
def snapshot(
    config: Config,
    final: Annotated[Path, typer.Option(help="final.safetensors of the training.")],
    snapshots: Annotated[Path, typer.Option(help="The training's folder of snapshots.")],
    step: Annotated[int, typer.Option(min=1, help="Which snapshot: the number of updates.")],
    out: Out,
    device: Devices = "auto",
    state: State = None,
) -> None:
    """Draw images from one snapshot of a training, averaged and not."""
    from ddpm.config import read_section
    from ddpm.sampling.snapshots import snapshot_shard, snapshot_weights

    settings = read_section(config, "snapshots")
    with processes(device) as (on, group):
        averaged, raw = snapshot_weights(final, snapshots, step, on)
        snapshot_shard(averaged, raw, settings, out, on, log, state, group)


@app.command("snapshot-previews")
def snapshot_previews(
    config: Config, samples: Annotated[list[Path], typer.Argument(help="Files of `snapshot`.")], out: Out
) -> None:
    """The first images of every snapshot, for the training curve."""
    from ddpm.config import read_section
    from ddpm.sampling.previews import write_previews

    write_previews(samples, read_section(config, "snapshots").previews, out)


@app.command("few-steps")
def few_steps(
    config: Config, weights: Weights, shard: Shard, out: Out, device: Devices = "auto", state: State = None
) -> None:
    """Draw one shard of images in few steps with DDIM: an addition, in no table or figure of the paper."""
    from ddpm.sampling.ddim import few_steps_shard
    from ddpm.training.state import load_weights

    settings = section_of_shard(config, "few_steps", shard)
    with processes(device) as (on, group):
        few_steps_shard(load_weights(weights, on), settings, shard, out, on, log, state, group)


@app.command()
def trajectory(
    weights: Weights,
    data: Annotated[Path, typer.Option(help="test.npy of the prepared data set.")],
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Images.")] = 8,
    frames: Annotated[int, typer.Option(min=2, help="Times between T and 0.")] = 48,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Record images on their way to noise (q) and samples on their way from it (p)."""
    from ddpm.data.store import Images
    from ddpm.sampling.ancestral import write_trajectory
    from ddpm.training.state import load_weights

    write_trajectory(load_weights(weights, choose_device(device)), Images(data), count, frames, seed, out)


@app.command("shared-latents")
def shared_latents(
    weights: Weights,
    out: Out,
    chains: Annotated[int, typer.Option(min=1, help="Reverse chains: rows of the figure.")] = 4,
    samples: Annotated[int, typer.Option(min=3, help="Continuations from each x_t; the figure shows three.")] = 3,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Split reverse chains at t = T, 3T/4, T/2, T/4 and sample on from each x_t: Figure 7."""
    from ddpm.sampling.latents import write_latents
    from ddpm.training.state import load_weights

    on = choose_device(device)
    write_latents(load_weights(weights, on), chains, samples, batch_size, seed, out, on, log)


@app.command()
def interpolate(
    weights: Weights,
    data: Annotated[Path, typer.Option(help="train.npy of the prepared data set.")],
    out: Out,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of images, from the first on.")] = 1,
    steps: Annotated[
        list[int] | None, typer.Option(help="How far to diffuse, of T = 1000; repeat for more. 500 by default.")
    ] = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Diffuse, mix and denoise pairs of images: Figures 8 and 9."""
    from ddpm.data.store import Images
    from ddpm.sampling.interpolation import write_interpolations
    from ddpm.training.state import load_weights

    on = choose_device(device)
    trained = load_weights(weights, on)
    write_interpolations(trained, Images(data), pairs, steps or [500], batch_size, seed, out, on, log)


@app.command()
def classifier(
    config: Config,
    data: Annotated[Path, typer.Option(help="Folder of the prepared data set.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Train the small classifier whose features stand for Inception's."""
    from ddpm.config import ClassifierConfig, validated
    from ddpm.evaluation.classifier import train_classifier

    train_classifier(validated(ClassifierConfig, read_json(config), str(config)), data, out, choose_device(device), log)


@app.command("download-network")
def download_network(
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there.")],
    source: Annotated[
        Path | None, typer.Argument(help="A JSON document {urls, sha256}: sources.inception of a configuration.")
    ] = None,
    url: Annotated[list[str] | None, typer.Option(help="Another address to take it from; repeat for more.")] = None,
) -> None:
    """Download the Inception network of the paper's scores; nothing else of it needs the network."""
    from ddpm.config import InceptionSource, validated
    from ddpm.download import download
    from ddpm.evaluation.inception import INCEPTION, NAME

    asked = {**(read_json(source) if source else {}), **({"urls": url} if url else {})}
    changes = {key: value for key, value in validated(InceptionSource, asked, str(source or "--url")) if value}
    file = INCEPTION.model_copy(update=changes)
    name = NAME if file.sha256 == INCEPTION.sha256 else "a TorchScript network of your own"
    download((file,), out, {"network": name}, log)


@app.command()
def reference(
    network: Network,
    data: Annotated[Path, typer.Option(help="Folder of the prepared data set.")],
    out: Out,
    summary: Annotated[Path, typer.Option(help="reference.json: how real images score.", callback=written)],
    splits: Annotated[int, typer.Option(min=1, help="Parts of the Inception Score.")] = 10,
    device: Device = "auto",
    state: State = None,
    network_sha256: NetworkSha256 = None,
) -> None:
    """Features of the real images, which samples are compared with."""
    from ddpm.evaluation.networks import load_network
    from ddpm.evaluation.reference import write_reference

    write_reference(
        load_network(network, choose_device(device), network_sha256), data, splits, out, summary, state, log
    )


@app.command("download-statistics")
def download_statistics(
    name: DataName,
    out: Annotated[Path, typer.Option(help="Folder to download to; card.json in it says what is there, or why not.")],
) -> None:
    """Try once to download the statistics that others published of a data set; does not fail where there are none."""
    from ddpm.evaluation import published

    published.download_statistics(find_data(name), out, log)


@app.command("compare-reference")
def compare_reference(
    reference: Annotated[Path, typer.Argument(help="Features of the real images, as `reference` writes them.")],
    statistics: Annotated[Path, typer.Option(help="card.json of `download-statistics`.")],
    out: Out,
) -> None:
    """Say how far our statistics of the real images are from others'."""
    from ddpm.evaluation.published import write_comparison

    write_comparison(reference, statistics, out)


@app.command()
def features(
    network: Network,
    samples: Annotated[Path, typer.Option(help="A shard of samples.")],
    out: Out,
    device: Devices = "auto",
    state: State = None,
    network_sha256: NetworkSha256 = None,
) -> None:
    """Features and class probabilities of one shard of samples."""
    from ddpm.evaluation.features import write_features
    from ddpm.evaluation.networks import load_network

    with processes(device) as (on, group):
        write_features(load_network(network, on, network_sha256), samples, out, state, log, group)


@app.command()
def likelihood(
    config: Config,
    weights: Weights,
    data: Annotated[Path, typer.Option(help="test.npy or train.npy of the prepared data set.")],
    shard: Shard,
    out: Out,
    device: Devices = "auto",
    state: State = None,
) -> None:
    """The variational bound of one shard of real images, all T terms."""
    from ddpm.data.store import Images
    from ddpm.evaluation.likelihood import likelihood_shard
    from ddpm.training.state import load_weights

    images, split = Images(data), data.stem
    settings = section_of_shard(config, "likelihood", shard)
    asked = getattr(settings, split)
    count = len(images) if asked == "all" else asked
    with processes(device) as (on, group):
        trained = load_weights(weights, on)
        likelihood_shard(trained, images, split, count, settings, shard, out, on, log, state, group)


@app.command()
def evaluate(
    config: Config,
    features: Annotated[list[Path], typer.Argument(help="Feature shards.")],
    reference: Reference,
    card: Annotated[Path, typer.Option(help="card.json of the data set.")],
    out: Out,
    scale: Annotated[str, typer.Option(help="Name of the scale, for the record.")] = "",
    bound: Annotated[list[Path] | None, typer.Option(help="A shard of `likelihood`; repeat for each.")] = None,
) -> None:
    """Score an experiment: metrics.json."""
    from ddpm.config import read_repeat, read_section
    from ddpm.evaluation.metrics import write_metrics

    settings, repeat = read_section(config, "evaluation"), read_repeat(config)
    write_metrics(settings, scale, features, bound or [], reference, card, out, repeat)


@app.command("rate-distortion")
def rate_distortion(
    shards: Annotated[list[Path], typer.Argument(help="Bound shards of the test set.")], out: Out
) -> None:
    """The rate-distortion curve of Figure 5 and Table 4."""
    from ddpm.evaluation.curves import write_rate_distortion

    write_rate_distortion(shards, out)


@app.command()
def progressive(
    config: Config,
    features: Annotated[list[Path], typer.Argument(help="Feature shards with previews.")],
    reference: Reference,
    out: Out,
) -> None:
    """Scores of x0-hat over the reverse process: the curves of Figure 10."""
    from ddpm.config import read_section
    from ddpm.evaluation.curves import write_progressive

    write_progressive(read_section(config, "evaluation"), features, reference, out)


@app.command("few-steps-scores")
def few_steps_scores(
    config: Config,
    network: Network,
    samples: Annotated[list[Path], typer.Argument(help="Shards of `few-steps`.")],
    reference: Reference,
    out: Out,
    device: Device = "auto",
    network_sha256: NetworkSha256 = None,
) -> None:
    """Score few-step samples, a row for each eta and number of steps."""
    from ddpm.config import read_section
    from ddpm.evaluation.curves import write_few_steps
    from ddpm.evaluation.networks import load_network

    scoring = load_network(network, choose_device(device), network_sha256)
    write_few_steps(read_section(config, "evaluation"), scoring, samples, reference, out)


@app.command("snapshot-scores")
def snapshot_scores(
    config: Config,
    network: Network,
    samples: Annotated[list[Path], typer.Argument(help="Shards of `sample`, one per snapshot of a training.")],
    reference: Reference,
    out: Out,
    device: Device = "auto",
    network_sha256: NetworkSha256 = None,
) -> None:
    """Score samples of a training's snapshots, a row for each step."""
    from ddpm.config import read_section
    from ddpm.evaluation.curves import write_snapshot_scores
    from ddpm.evaluation.networks import load_network

    scoring = load_network(network, choose_device(device), network_sha256)
    write_snapshot_scores(read_section(config, "evaluation"), scoring, samples, reference, out)


@app.command()
def neighbours(
    config: Config,
    samples: Annotated[Path, typer.Option(help="The first shard of samples.")],
    features: Annotated[Path, typer.Option(help="The first shard of features.")],
    data: Annotated[Path, typer.Option(help="train.npy of the prepared data set.")],
    reference: Reference,
    out: Out,
    network: Annotated[
        Path | None, typer.Option(help="Network of the scores, where the reference has not what is compared.")
    ] = None,
    crop: Annotated[bool, typer.Option(help="Compare only the box evaluation.neighbour_crop: Figure 12.")] = False,
    device: Device = "auto",
    network_sha256: NetworkSha256 = None,
) -> None:
    """Nearest training images of the first samples: Figures 12 and 15."""
    from ddpm.config import read_section
    from ddpm.evaluation.neighbours import write_neighbours
    from ddpm.evaluation.networks import load_network

    def comparing():
        return load_network(network, choose_device(device), network_sha256)

    settings = read_section(config, "evaluation")
    write_neighbours(settings, samples, features, data, reference, out, comparing if network else None, crop)


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="table1, table2, table3, table4 or scores.")],
    out: Annotated[Path, typer.Option(help="The .csv; .md, .tex and .html are written beside it.", callback=written)],
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
    names: Annotated[
        str,
        typer.Argument(
            help="figure1 to figure19, or diffusion, training-curve, reproduced, ...; several as in figure6,figure14."
        ),
    ],
    out: Annotated[
        list[Path],
        typer.Option(help="A file to write, by suffix, and of several figures by name; repeat.", callback=written),
    ],
    sources: Annotated[
        list[Path] | None, typer.Argument(help="The saved arrays that they are drawn from; none for figure2.")
    ] = None,
    stamp: Annotated[str, typer.Option(help="Small print in the picture: data set and scale.")] = "",
) -> None:
    """Draw one figure or more from the same saved arrays."""
    from ddpm.report.figures import draw

    draw(names, sources or [], out, stamp)


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
) -> None:
    """Write the report: one HTML file."""
    from ddpm.report.page import write_page

    times = sorted(benchmarks.rglob("*.tsv"))
    drawn = (table or [], figure or [], captions)
    write_page(out, scale, description, metrics, reference, published or [], card, config, *drawn, times)


@app.command()
def plan(
    config: Annotated[Path, typer.Option(help="What to reproduce.")] = Path("config.yaml"),
    scale: Annotated[str | None, typer.Option(help="Plan this scale instead of the one that is named there.")] = None,
    document: Annotated[str | None, typer.Option(help="The whole configuration as JSON, instead of a file.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time each network on this machine first.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON document instead of a table.")] = False,
) -> None:
    """Say what would run: jobs, hours, downloads, disk, memory, and what this machine lacks for it."""
    from ddpm.planning.plan import make_plan, read_config
    from ddpm.planning.rendering import as_json, as_text

    chosen = read_config(config, document, scale)
    planned = make_plan(chosen)
    if measure:
        from ddpm.planning.measuring import measure_plan

        measure_plan(planned, choose_device("cpu" if planned.on_cpu else "cuda"), partial(print, file=sys.stderr))
        planned = make_plan(chosen)
    print(as_json(planned) if json else as_text(planned))


@app.command()
def requeue() -> None:
    """Inside a SLURM job: put it back into the queue, to go on from its saved state."""
    from ddpm.slurm import requeue

    requeue()


def log(message: str) -> None:
    """Say it. A line that a full disk does not take ends no work, which meets the disk itself where that matters."""
    with suppress_full_disk():
        print(message, flush=True)


for command in app.registered_commands:
    command.cls = Careful


def main() -> None:
    """Run a command; what ends it is explained in the last words of its output, and by its exit status."""
    codes: list[int] = []

    def leave() -> None:
        if codes:
            give_up_unsaid()
            os._exit(codes[0])

    # The last of all that is done at the end, since it comes first here. The interpreter would go on to take torch
    # apart, which takes up to half a second and leaves nothing behind.
    atexit.register(leave)
    JOB.listen()
    try:
        try:
            app()
        finally:
            JOB.at_once = False  # there is nothing left to end: a signal from here on changes neither words nor status
    except Interrupted as end:
        if str(end):  # one of several processes speaks for all
            log(str(end))
        code = end.status
    except SystemExit as end:
        code = end.code
    except Exception as error:
        code = report_failure(error, sys.argv[1:])
    give_up_unsaid()
    # One of several processes that fails ends where it is. Their group is still there, and its threads would now and
    # then abort the process while the interpreter ends: another status, and nothing would go on.
    if code and "RANK" in os.environ:
        os._exit(code)
    codes.append(code or 0)
    sys.exit(code)


if __name__ == "__main__":
    main()
