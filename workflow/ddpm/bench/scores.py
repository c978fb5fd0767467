"""How long a FID and what goes with it take, and how exact they are, beside a general matrix root."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.linalg import sqrtm

from ddpm.evaluation.fid import Statistics, frechet_distance, statistics
from ddpm.evaluation.precision_recall import precision_recall
from ddpm.evaluation.uncertainty import bootstrap
from ddpm.files import write_csv
from ddpm.processor import processor_name

COLUMNS = ("what", "images", "cpu_s", "wall_s", "value", "relative_error")

Result = TypeVar("Result")


def synthetic(count: int, size: int, sign: int) -> np.ndarray:
    """Features [count, size] float32 with variances that fall as a network's do, in rotated axes: two kinds by sign."""
    rotation = np.linalg.qr(np.random.Generator(np.random.PCG64(0)).normal(size=(size, size)))[0].astype(np.float32)
    random = np.random.Generator(np.random.PCG64(2 + sign))
    axis = np.arange(1, size + 1)
    deviation = np.sqrt(10 / axis**1.3) * (1 + sign * 0.3 * np.sin(axis))
    return (
        random.standard_normal((count, size), dtype=np.float32) * deviation.astype(np.float32) @ rotation + 0.01 * sign
    )


def distance_by_matrix_root(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """The Fréchet distance as clean-fid and pytorch-fid compute it; nan where they would add 1e-6 and try again."""
    root = sqrtm(sigma1 @ sigma2)
    return float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root).real)


def exact_distance(few: np.ndarray, many: np.ndarray) -> float:
    """The same from the features: the trace of the root is the nuclear norm of X Y^T, which takes no covariance."""
    x, y = (features.astype(np.float64) for features in (few, many))
    mu1, mu2 = x.mean(0), y.mean(0)
    x, y = (x - mu1) / np.sqrt(len(x) - 1), (y - mu2) / np.sqrt(len(y) - 1)
    return float(np.sum((mu1 - mu2) ** 2) + np.sum(x**2) + np.sum(y**2) - 2 * np.linalg.norm(x @ y.T, "nuc"))


def timed(function: Callable[..., Result], *args: object) -> tuple[Result, float, float]:
    """What it returns, seconds of all cores together, and seconds on the clock."""
    worked, began = time.process_time(), time.perf_counter()
    result = function(*args)
    return result, time.process_time() - worked, time.perf_counter() - began


def benchmark_scores(size: int, images: int, few: int, compared: int, out: Path | None, log=print) -> None:
    """Measure with synthetic features of `size` numbers, and log a table; `out` gets it as CSV.

    Args:
        images: of the covariances of full rank, and of a bootstrap replicate. few: of the singular one, which must
            not be more than `size`. compared: for precision and recall.
    """
    real, ours = synthetic(images, size, 1), synthetic(images, size, -1)
    reference, seconds, wall = timed(statistics, real)
    rows: list[tuple] = [("mean and covariance", images, seconds, wall, "", "")]

    def both_ways(kind: str, count: int, sample: Statistics, exact: float | None) -> float:
        """Rows of both distances; the errors are to the exact one, or that of the root to the other."""
        ours, *seconds = timed(frechet_distance, *sample, *reference)
        by_root, *root_seconds = timed(distance_by_matrix_root, *sample, *reference)
        truth = ours if exact is None else exact
        rows.append((f"FID {kind}", count, *seconds, ours, "" if exact is None else abs(ours / truth - 1)))
        rows.append((f"FID {kind} by sqrtm", count, *root_seconds, by_root, abs(by_root / truth - 1)))
        return root_seconds[0] / seconds[0]

    ratio = both_ways("of full rank", images, statistics(ours), None)
    singular_ratio = both_ways(
        "of a singular covariance", few, statistics(ours[:few]), exact_distance(ours[:few], real)
    )
    rows.append(("bootstrap replicate", images, *timed(bootstrap, ours, [reference], 0, 1)[1:], "", ""))
    found, *seconds = timed(precision_recall, ours[:compared], real[:compared])
    rows.append(("precision and recall", compared, *seconds, found["precision"], ""))

    log(f"{processor_name()}, numpy {np.__version__}, {size} features")
    log("| What | Images | Seconds of a core | Seconds on the clock | Value | Relative error |")
    log("|---|---|---|---|---|---|")
    for what, count, seconds, wall, value, error in rows:
        cells = (format(value, ".10g") if value != "" else "", format(error, ".1e") if error != "" else "")
        log(f"| {what} | {count:,} | {seconds:.2f} | {wall:.2f} | {' | '.join(cells)} |")
    log(f"{ratio:.1f} times as fast as by sqrtm; {singular_ratio:.1f} times where a covariance is singular.")
    if out:
        write_csv(out, COLUMNS, rows)
