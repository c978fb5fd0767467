"""Figure 6: progressive generation, a few samples."""

from pathlib import Path

from ddpm.report.figures import style
from ddpm.report.figures.samples import progressive

ROWS = 6


def draw(sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: sample shards in order."""
    style.save(progressive(sources, ROWS), outputs, stamp)
