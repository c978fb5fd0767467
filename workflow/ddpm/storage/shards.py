"""Numbered parts of one result: `{i}-of-{n}`, i from 1, each holding a consecutive range of items."""

import json
from pathlib import Path

import numpy as np

from ddpm.config.errors import UserError
from ddpm.storage.files import read_errors_naming, read_npz, to_json

# What `sampler` in the header of a file of drawn images begins with, up to its first comma.
ANCESTRAL, DDIM = "ancestral", "DDIM"
ANCESTRAL_SAMPLER = f"{ANCESTRAL}, all T steps, x0-hat clipped to [-1, 1]"
DDIM_SAMPLER = f"{DDIM}, few steps, x0-hat not clipped"
SETTINGS = ("spacing", "eta", "steps", "evaluations")  # of few-step samples: an array each, a value per setting
LATENTS, INTERPOLATION = "shared latents", "interpolation"  # not shards: of Figure 7, and of Figures 8 and 9


def shard_range(items: int, shard: int, shards: int) -> tuple[int, int]:
    """First item and one past the last of `shard` (from 1); sizes differ by one at most."""
    return items * (shard - 1) // shards, items * shard // shards


def pack_header(header: dict) -> np.ndarray:
    """A JSON document as a 0-d string array, which an .npz can hold without pickling."""
    return np.array(to_json(header))


def unpack_header(array: np.ndarray) -> dict:
    return json.loads(str(array))


def read_shard(path: Path, *keys: str, sampler: str | None = ANCESTRAL) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays `keys` of a shard of samples, and its header with its status.

    Args:
        sampler: the only one that may have drawn them; None: whichever.

    Raises:
        UserError: another sampler drew them. Few-step images never stand in the place of the paper's.
        DamagedFile: an array is missing, or the file is not whole.
    """
    with read_errors_naming(path, "its status or header is not JSON"):
        status, header = map(unpack_header, read_npz(path, "status", "header").values())
    drawn_by = header["sampler"].partition(",")[0]
    if drawn_by != (sampler or drawn_by):
        raise UserError(f"{path}: these images are of the {drawn_by} sampler, where the {sampler} sampler's belong.")
    earlier = {"precision": "fp32"}  # of versions that did not say it
    return read_npz(path, *keys), {**earlier, **header, "status": status}


def read_few_steps(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """A shard of few-step samples: `images` [n, settings, H, W, C], `start` and the SETTINGS, and its header.

    Where the header names one spacing, as those of earlier versions do, all settings have it. Raises as `read_shard`.
    """
    _, header = read_shard(path, sampler=DDIM)
    spacing = header["sampling"]["spacing"]
    alone = isinstance(spacing, str)
    arrays, _ = read_shard(path, "images", "start", *SETTINGS[alone:], sampler=DDIM)
    if alone:
        arrays["spacing"] = np.full(len(arrays["eta"]), spacing)
    return arrays, header
