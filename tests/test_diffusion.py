"""The process has closed forms, and keeps the authors' choices where the paper leaves them open."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddpm.diffusion import (
    GaussianDiffusion,
    approx_standard_normal_cdf,
    discretized_gaussian_log_likelihood,
    linear_betas,
    normal_kl,
)

T = 1000
METHODS = [
    (p, v, o)
    for p, v, o in itertools.product(("eps", "mu", "x0"), ("fixedlarge", "fixedsmall", "learned"), ("simple", "vlb"))
    if not (v == "learned" and o == "simple")
]


@pytest.fixture(scope="module")
def paper() -> GaussianDiffusion:
    return GaussianDiffusion(linear_betas(T))


def images(batch: int = 4, channels: int = 1) -> torch.Tensor:
    """Pixel values as data have them: levels 0..255 in [-1, 1], float64."""
    levels = torch.randint(0, 256, (batch, channels, 8, 8), generator=torch.Generator().manual_seed(1))
    return levels.double() / 127.5 - 1


def noise_like(x: torch.Tensor, seed: int = 2) -> torch.Tensor:
    return torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))


def test_schedule_has_the_papers_constants(paper):
    assert paper.betas.dtype == torch.float64
    assert np.array_equal(paper.betas.numpy(), np.linspace(1e-4, 0.02, T))
    assert paper.betas[1].item() == pytest.approx(1.199199e-4, rel=1e-6)
    assert paper.alphas_cumprod[-1].item() == pytest.approx(4.035830e-05, rel=1e-6)
    assert paper.posterior_variance[1].item() == pytest.approx(5.453188e-05, rel=1e-6)
    assert paper.posterior_log_variance_clipped[0].item() == pytest.approx(-9.816725, rel=1e-6)
    roots = paper.alphas_cumprod.sqrt()[[249, 499, 749, 874]].tolist()
    assert roots == pytest.approx([0.72394, 0.28033, 0.05788, 0.02076], abs=5e-6)


def test_marginal_is_the_steps_composed(paper):
    """q(x_t | x_0) of eq. 4 against eq. 2 applied t times: once to the image alone, once to its noise."""
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    scale, variance = one, 0.0
    for i in range(T):
        t = torch.tensor([i])
        scale = paper.q_step(scale, t, zero)
        variance = paper.q_step(zero, t, one).item() ** 2 + (1 - paper.betas[i].item()) * variance
        mean, var, log_var = paper.q_mean_variance(one, t)
        assert mean.item() == pytest.approx(scale.item(), rel=1e-12)
        assert var.item() == pytest.approx(variance, rel=1e-10)
        assert log_var.item() == pytest.approx(math.log(variance), rel=1e-10)
        assert paper.q_sample(one, t, one).item() == pytest.approx(scale.item() + math.sqrt(variance), rel=1e-10)


def test_posterior_is_bayes_rule(paper):
    """q(x_{t-1} | x_t, x0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0)."""
    x0, x_t = (
        torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64),
        torch.full((1, 1, 1, 1), -0.7, dtype=torch.float64),
    )
    for t in (1, 10, 500, 999):
        beta, before = paper.betas[t].item(), paper.alphas_cumprod[t - 1].item()
        precision = (1 - beta) / beta + 1 / (1 - before)
        mean = (math.sqrt(1 - beta) / beta * -0.7 + math.sqrt(before) / (1 - before) * 0.3) / precision
        got_mean, got_variance, got_log = paper.q_posterior(x0, x_t, torch.tensor([t]))
        assert got_mean.item() == pytest.approx(mean, rel=1e-10)
        assert got_variance.item() == pytest.approx(1 / precision, rel=1e-10)
        assert got_log.item() == pytest.approx(-math.log(precision), rel=1e-10)


def test_model_variances_are_the_authors(paper):
    small = GaussianDiffusion(paper.betas, variance="fixedsmall")
    assert torch.equal(paper.model_log_variance[1:], paper.betas[1:].log())
    assert paper.model_log_variance[0] == paper.posterior_variance[1].log()
    assert torch.equal(small.model_log_variance[1:], paper.posterior_variance[1:].log())
    assert small.model_log_variance[0] == paper.posterior_variance[1].log()


def test_kl_is_torchs():
    means, logs = torch.randn(2, 50, dtype=torch.float64), torch.randn(2, 50, dtype=torch.float64)
    expected = kl_divergence(Normal(means[0], (0.5 * logs[0]).exp()), Normal(means[1], (0.5 * logs[1]).exp()))
    torch.testing.assert_close(normal_kl(means[0], logs[0], means[1], logs[1]), expected)


@pytest.mark.parametrize("mean", [-1.3, -0.5, 0.0, 0.999])
@pytest.mark.parametrize("scale", [0.005, 0.05, 1.0])
def test_decoder_sums_to_one_over_the_levels(mean, scale):
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_p = discretized_gaussian_log_likelihood(
        levels, torch.tensor(mean).double(), torch.tensor(math.log(scale)).double()
    )
    assert log_p.exp().sum().item() == pytest.approx(1, abs=256 * 1e-12 + 1e-9)


def test_decoder_is_the_gaussian_integral():
    """Against the exact distribution function; the tanh approximation is off by up to 3e-4."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    normal = Normal(torch.tensor(0.1).double(), torch.tensor(0.05).double())
    exact = normal.cdf(levels + 1 / 255) - normal.cdf(levels - 1 / 255)
    got = discretized_gaussian_log_likelihood(levels, normal.mean, normal.stddev.log()).exp()
    assert (got - exact).abs().max().item() < 2e-4


@pytest.mark.parametrize(("x", "value"), [(1.0, 0.8411919906082768), (2.0, 0.9772988470438875), (-0.5, 0.3085719803)])
def test_decoder_uses_the_authors_approximation(x, value):
    """(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, by hand; the exact function differs in the fourth digit."""
    assert approx_standard_normal_cdf(torch.tensor(x).double()).item() == pytest.approx(value, rel=1e-9)
    exact = 0.5 * (1 + math.erf(x / math.sqrt(2)))
    assert abs(value - exact) > 3e-5


def test_decoder_has_a_floor():
    """An image that the mean is far from costs -log 1e-12 nats, not infinitely many."""
    x = torch.tensor([0.5, -1.0, 1.0]).double()
    far = discretized_gaussian_log_likelihood(x, -0.9 * x.sign(), torch.tensor(math.log(1e-3)).double())
    torch.testing.assert_close(far, torch.full_like(x, math.log(1e-12)))


def test_first_term_is_the_decoders_and_the_others_are_kls(paper):
    """Eq. 5: L_0 = -log p(x0 | x_1), L_{t-1} = KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)), in bits/dim."""
    x0 = torch.rand(2, 1, 4, 4, dtype=torch.float64) - 0.5
    noise, t = noise_like(x0), torch.tensor([0, 1])
    terms, _ = paper.bound_terms(lambda x_t, t: 0.5 * x_t, x0, t, noise)
    x_t = paper.q_sample(x0, t, noise)
    mean, variance, log_variance, _ = paper.p_mean_variance(lambda x_t, t: 0.5 * x_t, x_t, t)
    decoder = -discretized_gaussian_log_likelihood(x0[:1], mean[:1], 0.5 * log_variance[:1]).mean() / math.log(2)
    true_mean, true_variance, _ = paper.q_posterior(x0, x_t, t)
    true, model = (Normal(m[1:], v[1:].sqrt()) for m, v in ((true_mean, true_variance), (mean, variance)))
    kl = kl_divergence(true, model).mean() / math.log(2)
    torch.testing.assert_close(terms, torch.stack([decoder, kl]))


def test_prior_term_is_as_small_as_the_paper_says(paper):
    """About 1e-5 bits/dim for images with a mean square of 0.25 to 0.30 (Section 4)."""
    for mean_square, bits in ((0.25, 7.3e-6), (0.30, 8.7e-6)):
        x0 = torch.full((1, 1, 8, 8), math.sqrt(mean_square), dtype=torch.float64)
        assert paper.prior_bits(x0).item() == pytest.approx(bits, rel=0.01)


def perfect_model(diffusion: GaussianDiffusion, x0: torch.Tensor, log_variance: float | None = None):
    """A model that knows x0, in the terms of the parameterisation."""

    def model(x_t, t):
        if diffusion.parameterization == "eps":
            abar = diffusion.alphas_cumprod[t].reshape(-1, 1, 1, 1)
            output = (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()
        elif diffusion.parameterization == "mu":
            output = diffusion.q_posterior(x0, x_t, t)[0]
        else:
            output = x0
        if log_variance is not None:
            output = torch.cat([output, torch.full_like(output, log_variance)], dim=1)
        return output

    return model


@pytest.mark.parametrize(("parameterization", "variance", "objective"), METHODS)
def test_a_model_that_knows_the_image_is_perfect(parameterization, variance, objective):
    """Every parameterisation then predicts the posterior's mean, and has the least loss that its variance allows."""
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance, objective)
    x0 = images()
    t = torch.tensor([0, 1, 500, 999])
    noise = noise_like(x0)
    model = perfect_model(diffusion, x0, -5.0 if variance == "learned" else None)
    x_t = diffusion.q_sample(x0, t, noise)
    mean, _, log_variance, x0_hat = diffusion.p_mean_variance(model, x_t, t)
    true_mean, _, true_log = diffusion.q_posterior(x0, x_t, t)
    torch.testing.assert_close(mean, true_mean, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(x0_hat, x0, rtol=1e-7, atol=1e-9)
    losses = diffusion.training_losses(model, x0, t, noise)
    if objective == "simple":
        assert losses.abs().max().item() < 1e-16
        return
    kl = 0.5 * (-1 + log_variance - true_log + (true_log - log_variance).exp()) / math.log(2)
    torch.testing.assert_close(losses[1:], kl.flatten(1).mean(1)[1:], rtol=1e-6, atol=1e-12)
    terms, squared_error = diffusion.bound_terms(model, x0, t, noise)
    torch.testing.assert_close(losses, terms)
    assert squared_error.max().item() < 1e-14


@pytest.mark.parametrize("parameterization", ["eps", "mu", "x0"])
def test_simple_objective_is_the_mean_square_of_what_is_predicted(parameterization):
    diffusion = GaussianDiffusion(linear_betas(T), parameterization)
    x0, t = images(), torch.tensor([0, 3, 400, 999])
    noise = noise_like(x0)
    x_t = diffusion.q_sample(x0, t, noise)
    target = {"eps": noise, "mu": diffusion.q_posterior(x0, x_t, t)[0], "x0": x0}[parameterization]
    losses = diffusion.training_losses(lambda x, t: 0.5 * x, x0, t, noise)
    torch.testing.assert_close(losses, (0.5 * x_t - target).square().mean((1, 2, 3)))


def test_predicted_image_is_clipped_before_the_mean_and_a_predicted_mean_never():
    x_t, t = torch.full((1, 1, 8, 8), 0.1, dtype=torch.float64), torch.tensor([600])

    def far(x, t):
        return torch.full_like(x, -20.0)

    for name in ("eps", "x0"):
        diffusion = GaussianDiffusion(linear_betas(T), name)
        bound = torch.full_like(x_t, 1.0 if name == "eps" else -1.0)
        mean, _, _, x0 = diffusion.p_mean_variance(far, x_t, t)
        assert torch.equal(x0, bound)
        assert torch.equal(mean, diffusion.q_posterior(bound, x_t, t)[0])
        unclipped = diffusion.p_mean_variance(far, x_t, t, clip_denoised=False)
        assert unclipped[3].abs().min() > 1
    mu = GaussianDiffusion(linear_betas(T), "mu")
    mean, _, _, x0 = mu.p_mean_variance(far, x_t, t)
    assert torch.equal(mean, torch.full_like(x_t, -20.0))
    assert torch.equal(x0, torch.full_like(x_t, -1.0))


def test_bound_is_clipped_in_evaluation_and_not_in_training():
    diffusion = GaussianDiffusion(linear_betas(T), "eps", objective="vlb")
    x0, t = images(2), torch.tensor([600, 700])
    noise = noise_like(x0)

    def far(x, t):
        return torch.full_like(x, -20.0)

    clipped, unclipped = (diffusion.bound_terms(far, x0, t, noise, clip)[0] for clip in (True, False))
    assert (unclipped > 10 * clipped).all()
    assert torch.equal(diffusion.training_losses(far, x0, t, noise), unclipped)


def test_learned_variance_is_the_raw_log_variance():
    diffusion = GaussianDiffusion(linear_betas(T), "mu", "learned", "vlb")
    x_t = images(2)
    output = torch.cat([x_t, torch.full_like(x_t, 7.5)], dim=1)
    _, variance, log_variance, _ = diffusion.p_mean_variance(lambda x, t: output, x_t, torch.tensor([0, 999]))
    assert torch.equal(log_variance, torch.full_like(x_t, 7.5))
    torch.testing.assert_close(variance, torch.full_like(x_t, math.exp(7.5)))


def test_step_adds_noise_except_at_the_end(paper):
    x_t, t = images(2).float(), torch.tensor([0, 7])
    noise = noise_like(x_t)

    def model(x, t):
        return 0.1 * x

    mean, variance, _, _ = paper.p_mean_variance(model, x_t, t)
    x, _ = paper.p_sample(model, x_t, t, noise)
    assert torch.equal(x[0], mean[0])
    torch.testing.assert_close(x[1], mean[1] + variance[1].sqrt() * noise[1])


def test_decoder_term_reaches_the_floor_of_its_variance(paper):
    """A model that knows the image pays the entropy of a Gaussian of 0.9415 levels: 1.96 bits (paper: 1.97)."""
    x0 = (torch.randint(20, 236, (64, 3, 8, 8)).double()) / 127.5 - 1
    bits = []
    for seed in range(20):
        noise = noise_like(x0, seed)
        # The decoder's mean is then off by a posterior-like error; here it is drawn from the decoder itself.
        mean = x0 + paper.model_variance[0].sqrt() * noise
        log_scale = 0.5 * paper.model_log_variance[0].expand_as(x0)
        bits.append(-discretized_gaussian_log_likelihood(x0, mean, log_scale).mean().item() / math.log(2))
    sigma = paper.model_variance[0].sqrt().item() * 127.5
    assert sigma == pytest.approx(0.94153, rel=1e-4)
    assert np.mean(bits) == pytest.approx(math.log2(sigma * math.sqrt(2 * math.pi * math.e)), abs=0.03)


@pytest.mark.parametrize("bad", [torch.tensor([0.1]), torch.tensor([0.1, 1.0]), torch.tensor([0.0, 0.1])])
def test_impossible_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="betas"):
        GaussianDiffusion(bad)


def test_impossible_combination_is_refused():
    with pytest.raises(ValueError, match="simple objective"):
        GaussianDiffusion(linear_betas(T), "eps", "learned", "simple")


def test_model_of_the_wrong_width_is_refused(paper):
    with pytest.raises(ValueError, match="returns"):
        paper.p_mean_variance(lambda x, t: torch.cat([x, x], 1), images(1), torch.tensor([3]))
