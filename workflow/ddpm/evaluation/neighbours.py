"""The training images nearest to samples (Figures 12 and 15): whether what was drawn is a copy."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddpm.config.errors import UserError
from ddpm.config.schema import EvaluationConfig
from ddpm.data.store import Images
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.precision_recall import squared_distances
from ddpm.evaluation.reference import read_header
from ddpm.storage.files import read_npz, rows_of_npz, write_npz
from ddpm.storage.shards import read_shard, unpack_header

CHUNK = 256  # training images in memory at a time; 400 MB in float64 at 256x256


class Nearest:
    """The k rows of a long array that are nearest to each row of `of` [n, P], found chunk by chunk.

    Of equal distances, the first comes first.
    """

    def __init__(self, of: np.ndarray, k: int):
        self.of, self.k = of, k
        self.distances = np.zeros((len(of), 0))
        self.indices = np.zeros((len(of), 0), np.int64)  # [n, k], nearest first, once all rows were added

    def add(self, rows: np.ndarray, first: int) -> None:
        """Look at `rows` [m, P], the first of which is number `first` of the array; in the order of the array."""
        numbers = np.broadcast_to(np.arange(first, first + len(rows)), (len(self.of), len(rows)))
        distances = np.hstack([self.distances, squared_distances(self.of, rows)])
        indices = np.hstack([self.indices, numbers])
        order = np.argsort(distances, axis=1, kind="stable")[:, : self.k]
        self.distances, self.indices = (np.take_along_axis(array, order, 1) for array in (distances, indices))


def write_neighbours(
    config: EvaluationConfig,
    samples: Path,
    features: Path,
    train: Path,
    reference: Path,
    path: Path,
    network: Callable[[], FeatureNetwork] | None = None,
    crop: bool = False,
) -> None:
    """Write `samples` and their nearest training images in pixels and in features (Euclidean), nearest first.

    `samples` [rows, H, W, C], `pixel` and `feature` [rows, k, H, W, C] are whole images; `crop` is the box (top, left,
    height, width) in which they were compared, the whole image where no crop is asked for.

    Args:
        samples, features: first shards of an experiment; its first `neighbour_rows` images are taken.
        network: loads what computes the features of training images; not called where `reference` has them all,
            whole.
        crop: compare the box `neighbour_crop` only, of samples and training images alike.

    Raises:
        UserError: the box is not set or does not lie in the images, or the network is needed, or is another one.
    """
    images = read_shard(samples, "images")[0]["images"][: config.neighbour_rows]
    training = Images(train)
    shape = training[:1].shape[1:]
    top, left, height, width = box = box_of(config, shape) if crop else (0, 0, *shape[:2])

    def cut(pictures: np.ndarray) -> np.ndarray:
        return pictures[:, top : top + height, left : left + width]

    shard = read_npz(features, "features", "header")
    sha256 = unpack_header(shard["header"])["network"]["sha256"]
    header = read_header(reference, sha256)
    covered = not crop and header["train"] == {"images": len(training), "sha256": training.sha256}
    if not covered and network is None:
        raise UserError(f"{reference}: has not the features of all of {train} as they are compared; give --network.")
    compute = None if covered else network()
    if compute and compute.sha256 != sha256:
        raise UserError(f"{features}: these are features of another network than {compute.name}; give the same one.")
    own = compute(cut(images))[0] if crop else shard["features"][: config.neighbour_rows]

    pixel, feature = Nearest(flat(cut(images)), config.neighbours), Nearest(own, config.neighbours)
    known = rows_of_npz(reference, "train_features", CHUNK)
    for first in range(0, len(training) if len(images) else 0, CHUNK):
        chunk = cut(training[slice(first, min(first + CHUNK, len(training)))])
        pixel.add(flat(chunk), first)
        feature.add(compute(chunk)[0] if compute else next(known), first)
    write_npz(
        path,
        samples=images,
        pixel=pictures_of(training, pixel.indices),
        feature=pictures_of(training, feature.indices),
        crop=np.array(box),
    )


def box_of(config: EvaluationConfig, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """evaluation.neighbour_crop, which must lie in images of this shape [H, W, C]."""
    if config.neighbour_crop is None:
        raise UserError(
            "evaluation.neighbour_crop: is not set, and a crop was asked for. Give top, left, height, width."
        )
    top, left, height, width = config.neighbour_crop
    if top + height > shape[0] or left + width > shape[1]:
        raise UserError(
            f"evaluation.neighbour_crop: {list(config.neighbour_crop)} (top, left, height, width) reaches out of "
            f"images of {shape[0]}x{shape[1]}."
        )
    return config.neighbour_crop


def flat(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), math.prod(pictures.shape[1:]))


def pictures_of(training: Images, indices: np.ndarray) -> np.ndarray:
    """The images at `indices` [n, k], [n, k, H, W, C]; slices, since not every store can be indexed otherwise."""
    chosen = [training[slice(i, i + 1)] for i in indices.ravel().tolist()]
    return np.concatenate([training[:0], *chosen]).reshape(*indices.shape, *training[:1].shape[1:])
