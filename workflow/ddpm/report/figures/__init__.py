"""The figures, one module each, drawn from saved arrays: restyling one samples nothing."""

from importlib import import_module
from pathlib import Path

from ddpm.files import UserError

NAMES = ("diffusion", "figure5", "figure6", "figure10", "figure13", "figure14", "figure15", "fewsteps")
BEYOND = ("fewsteps",)  # additions, which the paper has no counterpart of


def draw(name: str, sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """Draw the figure `name` from `sources` into every file of `outputs`, whose suffixes give the formats.

    stamp: a few words for the corner of the picture, such as 'digits, scale demo'.
    """
    if name not in NAMES:
        raise UserError(f"no figure is called {name!r}. Figures: {', '.join(NAMES)}.")
    module = import_module(f"{__name__}.{name}")
    module.draw([Path(path) for path in sources], [Path(path) for path in outputs], stamp)
