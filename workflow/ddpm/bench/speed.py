"""How fast the paper's CIFAR-10 network trains and samples here, beside diffusers and the machine's limits."""

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from torch.nn import functional as F

from ddpm import resolving
from ddpm.bench import data, features
from ddpm.compiling import cache_folder, missing_compiler
from ddpm.computing import frozen, has_bf16, placed
from ddpm.config import Experiment
from ddpm.data.store import Images
from ddpm.diffusion import GaussianDiffusion
from ddpm.files import UserError, whole
from ddpm.planning.costs import INCEPTION_FLOPS, network_cost, training_flops
from ddpm.planning.measuring import device_name
from ddpm.planning.rates import Kind, fingerprint, keep_rates
from ddpm.precision import ASKED, Precision
from ddpm.sampling.ancestral import reverse_chain
from ddpm.training.loop import Trainer
from ddpm.training.state import Trained
from ddpm.unet import UNet

EXPERIMENT = "cifar10-eps-simple"
ROUNDS = 3  # in turns, so that whatever else the machine does meets all alike
HOPELESS = 0.6  # what is slower than this part of the fastest is not timed again
WORSE = 0.9  # less than this part of an earlier ratio is a regression
OURS, THEIRS, MACHINE = "this project", "diffusers", "torch alone"
ORDERS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def paper() -> Experiment:
    """The paper's CIFAR-10 experiment."""
    return resolving.load({"scale": "paper"}).scale_config.experiments[EXPERIMENT]


def papers(batch: int) -> Experiment:
    """The same, trained in batches of this size."""
    of = paper()
    return of.model_copy(update={"training": of.training.model_copy(update={"batch_size": batch})})


def training(of: Experiment, images: Images, device: torch.device, precision: Precision, compiled: bool) -> Callable:
    """A step of our training: images, draws, network there and back, clipping, update, average."""
    with patch.dict(os.environ, {ASKED: precision}):
        trainer = Trainer(of.stage_config("training"), images, device)
    if compiled:
        trainer.model.compile(dynamic=False)
        trainer.records = device.type == "cuda"
    batches = trainer.batches()
    return lambda: trainer.update(next(batches))


def trained(of: Experiment, device: torch.device, precision: Precision, compiled: bool) -> Trained:
    """Random weights, as those of a file are made ready."""
    with patch.dict(os.environ, {ASKED: precision}):
        model = frozen(placed(UNet(of.network), device))
    if compiled:
        model.compile(dynamic=False)
    return Trained(model, GaussianDiffusion.from_config(of.diffusion).to(device), {}, "", precision)


def sampling(of: Experiment, batch: int, device: torch.device, precision: Precision, compiled: bool) -> Callable:
    """A step of the reverse process, with its noise."""
    network = trained(of, device, precision, compiled)
    steps = chain.from_iterable(reverse_chain(network, 0, batch, seed, device) for seed in count())
    return torch.inference_mode()(lambda: next(steps))


def likelihood(of: Experiment, batch: int, device: torch.device, precision: Precision, compiled: bool) -> Callable:
    """One term of the bound."""
    network = trained(of, device, precision, compiled)
    x0 = torch.rand(batch, *network.image_shape, device=device) * 2 - 1
    t = torch.full((batch,), 500, device=device)
    return torch.inference_mode()(lambda: network.diffusion.bound_terms(network.model, x0, t, torch.randn_like(x0)))


@dataclass
class Way:
    """One way to do a piece of work, and how long a step took, in seconds."""

    code: str
    precision: Precision
    order: str
    compiled: bool
    make: Callable[[], Callable[[], object]]
    first: float = 0.0
    """The first step, in which what is compiled is."""
    times: list[float] = field(default_factory=list)


def ways(work: str, make: Callable, batch: int, device: torch.device, compiled: bool) -> list[Way]:
    """Ours, in every precision that is fast here, and compiled too if asked; diffusers', also in both orders."""
    precisions = [Precision.FP32, *([Precision.BF16] if has_bf16(device) else [])]
    found = [
        Way(OURS, precision, "channels last", jit, partial(make, device, precision, jit))
        for precision in precisions
        for jit in (False, True)[: 1 + compiled]
    ]
    if importlib.util.find_spec("diffusers"):
        from ddpm.bench.diffusers_work import STEPS

        found += [
            Way(THEIRS, precision, order, False, partial(STEPS[work], batch, precision, memory, device))
            for precision in precisions
            for order, memory in ORDERS.items()
            if work in STEPS
        ]
    return found


def named(way: Way) -> str:
    """As the log calls it."""
    return f"{way.code}, {way.precision}, {way.order}{', compiled' if way.compiled else ''}"


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


def steady_seconds(step: Callable[[], object], least: float, device: torch.device) -> float:
    """`seconds` behind a first call, which makes what later ones find."""
    seconds(step, 0, device)
    return seconds(step, least, device)


def timed(work: str, found: list[Way], batch: int, flops: float, least: float, device: torch.device, log) -> list[dict]:
    """A row for each way, in the order of their speed.

    Args:
        flops: operations of an image's step.
        least: seconds that a measurement takes, of ROUNDS.
    """
    steps = []
    for way in found:
        step = way.make()
        way.first = seconds(step, 0, device)
        way.times.append(seconds(step, 0, device))
        steps.append((way, step))
        log(f"{work}: {named(way)}: {batch / way.times[0]:,.1f} images/s in its second step")
    fastest = min(way.times[0] for way in found)
    for _ in range(ROUNDS):
        for way, step in steps:
            if fastest >= HOPELESS * way.times[0]:
                way.times.append(seconds(step, least, device))
    rows = []
    for way in found:
        rate = batch / statistics.median(way.times[1:] or way.times)
        about = {"code": way.code, "precision": way.precision, "order": way.order, "compiled": way.compiled}
        rows.append({"work": work, **about, "batch": batch, "images_per_s": rate, "first_s": way.first})
        rows[-1]["tflops"] = rate * flops / 1e12
        log(f"{work}: {named(way)}: {rate:,.1f} images/s")
    return sorted(rows, key=lambda row: -row["images_per_s"])


def limits(device: torch.device, least: float) -> list[dict]:
    """What the machine computes at best: the network's two widest convolutions, and a matrix product."""
    rows = []
    size, batch = (8192, 256) if device.type == "cuda" else (2048, 16)
    for precision, dtype in ((Precision.FP32, torch.float32), (Precision.BF16, torch.bfloat16)):
        random = partial(torch.randn, device=device, dtype=dtype)
        a = random(size, size)
        row = {"code": MACHINE, "precision": precision}
        taken = steady_seconds(lambda a=a: a @ a, least, device)
        rows.append({"work": f"product of {size:,} x {size:,}", **row, "tflops": 2 * size**3 / taken / 1e12})
        for (order, memory), (c, width) in ((o, s) for o in ORDERS.items() for s in ((128, 32), (256, 16))):
            x = random(batch, c, width, width).contiguous(memory_format=memory)
            w = random(c, c, 3, 3).contiguous(memory_format=memory)
            taken = steady_seconds(torch.inference_mode()(lambda x=x, w=w: F.conv2d(x, w, padding=1)), least, device)
            about = {"work": f"convolution, {c} channels of {width}x{width}", **row, "order": order, "batch": batch}
            rows.append({**about, "tflops": 2 * 9 * c**2 * width**2 * batch / taken / 1e12})
    return rows


def benchmark(
    folder: Path,
    device: torch.device,
    rates: Path,
    batches: tuple[int, int] | None = None,
    least: float = 5.0,
    compiled: bool | None = None,
    log=print,
) -> pd.DataFrame:
    """Measure everything, and write speed.csv and speed.png into `folder`.

    Args:
        rates: the file that `plan` reads, which gets this device's.
        batches: images of a step of training, and of the rest; None: the paper scale's on a GPU, 16 and 16 on a CPU.
        least: seconds of a measurement.
        compiled: whether compiled networks are tried, too; None: on a GPU, where it takes minutes.
    """
    gpu = device.type == "cuda"
    first, rest = batches or ((paper().training.batch_size, paper().sampling.batch_size) if gpu else (16, 16))
    compiled = gpu if compiled is None else compiled
    if compiled and (missing := missing_compiler()) and gpu:
        raise UserError(f"--compiled: there is no {missing} here. Install it, or give --no-compiled.")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder()))
    of = papers(first)
    forward = network_cost(of.network).flops
    rows, before = [], limits(device, least / 5)
    with tempfile.TemporaryDirectory() as prepared:
        images = Images(data.write_array(Path(prepared), of.network.image_size, 4096, of.network.channels))
        works = (
            ("training", first, training_flops(of.network), partial(training, of, images)),
            ("sampling", rest, forward, partial(sampling, of, rest)),
            ("likelihood", rest, forward, partial(likelihood, of, rest)),
        )
        for work, batch, flops, make in works:
            rows += timed(work, ways(work, make, batch, device, compiled), batch, flops, least, device, log)
        reading = data.rates(images, first, 0)[0]
        rows.append({"work": "reading data", "code": OURS, "batch": first, "images_per_s": reading})
    inception, pixels = features.untrained_network(device), torch.rand(rest, 3, 32, 32, device=device) * 255
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    way = Way(OURS, Precision.FP32, "channels last", False, lambda: lambda: features.run(inception, pixels, rest))
    rows += timed("features", [way], rest, INCEPTION_FLOPS, least, device, log)
    # A machine that others share is not always as fast; its best is what counts.
    after = limits(device, least / 5)
    best_of = (max(pair, key=lambda row: row["tflops"]) for pair in zip(before, after, strict=True))

    table = compared(pd.DataFrame([*best_of, *rows]))
    name = device_name(device)
    theirs = version("diffusers") if importlib.util.find_spec("diffusers") else ""
    table = table.assign(device=name, torch=torch.__version__, diffusers=theirs, date=date.today().isoformat())
    with whole(folder / "speed.csv") as part:
        table.to_csv(part, index=False, float_format="%.4g")
    draw(table, folder / "speed.png")
    kinds = {Kind.TRAINING: "training", Kind.SAMPLING: "sampling"}
    ours = {kind.value: 1e12 * float(best(table, work, OURS)["tflops"]) for kind, work in kinds.items()}
    keep_rates(rates, name, {fingerprint(of.network): ours})
    return table


def best(table: pd.DataFrame, work: str, code: str) -> pd.Series | None:
    """The fastest way of `code` to do `work`; None where it has none."""
    rows = table[(table["work"] == work) & (table["code"] == code)]
    return None if rows.empty else rows.loc[rows["images_per_s"].idxmax()]


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """With the share of the fastest convolution in the same precision, and the ratio to diffusers at its best."""
    convolutions = table[table["work"].str.startswith("convolution")].groupby("precision")["tflops"].max()
    share = table["tflops"] / table["precision"].map(convolutions)
    theirs = {work: best(table, work, THEIRS) for work in table["work"].unique()}
    rate = table["work"].map({work: row["images_per_s"] for work, row in theirs.items() if row is not None})
    return table.assign(share=share, ratio=table["images_per_s"] / rate.astype(float))


def regressions(table: pd.DataFrame, file: Path) -> list[str]:
    """What has become slower, by the ratio of our best to diffusers' best, than in an earlier table.

    Raises:
        UserError: the earlier one has nothing of this device.
    """
    before, device = pd.read_csv(file), table["device"].iloc[0]
    then = before[before["device"] == device]
    if then.empty:
        raise UserError(f"{file}: has no row of {device}, only of {', '.join(before['device'].unique())}.")
    said = []
    for work in table.loc[table["ratio"].notna(), "work"].unique():
        now, earlier = (best(of, work, OURS) for of in (table, then))
        if earlier is not None and now["ratio"] < WORSE * earlier["ratio"]:
            said.append(f"{work}: {now['ratio']:.2f} times diffusers, where it was {earlier['ratio']:.2f} times")
    return said


def draw(table: pd.DataFrame, path: Path) -> None:
    """Images a second of every way, a panel for each work that diffusers does, too."""
    import seaborn

    from ddpm.report.figures import charts

    charts.use_theme()
    shown = table[table["ratio"].notna()].copy()
    if shown.empty:  # without diffusers
        shown = table[table["work"].isin(["training", "sampling"])].copy()
    how = shown["precision"] + ", " + shown["order"] + shown["compiled"].map({True: ", compiled", False: ""})
    shown["way"] = shown["code"] + "\n" + how
    grid = seaborn.catplot(
        shown, kind="bar", x="images_per_s", y="way", hue="code", col="work", sharex=False, sharey=False, aspect=1.5
    )
    grid.set_axis_labels("Images a second", "").set_titles("{col_name}")
    grid.figure.suptitle(f"{table['device'].iloc[0]}, torch {table['torch'].iloc[0]}", y=1.03)
    with whole(path) as part:
        grid.savefig(part)
