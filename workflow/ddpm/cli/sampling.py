"""Commands of the sampling stage."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import (
    BatchSize,
    Config,
    Device,
    Devices,
    Out,
    Seed,
    Shard,
    State,
    Weights,
    choose_device,
    log,
    processes,
    section_of_shard,
)

app = typer.Typer()


@app.command("sample", help="Draw one shard of images from a trained network.")
@app.command(
    "few-steps",
    help="Draw one shard of images in few steps with DDIM: an addition, in no table or figure of the paper.",
)
def sample(
    context: typer.Context,
    config: Config,
    weights: Weights,
    shard: Shard,
    out: Out,
    device: Devices = "auto",
    state: State = None,
) -> None:
    from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, sample_shard
    from ddpm.training.model import load_model

    sampler = AncestralSampler if context.info_name == "sample" else FewStepsSampler
    settings = section_of_shard(config, sampler.section, shard)
    with processes(device) as (on, group):
        sample_shard(sampler(load_model(weights, on), settings, on), shard, out, log, state, group)


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
    """Draw images from one snapshot of a training, with averaged and with raw weights."""
    from ddpm.sampling.snapshots import snapshot_shard, snapshot_weights
    from ddpm.storage.documents import read_section

    settings = read_section(config, "snapshots")
    with processes(device) as (on, group):
        averaged, raw = snapshot_weights(final, snapshots, step, on)
        snapshot_shard(averaged, raw, settings, out, on, log, state, group)


@app.command("snapshot-previews")
def snapshot_previews(
    config: Config, samples: Annotated[list[Path], typer.Argument(help="Files of `snapshot`.")], out: Out
) -> None:
    """Collect the first images of every snapshot, for the training curve."""
    from ddpm.sampling.previews import write_snapshot_previews
    from ddpm.storage.documents import read_section

    write_snapshot_previews(samples, read_section(config, "snapshots").previews, out)


@app.command()
def trajectory(
    weights: Weights,
    data: Annotated[Path, typer.Option(help="test.npy of the prepared data set.")],
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Images, or as many as there are.")] = 8,
    frames: Annotated[int, typer.Option(min=2, help="Times between T and 0.")] = 48,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Record images on their way to noise (q) and samples on their way from it (p)."""
    from ddpm.data.store import Images
    from ddpm.sampling.chains import write_trajectory
    from ddpm.training.model import load_model

    images = Images(data)
    if len(images) == 0:
        log(f"{data}: holds no images; training images are taken instead")
        images = Images(data.with_name("train.npy"))
    write_trajectory(load_model(weights, choose_device(device)), images, min(count, len(images)), frames, seed, out)


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
    """Split reverse chains at t = T, 3T/4, T/2, T/4 and go on sampling from each x_t: Figure 7."""
    from ddpm.sampling.chains import write_latents
    from ddpm.training.model import load_model

    on = choose_device(device)
    write_latents(load_model(weights, on), chains, samples, batch_size, seed, out, on, log)


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
    from ddpm.sampling.chains import write_interpolations
    from ddpm.training.model import load_model

    on = choose_device(device)
    trained = load_model(weights, on)
    write_interpolations(trained, Images(data), pairs, steps or [500], batch_size, seed, out, on, log)
