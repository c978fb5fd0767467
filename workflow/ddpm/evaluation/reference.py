"""What samples are compared with: features and class probabilities of the real images, and how those score."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from ddpm.config.errors import UserError
from ddpm.data.store import Images
from ddpm.evaluation.features import KINDS
from ddpm.evaluation.fid import Moments, Statistics
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.precision_recall import FEWEST
from ddpm.storage.chunk_cache import ChunkCache, discard
from ddpm.storage.files import NpzWriter, read_npz, write_json, writing_npz
from ddpm.storage.shards import pack_header, unpack_header

SPLITS = ("train", "test")
CHUNK = 1024  # images in memory at a time; 200 MB at 256x256

RealStatistics = dict[str, Statistics]
"""Of the features of the real images, by split; none for a split without images."""


def write_reference(
    network: FeatureNetwork,
    data: Path,
    splits: int,
    arrays: Path,
    summary: Path,
    state: Path | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Features and probabilities of the real training and test images, and how real images score.

    The arrays are `{split}_features` [N, D], `{split}_probabilities` [N, K], and of the features `{split}_mu` [D] and
    `{split}_sigma` [D, D] in float64: of all images of the split, or of the first `reference` ones where the data set's
    card has such a number. A split without images has no arrays. Memory does not grow with the number of images, but
    for one part of the Inception Score's.

    Args:
        data: folder of the prepared data set. splits: parts of the Inception Score.
        state: folder for finished chunks, from which a call after a killed one goes on.
    """
    card = Images(data / "train.npy").card
    document = {"data": card["name"], "title": card["title"], "network": network.name, "network_sha256": network.sha256}
    scores = {}
    with writing_npz(arrays) as archive:
        for split in (split for split in SPLITS if card[split]):
            images = Images(data / f"{split}.npy")
            count = min(len(images), card.get("reference") or len(images))
            if count < max(splits, FEWEST):
                raise UserError(
                    f"{data}: {count} {split} images are too few for an Inception Score over {splits} parts, and for "
                    f"precision and recall, which need {FEWEST}."
                )
            parts = ChunkCache(state, network.sha256, {"images": images.sha256}, KINDS, log)
            probabilities = add_split(archive, network, images, count, split, arrays.parent, parts)
            parts.release()
            mean, std = inception_score(probabilities, splits)
            scores[split] = {"mean": mean, "std": std, "splits": splits}
            document[split] = {"images": count, "sha256": images.sha256}
            if split == "test" and card["classes"]:
                labels = read_npz(data / "labels.npz", "test")["test"][:count]
                document["accuracy"] = float((probabilities.argmax(1) == labels).mean())
        archive.add(header=pack_header(document))
    if state is not None:  # the file holds all of it now
        discard(state)
    write_json(
        summary,
        {**document, "features": {"network": network.name, "sha256": network.sha256}, "inception_score": scores},
    )


def add_split(
    archive: NpzWriter, network: FeatureNetwork, images: Images, count: int, split: str, folder: Path, parts: ChunkCache
) -> np.ndarray:
    """Add the arrays of the first `count` images to the archive, chunk by chunk.

    Returns:
        The probabilities [count, K], mapped from a file in `folder` that has no name and goes with the array.
    """
    moments = Moments()

    def make(first: int, last: int) -> dict[str, np.ndarray]:
        return dict(zip(KINDS, network(images[slice(first, last)]), strict=True))

    with TemporaryFile(dir=folder) as file:  # an archive takes one array at a time, and the features go first

        def features() -> Iterator[np.ndarray]:
            for piece in parts.each(0, count, CHUNK, make):
                moments.add(piece["features"])
                file.write(piece["probabilities"].astype(np.float32, copy=False).tobytes())
                yield piece["features"]

        archive.add_rows(f"{split}_features", count, features())
        probabilities = np.memmap(file, np.float32, "r").reshape(count, -1)
    archive.add_rows(f"{split}_probabilities", count, (probabilities[i : i + CHUNK] for i in range(0, count, CHUNK)))
    mu, sigma = moments.statistics()
    archive.add(**{f"{split}_mu": mu, f"{split}_sigma": sigma})
    return probabilities


def read_header(path: Path, network_sha256: str) -> dict:
    """What the real features are of: data set, network, and count and hash of the images of each split.

    Raises:
        UserError: they are of another network than the one with this hash.
    """
    header = unpack_header(read_npz(path, "header")["header"])
    if header["network_sha256"] != network_sha256:
        raise UserError(
            f"{path}: these are features of {header['network']} (sha256 {header['network_sha256'][:8]}), and the "
            f"samples have those of another network (sha256 {network_sha256[:8]}). Compute both with the same one."
        )
    return header


def read_reference(path: Path, network_sha256: str) -> tuple[RealStatistics, dict]:
    """What a FID needs of each split that has images, and the header; see `read_header`.

    The features themselves are read by `read_npz`, or in blocks by `rows_of_npz`.
    """
    header = read_header(path, network_sha256)
    splits = [split for split in SPLITS if split in header]
    arrays = read_npz(path, *(f"{split}_{key}" for split in splits for key in ("mu", "sigma")))
    return {split: (arrays[f"{split}_mu"], arrays[f"{split}_sigma"]) for split in splits}, header
