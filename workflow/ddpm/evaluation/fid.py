"""Fréchet distance between two sets of features (Heusel et al. 2017, eq. 6)."""

import numpy as np


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] (normalised by N - 1) of features [N, D], in float64."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs two or more images, there are {len(features)}")
    features = features.astype(np.float64)
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)).

    The trace of the root is the sum of the roots of the eigenvalues of sigma1^(1/2) sigma2 sigma1^(1/2), which is
    symmetric and positive semi-definite: no complex numbers, and singular covariances need no special case.

    Args:
        mu1, mu2: [D]. sigma1, sigma2: [D, D], symmetric positive semi-definite.
    """
    values, vectors = np.linalg.eigh(sigma1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ sigma2 @ root)
    trace_of_root = np.sqrt(eigenvalues.clip(min=0)).sum()
    return float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_of_root)
