"""The kernel inception distance is that of clean-fid and torch-fidelity, and unbiased."""

import numpy as np
import pytest
import torch

from ddpm.evaluation.kid import kernel_distance


def features(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.7, size=(count, 24)).astype(np.float32) + np.float32(shift)


def test_whole_sets_are_at_the_distance_of_clean_fid_and_torch_fidelity():
    from cleanfid.fid import kernel_distance as clean
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = features(0, 90), features(1, 90, 0.2)
    ours = kernel_distance(x, y, 0, subsets=2)
    assert ours == {"mean": ours["mean"], "std": pytest.approx(0, abs=1e-12), "subsets": 2, "subset_size": 90}
    x, y = x.astype(np.float64), y.astype(np.float64)
    assert ours["mean"] == pytest.approx(clean(x, y, num_subsets=1), rel=1e-6)
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=1, kid_subset_size=90, verbose=False
    )
    assert ours["mean"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)


def test_three_numbers_by_hand():
    """x: 0, 1. y: 1, 2. (xy + 1)^3 is 1 within x, 27 within y, and 1, 1, 8, 27 between them."""
    ours = kernel_distance(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), 0, subsets=1)
    assert ours["mean"] == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_the_mean_does_not_depend_on_the_size_of_the_subsets():
    x, y = features(2, 800), features(3, 800, 0.1)
    small, large = (kernel_distance(x, y, 0, 400, size) for size in (20, 200))
    assert small["std"] > 2 * large["std"]
    error = np.hypot(small["std"], large["std"]) / 20
    assert abs(small["mean"] - large["mean"]) < 4 * error
    assert large["mean"] > 10 * large["std"] / 20


def test_subsets_are_named_by_the_seed_and_as_large_as_the_smaller_set():
    x, y = features(4, 300), features(5, 40)
    first = kernel_distance(x, y, 1, 5)
    assert first == kernel_distance(x, y, 1, 5)
    assert first["mean"] != kernel_distance(x, y, 2, 5)["mean"]
    assert first["subset_size"] == 40
    assert first["std"] > 0
    assert kernel_distance(x, y, 1, 5, 30)["subset_size"] == 30


def test_an_image_is_drawn_once_in_a_subset():
    """The sets are equal and drawn whole: each image meets itself once, and no other one twice."""
    x = features(6, 50)
    kernel = (x.astype(np.float64) @ x.T / 24 + 1) ** 3
    mean = (kernel.sum() - np.trace(kernel)) / (50 * 49)
    assert kernel_distance(x, x, 0, 3)["mean"] == pytest.approx(2 * mean - 2 * kernel.mean(), rel=1e-6)


def test_what_has_no_distance_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        kernel_distance(features(7, 1), features(8, 9), 0)
    broken = features(9, 9)
    broken[3, 3] = np.inf
    for pair in ((broken, features(8, 9)), (features(8, 9), broken)):
        with pytest.raises(ValueError, match="infinite"):
            kernel_distance(*pair, 0)
