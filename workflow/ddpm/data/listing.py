"""What lies in a folder of a user's. Snakemake's own process asks this too, which has no Pillow and no torch."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ddpm.config.errors import UserError
from ddpm.config.sources import DataSet, Reader

SHOWN = 20  # lines of a long list
# What systems leave behind, beside names with a dot in front: of macOS's zips, ext4, Synology and Windows.
LEFT_BEHIND = ("__macosx", "lost+found", "@eadir", "$recycle.bin", "system volume information")


@dataclass
class Listing:
    """The files of a folder at any depth; links are followed, but not back to a folder that they lie in."""

    files: dict[PurePosixPath, Path] = field(default_factory=dict)
    """Each file by its path in the folder."""
    ignored: Counter = field(default_factory=Counter)
    """What was left out, in words, and how many of it."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that may not be read, and links that lead nowhere."""


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LEFT_BEHIND


def list_files(root: Path) -> Listing:
    """The files of `root`; nothing is raised where a part of it cannot be read."""
    listing = Listing()

    def note(error: OSError) -> None:
        listing.unreadable.append(f"{error.filename} ({error.strerror})")

    for place, folders, names in os.walk(root, followlinks=True, onerror=note):
        within = Path(place).relative_to(root)
        for name in names:
            path = Path(place, name)
            if is_hidden(name):
                listing.ignored["hidden files or folders"] += 1
            elif path.is_file():
                listing.files[PurePosixPath(within / name)] = path
            elif path.is_symlink():
                listing.unreadable.append(f"{path} (a link to {os.readlink(path)}, which is not there)")
        above = [os.path.realpath(each) for each in (place, *(root / parent for parent in within.parents))]
        kept = [name for name in folders if not is_hidden(name)]
        listing.ignored["hidden files or folders"] += len(folders) - len(kept)
        folders[:] = [name for name in kept if not leads_back(Path(place, name), above)]
        listing.ignored["links back to a folder above"] += len(kept) - len(folders)
    listing.ignored += Counter()  # without zeros
    return listing


def leads_back(folder: Path, above: list[str]) -> bool:
    """Whether a folder is a link to one of those `above` it, or to one that holds such a folder."""
    real = os.path.realpath(folder)
    return folder.is_symlink() and any(f"{each}/".startswith(f"{real}/") for each in above)


def shorten(lines: list[str]) -> str:
    """The first of many lines, and how many there are beside."""
    rest = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in (*lines[:SHOWN], *rest))


def refuse_unreadable(root: Path, listing: Listing) -> None:
    if listing.unreadable:
        raise UserError(
            f"{root}: cannot be read as a whole. Have these allowed, mend them, or remove them:\n"
            + shorten(listing.unreadable)
        )


def with_fingerprint(data: DataSet) -> DataSet:
    """The data set with the sha256 of names, sizes and times of its files, where they decide what is prepared.

    Of published files in a `root` the contents are compared instead, and LSUN is not prepared but read in place.
    """
    if data.root is None or not (data.reencoded or data.reader in (Reader.FOLDER, Reader.CELEBA, Reader.CELEBAHQ)):
        return data
    listing = list_files(data.root)
    digest = hashlib.sha256("\n".join(listing.unreadable).encode(errors="surrogateescape"))
    for path, file in sorted(listing.files.items()):
        about = file.stat()
        digest.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return data.model_copy(update={"listing": digest.hexdigest()})
