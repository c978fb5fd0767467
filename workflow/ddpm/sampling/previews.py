"""The first images of each snapshot of a training, for the training curve (no torch to import this)."""

from pathlib import Path

import numpy as np

from ddpm.storage.files import write_npz
from ddpm.storage.shards import read_shard
from ddpm.storage.weights_file import EMA, RAW


def write_snapshot_previews(shards: list[Path], count: int, path: Path) -> None:
    """The first `count` images of each snapshot, in the order of their steps.

    The file holds steps [S], ema and raw uint8 [S, count, H, W, C]; snapshots that have fewer are left out.
    """
    steps, drawn = [], {EMA: [], RAW: []}
    for shard in shards:
        arrays, header = read_shard(shard, "images", "raw", sampler=None)
        if min(len(arrays["images"]), len(arrays["raw"])) >= count:
            steps.append(header["trained"]["step"])
            drawn[EMA].append(arrays["images"][:count])
            drawn[RAW].append(arrays["raw"][:count])
    order = np.argsort(steps)
    shape = (0, count, *arrays["images"].shape[1:])
    stacked = {
        kind: np.stack([images[i] for i in order]) if images else np.zeros(shape, np.uint8)
        for kind, images in drawn.items()
    }
    write_npz(path, steps=np.array(steps, dtype=np.int64)[order], **stacked)
