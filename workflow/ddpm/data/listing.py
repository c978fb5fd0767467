"""What lies in a folder of a user's. Snakemake's own process asks this too, which has no Pillow and no torch."""

import hashlib
import os
import stat
from collections import Counter
from pathlib import Path, PurePosixPath

from ddpm.config.sources import DataSet, Reader

SHOWN = 20  # lines of a long list
# What systems leave behind, beside names with a dot in front: of macOS's zips, ext4, Synology and Windows.
LEFT_BEHIND = ("__macosx", "lost+found", "@eadir", "$recycle.bin", "system volume information")


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LEFT_BEHIND


def list_files(root: Path) -> tuple[list[PurePosixPath], Counter, list[str]]:
    """The files of a folder at any depth, in order; what was left out, in words; and what cannot be read.

    Links are followed, but not back to a folder that they lie in. Nothing is raised.
    """
    files, ignored, unreadable = [], Counter(), []

    def note(error: OSError) -> None:
        unreadable.append(f"{error.filename} ({error.strerror})")

    for place, folders, names in os.walk(root, followlinks=True, onerror=note):
        within = Path(place).relative_to(root)
        above = [os.path.realpath(root / each) for each in (within, *within.parents)]
        hidden = {name for name in (*names, *folders) if is_hidden(name)}
        back = {name for name in folders if leads_back(Path(place, name), above)} - hidden
        folders[:] = [name for name in folders if name not in hidden | back]
        ignored.update({"hidden files or folders": len(hidden), "links back to a folder above": len(back)})
        for path in (Path(place, name) for name in names if name not in hidden):
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    files.append(PurePosixPath(path.relative_to(root)))
            except OSError as error:
                link = f"a link to {os.readlink(path)}: " if os.path.islink(path) else ""
                unreadable.append(f"{path} ({link}{error.strerror})")
    return sorted(files), +ignored, unreadable


def leads_back(folder: Path, above: list[str]) -> bool:
    """Whether a folder is a link to one of those `above` it, or to one that holds such a folder."""
    real = Path(os.path.realpath(folder))
    return os.path.islink(folder) and any(Path(each).is_relative_to(real) for each in above)


def shorten(lines: list[str]) -> str:
    """The first of many lines, and how many there are beside."""
    rest = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in (*lines[:SHOWN], *rest))


def with_fingerprint(data: DataSet) -> DataSet:
    """The data set with the sha256 of names, sizes and times of its files, where they decide what is prepared.

    Of published files in a `root` the contents are compared instead, and LSUN is not prepared but read in place.
    """
    if data.root is None or not (data.reencoded or data.reader in (Reader.FOLDER, Reader.CELEBA, Reader.CELEBAHQ)):
        return data
    files, _, unreadable = list_files(data.root)
    about = [(path, (data.root / path).stat()) for path in files]
    lines = [*unreadable, *(f"{path}\0{each.st_size}\0{each.st_mtime_ns}" for path, each in about)]
    digest = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape"))
    return data.model_copy(update={"listing": digest.hexdigest()})
