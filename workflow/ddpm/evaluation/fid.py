"""Fréchet distance between two sets of features (Heusel et al. 2017, eq. 6)."""

from typing import Self

import numpy as np

Statistics = tuple[np.ndarray, np.ndarray]
"""Mean [D] and covariance [D, D] of features, in float64."""

BLOCK = 4096  # features that are copied to float64 at a time: 64 MB at D = 2048


class TooFewImages(ValueError):
    """A score needs more images than there are."""


class Moments:
    """Count, mean and scatter of features that come batch after batch; its size does not depend on their number.

    Attributes:
        count: images so far. mean: [D]. scatter: sum of (x - mean)(x - mean)^T, [D, D]; both are 0 before the first.
    """

    def __init__(self, count: int = 0, mean: np.ndarray | float = 0.0, scatter: np.ndarray | float = 0.0):
        self.count, self.mean, self.scatter = count, mean, scatter

    def add(self, features: np.ndarray, counts: np.ndarray | None = None) -> Self:
        """Take in features [n, D], each as often as `counts` [n] says, or once; returns itself."""
        counts = np.ones(len(features), dtype=int) if counts is None else counts
        for i in range(0, len(features), BLOCK):
            times = counts[i : i + BLOCK]
            block = features[i : i + BLOCK][times > 0].astype(np.float64)
            times = times[times > 0]
            if len(block):
                mean = times @ block / times.sum()
                block -= mean
                block *= np.sqrt(times)[:, None]
                self.merge(Moments(int(times.sum()), mean, block.T @ block))
        return self

    def merge(self, other: "Moments") -> None:
        """Take in those of other images (Chan, Golub and LeVeque 1983): no sum of squares, and nothing cancels."""
        if other.count:
            count, step = self.count + other.count, other.mean - self.mean
            between = self.count * other.count / count * np.outer(step, step)
            self.scatter = self.scatter + other.scatter + between
            self.mean = self.mean + step * (other.count / count)
            self.count = count

    def statistics(self) -> Statistics:
        """Mean [D] and covariance [D, D] (normalised by N - 1)."""
        if self.count < 2:
            raise TooFewImages(f"a covariance needs two or more images, there are {self.count}")
        return self.mean, self.scatter / (self.count - 1)


def statistics(features: np.ndarray) -> Statistics:
    """Mean [D] and covariance [D, D] (normalised by N - 1) of features [N, D], in float64."""
    return Moments().add(features).statistics()


def require_finite(features: np.ndarray, what: str = "features") -> None:
    """Raises ValueError if there are NaN or infinite numbers among them: comparisons with them are silently false."""
    if not np.isfinite(features).all():
        raise ValueError(f"{what} hold {np.sum(~np.isfinite(features)):,} NaN or infinite numbers")


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)), never below 0.

    With sigma1 = A1 A1^T and sigma2 = A2 A2^T, the trace of the root is the sum of the singular values of A1^T A2,
    that is, of the roots of the eigenvalues of a symmetric matrix: no complex numbers. As A1 and A2 have no more
    columns than their covariances have rank, there are no zero eigenvalues either. Without that, their rounding
    errors of 1e-16 become 1e-8 each by the root, a thousand times with the same sign. So singular covariances, of no
    more images than features, are exact to about 1e-11 here, and to 1e-8 even if they share only some directions;
    implementations by a general matrix root or by eigenvalues of sigma1 sigma2 are too low by some millionths
    (docs/speed.md).

    Args:
        mu1, mu2: [D]. sigma1, sigma2: [D, D], symmetric positive semi-definite.

    Raises:
        ValueError: they are not finite, not of one size, or no covariances.
    """
    root1, root2 = factor(mu1, sigma1), factor(mu2, sigma2)
    if mu1.shape != mu2.shape:
        raise ValueError(f"features of {len(mu1)} numbers cannot be compared with features of {len(mu2)}")
    between = root1.T @ root2 if root1.shape[1] < root2.shape[1] else root2.T @ root1
    trace_of_root = np.sqrt(np.linalg.eigvalsh(between @ between.T).clip(min=0)).sum()
    distance = np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_of_root
    return max(0.0, float(distance))


def factor(mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """A [D, rank] with A A^T = sigma, by Cholesky's decomposition with pivots, which ends where only rounding is left.

    Raises:
        ValueError: these are no mean and covariance.
    """
    if mu.ndim != 1 or sigma.shape != 2 * mu.shape:
        raise ValueError(f"a mean [D] and a covariance [D, D] are needed, these are {mu.shape} and {sigma.shape}")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError("the mean or the covariance holds NaN or infinite numbers: so do the features")
    if not np.allclose(sigma, sigma.T, rtol=0, atol=1e-8 * np.abs(sigma).max()):
        raise ValueError("a covariance is symmetric, this matrix is not")
    from scipy.linalg.lapack import dpstrf  # which what only reads statistics need not load

    lower, pivots, rank, _ = dpstrf(sigma, lower=1)
    root = np.empty((len(mu), rank))
    root[pivots - 1] = np.tril(lower)[:, :rank]
    if abs(np.trace(sigma) - np.sum(root**2)) > 1e-8 * np.abs(np.diagonal(sigma)).sum():
        raise ValueError("a covariance has no negative eigenvalues, this matrix has")
    return root
