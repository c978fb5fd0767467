"""The figures, drawn from saved arrays: restyling one samples nothing."""

from importlib import import_module
from pathlib import Path

from ddpm.config.errors import UserError

# The module of this folder that draws each figure.
MODULES = {
    "diffusion": "diffusion",
    "figure1": "figure1",
    "figure2": "figure2",
    "figure3": "grids",
    "figure4": "grids",
    "figure5": "figure5",
    "figure6": "grids",
    "figure7": "figure7",
    "figure8": "interpolations",
    "figure9": "interpolations",
    "figure10": "figure10",
    "figure11": "grids",
    "figure12": "neighbours",
    "figure13": "grids",
    "figure14": "grids",
    "figure15": "neighbours",
    **{f"figure{number}": "grids" for number in range(16, 20)},
    "fewsteps": "fewsteps",
    "bound": "bound",
    "training-curve": "training_curve",
    "reproduced": "reproduced",
}
NAMES = tuple(MODULES)
BEYOND = ("fewsteps", "bound", "training-curve", "reproduced")  # additions, which the paper has no counterpart of


def draw(name: str, sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """Draw a figure from `sources` into every file of `outputs`, whose suffixes give the formats.

    An unstable run gets a picture that says so in words.

    Args:
        stamp: a few words for the corner of the picture, such as 'digits, scale demo'.
    """
    if name not in MODULES:
        raise UserError(f"no figure is called {name!r}. Figures: {', '.join(NAMES)}.")
    from ddpm.report.figures import style
    from ddpm.report.figures.samples import NothingToDraw

    module = import_module(f"{__name__}.{MODULES[name]}")
    sources, outputs = ([Path(path) for path in paths] for paths in (sources, outputs))
    moving = [path for path in outputs if path.suffix == ".gif" and hasattr(module, "animate")]
    try:
        figure = module.draw(name, sources)
    except NothingToDraw as reason:
        figure = style.draw_message(*reason.args)
    style.save(figure, [path for path in outputs if path not in moving], stamp)
    for path in moving:
        style.write_picture(path, module.animate(sources, figure, stamp))
