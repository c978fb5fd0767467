"""FID and Inception Score have known values on hand-made input."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.inception_score import inception_score


def covariance(rng, size: int, rank: int) -> np.ndarray:
    root = rng.normal(size=(size, rank))
    return root @ root.T


def test_distance_of_a_distribution_to_itself_is_zero():
    sigma = covariance(np.random.default_rng(0), 8, 8)
    assert frechet_distance(np.ones(8), sigma, np.ones(8), sigma) == pytest.approx(0, abs=1e-10)


def test_one_dimension_is_the_written_formula():
    assert frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([4.0]), np.array([[9.0]])) == pytest.approx(
        (1 - 4) ** 2 + (2 - 3) ** 2
    )


def test_commuting_covariances_are_the_sum_over_axes():
    a, b = np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 1.0, 25.0])
    assert frechet_distance(np.zeros(3), a, np.zeros(3), b) == pytest.approx((1 - 3) ** 2 + (2 - 1) ** 2 + 25)


def test_general_covariances_agree_with_a_matrix_root():
    rng = np.random.default_rng(1)
    a, b = covariance(rng, 20, 20), covariance(rng, 20, 20)
    mu1, mu2 = rng.normal(size=(2, 20))
    expected = np.sum((mu1 - mu2) ** 2) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(mu1, a, mu2, b) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_need_no_help():
    """Fewer images than features: the distance is symmetric, finite, and that of the shared subspace."""
    rng = np.random.default_rng(2)
    a, b = np.zeros((10, 10)), np.zeros((10, 10))
    a[:3, :3], b[:3, :3] = covariance(rng, 3, 3), covariance(rng, 3, 3)
    there = frechet_distance(np.zeros(10), a, np.zeros(10), b)
    assert there == pytest.approx(frechet_distance(np.zeros(10), b, np.zeros(10), a), rel=1e-9)
    assert there == pytest.approx(frechet_distance(np.zeros(3), a[:3, :3], np.zeros(3), b[:3, :3]), rel=1e-9)


def test_statistics_are_numpys_with_n_minus_1():
    features = np.random.default_rng(3).normal(size=(7, 3)).astype(np.float32)
    mu, sigma = statistics(features)
    assert mu.dtype == sigma.dtype == np.float64
    centred = features.astype(np.float64) - mu
    np.testing.assert_allclose(sigma, centred.T @ centred / 6)
    with pytest.raises(ValueError, match="two or more"):
        statistics(features[:1])


def test_score_of_certain_and_balanced_classes_is_their_number():
    probabilities = np.tile(np.eye(5), (20, 1))
    assert inception_score(probabilities, splits=10) == pytest.approx((5, 0))


def test_score_of_indifference_is_one():
    assert inception_score(np.full((30, 4), 0.25), splits=3) == pytest.approx((1, 0))


def test_score_is_mean_and_population_spread_over_consecutive_parts():
    def score(part):
        marginal = part.mean(0)
        return np.exp(np.mean([sum(p * np.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in part]))

    rows = np.random.default_rng(4).dirichlet(np.ones(6), size=50)
    parts = [score(rows[i * 50 // 4 : (i + 1) * 50 // 4]) for i in range(4)]
    assert inception_score(rows, splits=4) == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_zero_probabilities_are_no_trouble_and_too_few_images_are():
    assert np.isfinite(inception_score(np.tile(np.eye(3), (4, 1)).astype(np.float32), splits=2)).all()
    with pytest.raises(ValueError, match="cannot be split"):
        inception_score(np.full((3, 2), 0.5), splits=10)
