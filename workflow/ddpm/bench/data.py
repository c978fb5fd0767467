"""How many images a second come out of the stores, how many a core gives, and how many cores the paper takes."""

import io
import math
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddpm.data.loading import feed
from ddpm.data.store import Images, checksum
from ddpm.files import write_csv, write_json, write_npy
from ddpm.processor import processor_name

# The paper's training on a TPU v3-8 (Appendix B): 2.2 steps of 64 images a second at 256x256, 21 of 128 at 32x32.
PAPER = {256: (2.2, 64), 32: (21.0, 128)}
QUALITY = 75  # of the WebP files
COLUMNS = ("store", "size", "workers", "images_per_s", "per_core", "paper_images_per_s", "cores_for_paper")


def photograph(random: np.random.Generator, width: int, height: int) -> bytes:
    """A smooth random field in colour, with a little grain, as a WebP file: it takes about as long as a photograph."""
    fine = random.normal(128, 60, (height // 4, width // 4, 3)).clip(0, 255).astype(np.uint8)
    coarse = random.normal(128, 60, (height // 32, width // 32, 3)).clip(0, 255).astype(np.uint8)
    fields = (Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC) for field in (coarse, fine))
    file = io.BytesIO()
    Image.blend(*fields, 0.65).save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def write_card(folder: Path, size: int, count: int, store: str | dict, channels: int = 3) -> None:
    card = {"title": "the benchmark's images", "image_size": size, "channels": channels, "train": count, "store": store}
    write_json(folder / "card.json", {**card, "sha256": {"train": checksum(folder / "train.npy", store)}})


def write_database(folder: Path, count: int) -> int:
    """A prepared compressed store of `count` images of 341x256 and 256x341, as LSUN's; returns its bytes per image."""
    import lmdb

    random = np.random.Generator(np.random.PCG64(0))
    keys = [b"%06d" % i for i in range(count)]
    with (
        lmdb.open(str(folder / "lmdb"), map_size=count * 200_000 + 1_000_000) as database,
        database.begin(write=True) as transaction,
    ):
        for i, key in enumerate(keys):
            transaction.put(key, photograph(random, *((341, 256) if i % 2 else (256, 341))))
    write_npy(folder / "train.npy", np.array(keys))
    size = (folder / "lmdb/data.mdb").stat().st_size
    write_card(folder, 256, count, {"lmdb": "lmdb", "bytes": size})
    return size // count


def write_array(folder: Path, size: int, count: int, channels: int = 3) -> Path:
    """A prepared array of `count` images; returns its file."""
    random = np.random.Generator(np.random.PCG64(0))
    write_npy(folder / "train.npy", random.integers(0, 256, (count, size, size, channels), np.uint8))
    write_card(folder, size, count, "array", channels)
    return folder / "train.npy"


def cpu_seconds() -> float:
    """What this process and its workers that have ended have computed so far."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def rates(images: Images, batch: int, workers: int) -> tuple[float, float]:
    """Images through `feed` to the CPU, in batches in random order: per second, and per second of one core's work.

    The first is as fast as the machine is free; the second counts the work alone, with that of starting the workers.
    """
    random = np.random.Generator(np.random.PCG64(1))
    warm = max(workers, 1) * 2
    steps = warm + 2 * math.ceil(len(images) / batch)
    worked = cpu_seconds()
    batches = feed(images, (random.integers(0, len(images), batch) for _ in range(steps)), torch.device("cpu"), workers)
    for _ in range(warm):
        next(batches)
    began = time.perf_counter()
    count = sum(len(images) for images in batches)
    return count / (time.perf_counter() - began), (count + warm * batch) / (cpu_seconds() - worked)


def benchmark_data(count: int, workers: list[int], out: Path | None, log=print) -> None:
    """Measure stores of `count` images of 256x256, and log a table; `out` gets it as CSV.

    An array is read by the training process itself, so that it has no workers.
    """
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = [("array", 32, 0, count * 64), ("array", 256, 0, count), *(("LMDB", 256, n, count) for n in workers)]
        for store, size, number, images in cases:
            place = Path(folder) / f"{store}{size}"
            if not place.exists():
                place.mkdir()
                if store == "LMDB":
                    log(f"{images:,} WebP images, {write_database(place, images):,} bytes each")
                else:
                    write_array(place, size, images)
            steps, batch = PAPER[size]
            needed = round(steps * batch)
            measured, per_core = (round(rate) for rate in rates(Images(place / "train.npy"), batch, number))
            rows.append((store, size, number, measured, per_core, needed, math.ceil(needed / per_core)))
    log(f"{processor_name()}, torch {torch.__version__}")
    log("| Store | Images | Workers | Images/s | Images/s of a core | The paper takes, images/s | Cores for that |")
    log("|---|---|---|---|---|---|---|")
    for store, size, *numbers in rows:
        log(f"| {store} | {size}x{size} | {' | '.join(f'{number:,}' for number in numbers)} |")
    if out:
        write_csv(out, COLUMNS, rows)
