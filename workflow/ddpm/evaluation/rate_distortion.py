"""What the bound's terms add up to: bits/dim, and the rate-distortion curve (Section 4.3)."""

from pathlib import Path

import numpy as np

from ddpm.storage.files import read_npz
from ddpm.storage.shards import unpack_header

TERMS, ERRORS, PRIOR = KEYS = ("terms", "squared_errors", "prior")  # the arrays of a shard of the bound
CURVE = ("t", "reverse_time", "rate", "distortion", "distortion_mean")


def read_bounds(shards: list[Path]) -> dict[str, dict]:
    """By split, all its shards in the order of their images: terms, squared_errors [N, T], prior [N], and a header."""
    by_split: dict[str, list[dict]] = {}
    for path in shards:
        shard = read_npz(path, *KEYS, "start", "header")
        header = unpack_header(shard["header"])
        by_split.setdefault(header["split"], []).append({**shard, "header": header})
    bounds = {}
    for split, parts in by_split.items():
        parts.sort(key=lambda part: int(part["start"]))
        arrays = {key: np.concatenate([part[key] for part in parts]).astype(np.float64) for key in KEYS}
        bounds[split] = {**arrays, "header": parts[0]["header"]}
    return bounds


def rmse(mean_square: np.ndarray) -> np.ndarray:
    """Root of a mean square in the range [-1, 1], on the scale 0..255."""
    return 127.5 * np.sqrt(mean_square)


def rate_distortion(bound: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The progressive code's curve: columns over the paper's t = 1 .. T (Table 4, Figure 5).

    rate: bits/dim until x_t is known: L_T and the terms of all times above t.
    distortion: root mean squared error of x0-hat(x_t) on 0..255, the mean over images inside the root;
    distortion_mean: the mean over images of each image's root (the paper leaves open which it shows).
    Where there are no images (an unstable training) the columns are empty.
    """
    if len(bound["terms"]) == 0:
        return {key: np.zeros(0) for key in CURVE}
    mean_terms = bound["terms"].mean(0)
    above = np.append(np.cumsum(mean_terms[::-1])[::-1][1:], 0.0)
    timesteps = len(mean_terms)
    t = np.arange(1, timesteps + 1)
    columns = (
        t,
        timesteps - t + 1,
        bound["prior"].mean() + above,
        rmse(bound["squared_errors"].mean(0)),
        rmse(bound["squared_errors"]).mean(0),
    )
    return dict(zip(CURVE, columns, strict=True))


def likelihood_summary(bound: dict[str, np.ndarray]) -> dict[str, float | int | None] | None:
    """Bits/dim with its standard error over images, and its two parts; None where there are no images.

    One image has no standard error.
    """
    count = len(bound["terms"])
    if count == 0:
        return None
    totals = bound["terms"].sum(1) + bound["prior"]
    return {
        "bits_per_dim": float(totals.mean()),
        "standard_error": float(totals.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
        "images": count,
        "prior": float(bound["prior"].mean()),
        "rate": float((totals - bound["terms"][:, 0]).mean()),
        "distortion_bits": float(bound["terms"][:, 0].mean()),
        "distortion_rmse": float(rmse(bound["squared_errors"][:, 0].mean())),
    }
