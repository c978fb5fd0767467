"""A pickle that runs code."""

from pathlib import Path


class Hostile:
    """Runs code where a careless reader opens it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
