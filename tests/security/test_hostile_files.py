"""Files that are made to harm: each is refused in words before it takes memory, time or the process."""

import gzip
import io
import json
import pickle
import resource
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, tiny_experiment
from published import CIFAR10_BATCHES, jpeg, write_fashion

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import resolve
from ddpm.config.schema import NetworkConfig
from ddpm.data import readers
from ddpm.data.readers import archive_members, cifar10, decompress, idx, read_zip_member
from ddpm.storage.checkpoints import save_weights
from ddpm.storage.files import read_json, read_npz
from ddpm.training.convert.diffusers_folder import network_of_unet2d, read_folder, unet2d_config
from ddpm.training.convert.importing import read_tensors
from ddpm.training.model import load_model
from ddpm.unet import UNet

GIGABYTE = 2**30


@pytest.fixture(autouse=True)
def little_memory():
    """Whoever makes room for a bomb meets this bound."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * GIGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class Reduced:
    """Pickled as a call of `function` with `arguments`, and then given `state`."""

    def __init__(self, function, arguments: tuple, state: object = None):
        self.reduced = function, arguments, state

    def __reduce__(self):
        return self.reduced


def cifar10_folder(folder: Path, data: object) -> Path:
    (folder / "cifar-10-batches-py").mkdir()
    for name in CIFAR10_BATCHES:
        batch = {b"data": data, b"labels": [0] * 4}
        (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(batch, protocol=4))
    return folder


RECONSTRUCT = np._core.multiarray._reconstruct
HOSTILE_ARRAYS = {
    "objects": Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (4,), np.dtype(object), False, [1, 2, 3, 4])),
    "more than there is": Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (10**12,), np.dtype("u1"), False, b"x")),
    "negative": Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (-1, -5), np.dtype("u1"), False, b"x")),
    "no bytes": Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (4,), np.dtype("u1"), False, [1])),
    "floats": np.zeros((4, 3072)),
    "signed bytes": np.zeros((4, 3072), np.int8),
    "room for a terabyte": Reduced(np.ndarray, ((10**12,),)),
    "a type of objects": Reduced(np.dtype, ("O", False, True)),
    "a type that is long": Reduced(np.dtype, ("V99999999999",)),
    "a code": Reduced(print, ("it ran",)),
    "a plain word": "x" * 3072,
}


# Would fail if NumPy made arrays of what a pickle says: it crashes on some, and makes room for others.
@pytest.mark.parametrize("kind", HOSTILE_ARRAYS)
def test_a_pickle_holds_bytes_or_nothing(kind, tmp_path, capsys):
    folder = cifar10_folder(tmp_path, HOSTILE_ARRAYS[kind])
    data = resolve("cifar10", {"root": folder, "contents": {}, "means": {}})
    with pytest.raises(DamagedFile, match=r"data_batch_1 is not a batch of CIFAR-10"):
        cifar10.read(data, folder, 1)
    assert "it ran" not in capsys.readouterr().out


MOST = 2**32 - 1


# Would fail if an array of nothing had any width: its padding takes what memory there is.
@pytest.mark.parametrize(
    "shape", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1, 0, 0), (0, 28, 28), (2**32 - 1,) * 3, (1, 40, 40)]
)
def test_an_idx_file_of_nothing_is_damaged(shape, tmp_path):
    write_fashion(tmp_path, packed=False)
    content = struct.pack(">HBB3I", 0, 8, 3, *shape) + (bytes(1600) if shape == (1, 40, 40) else b"")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    data = resolve("fashionmnist", {"root": tmp_path, "contents": {}})
    with pytest.raises(DamagedFile, match=r"train-images-idx3-ubyte"):
        idx.read(data, tmp_path, 1)


# Would fail if anything were unpacked whose size, there or on the way, is not looked at.
def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    zeros = bytes(2**24)
    monkeypatch.setattr(readers, "MAX_FILE_BYTES", 2**20)
    for pack in (gzip.compress,):
        with pytest.raises(DamagedFile, match=r"x: .* would be unpacked"):
            decompress(pack(zeros), "x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.jpg", zeros)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive, pytest.raises(DamagedFile, match=r"0\.jpg would be unpacked"):
        read_zip_member(archive, tmp_path / "x.zip", "0.jpg")
    with pytest.raises(DamagedFile, match=r"would be unpacked"):
        decompress((tmp_path / "x.zip").read_bytes(), "x")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("0.jpg")
        info.size = len(zeros)
        tar.addfile(info, io.BytesIO(zeros))
    with pytest.raises(DamagedFile, match=r"0\.jpg would be unpacked"):
        archive_members(tmp_path / "x.tar.gz", lambda path: True)


def sparse_tar(path: Path, size: int) -> None:
    """A tar with one file of `size` bytes, of which none is in it, as GNU tar writes it."""
    header = bytearray(512)

    def put(at: int, value: bytes) -> None:
        header[at : at + len(value)] = value

    put(0, b"0.jpg")
    put(100, b"0000644\0" + b"0000000\0" * 2 + b"00000000000\0" * 2)
    put(156, b"S")
    put(257, b"ustar  \0")
    put(386, b"%011o\0" % 0 + b"%011o\0" % 0)  # one piece of no bytes
    put(483, b"%011o\0" % size)
    put(148, b" " * 8)
    put(148, b"%06o\0 " % sum(header))
    path.write_bytes(bytes(header) + bytes(1024))


@pytest.mark.parametrize("name", ["x.tar", "data256x256.tar"])
def test_a_sparse_file_is_none_of_a_data_set(name, tmp_path):
    sparse_tar(tmp_path / name, 8 * GIGABYTE - 1)
    if name == "x.tar":
        with pytest.raises(DamagedFile, match="would be unpacked to"):
            archive_members(tmp_path / name, lambda path: True)
        return
    with pytest.raises(DamagedFile, match="would be unpacked to"):
        readers.read(resolve("celebahq256", {"root": tmp_path, "train": 1}), tmp_path, 1)


# Would fail if NumPy made room for what a header says, or others' archives could be of any size.
def test_an_npz_holds_what_its_header_says(tmp_path):
    header = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(80))
    with pytest.raises(DamagedFile, match=r"x of .* bytes cannot be float64"):
        read_npz(tmp_path / "x.npz", "x")
    np.savez_compressed(tmp_path / "y.npz", x=np.zeros(10**6))
    assert read_npz(tmp_path / "y.npz", "x")["x"].shape == (10**6,)
    with pytest.raises(DamagedFile, match=r"x of 8,000,128 bytes cannot be"):
        read_npz(tmp_path / "y.npz", "x", most=10**6)


# Would fail if a network were built before its sizes were looked at: each of these takes hours, or all memory.
@pytest.mark.parametrize(
    "changes",
    [
        {"layers_per_block": 100_000_000},
        {"block_out_channels": [2**40] * 2},
        {"sample_size": 2**62},
        {"in_channels": 10**9},
        {"norm_num_groups": 2**40},
        {
            "block_out_channels": [32] * 60,
            "down_block_types": ["DownBlock2D"] * 60,
            "up_block_types": ["UpBlock2D"] * 60,
        },
        {"sample_size": "8" * 5000},
        {"down_block_types": None},
        {"layers_per_block": 1e300},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_hostile_network_of_others_is_not_built(changes, tmp_path):
    whole = unet2d_config(tiny_experiment().network)
    assert network_of_unet2d(whole) == tiny_experiment().network.model_copy(update={"dropout": 0.0})
    (tmp_path / "config.json").write_text(json.dumps({**whole, **changes}))
    (tmp_path / "scheduler_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json"):
        read_folder(tmp_path)


def test_weights_that_ask_for_a_larger_network_are_refused_before_it_is_built(tmp_path):
    config = tiny_experiment().stage_config("training")
    weights = UNet(NetworkConfig(**config["network"])).state_dict()
    config["network"] |= {"ch": 8192, "ch_mult": [64, 64], "groups": 4}
    save_weights(tmp_path / "model.safetensors", weights, {"config": config, "weights": "ema", "outcome": {}})
    with pytest.raises(DamagedFile, match=r"numbers, where it has [\d,]{15,}"):
        load_model(tmp_path / "model.safetensors", CPU)


# Would fail if torch unpacked what it never packs.
def test_packed_weights_are_refused(tmp_path):
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "plain.ckpt")
    assert read_tensors(tmp_path / "plain.ckpt")["w"].shape == (10**6,)
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as plain,
        zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))
    with pytest.raises(DamagedFile, match="its parts are packed"):
        read_tensors(tmp_path / "packed.ckpt")


# Would fail if a safetensors file's header were believed, or an endless nest of brackets were unexpected.
@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"__metadata__":{"ddpm":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"__metadata__":{"ddpm":"' + b"[" * 100_000 + b'"}}',
        b'{"__metadata__":null}',
        b'{"__metadata__":{"ddpm":"7"}}',
        b'{"__metadata__":{"ddpm":"{}"}}',
        b"[]",
    ],
    ids=range(7),
)
def test_a_hostile_header_is_damage(header, tmp_path):
    for length in (len(header), 2**63 - 1, 0):
        (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(16))
        with pytest.raises(DamagedFile):
            load_model(tmp_path / "x.safetensors", CPU)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"9" * 10_000, b"\xff\xfe", b'{"a": 1e999999}{'])
def test_a_hostile_document_is_damage(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedFile, match="not a whole JSON file"):
        read_json(tmp_path / "x.json")


def test_an_image_in_an_archive_is_still_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("0.jpg", jpeg(0, 16, 16))
    parts = readers.read(resolve("mine", {"root": tmp_path, "image_size": 8}), tmp_path, 1)
    (batch,) = parts["train"].batches
    assert batch.shape == (1, 8, 8, 3)
