"""Commands of the training stage."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import Config, Devices, claim_output, log, processes
from ddpm.config.enums import Selection

app = typer.Typer()


def find_checkpoint(name: str):
    """Published weights by name, or those of an experiment's training document."""
    from ddpm.config.registry import PUBLISHED, look_up
    from ddpm.storage.documents import read_section

    document = name.endswith(".json")
    return read_section(Path(name), "checkpoint") if document else look_up(PUBLISHED, name, "checkpoint")


@app.command()
def train(
    config: Config,
    data: Annotated[Path, typer.Option(help="train.npy of the prepared data set.")],
    state: Annotated[Path, typer.Option(help="Folder of the resumable state; kept between runs.")],
    out: Annotated[
        Path, typer.Option(help="final.safetensors: the averaged weights after the last step.", callback=claim_output)
    ],
    history: Annotated[Path, typer.Option(help="training.csv: the loss over time.", callback=claim_output)],
    outcome: Annotated[
        Path, typer.Option(help="training.json: trained, or unstable, with step and reason.", callback=claim_output)
    ],
    snapshots: Annotated[Path, typer.Option(help="Folder for the weights of every training.snapshot_every steps.")],
    scale: Annotated[str, typer.Option(help="Name of the scale, for the record.")] = "",
    device: Devices = "auto",
) -> None:
    """Train a network, or go on where an earlier call stopped. Under torchrun, its processes share each batch."""
    from ddpm.compute.distributed import STEP_TIMEOUT
    from ddpm.data.store import Images
    from ddpm.storage.documents import read_stage_config
    from ddpm.training.loop import train

    document = read_stage_config(config, "network", "diffusion", "training")
    with processes(device, STEP_TIMEOUT) as (on, group):
        train(document, Images(data), state, out, history, outcome, snapshots, on, scale, log, group)


@app.command()
def select(
    final: Annotated[Path, typer.Argument(help="final.safetensors of a training.")],
    checkpoint: Annotated[Selection, typer.Option(help="Which weights to score.")],
    out: Annotated[Path, typer.Option(help="model.safetensors to write.", callback=claim_output)],
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
    """Download published weights and check them. No other command for them needs the network."""
    from ddpm.storage.download import download

    checkpoint = find_checkpoint(name)
    download(checkpoint.files, out, {"checkpoint": checkpoint.model_dump(mode="json")}, log)


@app.command("import-weights")
def import_weights(
    source: Annotated[
        Path,
        typer.Argument(help="card.json of a download, a .ckpt, .pt, .bin or .safetensors, or a diffusers folder."),
    ],
    out: Annotated[Path, typer.Option(help="model.safetensors to write.", callback=claim_output)],
    outcome: Annotated[
        Path | None, typer.Option(help="training.json to write: released, with the step.", callback=claim_output)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="An experiment's training document, for weights that fit it.")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Published weights that SOURCE is a copy of.")] = None,
) -> None:
    """Convert weights of other people, without running any code in them."""
    from ddpm.storage.documents import read_stage_config
    from ddpm.training.convert import importing

    document = read_stage_config(config, "network", "diffusion") if config else None
    published = find_checkpoint(checkpoint) if checkpoint else None
    importing.import_weights(source, out, outcome, document, published, log)


@app.command("export-weights")
def export_weights(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of a training.")],
    out: Annotated[Path, typer.Option(help="Folder to write, for diffusers' DDPMPipeline.from_pretrained.")],
) -> None:
    """Write a trained network as a folder that diffusers loads."""
    from ddpm.training.convert.diffusers_folder import export
    from ddpm.training.model import load_model

    export(load_model(weights), out)
