"""The bootstrap gives the spread of the FID over other samples, the extrapolation the FID of infinitely many."""

import numpy as np
import pytest

from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.uncertainty import bootstrap, extrapolate, fid_spread

D = 16
VARIANCES = 3.0 / np.arange(1, D + 1)
REAL = (np.zeros(D), np.diag(VARIANCES))
# Samples with 1.44 times the variances and another mean, whose distance is known.
MEAN = 0.1
TRUTH = D * MEAN**2 + 0.2**2 * VARIANCES.sum()


def samples(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, D)) * np.sqrt(1.44 * VARIANCES) + MEAN


def distance(features: np.ndarray) -> float:
    return frechet_distance(*statistics(features), *REAL)


def test_the_bootstrap_is_the_spread_over_other_samples():
    spread = np.std([distance(samples(seed, 1000)) for seed in range(400)], ddof=1)
    found = [fid_spread(samples(seed, 1000), {"real": REAL}, seed, 200)["real"]["std"] for seed in range(1000, 1005)]
    assert np.mean(found) == pytest.approx(spread, rel=0.25)


def test_the_interval_holds_95_percent_of_the_replicates_moved_to_the_value(monkeypatch):
    replicas = np.random.default_rng(0).permutation(np.linspace(3, 4, 1001))
    monkeypatch.setattr("ddpm.evaluation.uncertainty.bootstrap", lambda *_: replicas[:, None])
    x = samples(1, 1000)
    found = fid_spread(x, {"real": REAL}, 0, 1001)["real"]
    assert found["interval"] == pytest.approx([distance(x) - 0.475, distance(x) + 0.475])
    assert found["std"] == pytest.approx(np.std(replicas, ddof=1), rel=1e-9)
    assert (found["replicates"], found["note"]) == (1001, None)


def test_the_interval_contains_the_value():
    x = samples(1, 1000)
    low, high = fid_spread(x, {"real": REAL}, 0, 100)["real"]["interval"]
    assert low < distance(x) < high


def test_replicates_are_drawn_with_replacement_and_named():
    """Their own bias is that of N images once more, and it is on top of the value's."""
    x = samples(2, 400)
    replicas = bootstrap(x, [REAL], 5, 100)
    assert replicas.shape == (100, 1)
    assert len(np.unique(replicas)) == 100
    np.testing.assert_array_equal(replicas[:3], bootstrap(x, [REAL], 5, 3))
    assert not np.isin(bootstrap(x, [REAL], 6, 3), replicas).any()
    bias = np.mean([distance(samples(seed, 400)) for seed in range(100)]) - TRUTH
    assert replicas.mean() - distance(x) == pytest.approx(bias, rel=0.5)


def test_the_extrapolated_value_has_lost_the_bias():
    sets = [samples(seed, 40 * D) for seed in range(40)]
    bias = np.mean([distance(x) for x in sets]) - TRUTH
    left = np.mean([extrapolate(x, [REAL], 0)[0] for x in sets]) - TRUTH
    assert bias > 0.05
    assert abs(left) < bias / 5


def test_the_extrapolation_is_the_line_over_one_in_n_through_15_sizes(monkeypatch):
    """A distance of 7 + 30/n, whatever the images, is 7 for infinitely many."""
    sizes = []

    def known(moments, references):
        sizes.append(moments.count)
        return [7 + 30 / moments.count, 5.0]

    monkeypatch.setattr("ddpm.evaluation.uncertainty.distances", known)
    assert extrapolate(samples(3, 1000), [REAL, REAL], 0) == pytest.approx([7, 5])
    assert sizes == np.linspace(100, 1000, 15).astype(int).tolist()
    sizes.clear()
    extrapolate(samples(3, 200), [REAL], 0)
    assert (len(sizes), sizes[0], sizes[-1]) == (15, 2 * D, 200)


def test_the_subsets_are_random_named_and_without_repetition():
    x = samples(4, 200)
    x[:100] += 5  # the first images are no fair part of all
    assert extrapolate(x, [REAL], 1) == extrapolate(x, [REAL], 1)
    assert extrapolate(x, [REAL], 1) != extrapolate(x, [REAL], 2)
    shuffled = np.random.default_rng(0).permutation(x)
    found, alike = ([extrapolate(kind, [REAL], seed)[0] for seed in range(20)] for kind in (x, shuffled))
    assert np.mean(found) == pytest.approx(np.mean(alike), abs=4 * np.std(found) / np.sqrt(10))


def test_each_reference_has_its_own_spread():
    other = (np.ones(D), np.eye(D))
    x = samples(5, 100)
    both = fid_spread(x, {"train": REAL, "test": other}, 0, 20)
    for name, reference in (("train", REAL), ("test", other)):
        alone = fid_spread(x, {name: reference}, 0, 20)[name]
        assert both[name].pop("infinity") == pytest.approx(alone.pop("infinity"), rel=1e-9)
        assert both[name] == alone
    assert both["test"]["interval"][0] > both["train"]["interval"][1]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (D, "16 images of 16 features have a singular covariance; too few images to extrapolate"),
        (D + 1, "too few images to extrapolate to infinitely many: 17 of 64"),
        (4 * D - 1, "too few images to extrapolate to infinitely many: 63 of 64"),
        (4 * D, None),
    ],
)
def test_too_few_images_have_no_extrapolated_value_and_a_note(count, said):
    found = fid_spread(samples(6, count), {"real": REAL}, 0, 5)["real"]
    assert (found["infinity"] is None) == (said is not None)
    assert found["note"] is None if said is None else found["note"].startswith(said)
