"""A random number depends on what it is for, and on nothing else."""

import pytest
import torch

from ddpm.compute import rng


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 12), (15, 17), (16, 32), (3, 50)])
def test_an_item_has_the_same_numbers_in_any_range(start, stop):
    everything = rng.normal("test", start=0, stop=64, shape=(2, 3))
    assert torch.equal(rng.normal("test", start=start, stop=stop, shape=(2, 3)), everything[start:stop])


def test_names_give_different_and_normal_numbers():
    a, b = (rng.normal(*name, start=0, stop=4096, shape=(4,)) for name in (("x", 1), ("x", 2)))
    assert not torch.equal(a, b)
    for numbers in (a, b):
        assert numbers.mean().abs() < 0.03
        assert (numbers.std() - 1).abs() < 0.03
    assert (a * b).mean().abs() < 0.03
    assert a.unique().numel() > 0.99 * a.numel(), "no block repeats another"


def test_parts_of_a_name_are_kept_apart():
    assert len({rng.seed_of(*name) for name in ((1, 23), (12, 3), ("1/2", 3), (123,))}) == 4
