"""What samples are compared with: features and class probabilities of the real images, and how those score."""

from pathlib import Path

import numpy as np

from ddpm.data.store import Images
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks import FeatureNetwork
from ddpm.files import UserError, read_npz, write_json, write_npz
from ddpm.shards import pack_header, unpack_header

SPLITS = ("train", "test")
CHUNK = 1024  # images in memory at a time; 200 MB at 256x256


def write_reference(network: FeatureNetwork, data: Path, splits: int, arrays: Path, summary: Path) -> None:
    """Features and probabilities of the real training and test images, and how real images score.

    The arrays are `{split}_features` and `{split}_probabilities`: of all images of the split, or of the first
    `reference` ones where the data set's card has such a number. A split without images has no arrays.

    Args:
        data: folder of the prepared data set. splits: parts of the Inception Score.
    """
    card = Images(data / "train.npy").card
    document = {"data": card["name"], "network": network.name, "network_sha256": network.sha256}
    features, scores = {}, {}
    for split in (split for split in SPLITS if card[split]):
        images = Images(data / f"{split}.npy")
        count = min(len(images), card.get("reference") or len(images))
        if count < splits:
            raise UserError(f"{data}: {count} {split} images are too few for an Inception Score over {splits} parts.")
        features[f"{split}_features"], probabilities = features_of(network, images, count)
        features[f"{split}_probabilities"] = probabilities
        mean, std = inception_score(probabilities, splits)
        scores[split] = {"mean": mean, "std": std, "splits": splits}
        document[split] = {"images": count, "sha256": images.sha256}
        if split == "test" and card["classes"]:
            labels = read_npz(data / "labels.npz", "test")["test"][:count]
            document["accuracy"] = float((probabilities.argmax(1) == labels).mean())
    write_npz(arrays, header=pack_header(document), **features)
    write_json(
        summary,
        {**document, "features": {"network": network.name, "sha256": network.sha256}, "inception_score": scores},
    )


def features_of(network: FeatureNetwork, images: Images, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [count, D] and probabilities [count, K] of the first `count` images, never all in memory."""
    parts = [network(images[slice(first, min(first + CHUNK, count))]) for first in range(0, count, CHUNK)]
    features, probabilities = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    return features, probabilities


def read_reference(path: Path, network_sha256: str) -> tuple[dict[str, np.ndarray], dict]:
    """The features of each split that has images, and the header.

    Raises:
        UserError: they are of another network than the one with this hash.
    """
    header = unpack_header(read_npz(path, "header")["header"])
    if header["network_sha256"] != network_sha256:
        raise UserError(
            f"{path}: these are features of {header['network']} (sha256 {header['network_sha256'][:8]}), and the "
            f"samples have those of another network (sha256 {network_sha256[:8]}). Compute both with the same one."
        )
    arrays = read_npz(path, *(f"{split}_features" for split in SPLITS if split in header))
    return {split: arrays[f"{split}_features"] for split in SPLITS if split in header}, header
