"""What it costs a training of the paper's CIFAR-10 network that several processes share each batch."""

import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

from ddpm.bench import data
from ddpm.bench.speed import ROUNDS, papers
from ddpm.data.store import Images
from ddpm.files import UserError, write_csv
from ddpm.parallel import ALONE, Group
from ddpm.planning.measuring import device_name
from ddpm.training.loop import Trainer

COLUMNS = ("processes", "images_of_each", "alone_s", "shared_s", "overhead", "sum_s", "torch", "date")


def benchmark_processes(
    batch: int, least: float, out: Path | None, device: torch.device, group: Group, log=print
) -> None:
    """Time steps of all processes at once: each with a batch of its own, then with its part of one that they share.

    The network's work is the same, and so is the rest of the machine's; what is more is the price of sharing.

    Args:
        batch: images of each process. least: seconds of a measurement.

    Raises:
        UserError: there is only one process.
    """
    if group.size == 1:
        raise UserError("--device: one process shares nothing. Give several, as in 2xcpu or 2xcuda.")

    def mean(number: float) -> float:
        """Over the processes, which wait for each other for it."""
        return float(group.mean_(torch.tensor([number], dtype=torch.float64)))

    def seconds(trainer: Trainer, calls: int) -> float:
        batches = trainer.batches()
        mean(0)
        began = time.perf_counter()
        for _ in range(calls):
            trainer.update(next(batches))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return mean(time.perf_counter() - began) / calls

    with tempfile.TemporaryDirectory() as folder:
        of = papers(batch)
        images = Images(data.write_array(Path(folder), of.network.image_size, 4096, of.network.channels))
        alone = Trainer(of.stage_config("training"), images, device, ALONE)
        shared = Trainer(papers(batch * group.size).stage_config("training"), images, device, group)
        first = max(seconds(trainer, 1) for trainer in (alone, shared))
        calls = max(1, round(least / first))
        times = [(seconds(alone, calls), seconds(shared, calls)) for _ in range(ROUNDS)]
    gradient = torch.zeros_like(shared.parameters.gradient)
    mean(0)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        group.sum_(gradient)
    float(gradient[0])  # which waits for a GPU
    sum_s = mean(time.perf_counter() - began) / ROUNDS
    if not group.leads:
        return
    one, all_of_them = (statistics.median(column) for column in zip(*times, strict=True))
    log(f"{group.size} processes, {device_name(device)} each, torch {torch.__version__}, {batch} images each:")
    log(f"a step of its own takes {one:.3f} s, a shared one {all_of_them:.3f} s, {all_of_them / one - 1:+.1%}")
    log(f"the sum of {gradient.numel():,} numbers, which is what they share, takes {sum_s:.3f} s")
    if out:
        row = (group.size, batch, one, all_of_them, all_of_them / one - 1, sum_s, torch.__version__, date.today())
        write_csv(out, COLUMNS, [row])
