"""How far to trust a FID: its spread over other samples of the same size, and its value for infinitely many."""

from collections.abc import Sequence

import numpy as np

from ddpm.compute.rng import seed_of
from ddpm.evaluation.fid import Moments, Statistics, frechet_distance, statistics

SIZES = 15  # subsets whose FID is extrapolated, as Chong and Forsyth have them
FEWEST = 4  # images for each feature from which on the law of 1/N holds well enough


def fid_spread(features: np.ndarray, references: dict[str, Statistics], seed: int, replicates: int) -> dict[str, dict]:
    """The spread of the FID to each of the real statistics, as metrics.json has it.

    The 95 % interval is that of the replicates about their own mean, moved to the FID: the FID of a replicate is
    higher, as it has only about 63 % of the images, some of them more than once. So it says how much the FID would
    vary over other samples of the same size. The bias of that size is not in it, but is the distance to `infinity`.
    Where that bias is most of the FID, the replicates vary more than the FID would: the interval is too wide then,
    and not too narrow.

    Args:
        features: of the samples, [N, D]. references: mean and covariance of the real images, by name.
        seed: names the draws.

    Returns:
        By name: `std`, `interval`, `replicates`, `infinity` (None where there are too few images), and a `note`,
        which says why, and that the covariance is singular (None where there is nothing to say).
    """
    count, size = features.shape
    ours, real = statistics(features), list(references.values())
    replicas = bootstrap(features, real, seed, replicates)
    infinity = extrapolate(features, real, seed) if count >= FEWEST * size else [None] * len(real)
    notes = []
    if count <= size:
        notes.append(f"{count:,} images of {size:,} features have a singular covariance")
    if count < FEWEST * size:
        notes.append(f"too few images to extrapolate to infinitely many: {count:,} of {FEWEST * size:,}")
    spread = {}
    for i, (name, reference) in enumerate(references.items()):
        low, high = np.quantile(replicas[:, i], (0.025, 0.975)) - replicas[:, i].mean()
        fid = frechet_distance(*ours, *reference)
        spread[name] = {
            "std": float(np.std(replicas[:, i], ddof=1)),
            "interval": [fid + float(low), fid + float(high)],
            "replicates": replicates,
            "infinity": infinity[i],
            "note": "; ".join(notes) or None,
        }
    return spread


def distances(moments: Moments, references: Sequence[Statistics]) -> list[float]:
    ours = moments.statistics()
    return [frechet_distance(*ours, *reference) for reference in references]


def bootstrap(features: np.ndarray, references: Sequence[Statistics], seed: int, replicates: int) -> np.ndarray:
    """FID to each reference of `replicates` samples of N of the features [N, D], drawn with replacement.

    How often each image is in a sample is a multinomial draw, which weights the moments: no sample is ever made.

    Returns:
        [replicates, references].
    """
    count, rows = len(features), []
    for i in range(replicates):
        random = np.random.Generator(np.random.PCG64(seed_of(seed, "bootstrap", i)))
        counts = random.multinomial(count, np.full(count, 1 / count))
        rows.append(distances(Moments().add(features, counts), references))
    return np.array(rows)


def extrapolate(features: np.ndarray, references: Sequence[Statistics], seed: int) -> list[float]:
    """FID to each reference for infinitely many images (Chong and Forsyth 2020, arXiv 1911.07023).

    The bias of the FID of n images is close to a multiple of 1/n: the value is where the straight line meets 0 that
    fits the FID over 1/n best, at SIZES random subsets of the features [N, D], of between N/10 and N images. They use
    no fewer than twice as many images as features, below which the bias grows faster.
    """
    count, size = features.shape
    sizes = np.linspace(max(count / 10, 2 * size), count, SIZES).astype(int)
    rows = []
    for i, part in enumerate(sizes):
        random = np.random.Generator(np.random.PCG64(seed_of(seed, "extrapolation", i)))
        chosen = np.zeros(count, dtype=int)
        chosen[random.choice(count, part, replace=False)] = 1
        rows.append(distances(Moments().add(features, chosen), references))
    return np.polyfit(1 / sizes, np.array(rows), 1)[1].tolist()
