"""How the cost of a reproduction grows: with the steps of a training, with the images that are drawn and bounded."""

import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ddpm import resolving
from ddpm.bench import data
from ddpm.computing import frozen, placed
from ddpm.config import Experiment
from ddpm.data.store import Images
from ddpm.diffusion import GaussianDiffusion, linear_betas
from ddpm.evaluation.likelihood import likelihood_shard
from ddpm.files import whole
from ddpm.planning.measuring import device_name
from ddpm.sampling.ancestral import sample_shard
from ddpm.training.loop import Trainer
from ddpm.training.state import Trained
from ddpm.unet import UNet

EXPERIMENT = "digits-eps-simple"  # of the demo, whose network is small enough to count to 50,000 with
BATCH = 16  # images of a training step
TIMES = 10  # T of the process that draws and bounds: each time costs the same
COLUMNS = ("work", "count", "seconds", "device", "torch", "date")


def counts(largest: int) -> list[int]:
    """1, 2, 5, 10, ... thousand, up to `largest`."""
    return [n * 10**power for power in range(3, 9) for n in (1, 2, 5) if n * 10**power <= largest]


def now(device: torch.device) -> float:
    """Seconds that this process has computed, which other jobs do not change much; on a GPU those on the clock."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def training(of: Experiment, images: Images, largest: int, device: torch.device) -> Iterator[tuple[int, float]]:
    """Steps of one training, and the seconds that they took."""
    document = of.stage_config("training")
    document["training"] |= {"steps": largest + 1, "batch_size": BATCH}
    trainer = Trainer(document, images, device)
    batches, ends = trainer.batches(), set(counts(largest))
    trainer.update(next(batches))  # what is slower the first time
    began = now(device)
    for step in range(1, largest + 1):
        trainer.update(next(batches))
        if step in ends:
            yield step, now(device) - began


def network(of: Experiment, device: torch.device) -> Trained:
    """Random weights, and a process of few times."""
    diffusion = GaussianDiffusion(linear_betas(TIMES), variance=of.diffusion.variance).to(device)
    header = {"config": of.stage_config("training"), "weights": "", "outcome": {"status": "trained"}}
    return Trained(frozen(placed(UNet(of.network), device)), diffusion, header, "")


def sampling(of: Experiment, folder: Path, largest: int, device: torch.device) -> Iterator[tuple[int, float]]:
    """Images of a shard, and the seconds from its first noise to its file."""
    trained = network(of, device)
    for count in counts(largest):
        config = of.sampling.model_copy(update={"images": count, "shards": 1, "previews": 0})
        began = now(device)
        sample_shard(trained, config, 1, folder / "samples.npz", device, log=lambda line: None)
        yield count, now(device) - began


def likelihood(of: Experiment, images: Images, folder: Path, device: torch.device) -> Iterator[tuple[int, float]]:
    """Images of a shard, and the seconds from their file to that of their bound's terms."""
    trained = network(of, device)
    for count in counts(len(images)):
        config, began = of.likelihood.model_copy(update={"shards": 1}), now(device)
        likelihood_shard(trained, images, "train", count, config, 1, folder / "bound.npz", device, lambda line: None)
        yield count, now(device) - began


def benchmark_growth(largest: int, folder: Path, device: torch.device, log=print) -> None:
    """Measure each work up to `largest` steps or images; write growth.csv and growth.png into `folder`."""
    of = resolving.load({"scale": "demo"}).scale_config.experiments[EXPERIMENT]
    rows, about = [], (device_name(device), torch.__version__, date.today().isoformat())
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        images = Images(data.write_array(place, of.network.image_size, largest, of.network.channels))
        works = {
            "training, steps": training(of, images, largest, device),
            "sampling, images": sampling(of, place, largest, device),
            "likelihood, images": likelihood(of, images, place, device),
        }
        for work, points in works.items():
            for count, seconds in points:
                log(f"{work}: {count:,} in {seconds:,.1f} s")
                rows.append((work, count, round(seconds, 3), *about))
    table = pd.DataFrame(rows, columns=COLUMNS)
    with whole(folder / "growth.csv") as part:
        table.to_csv(part, index=False)
    for work, power in powers(table).items():
        log(f"{work}: seconds grow with the power {power:.3f} of their number")
    draw(table, folder / "growth.png")


def powers(table: pd.DataFrame) -> dict[str, float]:
    """p of seconds ~ count^p, of each work; 1 is linear."""
    logs = table.assign(x=np.log(table["count"]), y=np.log(table["seconds"])).groupby("work", sort=False)
    return {work: float(np.polyfit(points["x"], points["y"], 1)[0]) for work, points in logs}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds over numbers, both logarithmic, beside lines of the power 1."""
    import seaborn

    from ddpm.report.figures import charts

    charts.use_theme()
    named = {work: f"{work}: power {power:.2f}" for work, power in powers(table).items()}
    grid = seaborn.relplot(
        table.assign(work=table["work"].map(named)),
        x="count",
        y="seconds",
        hue="work",
        style="work",
        markers=True,
        dashes=False,
        kind="line",
        height=4,
        aspect=1.4,
    )
    (axes,) = grid.axes.flat
    axes.set(xscale="log", yscale="log", xlabel="Steps or images", ylabel="Seconds")
    for _, points in table.groupby("work"):
        first = points.iloc[0]
        axes.plot(points["count"], first["seconds"] * points["count"] / first["count"], ":", color="grey", zorder=0)
    axes.set_title(f"Dotted: in proportion. {table['device'].iloc[0]}", fontsize=8)
    with whole(path) as part:
        grid.savefig(part)
