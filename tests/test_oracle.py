"""For Gaussian data the best prediction is known exactly; with it in the network's place, everything can be computed.

With x0 ~ N(m, S), x_t given x0 is N(sqrt(abar) x0, (1 - abar) I), so that

    E[x0 | x_t]   = m + sqrt(abar) S (abar S + (1 - abar) I)^-1 (x_t - sqrt(abar) m)
    Cov[x0 | x_t] = S - abar S (abar S + (1 - abar) I)^-1 S.

Every step of the reverse process is then linear in x_t: its mean and covariance follow by hand, step by step.
"""

import math

import pytest
import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion, linear_betas

T = 1000
SHAPE = (1, 2, 2)
D = 4
MEAN = torch.tensor([0.2, -0.3, 0.1, 0.0], dtype=torch.float64)
ROOT = torch.tensor(
    [[0.15, 0.0, 0.0, 0.0], [0.10, 0.10, 0.0, 0.0], [0.0, -0.05, 0.12, 0.0], [0.05, 0.0, 0.02, 0.03]],
    dtype=torch.float64,
)
COVARIANCE = ROOT @ ROOT.T  # pixels within about 0.6 of the mean: clipping to [-1, 1] never matters
IDENTITY = torch.eye(D, dtype=torch.float64)

FIXED = [(p, v) for p in ("eps", "mu", "x0") for v in ("fixedlarge", "fixedsmall")]


def gain(abar: float) -> Tensor:
    """K of E[x0 | x_t] = m + K (x_t - sqrt(abar) m), [D, D]."""
    return math.sqrt(abar) * COVARIANCE @ torch.linalg.inv(abar * COVARIANCE + (1 - abar) * IDENTITY)


def remaining(abar: float) -> Tensor:
    """Cov[x0 | x_t], [D, D]."""
    return COVARIANCE - math.sqrt(abar) * gain(abar) @ COVARIANCE


def oracle(diffusion: GaussianDiffusion):
    """The best model of the data, in the terms of the parameterisation; all images of a batch at one t."""

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        abar = diffusion.alphas_cumprod[t[0]].item()
        flat = x_t.flatten(1)
        x0 = (MEAN + (flat - math.sqrt(abar) * MEAN) @ gain(abar).T).reshape(x_t.shape)
        match diffusion.parameterization:
            case "eps":
                return (x_t - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
            case "mu":
                return diffusion.q_posterior(x0, x_t, t)[0]
            case _:
                return x0

    return model


def data(count: int, seed: int = 0) -> Tensor:
    z = torch.randn(count, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (MEAN + z @ ROOT.T).reshape(count, *SHAPE)


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact_chain(diffusion: GaussianDiffusion) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the samples, by the recursion of the linear steps x <- c1 x0_hat(x) + c2 x + sigma z."""
    mean, covariance = torch.zeros(D, dtype=torch.float64), IDENTITY
    for t in reversed(range(T)):
        abar = diffusion.alphas_cumprod[t].item()
        c1, c2 = diffusion.posterior_mean_coef1[t].item(), diffusion.posterior_mean_coef2[t].item()
        step = c1 * gain(abar) + c2 * IDENTITY
        mean = step @ mean + c1 * (MEAN - math.sqrt(abar) * gain(abar) @ MEAN)
        covariance = step @ covariance @ step.T
        if t:
            covariance = covariance + diffusion.model_variance[t].item() * IDENTITY
    return mean, covariance


@pytest.mark.parametrize(("parameterization", "variance"), FIXED)
def test_samples_have_the_distribution_of_the_exact_chain(parameterization, variance):
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance)
    model, count = oracle(diffusion), 4000
    x = noise(count, seed=1)
    for t in reversed(range(T)):
        x, _ = diffusion.p_sample(model, x, torch.full((count,), t), noise(count, seed=10 + t))
    mean, covariance = exact_chain(diffusion)
    got = x.flatten(1)
    # Five standard errors of a mean, and of a covariance, of that many samples.
    spread = covariance.diag().sqrt()
    assert ((got.mean(0) - mean).abs() < 5 * spread / math.sqrt(count)).all()
    errors = torch.sqrt((covariance**2 + spread[:, None] ** 2 * spread**2) / count)
    assert ((got.T.cov() - covariance).abs() < 5 * errors).all()


@pytest.mark.parametrize("variance", ["fixedlarge", "fixedsmall"])
def test_a_thousand_steps_suffice_for_the_data(variance):
    """What the exact chain makes is the data's own distribution but for the discretisation of time."""
    mean, covariance = exact_chain(GaussianDiffusion(linear_betas(T), variance=variance))
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=2e-3)
    torch.testing.assert_close(covariance, COVARIANCE, rtol=0.06, atol=2e-4)


@pytest.mark.parametrize(("parameterization", "variance"), FIXED)
@pytest.mark.parametrize("t", [1, 10, 100, 500, 900, 999])
def test_bound_terms_have_their_expected_values(parameterization, variance, t):
    """KL = 1/2 (log s2 - log b~ + b~/s2 - 1) + c1^2 tr Cov[x0 | x_t] / (2 D s2), and the error is tr Cov / D."""
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance)
    count = 20_000
    times = torch.full((count,), t)
    terms, errors = diffusion.bound_terms(oracle(diffusion), data(count), times, noise(count, seed=3))
    left = remaining(diffusion.alphas_cumprod[t].item()).trace().item() / D
    s2, true = diffusion.model_variance[t].item(), diffusion.posterior_variance[t].item()
    c1 = diffusion.posterior_mean_coef1[t].item()
    expected = 0.5 * (math.log(s2 / true) + true / s2 - 1 + c1**2 * left / s2) / math.log(2)
    for got, value in ((terms, expected), (errors, left)):
        standard_error = got.std().item() / math.sqrt(count)
        assert got.mean().item() == pytest.approx(value, abs=5 * standard_error + 1e-12)


def test_no_prediction_has_a_smaller_loss():
    """The oracle's loss is (1 - abar)^-1 abar tr Cov / D, and pushing it in any direction makes it larger."""
    diffusion = GaussianDiffusion(linear_betas(T))
    count, t = 20_000, torch.full((20_000,), 300)
    x0, eps = data(count), noise(count, seed=4)
    best = oracle(diffusion)
    abar = diffusion.alphas_cumprod[300].item()
    losses = diffusion.training_losses(best, x0, t, eps)
    expected = abar / (1 - abar) * remaining(abar).trace().item() / D
    assert losses.mean().item() == pytest.approx(expected, abs=5 * losses.std().item() / math.sqrt(count))
    for push in (lambda x: 0.05, lambda x: -0.05, lambda x: 0.05 * x, lambda x: -0.05 * x):
        pushed = diffusion.training_losses(lambda x, t, push=push: best(x, t) + push(x), x0, t, eps)
        assert pushed.mean() > losses.mean()
