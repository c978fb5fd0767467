"""Write a data set in the one form that later stages read, with a card that says where it comes from."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.config.errors import UserError
from ddpm.config.sources import DataSet, Reader, RemoteFile
from ddpm.data import readers
from ddpm.data.readers import Part
from ddpm.data.store import checksum
from ddpm.data.streams import reported
from ddpm.storage.download import check_copy, download, downloaded, reading_root
from ddpm.storage.files import atomic_write, claim_card, claim_file, write_json, write_npy, write_npz

PREPARED = ("train.npy", "test.npy", "labels.npz", "card.json")


def download_data(data: DataSet, folder: Path, log=print) -> None:
    """Fetch the files of a data set into `folder`; card.json there says what they are.

    Raises:
        UserError: it has none, or no address gives a right copy.
    """
    if not data.files:
        raise UserError(f"{data.title}: there is nothing to download; it comes from {data.source}.")
    about = {"data": data.name, "source": data.source, "licence": data.licence}
    download(data.files, folder, about, log, data.unverified)


def prepare(data: DataSet, source: Path | None, folder: Path, threads: int = 1, log=print) -> None:
    """Write train.npy, test.npy, labels.npz and card.json of a data set to `folder`.

    The .npy files are the images [N, H, W, C] uint8; of LSUN, which is too large for that, they are the keys of the
    images in the published database, and `ddpm.data.store.Images` decodes them.

    Args:
        source: where `download_data` put its files; None for data that ship with a dependency or have a `root`.
        threads: decode images.

    Raises:
        UserError: the files are missing, damaged or not what the registry says, or `folder` holds files of these
            names that are no prepared data set; nothing is written then.
    """
    ours = claim_card(folder / "card.json", "name", "image_size", "store", "sha256")
    for name in PREPARED[:-1]:
        claim_file(folder / name, ours)
    published = published_files(data, source)
    with reading_root(data.root, data.files):
        if data.reader is Reader.LSUN:
            write_keys(data, published, folder, threads, log)
        else:
            write_arrays(data, readers.read(data, published, threads), folder, log)


def published_files(data: DataSet, source: Path | None) -> Path | None:
    """The folder of the published files, after a check of what is known of them.

    In a `root` they may lie in another form, too (unpacked, or packed by somebody else): the readers check what is in
    them, as far as it is known. Only a file that is no archive must be the published one, byte for byte.
    """
    if data.root is not None:
        if not data.root.is_dir():
            raise UserError(f"{data.root}: no such folder. It is the root of {data.name}: where its files are.")
        for file in data.files:
            archive = file.name.endswith((".gz", ".zip")) if isinstance(file, RemoteFile) else True
            if not archive and (data.root / file.name).is_file():
                check_copy(data.root, file)
        return data.root
    if not data.files:
        return None
    if source is None:
        raise UserError(f"{data.title} must be downloaded first; say by --source where it is.")
    downloaded(source / "card.json")
    return source


def write_arrays(data: DataSet, parts: dict[str, Part], folder: Path, log) -> None:
    """The images as arrays, decoded while they are written: a set is never held in memory as a whole."""
    for split, part in parts.items():
        expected = getattr(data, split)
        if expected is not None and part.count != expected:
            raise UserError(f"{data.source}: {part.count:,} {split} images, where {expected:,} were expected.")
        if len(part.labels) != (part.count if data.classes or part.classes else 0):
            raise UserError(f"{data.source}: {len(part.labels):,} labels of {part.count:,} {split} images.")
    shape = (data.image_size, data.image_size, data.channels)
    for line in parts["train"].layout:
        log(f"{data.root}: {line}")
    with all_or_nothing(folder):
        for split, part in parts.items():
            write_images(data, split, part, shape, folder / f"{split}.npy", log)
        readers.refuse_damaged(parts.values())
        write_npz(folder / "labels.npz", **{split: np.asarray(part.labels, np.int64) for split, part in parts.items()})
        seen = sum((part.seen for part in parts.values()), Counter())
        for (kind, what), count in seen.items():
            if kind == "treated":
                log(f"{count:,} images: {what}")
        found: dict[str, Any] = {} if data.classes is not None else {"classes": parts["train"].classes}
        if layout := parts["train"].layout:
            found["layout"] = layout
        write_card(data, folder, {split: part.count for split, part in parts.items()}, "array", seen, found)


def write_images(data: DataSet, split: str, part: Part, shape: tuple[int, ...], path: Path, log) -> None:
    """One split, batch by batch, to the array file `path`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (part.count, *shape)}
    # Not through a memory map: where the disk gets full under one, the process is killed without a word.
    with atomic_write(path) as array, open(array, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        written = 0
        for batch in reported(part.batches, part.count, f"read {split}", log, len):
            if batch.shape[1:] != shape or batch.dtype != np.uint8 or written + len(batch) > part.count:
                found = f"{batch.dtype} {(written + len(batch), *batch.shape[1:])}"
                raise UserError(f"{data.source}: {split} images are {found}, not uint8 {(part.count, *shape)}.")
            file.write(batch.tobytes())
            written += len(batch)
        if written < part.count and not part.damaged:
            raise UserError(f"{data.source}: {written:,} {split} images, where {part.count:,} were announced.")


def write_keys(data: DataSet, published: Path, folder: Path, threads: int, log) -> None:
    """The keys of the images of an LMDB that can be decoded; the LMDB stays as it is."""
    from ddpm.data.readers import lsun

    database = lsun.find_database(data, published, folder, log)
    keys, skipped, seen = lsun.index_images(data, database, threads, log)
    size = (database / lsun.DATABASE).stat().st_size
    store = {"lmdb": database.name if database.parent == folder else str(database), "bytes": size}
    with all_or_nothing(folder):
        splits = {"train": keys, "test": keys[:0]}
        for split, of_split in splits.items():
            write_npy(folder / f"{split}.npy", of_split)
        write_npz(folder / "labels.npz", **{split: np.zeros(0, np.int64) for split in splits})
        counts = {split: len(of_split) for split, of_split in splits.items()}
        write_card(data, folder, counts, store, seen, {"skipped": skipped})


def write_card(
    data: DataSet, folder: Path, counts: dict[str, int], store: str | dict, seen: Counter, found: dict[str, Any]
) -> None:
    """card.json, last of all: what the registry says, and what was found."""
    card = data.model_dump(mode="json", exclude={"files", "root", "statistics", "contents", "means"}) | {
        "checksums": data.published
    }
    if seen:
        by_kind: dict[str, dict[str, int]] = {}
        for (kind, what), count in seen.most_common():
            by_kind.setdefault(kind, {})[what] = count
        encodings = by_kind["published_as"]
        size = f" {data.image_size}x{data.image_size}"
        other = sum(count for encoding, count in encodings.items() if not encoding.endswith(size))
        listed = ", ".join(f"{count:,} {encoding}" for encoding, count in list(encodings.items())[:5])
        listed += ", ..." if len(encodings) > 5 else ""
        note = f"Published as {listed}: {other:,} of {sum(encodings.values()):,} images were cropped or resized."
        card |= {**by_kind, "notes": f"{card['notes']} {note}".strip()}
    checksums = {split: checksum(folder / f"{split}.npy", store) for split in counts}
    write_json(folder / "card.json", {**card, "store": store, **found, **counts, "sha256": checksums})


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[None]:
    """The block writes a prepared data set to `folder`; if it fails, none of it stays.

    Without its card, which is removed first and written last, a folder is no prepared data set.
    """
    (folder / "card.json").unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        for name in PREPARED:
            (folder / name).unlink(missing_ok=True)
        raise
