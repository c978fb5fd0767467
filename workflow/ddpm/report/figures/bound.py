"""The bound on the likelihood term by term (eq. 5), in bits/dim over t: an addition, in no figure of the paper."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ddpm.report.figures import charts, style
from ddpm.report.figures.samples import first_of, read_run, why_empty
from ddpm.storage.tables import read_curve


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: rate_distortion.csv, and metrics.json, which has the process, the decoder's bits and the prior's."""
    curve, run = read_curve(first_of(sources, ".csv"), "t", "rate"), read_run(sources)
    summary = (run.get("nll") or {}).get("test")
    if not len(curve) or not summary:
        raise why_empty(run)
    return draw_terms(curve, summary, run["made_from"]["process"])


def draw_terms(curve: pd.DataFrame, summary: dict, process: dict) -> Figure:
    """Each term over its t, the floor under them, the decoder's term at t = 1, and the prior's at T."""
    charts.use_theme()
    t, terms = curve["t"].to_numpy()[1:], terms_of(curve["rate"].to_numpy())
    floor = floor_of(process)
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
    axes = figure.subplots()
    decoder, prior = summary["distortion_bits"], summary["prior"]
    style_of_point = {"linestyle": "none", "markersize": 6, "clip_on": False, "zorder": 3}
    axes.plot([1], [decoder], "s", color=style.GREEN, label=f"decoder $L_0$: {decoder:.3f} bits/dim", **style_of_point)
    axes.plot(t, terms, color=style.BLUE, linewidth=1.2, label=rf"$L_1 \ldots L_{{T-1}}$: {terms.sum():.3f} together")
    if floor is not None:
        label = f"their least, with no error of the network: {floor.sum():.3f} together"
        axes.plot(t, floor, color=style.FAINT, linewidth=1, linestyle="--", label=label)
    axes.plot([t[-1]], [prior], "o", color=style.ORANGE, label=f"prior $L_T$: {prior:.3g}", **style_of_point)
    axes.set(xscale="log", yscale="log", xlabel="t (from the image to noise)", ylabel="bits/dim")
    # Beside the axes: the curve falls from corner to corner, so that no place within is sure to be free.
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def terms_of(rate: np.ndarray) -> np.ndarray:
    """L_{t-1} of t = 2 .. T in bits/dim, from the rate of t = 1 .. T: the rate of t is the sum of all terms above t."""
    return rate[:-1] - rate[1:]


def floor_of(process: dict) -> np.ndarray | None:
    """The least that the terms of t = 2 .. T can be in bits/dim, where the mean is right; None where that is 0.

    With sigma^2 = beta_t it is the Kullback-Leibler divergence of two Gaussians of one mean, and variances beta~_t and
    beta_t: (beta~_t / beta_t - 1 - ln(beta~_t / beta_t)) / 2. Any other variance here can be beta~_t itself.
    """
    if process["variance"] != "fixedlarge":
        return None
    betas = np.linspace(process["beta_start"], process["beta_end"], process["timesteps"])
    left = 1 - np.cumprod(1 - betas)  # 1 - abar_t
    ratio = left[:-1] / left[1:]  # beta~_t / beta_t
    return (ratio - 1 - np.log(ratio)) / 2 / np.log(2)
