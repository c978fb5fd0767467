"""Scores of anybody's images, by the protocol of this project's own."""

import os
import zipfile
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import EvaluationConfig
from ddpm.data import pictures
from ddpm.data.listing import list_files, shorten
from ddpm.data.readers.folder import is_image
from ddpm.data.streams import ordered
from ddpm.evaluation.metrics import refuse_other_data, scores_of
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.protocol import deviations_of_scores
from ddpm.evaluation.reference import read_header
from ddpm.storage.download import reading_root
from ddpm.storage.files import read_json, rows_of_npz

KEYS = ("images", "arr_0")  # of an .npz: this project's samples, and those of OpenAI's evaluator
BLOCK = 1024  # images in memory at a time


def score_images(
    images: Path,
    network: FeatureNetwork,
    reference: Path,
    card: Path,
    statistics: Path | None = None,
    config: EvaluationConfig | None = None,
) -> dict:
    """The scores of all images in a folder or an .npz, as metrics.json has them, and what departs from the paper's.

    Args:
        reference, card: of the data set that the images are compared with. statistics: see `write_metrics`.

    Raises:
        UserError: there are no images, or they have not the data set's size.
    """
    config, data = config or EvaluationConfig(), read_json(card)
    header = read_header(reference, network.sha256)
    refuse_other_data(header, reference, data, card)
    shape = (data["image_size"], data["image_size"], data["channels"])
    made = [network.arrays(block) for block in read_images(images, shape)]
    arrays = {kind: np.concatenate([block[kind] for block in made]) for kind in network.kinds}
    count = len(arrays["features"])
    of_network = {"name": network.name, "sha256": network.sha256}
    return {
        "images": count,
        "data": {"name": data["name"], "title": data["title"]},
        "features": of_network,
        **scores_of(arrays.__getitem__, {"network": of_network, "kinds": network.kinds}, config, reference, statistics),
        "deviations": deviations_of_scores(network.name, count, config.splits, data, header),
    }


def read_images(path: Path, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The images of an .npz, of all .npz in a folder, or else of its picture files, in blocks uint8 [n, *shape]."""
    files = [path] if path.is_file() else files_of_folder(path)
    archives = [file for file in files if file.suffix == ".npz"]
    encoded = [file for file in files if is_image(file)]
    if not archives and not encoded:
        raise UserError(f"{path}: no images. Give a folder of pictures, or an .npz with uint8 images [N, H, W, C].")
    with reading_root(path):
        for file, block in read_archives(archives) if archives else decode_files(encoded, shape[2]):
            if block.dtype != np.uint8 or block.shape[1:] != shape:
                found = f"{block.dtype} {block.shape[1:]}"
                raise UserError(f"{file}: images {found}, where the data set's are uint8 {shape}.")
            yield block


def files_of_folder(folder: Path) -> list[Path]:
    """The files at any depth that are not hidden, 2-of-10.npz before 10-of-10.npz."""
    found, _, unreadable = list_files(folder)
    if unreadable:
        raise UserError(f"{folder}: cannot be read as a whole:\n{shorten(unreadable)}")
    return sorted((folder / path for path in found), key=lambda file: (len(file.name), file))


def read_archives(files: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    for file in files:
        names = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
        key = next((key for key in KEYS if f"{key}.npy" in names), KEYS[0])
        yield from ((file, block) for block in rows_of_npz(file, key, BLOCK))


def decode_files(files: list[Path], channels: int) -> Iterator[tuple[Path, np.ndarray]]:
    """Pictures of one size after another, so that each block is one array."""

    def decode(file: Path) -> tuple[Path, np.ndarray]:
        try:
            return file, pictures.to_array(pictures.decode(file.read_bytes(), channels, pictures.USER_FORMATS)[0])
        except pictures.Undecodable as error:
            raise DamagedFile(file, str(error)) from error

    found = ordered(decode, files, os.cpu_count() or 1)
    for _, of_one_size in groupby(found, lambda item: item[1].shape):
        while block := list(islice(of_one_size, BLOCK)):
            yield block[0][0], np.stack([image for _, image in block])
