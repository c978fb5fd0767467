"""Precision and recall are those of their definition, of torch-fidelity, and of sets made to have known ones."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from ddpm.evaluation import precision_recall as module
from ddpm.evaluation.precision_recall import precision_recall


@pytest.fixture(params=[4096, 16], ids=["at once", "in blocks"], autouse=True)
def block(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", request.param)


def features(seed: int, count: int, width: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, 8)) * width).astype(np.float32)


def by_definition(ours: np.ndarray, real: np.ndarray, k: int) -> tuple[float, float]:
    def covered(points, others):
        radii = np.sort(cdist(others, others), axis=1)[:, k]  # the first is the image itself
        return (cdist(points, others) <= radii).any(1).mean()

    return covered(ours, real), covered(real, ours)


@pytest.mark.parametrize(("sizes", "k"), [((130, 100), 3), ((50, 70), 1), ((33, 33), 5), ((20, 9), 8)])
def test_they_are_those_of_the_definition_and_of_torch_fidelity(sizes, k):
    from torch_fidelity.metric_prc import prc_features_to_metric

    ours, real = features(0, sizes[0], 0.8), features(1, sizes[1])
    found = precision_recall(ours, real, k)
    expected = by_definition(ours.astype(np.float64), real.astype(np.float64), k)
    assert (found["precision"], found["recall"]) == pytest.approx(expected, abs=1e-12)
    assert (found["neighbours"], found["images"]) == (k, sizes[0])
    theirs = prc_features_to_metric(
        torch.from_numpy(ours), torch.from_numpy(real), prc_neighborhood=k, verbose=False, save_cpu_ram=False
    )
    assert (found["precision"], found["recall"]) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_narrow_samples_are_precise_and_recall_little():
    found = precision_recall(features(2, 200, 0.3), features(3, 200))
    assert found["precision"] == 1
    assert found["recall"] < 0.2
    assert found["neighbours"] == 3


def test_the_same_set_has_both_and_a_far_one_neither():
    real = features(4, 60)
    assert precision_recall(real, real)["precision"] == precision_recall(real, real)["recall"] == 1
    away = precision_recall(real + 100, real)
    assert (away["precision"], away["recall"]) == (0, 0)


def test_equal_images_lie_among_each_other(monkeypatch):
    """Samples that are copies of a few real images have radii of 0, and reach those images and no others.

    The last block has one image: products with it are rounded in another order than those that the radii are from.
    """
    monkeypatch.setattr(module, "BLOCK", 17)
    real = np.random.default_rng(5).gamma(0.5, size=(35, 300)).astype(np.float32)
    found = precision_recall(np.tile(real[21:], (4, 1)), real)
    assert (found["precision"], found["recall"]) == (1, 0.4)
    assert precision_recall(np.tile(real[21:] * 1.0001, (4, 1)), real)["recall"] == 0


def test_what_has_no_neighbours_is_refused():
    for ours, real in ((3, 10), (10, 3)):
        with pytest.raises(ValueError, match="3 neighbours need more"):
            precision_recall(features(6, ours), features(7, real))
    broken = features(8, 10)
    broken[1, 1] = np.nan
    for pair in ((broken, features(9, 10)), (features(9, 10), broken)):
        with pytest.raises(ValueError, match="NaN"):
            precision_recall(*pair)
