"""A training step of the paper's network on one GPU: rate, memory, and which kernels the time goes to.

python benchmarks/training_step.py cifar10-eps-simple --profile
python benchmarks/training_step.py lsun-church256-eps-simple
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from ddpm.bench import data
from ddpm.compute.device import COMPILED
from ddpm.compute.flops import training_flops
from ddpm.config import resolving
from ddpm.data.store import Images
from ddpm.training.loop import Trainer


def trainer_of(name: str, folder: Path, device: torch.device, batch: int | None) -> Trainer:
    """As the workflow trains experiment `name` of scale paper, on synthetic images: compiled, one CUDA graph."""
    of = resolving.load({"scale": "paper"}).scale_config.experiments[name]
    document = of.stage_config("training")
    document["training"]["batch_size"] = batch or document["training"]["batch_size"]
    size = of.network.image_size
    images = Images(data.write_array(folder, size, 4096 if size <= 64 else 256, of.network.channels))
    trainer = Trainer(document, images, device)
    if device.type == "cuda":
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.resolve()))
        trainer.model.compile(dynamic=False)
        trainer.records = True
    return trainer


def profiled(step, count: int) -> pd.DataFrame:
    """Milliseconds and calls of each kernel in a step, from `count` of them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(count):
            step()
        torch.cuda.synchronize()
    kernels = [event for event in found.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    table = pd.DataFrame(
        {"kernel": [e.name for e in kernels], "ms": [e.time_range.elapsed_us() / 1e3 for e in kernels]}
    )
    table = table.groupby("kernel")["ms"].agg(ms="sum", calls="count") / count
    return table.sort_values("ms", ascending=False).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--batch", type=int, help="Images of a step; the paper's if left out.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", type=Path, help="A .csv for the kernels of a step.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    device = torch.device(args.device)
    with TemporaryDirectory() as folder:
        trainer = trainer_of(args.experiment, Path(folder), device, args.batch)
        batches = trainer.batches()

        def synchronize() -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()

        began = time.perf_counter()
        for _ in range(2):
            trainer.update(next(batches))
        synchronize()
        print(f"first two steps: {time.perf_counter() - began:.1f} s", flush=True)
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < args.seconds:
            for _ in range(10 if device.type == "cuda" else 1):
                trainer.update(next(batches))
            synchronize()
            steps += 10 if device.type == "cuda" else 1
        rate = steps / (time.perf_counter() - began)
        batch = trainer.config.batch_size
        flops = rate * batch * training_flops(trainer.model.config)
        print(f"{args.experiment}: {rate:.2f} steps/s of {batch}, micro-batches of {trainer.micro_batch}", flush=True)
        print(f"{flops / 1e12:.1f} TFLOP/s, {trainer.model.precision}, torch {torch.__version__}", flush=True)
        if device.type == "cuda":
            print(torch.cuda.get_device_name(device))
            for kind in ("allocated", "reserved"):
                print(f"{kind}: {getattr(torch.cuda, f'max_memory_{kind}')(device) / 1e9:.1f} GB at most", flush=True)
        if args.profile:
            table = profiled(lambda: trainer.update(next(batches)), 10)
            table.to_csv(args.profile, index=False, float_format="%.5g")
            print(f"{table['ms'].sum():.2f} ms of kernels, {table['calls'].sum():.0f} of them")
            print(table.head(40).to_string(max_colwidth=110))


if __name__ == "__main__":
    main()
