"""Reading sample shards for the figures, and saying in words why there are none."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.files import read_json
from ddpm.report.figures import style
from ddpm.shards import read_shard


def read_samples(shards: list[Path], wanted: int, previews: bool = False) -> tuple[dict[str, np.ndarray], dict]:
    """The first `wanted` samples of the shards in the given order, and the status of the last shard read.

    Gives images [n, H, W, C] and, with `previews`, previews [n, K, H, W, C] and preview_times [K] (0-based
    time indices, ascending). n is less than wanted where there are no more; reading stops once it is reached.
    """
    keys = ("images", "previews", "preview_times") if previews else ("images",)
    parts, status, count = [], {"status": "sampled"}, 0
    for shard in shards:
        part, header = read_shard(shard, *keys)
        status = header["status"]
        parts.append(part)
        count += len(part["images"])
        if count >= wanted or status["status"] == "unstable":
            break
    filled = [part for part in parts if len(part["images"])] or parts[:1]
    samples = {
        key: np.concatenate([part[key] for part in filled])[:wanted] for key in ("images", "previews")[: len(keys)]
    }
    if previews:
        samples["preview_times"] = filled[0]["preview_times"]
    return samples, status


def why_none(status: dict) -> Figure:
    """The picture that stands where an unstable run has no samples or curves."""
    step = f" at step {status['step']:,}" if status.get("step") is not None else ""
    reason = str(status.get("reason") or "no reason was recorded").rstrip(".")
    if status.get("status") == "unstable":
        return style.message("Nothing to draw: this run was unstable", f"It ended{step}: {reason}.")
    return style.message("Nothing to draw", "The file holds no samples.")


def progressive(shards: list[Path], rows: int) -> Figure:
    """Progressive generation (Figures 6 and 14): x0-hat from noise (left) to the final sample (right)."""
    samples, status = read_samples(shards, rows, previews=True)
    if not len(samples["images"]):
        return why_none(status)
    if not samples["previews"].shape[1]:
        return style.message("Nothing to draw", "This experiment's sampling kept no predictions of x0 on the way.")
    # Slots run from clean to noise; the figure is read in the order in which the sampler works.
    images = samples["previews"][:, ::-1]
    times = samples["preview_times"][::-1] + 1
    return progressive_grid(images, times)


def progressive_grid(images: np.ndarray, times: np.ndarray) -> Figure:
    """images [R, K, H, W, C] under their 1-based times [K], of which as many are labelled as fit."""
    columns, size = images.shape[1], images.shape[3]
    zoom = style.zoom_for(columns * size, 1440)
    gap = max(2, size * zoom // 24)
    grid = style.image_grid(images, zoom, gap)
    height, width = grid.shape[:2]
    figure, axes = style.canvas(width, height, left=0.12, right=0.12, top=0.52)
    style.place(axes, grid)
    pitch = size * zoom + gap
    every = -(-62 // pitch)  # a label of four digits needs some 60 pixels
    for k in range(columns):
        if (columns - 1 - k) % every == 0:
            style.label(axes, k * pitch + size * zoom / 2, -20, f"{times[k]}", 7, color=style.FAINT)
    style.label(axes, 0, -66, "$\\hat{x}_0$ predicted from $x_t$ at t =", 8, ha="left")
    style.label(axes, width, -66, "final sample", 8, ha="right")
    return figure


def read_status(sources: list[Path]) -> dict:
    """The status that a metrics.json among the sources records; {} where none is there."""
    return next((read_json(path) for path in sources if path.suffix == ".json"), {})
