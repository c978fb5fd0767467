"""Numbered parts of one result: `{i}-of-{n}`, i from 1, each holding a consecutive range of items."""

import json

import numpy as np


def bounds(items: int, shard: int, shards: int) -> tuple[int, int]:
    """First item and one past the last of `shard` (from 1); sizes differ by one at most."""
    return items * (shard - 1) // shards, items * shard // shards


def pack_header(header: dict) -> np.ndarray:
    """A JSON document as a 0-d string array, which an .npz can hold without pickling."""
    return np.array(json.dumps(header))


def unpack_header(array: np.ndarray) -> dict:
    return json.loads(str(array))
