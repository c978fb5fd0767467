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
    "figure6": "progressive",
    "figure7": "figure7",
    "figure8": "interpolations",
    "figure9": "interpolations",
    "figure10": "figure10",
    "figure11": "grids",
    "figure12": "neighbours",
    "figure13": "grids",
    "figure14": "progressive",
    "figure15": "neighbours",
    **{f"figure{number}": "grids" for number in range(16, 20)},
    "fewsteps": "fewsteps",
    "bound": "bound",
    "training-curve": "training_curve",
    "reproduced": "reproduced",
}
NAMES = tuple(MODULES)
BEYOND = ("fewsteps", "bound", "training-curve", "reproduced")  # additions, which the paper has no counterpart of


def draw(names: str, sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """Draw a figure from `sources` into every file of `outputs`, whose suffixes give the formats.

    Args:
        names: of the figure, or of several with commas between them; then each goes into the files with its name.
        stamp: a few words for the corner of the picture, such as 'digits, scale demo'.
    """
    sources, outputs = ([Path(path) for path in paths] for paths in (sources, outputs))
    chosen = names.split(",")
    for name in chosen:
        if name not in MODULES:
            raise UserError(f"no figure is called {name!r}. Figures: {', '.join(NAMES)}.")
    files = {name: [path for path in outputs if len(chosen) == 1 or path.stem == name] for name in chosen}
    if without := [name for name in chosen if not files[name]]:
        raise UserError(f"--out: no file for {', '.join(without)}. Of several figures, each needs one with its name.")
    if others := [str(path) for path in outputs if not any(path in mine for mine in files.values())]:
        raise UserError(f"--out: {', '.join(others)} has the name of no figure of {names}.")
    for name in chosen:
        import_module(f"{__name__}.{MODULES[name]}").draw(name, sources, files[name], stamp)
