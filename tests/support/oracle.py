"""Data whose best prediction is known exactly, and what follows for every number of the chain.

With x_t = sqrt(abar) x0 + sqrt(1 - abar) eps, no function of x_t predicts x0 with a smaller squared error than
E[x0 | x_t]. For the data here that is a formula. Put in the place of the network (`Oracle`), it fixes what sampler,
bound and training must find, without any network's weights. Everything is float64; t is 0-based, as in the package.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from helpers import CPU
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr
from torch import Tensor

from ddpm.config.schema import LikelihoodConfig
from ddpm.data.pixels import to_model_range, to_uint8
from ddpm.diffusion import GaussianDiffusion, linear_betas
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.rate_distortion import read_bounds
from ddpm.training.loop import Trainer
from ddpm.training.model import TrainedModel
from ddpm.unet import UNet

# --- the paper's process (eq. 4, 6, 7), written out once more, so that no table of the package is trusted ---

T = 1000
BETA = torch.from_numpy(1e-4 + (0.02 - 1e-4) * np.arange(T) / (T - 1))
ABAR = torch.cumprod(1 - BETA, 0)
BEFORE = torch.cat([torch.ones(1), ABAR[:-1]])  # abar_{t-1}
POSTERIOR = BETA * (1 - BEFORE) / (1 - ABAR)  # the variance of q(x_{t-1} | x_t, x0)
C1 = BETA * BEFORE.sqrt() / (1 - ABAR)  # its mean is c1 x0 + c2 x_t
C2 = (1 - BEFORE) * (1 - BETA).sqrt() / (1 - ABAR)
SIGMA2 = {  # the variance of p(x_{t-1} | x_t); at t = 0 it is the decoder's
    "fixedlarge": torch.cat([POSTERIOR[1:2], BETA[1:]]),
    "fixedsmall": torch.cat([POSTERIOR[1:2], POSTERIOR[1:]]),
}
FIXED = [(p, v) for p in ("eps", "mu", "x0") for v in ("fixedlarge", "fixedsmall")]

LEVEL = 1 / 127.5  # the distance of two of the 256 levels in [-1, 1]
ROUNDING = LEVEL**2 / 12  # the variance that rounding to them adds

# E f(z) = sum of WEIGHTS f(NODES) for standard normal z: the trapezium rule, whose error for smooth f that grow more
# slowly than exp(z^2 / 2) falls faster than any power of the distance of the nodes.
NODES = torch.linspace(-9, 9, 101, dtype=torch.float64)
WEIGHTS = torch.softmax(-(NODES**2) / 2, 0)


# --- the data ---


class Data:
    """Images x0 of D pixels whose coordinates along D orthogonal axes are independent: x0 = Y y0.

    x_t then has independent coordinates along the same axes, y_t = sqrt(abar) y0 + sqrt(1 - abar) z, and
    E[x0 | x_t] = Y E[y0 | y_t], one coordinate at a time.
    """

    shape = (1, 2, 2)
    D = 4
    axes: Tensor  # Y, [D, D]; its columns are the axes

    def sample_y(self, count: int, generator: torch.Generator) -> Tensor:
        """Coordinates y0, [count, D]."""
        raise NotImplementedError

    def best_y(self, y_t: Tensor, abar: float | Tensor) -> Tensor:
        """E[y0 | y_t], [N, D], of y_t [N, D]; `abar` is a number or [N, 1]."""
        raise NotImplementedError

    def error(self, abar: float) -> float:
        """(1/D) E |x0 - E[x0 | x_t]|^2, over data and noise: the smallest mean squared error there is."""
        raise NotImplementedError

    def sample(self, count: int, seed: int) -> Tensor:
        """Images, [count, 1, 2, 2] float64, well within [-1, 1]: clipping never matters."""
        y = self.sample_y(count, torch.Generator().manual_seed(seed))
        return (y @ self.axes.T).reshape(count, *self.shape)

    def best(self, x_t: Tensor, abar: float | Tensor) -> Tensor:
        """E[x0 | x_t], [N, 1, 2, 2]."""
        return (self.best_y(x_t.flatten(1) @ self.axes, abar) @ self.axes.T).reshape(x_t.shape)

    def error_of(self, x0: Tensor, abar: float) -> tuple[Tensor, Tensor]:
        """Mean and variance over the noise of (1/D) |x0 - E[x0 | x_t]|^2 of given images x0, each [N]."""
        raise NotImplementedError

    def residuals(self, x0: Tensor, abar: float) -> Tensor:
        """What E[x0 | x_t] misses of each pixel of given images, at NODES of the noise: [nodes, N, D]."""
        raise NotImplementedError


@dataclass
class Gaussian(Data):
    """x0 ~ N(m, S). With S = Y diag(l) Y^T,

    E[x0 | x_t]   = m + sqrt(abar) S (abar S + (1 - abar) I)^-1 (x_t - sqrt(abar) m)
    Cov[x0 | x_t] = S - abar S (abar S + (1 - abar) I)^-1 S = (1 - abar) S (abar S + (1 - abar) I)^-1,

    and along the axes S is the number l.
    """

    mean: Tensor
    covariance: Tensor

    def __post_init__(self):
        self.values, self.axes = torch.linalg.eigh(self.covariance)  # l and Y
        self.mean_y = self.mean @ self.axes

    def gain(self, abar: float | Tensor) -> Tensor:
        """sqrt(abar) l / (abar l + 1 - abar), [D] or [N, D]."""
        return abar**0.5 * self.values / (abar * self.values + 1 - abar)

    def sample_y(self, count, generator):
        z = torch.randn(count, self.D, dtype=torch.float64, generator=generator)
        return self.mean_y + self.values.sqrt() * z

    def best_y(self, y_t, abar):
        return self.mean_y + self.gain(abar) * (y_t - abar**0.5 * self.mean_y)

    def error(self, abar):
        return (self.values * (1 - abar) / (abar * self.values + 1 - abar)).mean().item()

    def miss(self, x0: Tensor, abar: float) -> tuple[Tensor, Tensor]:
        """a [D] and b [N, D] of E[y0 | y_t] - y0 = b + a z: given images, the prediction is linear in the noise."""
        gain = self.gain(abar)
        return math.sqrt(1 - abar) * gain, (math.sqrt(abar) * gain - 1) * (x0.flatten(1) @ self.axes - self.mean_y)

    def error_of(self, x0, abar):
        a, b = self.miss(x0, abar)
        return (b**2 + a**2).mean(1), (4 * a**2 * b**2 + 2 * a**4).sum(1) / self.D**2

    def residuals(self, x0, abar):
        a, b = self.miss(x0, abar)
        return b @ self.axes.T + NODES[:, None, None] * (self.axes**2 @ a**2).sqrt()

    def chain(self, variance: str) -> tuple[Tensor, Tensor]:
        """Mean and covariance of what T steps y <- c1 E[y0 | y] + c2 y + sigma z make of N(0, I): all are linear."""
        mean, spread = torch.zeros(self.D), torch.ones(self.D)
        for t in reversed(range(T)):
            abar, step = ABAR[t].item(), C1[t] * self.gain(ABAR[t].item()) + C2[t]
            mean = step * mean + C1[t] * (1 - math.sqrt(abar) * self.gain(abar)) * self.mean_y
            spread = step**2 * spread + (SIGMA2[variance][t] if t else 0)
        return self.axes @ mean, (self.axes * spread) @ self.axes.T


@dataclass
class Mixture(Data):
    """Independent pixels, each a mixture of Gaussians: p(x0) = sum_k w_k N(x0; m_k, s_k^2).

    Given the component k everything is Gaussian, and Bayes' rule says how likely k is:

    x_t | k      ~ N(sqrt(abar) m_k, v_k),   v_k = abar s_k^2 + 1 - abar
    r_k          = P(k | x_t), proportional to w_k N(x_t; sqrt(abar) m_k, v_k)
    E[x0 | x_t]  = sum_k r_k (m_k + sqrt(abar) s_k^2 / v_k (x_t - sqrt(abar) m_k)).
    """

    weights: Tensor  # w_k of every pixel, [K, D]
    means: Tensor  # m_k
    spreads: Tensor  # s_k

    def __post_init__(self):
        self.axes = torch.eye(self.D, dtype=torch.float64)

    def sample_y(self, count, generator):
        k = torch.multinomial(self.weights.T, count, replacement=True, generator=generator).T  # [count, D]
        z = torch.randn(count, self.D, dtype=torch.float64, generator=generator)
        return self.means.gather(0, k) + self.spreads.gather(0, k) * z

    def posterior(self, y_t: Tensor, abar: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r_k, E[x0 | x_t, k] and Var[x0 | x_t, k], each [K, N, D] (the last may be [K, 1, D])."""
        w, m, s2 = self.weights[:, None], self.means[:, None], self.spreads[:, None] ** 2
        v = abar * s2 + 1 - abar
        away = y_t - abar**0.5 * m
        r = torch.softmax(w.log() - 0.5 * v.log() - away**2 / (2 * v), 0)
        return r, m + abar**0.5 * s2 / v * away, s2 * (1 - abar) / v

    def best_y(self, y_t, abar):
        r, means, _ = self.posterior(y_t, abar)
        return (r * means).sum(0)

    def error(self, abar):
        """E Var[x0 | x_t], by quadrature over the x_t of each component."""
        total = 0.0
        for w, m, s in zip(self.weights, self.means, self.spreads, strict=True):
            y_t = math.sqrt(abar) * m + (abar * s**2 + 1 - abar).sqrt() * NODES[:, None]
            r, means, variances = self.posterior(y_t, abar)
            left = (r * (variances + (means - (r * means).sum(0)) ** 2)).sum(0)  # Var[x0 | x_t], [nodes, D]
            total += (w * (WEIGHTS @ left)).sum().item()
        return total / self.D

    def error_of(self, x0, abar):
        squares = self.residuals(x0, abar) ** 2
        mean = torch.einsum("z,znd->nd", WEIGHTS, squares)
        variance = torch.einsum("z,znd->nd", WEIGHTS, (squares - mean) ** 2)
        return mean.mean(1), variance.sum(1) / self.D**2

    def residuals(self, x0, abar):
        x_t = math.sqrt(abar) * x0.flatten(1) + math.sqrt(1 - abar) * NODES[:, None, None]
        return self.best_y(x_t.flatten(0, 1), abar).reshape(x_t.shape) - x0.flatten(1)

    def cdf(self, x: Tensor) -> Tensor:
        """The distribution function of every pixel of the data, [N, D] at x [N, D]."""
        return (self.weights[:, None] * torch.special.ndtr((x - self.means[:, None]) / self.spreads[:, None])).sum(0)

    def chain(self, variance: str) -> tuple[Tensor, Tensor]:
        """What T steps make of N(0, I): a grid x [G, D] and the distribution function F(x) of every pixel's samples.

        A step's mean f is an increasing function of x, so that F(f(x)) becomes what F(x) was; its noise blurs F.
        """
        x = torch.linspace(-5, 5, 1601, dtype=torch.float64)
        step = (x[1] - x[0]).item()
        x = x[:, None].expand(-1, self.D)
        cdf = torch.special.ndtr(x).numpy()
        for t in reversed(range(T)):
            f = (C1[t] * self.best_y(x, ABAR[t].item()) + C2[t] * x).numpy()
            pushed = [CubicSpline(f[:, d], cdf[:, d])(x[:, d].clamp(f[0, d], f[-1, d])) for d in range(self.D)]
            cdf = np.stack(pushed, 1)
            if t:
                sigma = SIGMA2[variance][t].item() ** 0.5
                cdf = gaussian_filter1d(cdf, sigma / step, axis=0, mode="nearest", truncate=5)
        return x, torch.from_numpy(cdf)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ROOT = rows([0.15, 0.0, 0.0, 0.0], [0.10, 0.10, 0.0, 0.0], [0.0, -0.05, 0.12, 0.0], [0.05, 0.0, 0.02, 0.02])
GAUSSIAN = Gaussian(mean=rows([0.1, -0.2, 0.2, 0.0])[0], covariance=ROOT @ ROOT.T)
MIXTURE = Mixture(  # of every pixel (column), the two humps
    weights=rows([0.5, 0.3, 0.8, 0.6], [0.5, 0.7, 0.2, 0.4]),
    means=rows([-0.4, -0.5, -0.1, 0.0], [0.4, 0.1, 0.5, 0.5]),
    spreads=rows([0.08, 0.06, 0.10, 0.06], [0.08, 0.10, 0.06, 0.08]),
)
DATA = {"gaussian": GAUSSIAN, "mixture": MIXTURE}


# --- what the bound must be ---


def bound_slope(t: int | Tensor, variance: str) -> Tensor:
    """Bits/dim of the bound's term at t > 0 per mean squared error of x0-hat: c1^2 / (2 s2)."""
    return C1[t] ** 2 / (2 * SIGMA2[variance][t]) / math.log(2)


def bound_term(t: int | Tensor, error: float | Tensor, variance: str) -> Tensor:
    """KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)) in bits/dim, t > 0, where x0-hat misses x0 by a mean square `error`:

    1/2 (log(s2 / b~) + b~ / s2 - 1) + c1^2 error / (2 s2).
    """
    ratio = POSTERIOR[t] / SIGMA2[variance][t]
    return 0.5 * (ratio - 1 - ratio.log()) / math.log(2) + bound_slope(t, variance) * error


def decoder_term(data: Data, x0: Tensor, variance: str) -> Tensor:
    """E -log2 p(x0 | x_1) per dimension of given images on the 256 levels, [N]; the mean of p is x0-hat itself.

    By the normal distribution function itself, not by its tanh approximation, as eq. 13 has it.
    """
    scale = SIGMA2[variance][0].item() ** 0.5
    away = data.residuals(x0, ABAR[0].item()).abs().numpy()
    bits = -np.log2(ndtr((LEVEL / 2 - away) / scale) - ndtr((-LEVEL / 2 - away) / scale))
    return torch.from_numpy(np.einsum("z,znd->nd", WEIGHTS, bits)).mean(1)


def prior(x0: Tensor) -> Tensor:
    """L_T = KL(N(sqrt(abar) x0, 1 - abar) || N(0, 1)) in bits/dim, [N]."""
    abar = ABAR[-1]
    return 0.5 * (abar * x0.flatten(1) ** 2 - abar - torch.log1p(-abar)).mean(1) / math.log(2)


def frechet_bias(covariance: np.ndarray, reference: np.ndarray, count: int) -> float:
    """How much `count` samples of N(mu, S) lie beyond N(mu, S) in Frechet distance from the exact N(m, R); to O(1/N^2).

    The sample mean adds E|mean - mu|^2 = tr S / N. The sample covariance is S + E, and M = R^1/2 S R^1/2 with
    eigenvalues n_i^2 becomes M + F, F = R^1/2 E R^1/2, with E F = 0 and, in the eigenbasis of M,
    E F_ij^2 = n_i^2 n_j^2 (1 + delta_ij) / (N - 1). To second order
    tr (M + F)^1/2 = tr M^1/2 + tr(M^-1/2 F) / 2 - sum_ij F_ij^2 / (4 n_i n_j (n_i + n_j)), and the distance holds
    minus twice that: the bias is tr S / N + sum_ij n_i n_j (1 + delta_ij) / (2 (n_i + n_j) (N - 1)).
    """
    values, vectors = np.linalg.eigh(reference)
    root = (vectors * np.sqrt(values)) @ vectors.T
    n = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root))
    pairs = np.outer(n, n) * (1 + np.eye(len(n))) / (n[:, None] + n)
    return np.trace(covariance) / count + pairs.sum() / (2 * (count - 1))


# --- the data's prediction in the place of the network ---


class Oracle:
    """A model (x_t, t) -> what the parameterisation asks for, from E[x0 | x_t]."""

    def __init__(self, data: Data, parameterization: str):
        self.data, self.parameterization = data, parameterization
        self.config = SimpleNamespace(channels=1, image_size=2)  # what the sampler asks a network for

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        abar, c1, c2 = (table[t].reshape(-1, 1, 1, 1) for table in (ABAR, C1, C2))
        x0 = self.data.best(x_t.double(), abar.flatten(1))
        match self.parameterization:
            case "eps":
                output = (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()
            case "mu":
                output = c1 * x0 + c2 * x_t
            case "x0":
                output = x0
        return output.to(x_t.dtype)


def trained_oracle(data: Data, parameterization: str = "eps", variance: str = "fixedlarge") -> TrainedModel:
    """The oracle as the sampler and the likelihood are given a network."""
    diffusion = GaussianDiffusion(linear_betas(T), parameterization, variance)
    header = {"outcome": {"status": "trained", "step": 0, "reason": None}}
    return TrainedModel(Oracle(data, parameterization), diffusion, header, sha256="oracle")


class Drawn:
    """Images of the data as a data set: rounded to 256 levels, with the face of `ddpm.data.store.Images`."""

    sha256 = "drawn"
    resident = True

    def __init__(self, data: Data, count: int, seed: int):
        self.array = to_uint8(data.sample(count, seed))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        return self.array[index]

    def values(self) -> Tensor:
        """The rounded images in [-1, 1], [N, 1, 2, 2] float64."""
        return to_model_range(self.array).double()


def measured_bound(trained: TrainedModel, images: Drawn, folder: Path) -> dict[str, np.ndarray]:
    """The bound of all images, as the workflow computes and reads it: in two files, in float32."""
    paths = [folder / f"{shard}.npz" for shard in (1, 2)]
    bound = Bound(trained, images, "test", len(images), LikelihoodConfig(shards=2), CPU)
    for shard, path in enumerate(paths, 1):
        likelihood_shard(bound, shard, path, log=lambda message: None)
    return read_bounds(paths)["test"]


# --- a small network for the same data ---


def small_training(steps: int) -> dict:
    """The training document of a network of 41,153 weights that learns eps."""
    return {
        "name": "oracle",
        "network": {
            "image_size": 2, "channels": 1, "out_channels": 1,
            "ch": 16, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [], "groups": 4,
        },
        "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge", "timesteps": T},
        "training": {
            "steps": steps, "batch_size": 128, "learning_rate": 5e-3, "warmup": 100, "ema_decay": 0.99, "flip": False,
        },
    }  # fmt: skip


class HeldOut:
    """Images that no training saw, each at a random time with its noise, in float64: the same for every model."""

    def __init__(self, data: Data, count: int, seed: int):
        self.x0 = data.sample(count, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        self.t = torch.randint(T, (count,), generator=generator)
        self.noise = torch.randn(self.x0.shape, dtype=torch.float64, generator=generator)
        self.diffusion = GaussianDiffusion(linear_betas(T))
        self.x_t = self.diffusion.q_sample(self.x0, self.t, self.noise)
        self.best = Oracle(data, "eps")(self.x_t, self.t)
        self.best_losses = self.losses(self.best)

    def losses(self, predicted: Tensor) -> Tensor:
        """The simple loss of a prediction of eps, [count]."""
        return self.diffusion.training_losses(lambda x, t: predicted, self.x0, self.t, self.noise)

    @torch.inference_mode()
    def predict(self, trainer: Trainer) -> Tensor:
        """What the network with its averaged weights, which are those that a training writes, makes of x_t."""
        model = UNet(trainer.model.config).eval()
        model.load_state_dict(trainer.parameters.split(trainer.average))
        parts = zip(self.x_t.float().split(5000), self.t.split(5000), strict=True)
        return torch.cat([model(*part) for part in parts]).double()

    def excess(self, predicted: Tensor) -> tuple[float, float]:
        """How far the loss of a prediction lies above the oracle's on the same draws, and its standard error."""
        difference = self.losses(predicted) - self.best_losses
        return difference.mean().item(), difference.std().item() / math.sqrt(len(difference))
