"""Kernel inception distance (Bińkowski et al. 2018): unlike FID, its mean does not depend on the number of images."""

import numpy as np

from ddpm.compute.rng import seed_of
from ddpm.evaluation.fid import TooFewImages, require_finite

SUBSETS = 100
SUBSET_SIZE = 1000


def kernel_distance(
    ours: np.ndarray, real: np.ndarray, seed: int, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> dict[str, float | int]:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, over random subsets of both sets.

    Args:
        ours, real: features [N, D] and [M, D]. seed: names the subsets, each drawn without replacement.
        subset_size: images of each side in a subset; as many as the smaller set has, if that is fewer.

    Returns:
        `mean` and (population) `std` over the subsets, their number `subsets` and `subset_size`, as it was. The mean
        may be a little below 0. The std is that of one subset, not the error of the mean, and says nothing where a
        subset is a whole set.

    Raises:
        TooFewImages: there are fewer than two images.
        ValueError: there are features that are not finite.
    """
    size = min(subset_size, len(ours), len(real))
    if size < 2:
        raise TooFewImages(f"a kernel distance needs two or more images of each kind, there are {size}")
    require_finite(ours)
    require_finite(real)
    distances = []
    for i in range(subsets):
        random = np.random.Generator(np.random.PCG64(seed_of(seed, "kid", i)))
        x, y = (kind[random.choice(len(kind), size, replace=False)] for kind in (ours, real))
        distances.append(squared_discrepancy(x.astype(np.float64), y.astype(np.float64)))
    return {
        "mean": float(np.mean(distances)),
        "std": float(np.std(distances)),
        "subsets": subsets,
        "subset_size": size,
    }


def squared_discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of MMD^2 from as many x as y, [n, D]: no image is compared with itself."""
    n, size = x.shape
    within = sum(kernel.sum() - np.trace(kernel) for kernel in ((z @ z.T / size + 1) ** 3 for z in (x, y)))
    return within / (n * (n - 1)) - 2 * ((x @ y.T / size + 1) ** 3).mean()
