"""Reading what the figures show, and saying in words why there is nothing."""

from pathlib import Path

import numpy as np

from ddpm.report.inputs import ending_of
from ddpm.storage.files import read_json
from ddpm.storage.shards import read_shard


class NothingToDraw(Exception):
    """A headline and a sentence that stand in the picture instead."""


def why_empty(status: dict) -> NothingToDraw:
    """Why a run has no samples or curves; a `status` that nobody recorded is that of an unstable run."""
    if status.get("status", "unstable") == "unstable":
        return NothingToDraw("Nothing to draw: this run was unstable", f"It ended{ending_of(status)}.")
    return NothingToDraw("Nothing to draw", "The file holds no samples.")


def read_samples(shards: list[Path], wanted: int, previews: bool = False) -> tuple[dict[str, np.ndarray], dict]:
    """The first `wanted` samples of the shards in the given order, and the status of the last shard read.

    Gives images [n, H, W, C] and, with `previews`, previews [n, K, H, W, C] and preview_times [K] (0-based
    time indices, ascending). n is less than wanted where there are no more; reading stops once it is reached.
    """
    keys = ("images", "previews") if previews else ("images",)
    parts, status, count = [], {"status": "sampled"}, 0
    for shard in shards:
        part, header = read_shard(shard, *keys, *(["preview_times"] if previews else []))
        status = header["status"]
        parts.append(part)
        count += len(part["images"])
        if count >= wanted or status["status"] == "unstable":
            break
    filled = [part for part in parts if len(part["images"])] or parts[:1]
    return filled[0] | {key: np.concatenate([part[key] for part in filled])[:wanted] for key in keys}, status


def read_run(sources: list[Path]) -> dict:
    """The metrics.json among the sources; {} where none is there."""
    return next((read_json(path) for path in sources if path.suffix == ".json"), {})


def first_of(sources: list[Path], suffix: str) -> Path:
    """The first source with this suffix."""
    return next(path for path in sources if path.suffix == suffix)


def shrink(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 images [..., H, W, C], averaged over blocks of factor x factor pixels; a rest at the edges is cut off."""
    if factor < 2:
        return images
    *leading, height, width, channels = images.shape
    height, width = height // factor, width // factor
    blocks = images[..., : height * factor, : width * factor, :].reshape(
        *leading, height, factor, width, factor, channels
    )
    return blocks.mean((-4, -2)).round().astype(np.uint8)
