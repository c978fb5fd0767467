"""For data whose best prediction is known exactly, every number of the chain has a known value (docs/oracle.md).

The data, the oracle and what follows from it are in oracle.py; T = 1000 and the schedule are the paper's. Measured
means may lie five standard errors from the expected value; the standard errors are exact too, unless said otherwise.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from helpers import CPU
from oracle import (
    ABAR,
    DATA,
    FIXED,
    GAUSSIAN,
    MIXTURE,
    ROUNDING,
    SIGMA2,
    Data,
    Drawn,
    Gaussian,
    HeldOut,
    Mixture,
    Oracle,
    T,
    bound_slope,
    bound_term,
    decoder_term,
    frechet_bias,
    measured_bound,
    prior,
    small_training,
    trained_oracle,
)
from scipy.stats import kstest
from torch import Tensor

from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_model_range
from ddpm.diffusion import GaussianDiffusion, linear_betas
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.rate_distortion import likelihood_summary, rate_distortion
from ddpm.sampling.runner import AncestralSampler
from ddpm.training.loop import Trainer

ORACLES = [("gaussian", *fixed) for fixed in FIXED] + [("mixture", "eps", v) for v in ("fixedlarge", "fixedsmall")]


def assert_within(got, expected, standard_error, besides=0.0) -> None:
    """All of `got` within five standard errors, and `besides`, of the expected values."""
    got, expected, standard_error = (torch.as_tensor(x, dtype=torch.float64) for x in (got, expected, standard_error))
    beyond = (got - expected).abs() - 5 * standard_error - besides
    assert (beyond <= 0).all(), f"{(beyond > 0).sum()} of {beyond.numel()}; largest at {beyond.argmax()}"


def assert_moments(x: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """`x` [N, D] is a sample of N(mean, covariance) to two moments: whitened, its own are 0 and I."""
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x - mean).T, upper=False)
    identity = torch.eye(len(mean))
    assert_within(white.mean(1), 0, 1 / math.sqrt(len(x)))
    assert_within(white.cov(), identity, (1 + identity).sqrt() / math.sqrt(len(x)))


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def chain(data: Data, parameterization: str, variance: str, count: int) -> Tensor:
    """Samples of the reverse process in float64, [count, D]."""
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance)
    model, x = Oracle(data, parameterization), noise(count, seed=1)
    for t in reversed(range(T)):
        x, _ = diffusion.p_sample(model, x, torch.full((count,), t), noise(count, seed=10 + t))
    return x.flatten(1)


# --- the exact values themselves ---


def test_quadrature_of_one_component_is_the_closed_form():
    variances = GAUSSIAN.covariance.diag()
    gaussian = Gaussian(GAUSSIAN.mean, variances.diag())
    mixture = Mixture(torch.ones(1, 4, dtype=torch.float64), GAUSSIAN.mean[None], variances.sqrt()[None])
    x0 = gaussian.sample(20, seed=2)
    for abar in ABAR[::50].tolist():
        assert mixture.error(abar) == pytest.approx(gaussian.error(abar), rel=1e-10)
        torch.testing.assert_close(mixture.best(x0, abar), gaussian.best(x0, abar))
        torch.testing.assert_close(mixture.error_of(x0, abar), gaussian.error_of(x0, abar))


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_errors_of_given_images_average_to_the_error(data):
    x0 = data.sample(2000, seed=3)
    for abar in ABAR[[10, 100, 300, 900]].tolist():
        errors, _ = data.error_of(x0, abar)
        assert_within(errors.mean(), data.error(abar), errors.std() / math.sqrt(len(errors)))


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize("t", [20, 300, 700])
def test_no_prediction_has_a_smaller_loss(data, t):
    """The oracle's loss is abar / (1 - abar) times the error, and pushing it in any direction makes it larger."""
    diffusion, best = GaussianDiffusion(linear_betas(T)), Oracle(data, "eps")
    count = 20_000
    given = data.sample(count, seed=0), torch.full((count,), t), noise(count, seed=4)
    losses = diffusion.training_losses(best, *given)
    expected = ABAR[t] / (1 - ABAR[t]) * data.error(ABAR[t].item())
    assert_within(losses.mean(), expected, losses.std() / math.sqrt(count))
    for push in (lambda x: 0.1, lambda x: -0.1, lambda x: 0.1 * x, lambda x: -0.1 * x):
        pushed = diffusion.training_losses(lambda x, t, push=push: best(x, t) + push(x), *given)
        assert pushed.mean() > losses.mean()


# --- samples ---


@pytest.mark.parametrize(("parameterization", "variance"), FIXED)
def test_samples_have_the_distribution_of_the_exact_chain(parameterization, variance):
    assert_moments(chain(GAUSSIAN, parameterization, variance, 4000), *GAUSSIAN.chain(variance))


@pytest.mark.parametrize(("variance", "least", "most"), [("fixedlarge", 0.93, 1.02), ("fixedsmall", 0.65, 0.97)])
def test_a_thousand_steps_suffice_for_the_data(variance, least, most):
    """What the exact chain makes is the data's distribution but for the discretisation of time.

    With beta_t the variance along three axes is within 2 %; with the posterior's variance, which is right for data
    without spread, it is 4 to 10 % too small. On the fourth axis, of standard deviation 0.019 or 2.4 grey levels, it
    is 7 and 35 % too small: there the noise of the last steps is not small.
    """
    mean, covariance = GAUSSIAN.chain(variance)
    torch.testing.assert_close(mean, GAUSSIAN.mean, rtol=0, atol=1e-6)
    ratios = (GAUSSIAN.axes.T @ covariance @ GAUSSIAN.axes).diag() / GAUSSIAN.values
    assert ((ratios > least) & (ratios < most)).all()


@pytest.mark.parametrize(("variance", "discretisation"), [("fixedlarge", 0.003), ("fixedsmall", 0.010)])
def test_samples_of_the_mixture_fill_its_humps(variance, discretisation):
    """The samples differ from the exact chain by sampling error alone, and the exact chain from the data by little.

    `discretisation` is the largest difference of the two distribution functions. With the posterior's variance the
    humps are too narrow, which takes up to 2 % off a pixel's variance; with beta_t it is 0.3 %.
    """
    count = 4000
    x = chain(MIXTURE, "eps", variance, count)
    grid, exact = MIXTURE.chain(variance)
    assert (exact - MIXTURE.cdf(grid)).abs().max() < discretisation
    for values, at, cdf in zip(x.T, grid.T, exact.T, strict=True):
        assert kstest(values, lambda v, at=at, cdf=cdf: np.interp(v, at, cdf)).pvalue > 1e-3

    w, m, s = MIXTURE.weights, MIXTURE.means, MIXTURE.spreads
    in_the_first = (x < m.mean(0)).double().mean(0)
    assert_within(in_the_first, w[0], (w[0] * w[1] / count).sqrt(), discretisation)
    mean = (w * m).sum(0)
    spread = ((w * (s**2 + m**2)).sum(0) - mean**2).sqrt()
    assert_within(x.mean(0), mean, spread / math.sqrt(count), 0.001)
    identity = torch.eye(4)  # no fourth moment here is larger than a Gaussian's
    covariance = x.T.cov() / (spread * spread[:, None])
    assert_within(covariance, identity, (1 + identity).sqrt() / math.sqrt(count), 0.02)


@pytest.mark.parametrize(("parameterization", "variance"), [("eps", "fixedlarge"), ("x0", "fixedsmall")])
def test_fid_of_the_samplers_images_is_its_known_bias(parameterization, variance):
    """uint8 images of the real sampler, in 60 groups of 100: the bias is most of the distance, and is resolved.

    The standard error of the mean distance is that of the groups.
    """
    count = 6000
    trained, config = trained_oracle(GAUSSIAN, parameterization, variance), SamplingConfig(images=count)
    images = AncestralSampler(trained, config, CPU).draw(0, count)["images"]
    pixels = to_model_range(images).double().flatten(1)
    mean, covariance = GAUSSIAN.chain(variance)
    covariance = covariance + ROUNDING * torch.eye(4)
    assert_moments(pixels, mean, covariance)

    exact = mean.numpy(), covariance.numpy()
    reference = GAUSSIAN.mean.numpy(), GAUSSIAN.covariance.numpy()
    distances = [frechet_distance(*statistics(group.numpy()), *reference) for group in pixels.split(100)]
    bias = frechet_bias(exact[1], reference[1], 100)
    standard_error = np.std(distances, ddof=1) / math.sqrt(len(distances))
    assert bias > 5 * standard_error
    assert_within(np.mean(distances), frechet_distance(*exact, *reference) + bias, standard_error)


def test_bias_of_fid_is_the_second_order():
    """4000 groups of 200 exact draws resolve it to 1 %; the next order is about 1/200 of it."""
    x = GAUSSIAN.sample(800_000, seed=6).flatten(1).numpy()
    reference = GAUSSIAN.mean.numpy(), GAUSSIAN.covariance.numpy()
    distances = [frechet_distance(*statistics(group), *reference) for group in x.reshape(-1, 200, 4)]
    bias, standard_error = frechet_bias(reference[1], reference[1], 200), np.std(distances) / math.sqrt(4000)
    assert standard_error < 0.015 * bias
    assert_within(np.mean(distances), bias, standard_error, bias / 200)


# --- the bound ---


@pytest.mark.parametrize(("data", "parameterization", "variance"), ORACLES)
@pytest.mark.parametrize("t", [1, 10, 100, 500, 900, 999])
def test_bound_terms_have_their_expected_values(data, parameterization, variance, t):
    """Images that are not rounded: the expectation is over all the data. Standard errors from the draws."""
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance)
    count, data = 20_000, DATA[data]
    draws = data.sample(count, seed=0), torch.full((count,), t), noise(count, seed=3)
    terms, errors = diffusion.bound_terms(Oracle(data, parameterization), *draws)
    expected = data.error(ABAR[t].item())
    assert_within(errors.mean(), expected, errors.std() / math.sqrt(count))
    assert_within(terms.mean(), bound_term(t, expected, variance), terms.std() / math.sqrt(count), 1e-12)


COUNT = 256  # images of the whole bound


@cache
def given(name: str) -> tuple[Drawn, Tensor, Tensor]:
    """Rounded images, and the mean and variance over the noise of their squared errors, [COUNT, T]."""
    images = Drawn(DATA[name], COUNT, seed=7)
    moments = [DATA[name].error_of(images.values(), abar) for abar in ABAR.tolist()]
    return images, *(torch.stack(kind, 1) for kind in zip(*moments, strict=True))


@pytest.mark.parametrize(("data", "parameterization", "variance"), ORACLES)
def test_the_whole_bound_has_its_expected_values(data, parameterization, variance, tmp_path):
    """Every term, the prior and the curve, by the workflow's own code in float32, on images rounded to 256 levels.

    Given the images, the expectations are over the noise alone: rounding them needs no allowance. float32 does: 3e-7
    bits for a term, which is a difference of numbers of order one; and x0-hat from mu, where 1 / c1 reaches 7,800 and
    enlarges the last bit of mu: up to 0.0005 of the squared error at the highest t, where its standard error is 0.0001.
    And the decoder: the authors' tanh approximation of the normal distribution function costs 0.004 bits over the
    function itself. Its standard error is that of the images.
    """
    images, errors, variances = given(data)
    x0, data = images.values(), DATA[data]
    bound = measured_bound(trained_oracle(data, parameterization, variance), images, tmp_path)
    error, of_error = errors.mean(0), (variances.mean(0) / COUNT).sqrt()
    float32 = 0.001 * error if parameterization == "mu" else 0
    assert_within(bound["squared_errors"].mean(0), error, of_error, float32)

    after = torch.arange(1, T)
    term, of_term = bound_term(after, error[1:], variance), bound_slope(after, variance) * of_error[1:]
    assert_within(bound["terms"].mean(0)[1:], term, of_term, 3e-7)
    decoder = torch.from_numpy(bound["terms"][:, 0]) - decoder_term(data, x0, variance)
    of_decoder = decoder.std() / math.sqrt(COUNT)
    assert_within(decoder.mean(), 0, of_decoder, 0.005)
    np.testing.assert_allclose(bound["prior"], prior(x0), atol=1e-9)

    curve = rate_distortion(bound)
    rate = torch.stack([prior(x0).mean() + term[t:].sum() for t in range(T)])
    of_rate = torch.stack([(of_term[t:] ** 2).sum().sqrt() for t in range(T)])
    assert_within(curve["rate"], rate, of_rate, 1e-4)
    assert_within((curve["distortion"] / 127.5) ** 2, error, of_error, float32)
    total = rate[0] + decoder_term(data, x0, variance).mean()
    assert_within(likelihood_summary(bound)["bits_per_dim"], total, of_rate[0] + of_decoder, 0.005)


@pytest.mark.parametrize("variance", SIGMA2)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_decoder_has_its_expected_value(data, variance):
    """As in the whole bound, but on 80 times as many images: to 0.03 bits of 2.5."""
    count = 20_000
    images = Drawn(data, count, seed=8).values()
    diffusion = GaussianDiffusion(linear_betas(T), variance=variance)
    bits, _ = diffusion.bound_terms(Oracle(data, "eps"), images, torch.zeros(count, dtype=torch.int64), noise(count, 9))
    beyond = bits - decoder_term(data, images, variance)
    assert_within(beyond.mean(), 0, beyond.std() / math.sqrt(count), 0.005)


# --- training ---


def test_a_small_network_approaches_the_oracles_loss_from_above():
    """Averaged weights, trained on 50,000 rounded images, judged on held-out ones.

    For any prediction, what its loss has over the oracle's is its mean squared distance from the oracle: this is what
    makes the oracle the conditional mean.
    """
    checkpoints = (0, 50, 200, 500, 1000)
    held_out = HeldOut(GAUSSIAN, 20_000, seed=5)
    trainer = Trainer(small_training(checkpoints[-1]), Drawn(GAUSSIAN, 50_000, seed=1), CPU)
    excesses, batches = [], trainer.batches()
    for step in checkpoints:
        while trainer.step < step:
            trainer.update(next(batches))
        predicted = held_out.predict(trainer)
        excess, standard_error = held_out.excess(predicted)
        assert excess > 3 * standard_error
        assert_within(excess, ((predicted - held_out.best) ** 2).mean(), standard_error)
        excesses.append(excess)
    assert excesses == sorted(excesses, reverse=True)
    assert excesses[-1] < 0.04 * held_out.best_losses.mean()
