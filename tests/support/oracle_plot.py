"""Draw docs/oracle.png: what the package measures with the oracle, over what it must be (a few minutes on one core).

./run python tests/support/oracle_plot.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from helpers import CPU
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from oracle import (
    ABAR,
    DATA,
    GAUSSIAN,
    MIXTURE,
    Drawn,
    HeldOut,
    T,
    bound_term,
    measured_bound,
    prior,
    small_training,
    trained_oracle,
)
from PIL import Image

from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_model_range
from ddpm.evaluation.rate_distortion import rate_distortion
from ddpm.report.figures import charts, style
from ddpm.sampling.runner import AncestralSampler
from ddpm.training.loop import Trainer

OUTPUT = Path(__file__).parents[2] / "docs/oracle.png"
IMAGES = 2000  # of each bound
MARKERS = {"eps": ("o", "ε"), "mu": ("s", "μ̃"), "x0": ("^", "x₀")}
STEPS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def bound(data: str, parameterization: str, variance: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        trained = trained_oracle(DATA[data], parameterization, variance)
        return measured_bound(trained, Drawn(DATA[data], IMAGES, seed=7), Path(folder))


def exact_terms(data: str, variance: str) -> tuple[np.ndarray, np.ndarray]:
    """The bound's terms at t = 1 .. T-1, and the mean squared error of x0-hat at t = 0 .. T-1, of all data."""
    errors = torch.tensor([DATA[data].error(abar) for abar in ABAR.tolist()], dtype=torch.float64)
    return bound_term(torch.arange(1, T), errors[1:], variance).numpy(), errors.numpy()


def training() -> tuple[float, np.ndarray]:
    """The oracle's loss, and by STEPS what a small network's has above it with the standard error, [2, steps]."""
    held_out = HeldOut(GAUSSIAN, 100_000, seed=5)
    trainer = Trainer(small_training(STEPS[-1]), Drawn(GAUSSIAN, 50_000, seed=1), CPU)
    best, rows, batches = held_out.best_losses.mean().item(), [], trainer.batches()
    for step in STEPS:
        while trainer.step < step:
            trainer.update(next(batches))
        rows.append(held_out.excess(held_out.predict(trainer)))
        print("step {}: {:.3f} +- {:.3f} % above the oracle".format(step, *(100 * x / best for x in rows[-1])))
    return best, np.array(rows).T


def samples(count: int = 20_000) -> np.ndarray:
    """The mixture's pixels as the sampler draws them, [count, 4] in [-1, 1]."""
    images = AncestralSampler(trained_oracle(MIXTURE), SamplingConfig(images=count), CPU).draw(0, count)["images"]
    return to_model_range(images).flatten(1).numpy()


def dots(axes: Axes, x, y, colour: str, marker: str = "o", **options) -> None:
    look = {"markersize": 4, "markerfacecolor": "white", "markeredgewidth": 1, "zorder": 3, "clip_on": len(x) == 0}
    axes.plot(x, y, marker, color=colour, **look, **options)


def key(axes: Axes, **options) -> None:
    axes.legend(frameon=False, fontsize=7.5, handlelength=1.6, **options)


def draw_terms(axes: Axes) -> None:
    """Times t: over a logarithmic axis, equal areas are equal numbers of bits.

    The marks of the three parameterisations take turns, so that none hides another.
    """
    times = np.unique(np.geomspace(1, T - 1, 46).astype(int))
    for variance, colour in (("fixedlarge", style.BLUE), ("fixedsmall", style.ORANGE)):
        t = np.arange(1, T)
        axes.plot(t, t * exact_terms("gaussian", variance)[0], color=colour, label=f"exact, {variance}")
        for turn, (parameterization, (marker, _)) in enumerate(MARKERS.items()):
            at = times[turn::3]
            terms = bound("gaussian", parameterization, variance)["terms"][:, at]
            dots(axes, at, at * terms.mean(0), colour, marker)
            error = 2 * terms.std(0) / np.sqrt(len(terms))
            axes.errorbar(at, at * terms.mean(0), at * error, fmt="none", ecolor=colour, elinewidth=0.8)
    for marker, name in MARKERS.values():
        dots(axes, [], [], style.FAINT, marker, label=f"measured, {name}")
    axes.set(xscale="log", xlim=(1, T), ylim=(0, None), xlabel="t (0-based)", ylabel="t × term of the bound (bits/dim)")
    key(axes)


def draw_rate_distortion(axes: Axes) -> None:
    for data, name, colour in (("gaussian", "Gaussian", style.BLUE), ("mixture", "mixture", style.GREEN)):
        terms, errors = exact_terms(data, "fixedlarge")
        start = prior(DATA[data].sample(100_000, seed=1)).mean().item()
        rate = start + np.append(np.cumsum(terms[::-1])[::-1], 0)
        axes.plot(rate, 127.5 * np.sqrt(errors), color=colour, label=f"exact, {name}")
        curve = rate_distortion(bound(data, "eps", "fixedlarge"))
        at = np.searchsorted(-curve["rate"], -np.linspace(0, curve["rate"][0], 22)).clip(0, T - 1)
        dots(axes, curve["rate"][at], curve["distortion"][at], colour)
    dots(axes, [], [], style.FAINT, label="measured")
    axes.set(xlabel="Rate (bits/dim)", ylabel="Distortion (RMSE, 0 to 255)", xlim=(0, None), ylim=(0, None))
    key(axes)


def draw_training(axes: Axes) -> None:
    best, (excess, error) = training()
    axes.axhline(best, color=style.INK, linewidth=1.2, label="oracle's loss")
    axes.plot(STEPS, best + excess, "o-", color=style.BLUE, markersize=4, label="network's loss")
    axes.errorbar(
        STEPS, excess, 2 * error, fmt="o-", color=style.ORANGE, markersize=4, markerfacecolor="white", capsize=2,
        label="difference (± 2 standard errors)",
    )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", ylim=(1e-4, 2), xlabel="Training step", ylabel="Loss (mean squared error of ε)"
    )
    key(axes, loc="lower left")


def draw_samples(axes: Axes, pixel: int = 1) -> None:
    # Bins of four levels; their edges lie between levels.
    edges = (np.arange(0, 257, 4) - 0.5) / 127.5 - 1
    axes.hist(samples()[:, pixel], edges, density=True, color=style.BLUE, alpha=0.35, label="samples")
    x = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    density = np.gradient(MIXTURE.cdf(x[:, None].expand(-1, 4))[:, pixel], x)
    axes.plot(x, density, color=style.INK, linewidth=1.2, label="data, exact")
    axes.set(xlim=(-0.8, 0.6), xlabel="Value of a pixel", ylabel="Density")
    key(axes, loc="upper left")


PANELS = {
    "Terms of the bound, Gaussian data": draw_terms,
    "Rate and distortion": draw_rate_distortion,
    "A small network, Gaussian data": draw_training,
    "Samples, mixture of Gaussians": draw_samples,
}


def main() -> None:
    torch.set_num_threads(1)
    charts.use_theme()
    figure = Figure(figsize=(7.6, 5.8), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98), wspace=0.04, hspace=0.05)
    for letter, axes, (title, draw) in zip("abcd", figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        draw(axes)
        axes.set_title(f"{letter}   {title}", loc="left", fontsize=9.5, weight="bold")
    style.save(figure, [OUTPUT], "tests/support/oracle_plot.py")
    with Image.open(OUTPUT) as picture:  # 64 colours make the file a third as large
        picture.convert("RGB").quantize(64).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
