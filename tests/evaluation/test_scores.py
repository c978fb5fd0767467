"""FID and Inception Score have known values on hand-made input, and those of the reference implementations."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ddpm.evaluation import fid
from ddpm.evaluation.fid import Moments, frechet_distance, statistics
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


def features(seed: int, count: int, size: int = 64) -> np.ndarray:
    """Correlated features, float32, whose variances span four orders of magnitude."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0] * np.logspace(0, -2, size)[:, None]
    return (rng.gamma(0.7, size=(count, size)) @ mixing + 0.4).astype(np.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fid_is_that_of_clean_fid_pytorch_fid_and_torch_fidelity():
    from cleanfid.fid import frechet_distance as clean
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = features(1, 500), 1.1 * features(2, 400)
    ours = frechet_distance(*statistics(x), *statistics(y))
    both = [(kind.mean(0), np.cov(kind, rowvar=False)) for kind in (x.astype(np.float64), y.astype(np.float64))]
    assert ours == pytest.approx(clean(*both[0], *both[1]), rel=1e-9)
    assert ours == pytest.approx(calculate_frechet_distance(*both[0], *both[1]), rel=1e-9)
    theirs = [fid_features_to_statistics(torch.from_numpy(kind)) for kind in (x, y)]
    metric = fid_statistics_to_metric(*theirs, False)["frechet_inception_distance"]
    assert ours == pytest.approx(metric, rel=1e-6)  # the mean is float32 there


@pytest.mark.parametrize("counts", [(40, 500), (500, 40), (30, 40)], ids=["ours", "reference", "both"])
def test_fewer_images_than_features_are_exact(counts):
    """The truth comes from the features: the trace of the root is the nuclear norm of X Y^T."""
    x, y = (features(seed, count) for seed, count in enumerate(counts, 3))
    (mu1, sigma1), (mu2, sigma2) = statistics(x), statistics(y)
    rows = [(z - z.astype(np.float64).mean(0)) / np.sqrt(len(z) - 1) for z in (x, y)]
    squares = np.sum((mu1 - mu2) ** 2) + sum(np.sum(z**2) for z in rows)
    exact = squares - 2 * np.linalg.norm(rows[0] @ rows[1].T, "nuc")
    assert frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(exact, rel=1e-11)
    by_root = squares - 2 * np.trace(sqrtm(sigma1 @ sigma2)).real
    assert abs(by_root - exact) > 1e-8 * exact  # or this test could not tell


@pytest.mark.parametrize("count", [500, 40], ids=["full rank", "singular"])
def test_features_are_at_no_distance_from_themselves(count):
    of = statistics(features(5, count))
    assert 0 <= frechet_distance(*of, *of) < 1e-12


def test_covariances_that_share_some_directions_are_at_the_distance_in_the_others():
    """In those, nothing but rounding is between them, of either sign: its root is no NaN."""
    axes = np.linalg.qr(np.random.default_rng(10).normal(size=(30, 30)))[0]
    a, b = (part @ part.T for part in (axes[:, :12], axes[:, 8:]))
    assert frechet_distance(np.zeros(30), a, np.zeros(30), b) == pytest.approx(12 + 22 - 2 * 4, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_distance_grows_with_the_square_of_the_features(scale):
    x, y = (features(seed, 500).astype(np.float64) * seed for seed in (10, 11))
    scaled = frechet_distance(*statistics(scale * x), *statistics(scale * y))
    assert scaled == pytest.approx(scale**2 * frechet_distance(*statistics(x), *statistics(y)), rel=1e-9)


def test_constant_features_are_at_the_distance_of_their_means():
    zero = np.zeros((3, 3))
    assert frechet_distance(np.zeros(3), zero, np.ones(3), zero) == 3
    assert frechet_distance(np.zeros(3), zero, np.ones(3), np.eye(3)) == pytest.approx(6)


@pytest.mark.parametrize(
    ("mu", "sigma", "said"),
    [
        (np.array([0.0, np.nan]), np.eye(2), "NaN"),
        (np.zeros(2), np.array([[1.0, 0.0], [0.0, np.inf]]), "infinite"),
        (np.zeros(2), np.eye(3), "are needed"),
        (np.zeros((2, 1)), np.eye(2), "are needed"),
        (np.zeros(3), np.eye(3), "cannot be compared"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalues"),
    ],
)
def test_what_is_no_mean_and_covariance_is_refused(mu, sigma, said):
    for pair in ((mu, sigma, np.zeros(2), np.eye(2)), (np.zeros(2), np.eye(2), mu, sigma)):
        with pytest.raises(ValueError, match=said):
            frechet_distance(*pair)


def test_moments_do_not_depend_on_the_batches(monkeypatch):
    """Far from 0, where a sum of squares would have no digit left."""
    monkeypatch.setattr(fid, "BLOCK", 7)
    x = np.random.default_rng(6).normal(size=(50, 3)) * (1, 2, 3) + 1e8
    whole, first, second = statistics(x), Moments().add(x[:11]), Moments()
    for row in x[11:]:
        second.add(row[None])
    first.merge(second)
    nothing = Moments()
    nothing.merge(Moments())
    first.merge(nothing)
    assert first.count == 50
    for parts, at_once, numpys in zip(first.statistics(), whole, (x.mean(0), np.cov(x, rowvar=False)), strict=True):
        np.testing.assert_allclose(parts, numpys, rtol=1e-6)
        np.testing.assert_allclose(at_once, numpys, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_counts_are_repeated_images(monkeypatch):
    monkeypatch.setattr(fid, "BLOCK", 7)
    x = features(7, 30, 5)
    counts = np.random.default_rng(8).multinomial(30, np.full(30, 1 / 30))
    counts[7:14] = 0  # a whole block
    for ours, repeated in zip(
        Moments().add(x, counts).statistics(), statistics(np.repeat(x, counts, axis=0)), strict=True
    ):
        np.testing.assert_allclose(ours, repeated, rtol=1e-10)


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


def test_inception_score_is_that_of_torch_fidelity():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = np.random.default_rng(9).normal(size=(95, 12)) * 3
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    assert inception_score(probabilities, 10) == pytest.approx(tuple(theirs.values()), rel=1e-10)


def test_probabilities_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 NaN"):
        inception_score(np.array([[0.5, 0.5], [np.nan, 0.5]]), splits=1)
