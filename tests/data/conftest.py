"""Data sets whose published files are in a folder of the test."""

from pathlib import Path

import pytest

from ddpm.config.registry import DATASETS, resolve
from ddpm.config.sources import RemoteFile
from ddpm.data.prepare import prepare
from ddpm.data.store import Images
from ddpm.storage.files import OWNED_FILES

UNKNOWN = {"md5": None, "sha256": None, "size": None}  # the small files are not the published ones


class Published:
    """A folder for files as others publish them, and one for what is prepared from it."""

    def __init__(self, folder: Path):
        self.root, self.out = folder / "published", folder / "prepared"
        self.root.mkdir()
        self.log: list[str] = []

    def prepare(self, name: str, threads: int = 2, **changes) -> tuple[Images, Images]:
        """Prepare the data set `name` from the folder; returns the training and test images."""
        known = DATASETS[name].files if name in DATASETS else ()
        files = tuple(file.model_copy(update=UNKNOWN) if isinstance(file, RemoteFile) else file for file in known)
        data = resolve(name, {"root": self.root, "files": files, **changes})
        prepare(data, None, self.out, threads, self.log.append)
        return Images(self.out / "train.npy"), Images(self.out / "test.npy")

    def left(self) -> list[str]:
        """What there is of the prepared folder, at any depth, but for the list of what was made there."""
        files = (path for path in self.out.rglob("*") if path.is_file() and path.name != OWNED_FILES)
        return sorted(str(path.relative_to(self.out)) for path in files)


@pytest.fixture
def published(tmp_path) -> Published:
    return Published(tmp_path)
