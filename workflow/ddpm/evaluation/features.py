"""Features and class probabilities of one shard of samples, and of its previews: what every score is computed from."""

import hashlib
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.errors import UserError
from ddpm.evaluation.networks.base import CLEAN, FeatureNetwork
from ddpm.storage.chunk_cache import Arrays, ChunkCache, concatenate
from ddpm.storage.files import read_npz, write_npz
from ddpm.storage.shards import pack_header, read_shard, unpack_header


def array_name(kind: str, t: int | None) -> str:
    """The array's name in a file: of the samples, or of x0-hat at the 0-based time t."""
    return kind if t is None else f"{kind}_t{t}"


def write_features(
    network: FeatureNetwork,
    samples: Path,
    path: Path,
    state: Path | None = None,
    log=print,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Write the network's `kinds` of arrays of a shard's samples, and the first two of its previews by their times.

    `state` and `group` are as of `sample_shard`.
    """
    shard, header = read_shard(samples, "images", "previews", "preview_times", "start")
    times, start, began = shard["preview_times"].tolist(), int(shard["start"]), time.monotonic()
    stop = start + len(shard["images"])
    # What decides image i: all that is said of a run but how its images were spread over files.
    drawn = {key: value for key, value in header["sampling"].items() if key not in ("images", "shards", "batch_size")}
    drawn |= {key: header[key] for key in ("sampler", "quantisation", "device", "precision")}
    source = hashlib.sha256(f"{header['weights_sha256']} {network.sha256}".encode()).hexdigest()
    on = str(network.device).partition(":")[0]  # whichever GPU
    names = {t: [array_name(kind, t) for kind in FeatureNetwork.kinds] for t in times}
    keys = tuple(chain(network.kinds, *names.values()))
    cache = ChunkCache(state if group.is_main else None, source, drawn | {"features on": on}, keys, log)

    def make(first: int, last: int) -> Arrays:
        rows = slice(first - start, last - start)
        made = network.arrays(shard["images"][rows])
        for slot, t in enumerate(times):
            made |= zip(names[t], network(shard["previews"][rows, slot]), strict=True)
        if not all(np.isfinite(array).all() for array in made.values()):
            raise UserError(f"{network.name} gives NaN or infinite numbers for images of {samples}: no score of that.")
        log(f"images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
        return made

    batches = list(group.each(cache, start, stop, network.batch_size, make))
    if not group.is_main:
        return
    batches = batches or [make(start, start)]
    write_npz(
        path,
        compressed=False,
        **concatenate(batches),
        preview_times=shard["preview_times"],
        start=shard["start"],
        count=np.array(stop - start),
        header=pack_header(
            {**header, "network": {"name": network.name, "sha256": network.sha256}, "kinds": network.kinds}
        ),
    )
    cache.finish(start, stop, path)


class FeatureShards:
    """The feature shards of one run, in the order of their images.

    `header` is what they share; its status is that of the first unstable shard, if there is one.

    Raises:
        UserError: they are of different runs, or images between them are missing or there twice.
    """

    def __init__(self, paths: list[Path]):
        found = sorted((FeatureShard(path) for path in paths), key=lambda shard: shard.start)
        first = found[0]
        failed = [shard.header for shard in found if shard.header["status"]["status"] == "unstable"]
        self.unstable, self.header = bool(failed), (failed or [first.header])[0]
        self.paths, self.times = [shard.path for shard in found], first.times
        self.clean = all(CLEAN in shard.header.get("kinds", ()) for shard in found)  # earlier versions had none
        self.images = 0
        for shard in found:
            if shard.run != first.run:
                raise UserError(f"{shard.path}, {first.path}: not of the same samples, or not of the same network.")
            if not self.unstable and shard.start != self.images:
                raise UserError(
                    f"{shard.path}: begins with image {shard.start:,}, where image {self.images:,} comes next. "
                    "Give every shard of the samples, each once."
                )
            self.images += shard.images

    def each(self, kind: str, t: int | None = None) -> Iterator[np.ndarray]:
        """One kind of arrays of the samples, or of x0-hat at the 0-based time t, a shard at a time."""
        for path in self.paths:
            yield read_npz(path, array_name(kind, t))[array_name(kind, t)]

    def all(self, kind: str, t: int | None = None) -> np.ndarray:
        return np.concatenate(list(self.each(kind, t)))


class FeatureShard:
    """What a file of features says of itself."""

    def __init__(self, path: Path):
        found = read_npz(path, "start", "count", "preview_times", "header")
        self.path, self.start, self.images = path, int(found["start"]), int(found["count"])
        self.times, self.header = found["preview_times"].tolist(), unpack_header(found["header"])
        self.run = [self.times, *(self.header[key] for key in ("weights_sha256", "sampling", "network"))]
