"""The update rules, against their formulas in plain float64 arithmetic."""

import numpy as np
import pytest
import torch

from ddpm.training.optimizer import Adam, FlatParameters, clip_by_global_norm_, update_ema_, warmup_rate


def test_adam_is_tensorflows():
    """Epsilon is added to sqrt(v) before v's bias is corrected; with tiny gradients the two forms differ."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=7)
    vector = torch.from_numpy(values.copy())
    adam = Adam(vector)
    m = v = np.zeros(7)
    for step in range(20):
        gradient = rng.normal(size=7) * 1e-7
        adam.update_(vector, torch.from_numpy(gradient), step, 1e-3)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        rate = 1e-3 * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        values = values - rate * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(vector.numpy(), values, rtol=1e-12)


def test_the_first_update_has_rate_zero():
    assert [warmup_rate(step, 0.2, 4) for step in (0, 1, 4, 400)] == [0.0, 0.05, 0.2, 0.2]
    assert warmup_rate(0, 0.2, 0) == 0.2


@pytest.mark.parametrize(("norm", "expected"), [(0.5, 0.5), (1.0, 1.0), (7.0, 1.0)])
def test_clipping_limits_the_global_norm(norm, expected):
    gradient = torch.tensor([3.0, 4.0], dtype=torch.float64) * norm / 5
    assert clip_by_global_norm_(gradient, 1.0).item() == pytest.approx(norm)
    np.testing.assert_allclose(gradient.numpy(), np.array([0.6, 0.8]) * expected)


def test_average_starts_at_the_values_and_decays_constantly():
    average = torch.full((1,), 99.0)
    update_ema_(average, torch.tensor([2.0]), 0, 0.9)
    assert average.item() == 2.0
    update_ema_(average, torch.tensor([4.0]), 1, 0.9)
    assert average.item() == pytest.approx(0.9 * 2 + 0.1 * 4)


def test_flat_vectors_are_the_model():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    reference = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    reference.load_state_dict(model.state_dict())
    flat = FlatParameters(model)
    x = torch.randn(5, 2)
    model(x).sum().backward()
    reference(x).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters()])
    torch.testing.assert_close(flat.gradient, expected)
    flat.values.add_(1)
    for name, p in reference.named_parameters():
        torch.testing.assert_close(dict(model.named_parameters())[name], p + 1)
        torch.testing.assert_close(flat.split(flat.values)[name], p + 1)
