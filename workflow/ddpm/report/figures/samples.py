"""Reading sample shards for the figures, and saying in words why there are none."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.inputs import ending_of
from ddpm.storage.files import read_json
from ddpm.storage.shards import read_shard


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


def draw_why_empty(status: dict) -> Figure:
    """The picture that stands where an unstable run has no samples or curves."""
    return style.draw_message(*explain_empty(status))


def explain_empty(status: dict) -> tuple[str, str]:
    """A headline and a sentence on why there is nothing to draw."""
    if status.get("status") == "unstable":
        return "Nothing to draw: this run was unstable", f"It ended{ending_of(status)}."
    return "Nothing to draw", "The file holds no samples."


def read_status(sources: list[Path]) -> dict:
    """The status that a metrics.json among the sources records; {} where none is there."""
    return next((read_json(path) for path in sources if path.suffix == ".json"), {})
