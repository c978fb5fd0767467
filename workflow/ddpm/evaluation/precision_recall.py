"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991)."""

from itertools import combinations_with_replacement

import numpy as np

from ddpm.evaluation.fid import TooFewImages, require_finite

NEIGHBOURS = 3
BLOCK = 4096  # images of each kind that are compared at a time: 134 MB of distances, whatever their number
ROUNDING = 1e-12  # of |x|^2: what the squared distance of equal features comes out as, at the most


def precision_recall(ours: np.ndarray, real: np.ndarray, neighbours: int = NEIGHBOURS) -> dict[str, float | int]:
    """The part of our images that lie among the real ones, and the part of the real ones that lie among ours.

    An image lies among others if it is at most as far from one of them as that one's `neighbours`-th nearest other
    image of its own kind is. Exact, in float64; two thirds of the work, N^2 D each, are for those radii. The authors
    used the features of a VGG-16; these are Inception's, as in the ADM paper, so that only other papers' values with
    Inception's features compare with them. Both depend on the number of images, which should be the same of each kind.

    Args:
        ours, real: features [N, D] and [M, D].

    Returns:
        `precision` and `recall` in 0 .. 1, `neighbours`, and how many of ours there were: `images`.

    Raises:
        TooFewImages: there are no more images of a kind than neighbours.
        ValueError: there are features that are not finite.
    """
    if min(len(ours), len(real)) <= neighbours:
        raise TooFewImages(f"{neighbours} neighbours need more images than {len(ours)} and {len(real)}")
    require_finite(ours)
    require_finite(real)
    our_radii, real_radii = radii(ours, neighbours), radii(real, neighbours)
    precise, recalled = np.zeros(len(ours), dtype=bool), np.zeros(len(real), dtype=bool)
    for i in blocks(ours):
        for j in blocks(real):
            distances = squared_distances(ours[i], real[j])
            precise[i] |= (distances <= real_radii[j]).any(1)
            recalled[j] |= (distances <= our_radii[i, None]).any(0)
    return {
        "precision": float(precise.mean()),
        "recall": float(recalled.mean()),
        "neighbours": neighbours,
        "images": len(ours),
    }


def blocks(features: np.ndarray) -> list[slice]:
    return [slice(first, first + BLOCK) for first in range(0, len(features), BLOCK)]


def radii(features: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each of the features [N, D] to its `neighbours`-th nearest other one, [N].

    Where that one is equal, the radius is not 0 but what rounding can make of 0, so that equal ones lie within it.
    """
    nearest = np.full((len(features), neighbours), np.inf)

    def take_in(rows: slice, distances: np.ndarray) -> None:
        smallest = np.partition(distances, min(neighbours, distances.shape[1]) - 1, axis=1)[:, :neighbours]
        nearest[rows] = np.sort(np.concatenate([nearest[rows], smallest], axis=1), axis=1)[:, :neighbours]

    for i, j in combinations_with_replacement(blocks(features), 2):
        distances = squared_distances(features[i], features[j])
        if i == j:
            np.fill_diagonal(distances, np.inf)
        else:
            take_in(j, distances.T)
        take_in(i, distances)
    return np.maximum(nearest[:, -1], ROUNDING * squares(features))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j|^2 of features [n, D] and [m, D]: [n, m] float64; rounding may put it a little below 0."""
    distances = -2 * x.astype(np.float64) @ y.astype(np.float64).T
    distances += squares(x)[:, None]
    distances += squares(y)
    return distances


def squares(x: np.ndarray) -> np.ndarray:
    """|x_i|^2 in float64, [n]."""
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)
