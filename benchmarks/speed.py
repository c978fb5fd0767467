"""How fast a network of the paper trains and samples here, beside diffusers: a row of speed.csv for each way.

    python benchmarks/speed.py
    python benchmarks/speed.py --experiment lsun-church256-eps-simple --only "training: this project, bf16.*compiled"

Each way is this project or diffusers, in fp32 or bf16, in one order of memory, compiled or not. All take turns, and
all find their images on the device.
"""

import argparse
import importlib.util
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import common
import pandas as pd
import torch
from torch.nn import functional as F

from ddpm.compute.device import cache_folder, has_bf16, missing_compiler, prepare_for_inference, prepare_model
from ddpm.compute.flops import network_cost, training_flops
from ddpm.config import resolving
from ddpm.config.enums import PRECISION_ENV, Precision
from ddpm.config.experiment import Experiment
from ddpm.diffusion import GaussianDiffusion
from ddpm.jobs.gpus import choose_device
from ddpm.sampling.ancestral import sample_ancestral
from ddpm.sampling.base import initial_noise, named_noise
from ddpm.training.convert.diffusers_folder import scheduler_config, unet2d_config
from ddpm.training.loop import Trainer
from ddpm.training.model import TrainedModel
from ddpm.unet import UNet

ROUNDS = 3  # in turns, so that whatever else the machine does meets all alike
WORSE = 0.9  # less than this part of an earlier ratio is a regression
OURS, THEIRS = "this project", "diffusers"
ORDERS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def ours(
    of: Experiment, work: str, batch: int, device: torch.device, precision: Precision, compiled: bool
) -> Callable[[], object]:
    """A step of our training (draws, forward, backward, clipping, update, average), or of our reverse process."""
    os.environ[PRECISION_ENV] = precision
    network = of.network
    if work == "training":
        document = of.stage_config("training")
        document["training"]["batch_size"] = batch
        trainer = Trainer(document, None, device)  # which is given its images
        trainer.use_cuda_graph = compiled and device.type == "cuda"
        model, size = trainer.model, (batch, network.image_size, network.image_size, network.channels)
        step = partial(trainer.training_step, torch.randint(256, size, dtype=torch.uint8, device=device))
    else:
        model = prepare_for_inference(prepare_model(UNet(network), device))
        trained = TrainedModel(model, GaussianDiffusion.from_config(of.diffusion).to(device), {}, "", precision)
        x = initial_noise(trained, 0, 0, batch)
        step = torch.inference_mode()(partial(sample_ancestral, trained, x, [0], named_noise(x, 0, "z")))
    if compiled:
        model.compile(dynamic=False)
    return step


def theirs(
    of: Experiment, work: str, batch: int, device: torch.device, precision: Precision, order: str
) -> Callable[[], object]:
    """The same by diffusers, eager: the loop of its guide to unconditional generation, or that of its DDPMPipeline.

    With torch's fused Adam and its own grouped average, which are its fastest.
    """
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    memory, bf16 = ORDERS[order], precision is Precision.BF16
    model = UNet2DModel.from_config(unet2d_config(of.network)).to(device, memory_format=memory)
    scheduler = DDPMScheduler.from_config(scheduler_config(of.diffusion))
    size = (batch, of.network.channels, of.network.image_size, of.network.image_size)
    if work == "training":
        optimiser = torch.optim.Adam(model.train().parameters(), lr=2e-4, fused=True)
        average = EMAModel(model.parameters(), decay=0.9999, foreach=True)
        images = torch.rand(size, device=device).mul(2).sub(1).contiguous(memory_format=memory)

        def step() -> None:
            noise = torch.randn_like(images)
            t = torch.randint(of.diffusion.timesteps, (batch,), device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                output = model(scheduler.add_noise(images, noise, t), t, return_dict=False)[0]
            F.mse_loss(output.float(), noise).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            average.step(model.parameters())

        return step
    dtype = torch.bfloat16 if bf16 else torch.float32
    torch.nn.Module.to(model.eval(), dtype)  # its own `to` warns
    scheduler.set_timesteps(of.diffusion.timesteps)

    @torch.no_grad()
    def chains():
        while True:
            x = torch.randn(size, dtype=dtype, device=device).contiguous(memory_format=memory)
            for t in scheduler.timesteps:
                yield (x := scheduler.step(model(x, t).sample, t, x).prev_sample)

    return partial(next, chains())


def ways(of: Experiment, work: str, batch: int, device: torch.device, compiled: bool) -> list[tuple[dict, Callable]]:
    """All ways to do `work`, with what makes a step of each."""
    found = []
    for precision in (Precision.FP32, Precision.BF16)[: 1 + has_bf16(device)]:
        about = {"work": work, "code": OURS, "precision": precision, "order": "channels last", "batch": batch}
        for jit in (False, True)[: 1 + compiled]:
            found.append(({**about, "compiled": jit}, partial(ours, of, work, batch, device, precision, jit)))
        for order in ORDERS if importlib.util.find_spec("diffusers") else ():
            about = {**about, "code": THEIRS, "order": order, "compiled": False}
            found.append((about, partial(theirs, of, work, batch, device, precision, order)))
    return found


def named(row: dict) -> str:
    """As --only and the log call a way."""
    parts = f"{row['work']}: {row['code']}, {row['precision']}, {row['order']}"
    return f"{parts}, compiled" if row["compiled"] else parts


def seconds(step: Callable[[], object], least: float, device: torch.device) -> float:
    """Of one call, of as many as take `least` seconds together."""
    calls, taken, began = 0, 0.0, time.perf_counter()
    while not calls or taken < least:
        for _ in range(more := max(1, min(calls, 64))):
            step()
        calls += more
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken = time.perf_counter() - began
    return taken / calls


def timed(found: list[tuple[dict, Callable]], flops: float, least: float, device: torch.device) -> dict[str, Callable]:
    """Has each row of `found` say what it measured; returns the steps by their names.

    Args:
        flops: operations of an image's step. least: seconds that a measurement takes, of ROUNDS.
    """
    steps, gpu = {}, device.type == "cuda"
    for row, make in found:
        before = torch.cuda.memory_allocated(device) if gpu else 0
        if gpu:
            torch.cuda.reset_peak_memory_stats(device)
        step = steps[named(row)] = make()
        row["first_s"] = seconds(step, 0, device)
        seconds(step, 0, device)  # the first that is as later ones are
        if gpu:
            row["memory_gb"] = (torch.cuda.max_memory_allocated(device) - before) / 1e9
        print(f"{named(row)}: the first step took {row['first_s']:.1f} s", flush=True)
    times = [[seconds(step, least, device) for step in steps.values()] for _ in range(ROUNDS)]
    for (row, _), taken in zip(found, zip(*times, strict=True), strict=True):
        row["images_per_s"] = row["batch"] / statistics.median(taken)
        row["tflops"] = row["images_per_s"] * flops / 1e12
    return steps


def kernels(step: Callable[[], object], count: int = 10) -> pd.DataFrame:
    """Milliseconds and calls of each of the GPU's kernels in a step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(count):
            step()
        torch.cuda.synchronize()
    of_gpu = (event for event in found.events() if event.device_type == torch.autograd.DeviceType.CUDA)
    table = pd.DataFrame([(e.name, e.time_range.elapsed_us() / 1e3) for e in of_gpu], columns=["kernel", "ms"])
    table = table.groupby("kernel")["ms"].agg(ms="sum", calls="count") / count
    return table.sort_values("ms", ascending=False).reset_index()


def regressions(table: pd.DataFrame, file: Path) -> list[str]:
    """The works whose ratio to diffusers has fallen since `file` was measured on the same device."""
    before = pd.read_csv(file)
    then = before[(before["device"] == table["device"].iloc[0]) & (before["code"] == OURS)]
    if then.empty:
        return [f"{file} has no row of {table['device'].iloc[0]}, only of {', '.join(before['device'].unique())}"]
    now, then = (rows.groupby("work")["ratio"].max() for rows in (table[table["code"] == OURS], then))
    return [
        f"{work}: {now[work]:.2f} times diffusers, where it was {then[work]:.2f} times"
        for work in now.index.intersection(then.index)
        if now[work] < WORSE * then[work]
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--scale", default="paper")
    parser.add_argument("--experiment", default="cifar10-eps-simple")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), help="Folder for speed.csv.")
    parser.add_argument(
        "--against", type=Path, help="An earlier speed.csv: a tenth less than its ratio to diffusers is an error."
    )
    parser.add_argument("--batches", help="Images of a step of each work; the scale's on a GPU, 16,16 on a CPU.")
    parser.add_argument("--seconds", type=float, default=5, help="That a measurement takes; there are three of each.")
    parser.add_argument(
        "--compiled", action=argparse.BooleanOptionalAction, help="Try compiled networks; by default on a GPU."
    )
    parser.add_argument("--only", default="", help="A regular expression that the names of ways have to match.")
    parser.add_argument("--profile", type=Path, help="A .csv for the kernels of each way's step on a GPU.")
    args = parser.parse_args(arguments)

    device = choose_device(args.device)
    gpu = device.type == "cuda"
    compiled = gpu if args.compiled is None else args.compiled
    if gpu and compiled and (missing := missing_compiler()):
        parser.error(f"there is no {missing} here. Install it, or give --no-compiled.")
    if compiled:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder()))
    of = resolving.load({"scale": args.scale}).scale_config.experiments[args.experiment]
    usual = (of.training.batch_size, of.sampling.batch_size) if gpu else (16, 16)
    training, sampling = map(int, args.batches.split(",")) if args.batches else usual

    rows, profiles = [], []
    for work, batch, flops in (
        ("training", training, training_flops(of.network)),
        ("sampling", sampling, network_cost(of.network).flops),
    ):
        found = [way for way in ways(of, work, batch, device, compiled) if re.search(args.only, named(way[0]))]
        if found:
            steps = timed(found, flops, args.seconds, device)
            rows += [row for row, _ in found]
            profiles += [kernels(step).assign(way=way) for way, step in steps.items() if args.profile]
            steps.clear()  # and with them what they hold of the GPU's memory
    if not rows:
        parser.error(f"--only {args.only}: no way has such a name.")
    table = pd.DataFrame(rows).sort_values(["work", "images_per_s"], ascending=False)
    best = table[table["code"] == THEIRS].groupby("work")["images_per_s"].max()
    table["ratio"] = table["images_per_s"] / table["work"].map(best).astype(float)
    with_diffusers = version("diffusers") if importlib.util.find_spec("diffusers") else ""
    table = table.assign(experiment=args.experiment, device=common.device_name(device), torch=torch.__version__)
    table = table.assign(diffusers=with_diffusers, date=date.today().isoformat())
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "speed.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False))
    if args.profile:
        pd.concat(profiles).to_csv(args.profile, index=False, float_format="%.5g")
    if args.against and (slower := regressions(table, args.against)):
        sys.exit(f"slower than in {args.against}: {'; '.join(slower)}.")


if __name__ == "__main__":
    main()
