"""Every reader and loader meets damaged files: it ends with words for a user, the process lives, and memory is bounded.

Each subject gets DDPM_FUZZ mutated files (100 unless it says otherwise; 1,000 before a release), drawn by fixed seeds,
in a process of its own, whose address space may grow by ROOM. It fails if any of them kills the process, ends it with
anything that would be called unexpected, or takes more memory than that.
"""

import json
import multiprocessing
import os
import resource
import shutil
import sys
import tarfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from helpers import CPU, tiny_experiment
from PIL import Image
from published import (
    cifar10_archive,
    jpeg,
    lsun_images,
    write_celeba,
    write_fashion,
    write_lmdb,
    write_parquet,
    write_statistics,
    write_tar,
    zip_lmdb,
)
from safetensors.torch import save_file

from ddpm.cli.options import find_data
from ddpm.config.errors import ExitCode
from ddpm.config.registry import DATASETS, resolve
from ddpm.config.schema import SamplingConfig
from ddpm.config.sources import RemoteFile
from ddpm.data.prepare import prepare
from ddpm.data.store import Images
from ddpm.evaluation.features import write_features
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.published import read_statistics
from ddpm.evaluation.reference import read_reference, write_reference
from ddpm.jobs.failures import explain
from ddpm.jobs.locks import read_owner
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage.checkpoints import State, load_state, save_state
from ddpm.storage.documents import read_stage_config
from ddpm.storage.download import downloaded
from ddpm.storage.files import read_npy, rows_of_npz, sha256, write_json, write_npy
from ddpm.storage.shards import read_shard
from ddpm.storage.weights_file import saved_states
from ddpm.training.convert.importing import import_weights
from ddpm.training.model import load_model

TIMES = int(os.environ.get("DDPM_FUZZ", 100))
ROOM = 3 * 2**30
TIMEOUT = 600  # seconds for a subject
LATER = ("lmdb", "pyarrow.parquet", "scipy.linalg", "sklearn.datasets", "torch.distributed")  # imported by functions
EXTREME = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def mutated(content: bytes, random: Random) -> bytes:
    """The same with one or a few faults: flipped bits, extreme numbers, and pieces cut out, doubled or zeroed."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        # The beginning and the end, where formats say what they hold, as often as all the rest.
        at = random.choice((random.randrange(len(data)), random.randrange(min(len(data), 256)), len(data) - 1))
        length = min(random.choice((1, 4, 16, 256, 4096)), len(data) - at)
        match random.randrange(8):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.randrange(256)
            case 2:
                width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
                number = random.choice(EXTREME) % 2 ** (8 * width)
                data[at : at + width] = number.to_bytes(width, order)
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length] * random.choice((1, 1, 50))
            case 6:
                data[at : at + length] = bytes(length)
            case 7:
                digits = random.choice((b"9" * 20, b"-1", b"1e999", b"NaN", b"[" * 2000, b"null", b'"', b"\xff"))
                data[at : at + length] = digits
    return bytes(data)


Subject = tuple[Callable[[Path], list[Path]], Callable[[Path], object]]
SUBJECTS: dict[str, Subject] = {}


def subject(name: str, use: Callable[[Path], object]):
    """Register what makes whole files in a folder and lists those to be mutated, and what reads the folder."""

    def register(make):
        SUBJECTS[name] = make, use
        return make

    return register


def preparing(name: str, **changes):
    """Prepares the data set `name` from the folder."""

    def use(folder: Path) -> None:
        known = DATASETS[name].files if name in DATASETS else ()
        unknown = {"md5": None, "sha256": None, "size": None}
        files = tuple(file.model_copy(update=unknown) if isinstance(file, RemoteFile) else file for file in known)
        out = folder.with_name("prepared")
        shutil.rmtree(out, ignore_errors=True)
        prepare(resolve(name, {"root": folder, "files": files, **changes}), None, out, 1, quiet)
        for split in ("train", "test"):
            Images(out / f"{split}.npy")[:]

    return use


def quiet(message: str) -> None:
    pass


CIFAR10 = {"train": 20, "test": 4, "contents": {}, "means": {}}


@subject("cifar10 archive", preparing("cifar10", **CIFAR10))
def _(folder: Path) -> list[Path]:
    (folder / "cifar-10-python.tar.gz").write_bytes(cifar10_archive())
    return [folder / "cifar-10-python.tar.gz"]


@subject("cifar10 batches", preparing("cifar10", **CIFAR10))
def _(folder: Path) -> list[Path]:
    (folder / "x.tar.gz").write_bytes(cifar10_archive())
    with tarfile.open(folder / "x.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    (folder / "x.tar.gz").unlink()
    return sorted((folder / "cifar-10-batches-py").iterdir())


@subject("cifar10 parquet", preparing("cifar10", **CIFAR10))
def _(folder: Path) -> list[Path]:
    for split, count in (("train", 20), ("test", 4)):
        write_parquet(folder / f"{split}.parquet", [jpeg(i, 32, 32) for i in range(count)], [0] * count, "img")
    return sorted(folder.iterdir())


@subject("idx", preparing("fashionmnist", train=5, test=3, contents={}))
def _(folder: Path) -> list[Path]:
    write_fashion(folder, packed=False)
    return sorted(folder.iterdir())


@subject("idx, packed", preparing("fashionmnist", train=5, test=3, contents={}))
def _(folder: Path) -> list[Path]:
    write_fashion(folder, packed=True)
    return sorted(folder.iterdir())


@subject("celeba", preparing("celeba64", train=4, test=2))
def _(folder: Path) -> list[Path]:
    write_celeba(folder, [0, 0, 0, 0, 1, 2, 2])
    return sorted(folder.iterdir())


@subject("celebahq parquet", preparing("celebahq256", train=5))
def _(folder: Path) -> list[Path]:
    write_parquet(folder / "train-0000.parquet", [jpeg(i, 64, 64) for i in range(5)])
    return sorted(folder.iterdir())


@subject("celebahq tar", preparing("celebahq256", train=5))
def _(folder: Path) -> list[Path]:
    write_tar(folder / "data256x256.tar", {f"{i}.jpg": jpeg(i, 64, 64) for i in range(5)})
    return sorted(folder.iterdir())


@subject("lsun zip", preparing("lsun-church256", train=4))
def _(folder: Path) -> list[Path]:
    (database := folder.with_name("database")).mkdir()
    write_lmdb(database, lsun_images(4))
    zip_lmdb(database, folder / "church_outdoor_train_lmdb.zip")
    return sorted(folder.iterdir())


@subject("lsun lmdb", preparing("lsun-church256", train=4))
def _(folder: Path) -> list[Path]:
    write_lmdb(folder, lsun_images(4))
    return [folder / "data.mdb"]


@subject("folder of images", preparing("mine", image_size=16))
def _(folder: Path) -> list[Path]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    for suffix in ("avif", "bmp", "gif", "jp2", "jpg", "png", "ppm", "tga", "tif", "webp"):
        image.save(folder / f"x.{suffix}")
    image.save(folder / "y.tif", compression="tiff_lzw")
    Image.fromarray(np.arange(2**16, dtype=np.uint16).reshape(256, 256)).save(folder / "deep.png", transparency=5)
    image.convert("RGBA").save(folder / "clear.png", exif=Image.Exif())
    return sorted(folder.iterdir())


@subject("prepared data", lambda folder: Images(folder / "train.npy")[:])
def _(folder: Path) -> list[Path]:
    prepare(DATASETS["digits"], None, folder, log=quiet)
    return [folder / name for name in ("train.npy", "card.json")]


@subject("arrays", lambda folder: read_npy(folder / "x.npy")[:].sum())
def _(folder: Path) -> list[Path]:
    write_npy(folder / "x.npy", np.arange(100.0))
    return [folder / "x.npy"]


def trained(folder: Path) -> Path:
    """A weights file of a tiny network."""
    from ddpm.storage.checkpoints import save_weights
    from ddpm.unet import UNet

    config = tiny_experiment().stage_config("training")
    header = {"config": config, "weights": "ema", "outcome": {"status": "trained", "step": 1, "reason": None}}
    save_weights(folder / "model.safetensors", UNet(tiny_experiment().network).state_dict(), header | SEALED)
    return folder / "model.safetensors"


SEALED = {"fingerprint": "f", "data_sha256": "d", "scale": "demo", "precision": "fp32"}


@subject("weights", lambda folder: load_model(folder / "model.safetensors", CPU))
def _(folder: Path) -> list[Path]:
    return [trained(folder)]


def with_new_seal(folder: Path) -> object:
    """As somebody would write it who means harm: the checksum is that of the changed content."""
    path = folder / "model.safetensors"
    content = path.read_bytes().replace(b'\\"sha256\\"', b'\\"unused\\"')
    path.write_bytes(content)
    return load_model(path, CPU)


@subject("weights that are sealed anew", with_new_seal)
def _(folder: Path) -> list[Path]:
    return [trained(folder)]


def renamed_state(folder: Path) -> object:
    import hashlib

    (path,) = folder.glob("0*.safetensors*")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    path.rename(folder / f"000000007-{digest}.safetensors")
    return load_state(folder, "f", "d", quiet)


@subject("a training's state", renamed_state)
def _(folder: Path) -> list[Path]:
    save_state(folder, State({"w": torch.arange(100.0)}, 7, "f", "d"))
    return saved_states(folder)


def importing(folder: Path) -> None:
    """The one file, or the folder of diffusers; with the network that the whole ones have."""
    config = json.loads(folder.with_name("training.json").read_text())
    (source,) = [*folder.glob("w.*")] or [folder]
    out = folder.with_name("out.safetensors")
    import_weights(source, out, None, config)


def network_document(folder: Path) -> dict[str, torch.Tensor]:
    from ddpm.unet import UNet

    experiment = tiny_experiment()
    folder.with_name("training.json").write_text(json.dumps(experiment.stage_config("training")))
    return UNet(experiment.network).state_dict()


@subject("a torch file", importing)
def _(folder: Path) -> list[Path]:
    torch.save(network_document(folder), folder / "w.ckpt")
    return [folder / "w.ckpt"]


@subject("an old torch file", importing)
def _(folder: Path) -> list[Path]:
    torch.save(network_document(folder), folder / "w.ckpt", _use_new_zipfile_serialization=False)
    return [folder / "w.ckpt"]


@subject("safetensors", importing)
def _(folder: Path) -> list[Path]:
    save_file(network_document(folder), folder / "w.safetensors")
    return [folder / "w.safetensors"]


@subject("a folder of diffusers", importing)
def _(folder: Path) -> list[Path]:
    from ddpm.training.convert.diffusers_folder import export

    network_document(folder)
    export(load_model(trained(folder.parent)), folder / "exported")
    for path in (folder / "exported").rglob("*.*"):
        path.rename(folder / path.name)
    return sorted(folder.glob("*config.json"))


def evaluated(folder: Path) -> None:
    """A shard of samples, its features, and those of the real images, of a small classifier."""
    from ddpm.config.schema import ClassifierConfig
    from ddpm.evaluation.networks.classifier import train_classifier

    prepare(DATASETS["digits"], None, folder / "data", log=quiet)
    config = ClassifierConfig(width=8, features=16, epochs=1)
    train_classifier(config, folder / "data", folder / "classifier.safetensors", CPU, quiet)
    network = load_network(folder / "classifier.safetensors")
    sample_shard(
        AncestralSampler(load_model(trained(folder)), SamplingConfig(images=8), CPU), 1, folder / "samples.npz", quiet
    )
    write_features(network, folder / "samples.npz", folder / "features.npz", None, quiet)
    write_reference(network, folder / "data", 2, folder / "real.npz", folder / "real.json", None, quiet)
    (folder / "network").write_text(network.sha256)


@subject("a classifier", lambda folder: load_network(folder / "classifier.safetensors"))
def _(folder: Path) -> list[Path]:
    evaluated(folder)
    return [folder / "classifier.safetensors"]


@subject("samples", lambda folder: read_shard(folder / "samples.npz", "images", "previews", "preview_times", "start"))
def _(folder: Path) -> list[Path]:
    evaluated(folder)
    return [folder / "samples.npz"]


def reading_reference(folder: Path) -> None:
    read_reference(folder / "real.npz", (folder / "network").read_text())
    for _ in rows_of_npz(folder / "real.npz", "train_features", 100):
        pass


@subject("real features", reading_reference)
def _(folder: Path) -> list[Path]:
    evaluated(folder)
    return [folder / "real.npz"]


def reading_statistics(folder: Path) -> object:
    return read_statistics(folder / "stats.npz", sha256(folder / "stats.npz"), 64)


@subject("others' statistics", reading_statistics)
def _(folder: Path) -> list[Path]:
    write_statistics(folder / "stats.npz", 64)
    return [folder / "stats.npz"]


@subject("a stage's document", lambda folder: read_stage_config(folder / "x.json", "network", "diffusion", "training"))
def _(folder: Path) -> list[Path]:
    write_json(folder / "x.json", tiny_experiment().stage_config("training"))
    return [folder / "x.json"]


@subject("a source's document", lambda folder: find_data(str(folder / "x.json")))
def _(folder: Path) -> list[Path]:
    (folder / "x.json").write_text(DATASETS["cifar10"].model_dump_json())
    return [folder / "x.json"]


@subject("a download's card", lambda folder: downloaded(folder / "card.json"))
def _(folder: Path) -> list[Path]:
    (folder / "x").write_bytes(b"content")
    copy = {"sha256": sha256(folder / "x"), "size": 7, "mtime_ns": 1, "url": "https://x/y"}
    write_json(folder / "card.json", {"data": "x", "files": {"x": copy}})
    return [folder / "card.json"]


@subject("a lock", lambda folder: str(read_owner(folder / "lock")))
def _(folder: Path) -> list[Path]:
    from dataclasses import asdict

    from ddpm.jobs.locks import Owner

    (folder / "lock").write_text(json.dumps(asdict(Owner.this_process())))
    return [folder / "lock"]


def fuzz(name: str, folder: Path) -> None:
    """In a process of its own: `mutate_and_use`, and whatever goes wrong in words."""
    try:
        mutate_and_use(name, folder)
    except BaseException:
        (folder / "said").write_text(traceback.format_exc())
        os._exit(4)


def mutate_and_use(name: str, folder: Path) -> None:
    """Mutate one of the files after the other, and use them."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    make, use = SUBJECTS[name]
    (whole := folder / "whole").mkdir(parents=True)
    files = [file.relative_to(whole) for file in make(whole)]
    (used := folder / "used" / "files").parent.mkdir()
    for document in folder.glob("*.json"):
        shutil.copy(document, used.with_name(document.name))
    shutil.copytree(whole, used)
    use(used)  # which must be good as it is
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    for number in range(TIMES):
        random = Random(f"{name} {number}")
        (folder / "progress").write_text(str(number))
        shutil.rmtree(used)
        shutil.copytree(whole, used)
        file = random.choice(files)
        (used / file).write_bytes(content := mutated((whole / file).read_bytes(), random))
        try:
            use(used)
        except Exception as error:
            ending = explain(error, [])
            if ending.code in (ExitCode.UNEXPECTED, ExitCode.MEMORY):
                (folder / "bad").write_bytes(content)
                (folder / "said").write_text(f"{file}: {ending.message}\n{traceback.format_exc()}")
                os._exit(3)
    os._exit(0)


@pytest.mark.parametrize("name", SUBJECTS)
def test_damaged_files_end_in_words(name, tmp_path, monkeypatch):
    forks = multiprocessing.get_context("forkserver")  # each from a process that has torch loaded, and has done nothing
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # without, it would not find this module to load it
    forks.set_forkserver_preload([__name__, *LATER])
    child = forks.Process(target=fuzz, args=(name, tmp_path / "fuzz"))
    child.start()
    child.join(TIMEOUT)
    ended = child.exitcode
    child.kill()
    number, said = ((tmp_path / "fuzz" / each) for each in ("progress", "said"))
    what = said.read_text() if said.exists() else f"ended with {ended}"
    assert ended == 0, f"{name}, mutation {number.read_text() if number.exists() else 'none'}: {what}"
