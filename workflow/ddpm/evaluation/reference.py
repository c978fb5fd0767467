"""What samples are compared with: features and class probabilities of the real images, and how those score."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from ddpm.config.errors import UserError
from ddpm.data.store import Images
from ddpm.evaluation.fid import Moments, Statistics, TooFewImages
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks.base import FeatureNetwork
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
    """The network's outputs for the real training and test images, and how real images score.

    The arrays are `{split}_features` [N, D], `{split}_probabilities` [N, K], and of the features `{split}_mu` [D] and
    `{split}_sigma` [D, D] in float64; of clean-FID `{split}_clean_features`, `..._clean_mu` and `..._clean_sigma`. They
    are of all images of the split, or of the first `reference` ones where the data set's card has such a number. A
    split without images has no arrays, and one image no mean and covariance. Memory does not grow with the number of
    images, but for one part of the Inception Score's.

    Args:
        data: folder of the prepared data set. splits: parts of the Inception Score.
        state: folder for finished chunks, from which a call after a killed one goes on.
    """
    card = Images(data / "train.npy").card
    document = {"data": card["name"], "title": card["title"], "network": network.name, "network_sha256": network.sha256}
    document["kinds"] = network.kinds
    scores = {}
    with writing_npz(arrays) as archive:
        for split in (split for split in SPLITS if card[split]):
            images = Images(data / f"{split}.npy")
            count = min(len(images), card.get("reference") or len(images))
            parts = ChunkCache(state, network.sha256, {"images": images.sha256}, network.kinds, log)
            probabilities = add_split(archive, network, images, count, split, arrays.parent, parts)
            parts.release()
            document[split] = {"images": count, "sha256": images.sha256}
            try:
                mean, std = inception_score(probabilities, splits)
                scores[split] = {"mean": mean, "std": std, "splits": splits}
            except TooFewImages as error:
                log(f"no Inception Score of the {split} images: {error}")
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
    moments = {kind: Moments() for kind in network.kinds if kind.endswith("features")}
    with ExitStack() as stack:  # an archive takes one array at a time, and the network gives all
        files = {kind: stack.enter_context(TemporaryFile(dir=folder)) for kind in network.kinds}
        for piece in parts.each(0, count, CHUNK, lambda first, last: network.arrays(images[slice(first, last)])):
            for kind, file in files.items():
                file.write(piece[kind].tobytes())
            for kind, of_kind in moments.items():
                of_kind.add(piece[kind])
        arrays = {kind: np.memmap(file, np.float32, "r").reshape(count, -1) for kind, file in files.items()}
    for kind, array in arrays.items():
        archive.add_rows(f"{split}_{kind}", count, (array[i : i + CHUNK] for i in range(0, count, CHUNK)))
    for kind, of_kind in moments.items() if count > 1 else ():
        archive.add(**dict(zip(statistics_keys(split, kind), of_kind.statistics(), strict=True)))
    return arrays["probabilities"]


def statistics_keys(split: str, kind: str) -> list[str]:
    """The names of the mean and the covariance of features of this kind."""
    return [f"{split}_{kind.removesuffix('features')}{key}" for key in ("mu", "sigma")]


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


def read_reference(path: Path, network_sha256: str, kind: str = "features") -> tuple[RealStatistics, dict]:
    """What a FID needs of each split of two images or more, and the header; see `read_header`.

    The features themselves are read by `read_npz`, or in blocks by `rows_of_npz`.

    Args:
        kind: of which features; there are none of a kind that the network does not have.
    """
    header = read_header(path, network_sha256)
    known = [split for split in SPLITS if kind in kinds_of(header) and has_covariance(header, split)]
    return {split: tuple(read_npz(path, *statistics_keys(split, kind)).values()) for split in known}, header


def has_covariance(header: dict, split: str) -> bool:
    return header.get(split, {"images": 0})["images"] > 1


def kinds_of(header: dict) -> tuple[str, ...]:
    """The kinds of arrays that there are, by the header, which did not say it in earlier versions."""
    return header.get("kinds", FeatureNetwork.kinds)
