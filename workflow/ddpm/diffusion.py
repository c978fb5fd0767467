"""The diffusion process: schedule, q, p, losses and bounds, as pure functions of tensors.

Equation numbers are the paper's (arXiv 2006.11239v2). Time is 0-based here: t = 0 is one noising step, the
paper's t = 1. Images are float tensors [B, C, H, W] in [-1, 1], t is int64 [B]. Coefficients are tables in float64
and take the dtype of the images when they are used.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddpm.config.enums import Objective, Parameterization, Variance
from ddpm.config.schema import DiffusionConfig

Model = Callable[[Tensor, Tensor], Tensor]


def linear_betas(timesteps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """The paper's schedule: beta_1 .. beta_T equally spaced, float64 [T]."""
    return torch.from_numpy(np.linspace(start, end, timesteps))


def mean_flat(x: Tensor) -> Tensor:
    """Mean over all but the batch: [B, ...] -> [B]."""
    return x.flatten(1).mean(1)


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N(mean1, variance1) || N(mean2, variance2)) of each element, in nats."""
    return 0.5 * (
        -1
        + log_variance2
        - log_variance1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def approx_standard_normal_cdf(x: Tensor) -> Tensor:
    """The authors' tanh approximation of the normal distribution function (utils.py)."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def discretized_gaussian_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability, in nats, of each pixel's bin of width 2/255 under N(mean, exp(log_scale)^2) (eq. 13).

    The first and the last of the 256 bins reach to infinity.
    """
    centred = x - mean
    inverse_scale = torch.exp(-log_scale)
    cdf_above = approx_standard_normal_cdf(inverse_scale * (centred + 1 / 255))
    cdf_below = approx_standard_normal_cdf(inverse_scale * (centred - 1 / 255))
    probability = torch.where(x < -0.999, cdf_above, torch.where(x > 0.999, 1 - cdf_below, cdf_above - cdf_below))
    return probability.clamp(min=1e-12).log()


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """One value per image, [B], as [B, 1, 1, 1] in the dtype of the images `like`."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class GaussianDiffusion:
    """q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), and the reverse process that a model defines.

    Args:
        betas: float64 [T] in (0, 1).
        parameterization: what the model's output stands for.
        variance: the variance of p(x_{t-1} | x_t).
        objective: what `training_losses` returns.

    A model is any function of (x_t, t) that returns [B, C, H, W], or [B, 2C, H, W] where the variance is learned.
    """

    def __init__(
        self,
        betas: Tensor,
        parameterization: str = "eps",
        variance: str = "fixedlarge",
        objective: str = "simple",
    ):
        self.parameterization = Parameterization(parameterization)
        self.variance = Variance(variance)
        self.objective = Objective(objective)
        if self.variance is Variance.LEARNED and self.objective is Objective.SIMPLE:
            raise ValueError("the simple objective never sees the variance, so it cannot learn it")
        self.betas = betas = betas.to(torch.float64)
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas must be a vector of two or more numbers in (0, 1)")
        self.num_timesteps = len(betas)
        alphas = 1 - betas
        self.alphas_cumprod = alphas.cumprod(0)
        self.alphas_cumprod_prev = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])

        # q(x_{t-1} | x_t, x0), eq. 6-7
        self.posterior_variance = betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        # It is 0 at t = 0, where its logarithm is never a KL's: the next one stands in, as in the authors' code.
        clipped = torch.cat([self.posterior_variance[1:2], self.posterior_variance[1:]])
        self.posterior_log_variance_clipped = clipped.log()
        self.posterior_mean_coef1 = betas * self.alphas_cumprod_prev.sqrt() / (1 - self.alphas_cumprod)
        self.posterior_mean_coef2 = (1 - self.alphas_cumprod_prev) * alphas.sqrt() / (1 - self.alphas_cumprod)

        if self.variance is Variance.FIXEDLARGE:
            self.model_variance = torch.cat([self.posterior_variance[1:2], betas[1:]])
            self.model_log_variance = self.model_variance.log()
        elif self.variance is Variance.FIXEDSMALL:
            self.model_variance = self.posterior_variance
            self.model_log_variance = self.posterior_log_variance_clipped

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> "GaussianDiffusion":
        betas = linear_betas(config.timesteps, config.beta_start, config.beta_end)
        return cls(betas, config.parameterization, config.variance, config.objective)

    def to(self, device: torch.device | str) -> "GaussianDiffusion":
        """Move the tables to `device`, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    @staticmethod
    def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """table[t], [B, 1, 1, 1] in the dtype of `like`."""
        return per_image(table[t], like)

    # --- the forward process ---

    def q_mean_variance(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and log variance of q(x_t | x0), eq. 4."""
        abar = self._at(self.alphas_cumprod, t, x0)
        one_minus_abar = self._at(1 - self.alphas_cumprod, t, x0)
        return abar.sqrt() * x0, one_minus_abar, one_minus_abar.log()

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise, eq. 4."""
        abar = self._at(self.alphas_cumprod.sqrt(), t, x0)
        return abar * x0 + self._at((1 - self.alphas_cumprod).sqrt(), t, x0) * noise

    def q_step(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise, eq. 2."""
        return self._at((1 - self.betas).sqrt(), t, x) * x + self._at(self.betas.sqrt(), t, x) * noise

    def q_posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and log variance of q(x_{t-1} | x_t, x0), eq. 6-7."""
        mean = self._at(self.posterior_mean_coef1, t, x_t) * x0 + self._at(self.posterior_mean_coef2, t, x_t) * x_t
        variance = self._at(self.posterior_variance, t, x_t).expand_as(x_t)
        log_variance = self._at(self.posterior_log_variance_clipped, t, x_t).expand_as(x_t)
        return mean, variance, log_variance

    # --- the reverse process ---

    def predict_x0_from_eps(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x0 = x_t / sqrt(abar_t) - sqrt(1 / abar_t - 1) eps, eq. 4 solved for x0 (eq. 15)."""
        scale = self._at((1 / self.alphas_cumprod).sqrt(), t, x_t)
        return scale * x_t - self._at((1 / self.alphas_cumprod - 1).sqrt(), t, x_t) * eps

    def predict_eps_from_x0(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """eps = (x_t - sqrt(abar_t) x0) / sqrt(1 - abar_t), eq. 4 solved for eps."""
        noise_part = x_t - self._at(self.alphas_cumprod.sqrt(), t, x_t) * x0
        return noise_part / self._at((1 - self.alphas_cumprod).sqrt(), t, x_t)

    def predict_x0_from_mu(self, x_t: Tensor, t: Tensor, mu: Tensor) -> Tensor:
        """Eq. 7 solved for x0."""
        coef1 = self._at(1 / self.posterior_mean_coef1, t, x_t)
        return coef1 * mu - self._at(self.posterior_mean_coef2 / self.posterior_mean_coef1, t, x_t) * x_t

    def p_mean_variance(
        self, model: Model, x_t: Tensor, t: Tensor, clip_denoised: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, variance and log variance of p(x_{t-1} | x_t), and x0-hat; each [B, C, H, W].

        With `clip_denoised`, x0-hat is clipped to [-1, 1] before the mean is computed from it, which Algorithm 2
        does not say and the authors' code does. A predicted mean (mu) is never clipped, only its x0-hat is.
        """
        output = model(x_t, t)
        if self.variance is Variance.LEARNED:
            output, log_variance = output.chunk(2, dim=1)
            variance = log_variance.exp()
        else:
            variance = self._at(self.model_variance, t, x_t).expand_as(x_t)
            log_variance = self._at(self.model_log_variance, t, x_t).expand_as(x_t)
        if output.shape != x_t.shape:
            raise ValueError(f"the model returns {tuple(output.shape)} for images of {tuple(x_t.shape)}")

        match self.parameterization:
            case Parameterization.EPS:
                x0 = self.predict_x0_from_eps(x_t, t, output)
            case Parameterization.MU:
                x0 = self.predict_x0_from_mu(x_t, t, output)
            case Parameterization.X0:
                x0 = output
        if clip_denoised:
            x0 = x0.clamp(-1, 1)
        mean = output if self.parameterization is Parameterization.MU else self.q_posterior(x0, x_t, t)[0]
        return mean, variance, log_variance, x0

    def p_sample(self, model: Model, x_t: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Algorithm 2: x_{t-1} ~ p(x_{t-1} | x_t), without noise at t = 0; and x0-hat."""
        mean, _, log_variance, x0 = self.p_mean_variance(model, x_t, t)
        return mean + per_image(t != 0, x_t) * torch.exp(0.5 * log_variance) * noise, x0

    # --- objectives ---

    def training_losses(self, model: Model, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The loss of each image, [B]: mean square (simple, eq. 14) or bits/dim of one bound term (vlb, eq. 5).

        The term is that at t, not multiplied by T, and x0-hat is not clipped, as in the authors' code.
        """
        if self.objective is Objective.VLB:
            return self.bound_terms(model, x0, t, noise, clip_denoised=False)[0]
        x_t = self.q_sample(x0, t, noise)
        match self.parameterization:
            case Parameterization.EPS:
                target = noise
            case Parameterization.MU:
                target = self.q_posterior(x0, x_t, t)[0]
            case Parameterization.X0:
                target = x0
        return mean_flat((target - model(x_t, t)) ** 2)

    def bound_terms(
        self, model: Model, x0: Tensor, t: Tensor, noise: Tensor, clip_denoised: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The bound's term at t in bits/dim, and the mean squared error of x0-hat; each [B].

        The term is KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)), and at t = 0 the decoder's -log p(x0 | x_1)
        (L_{t-1} and L_0 of eq. 5).
        """
        x_t = self.q_sample(x0, t, noise)
        true_mean, _, true_log_variance = self.q_posterior(x0, x_t, t)
        mean, _, log_variance, x0_hat = self.p_mean_variance(model, x_t, t, clip_denoised)
        kl = mean_flat(normal_kl(true_mean, true_log_variance, mean, log_variance))
        decoder = -mean_flat(discretized_gaussian_log_likelihood(x0, mean, 0.5 * log_variance))
        return torch.where(t == 0, decoder, kl) / math.log(2), mean_flat((x0_hat - x0) ** 2)

    def prior_bits(self, x0: Tensor) -> Tensor:
        """L_T = KL(q(x_T | x0) || N(0, I)) in bits/dim, [B] (eq. 5)."""
        t = torch.full((len(x0),), self.num_timesteps - 1, device=x0.device)
        mean, _, log_variance = self.q_mean_variance(x0, t)
        zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
        return mean_flat(normal_kl(mean, log_variance, zero, zero)) / math.log(2)
