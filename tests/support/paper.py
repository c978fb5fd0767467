"""The paper's scale on stand-in data: what shrinks its budgets, and small copies of its data sets on a server.

Nothing else is replaced: experiments, rules, formats and code are those of `scale: paper`.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import yaml
from published import (
    cifar10_archive,
    jpeg,
    lsun_images,
    write_celeba,
    write_lmdb,
    write_parquet,
    write_statistics,
    zip_lmdb,
)
from servers import Server
from stand_in import StandIn, write_torchscript
from workspace import PROJECT

from ddpm.storage.files import sha256

MAIN = {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge"}  # with snapshots to choose from
COUNT = 24  # images of each set but CIFAR-10


def budgets() -> dict:
    """An override that leaves every experiment of the paper its method and its data, and little of the rest."""
    scale = yaml.safe_load((PROJECT / "workflow/scales/paper.yaml").read_text())
    return {
        "compute": {"device": "cpu", "threads": 1, "gpus": 0},
        "experiments": {name: shrunken(experiment) for name, experiment in scale["experiments"].items()},
    }


def shrunken(experiment: dict) -> dict:
    small = experiment["data"] == "cifar10"  # the others have 64 times the pixels
    images = 20 if small else 4
    override = {
        "network": {"ch": 8 if small else 4, "groups": 4, "num_res_blocks": 1},
        "diffusion": {"timesteps": 20 if small else 4 if "latents" in experiment else 2},
        "training": {"steps": 2, "batch_size": 2, "warmup": 1, "log_every": 1, "save_every": 1},
        "sampling": {"images": images, "shards": 1, "batch_size": images},
        "evaluation": {"splits": 10 if small else 1},
    }
    if "clip_shards" in experiment["training"]:
        override["training"]["clip_shards"] = 2
    if "snapshots" in experiment:
        override["training"]["snapshot_every"] = 1 if experiment["diffusion"] == MAIN else 2
        override["snapshots"] = {"images": images if small else 2, "batch_size": images, "previews": 2}
    if "likelihood" in experiment:
        override["likelihood"] = {"shards": 1, "batch_size": 50}
    if "few_steps" in experiment:
        override["few_steps"] = {"steps": [5, 10], "images": 20, "shards": 2}
        override["sampling"]["shards"] = 2
    if "latents" in experiment:
        override["latents"] = {"chains": 1, "pairs": 1}
    return override


def served(server: Server, path: Path) -> dict:
    """A file of a `sources` entry: its name, its address on the server, and its checksum."""
    content = path.read_bytes()
    address = server.add(path.name, content)
    return {"name": path.name, "urls": [address], "md5": hashlib.md5(content).hexdigest()}


def sources(server: Server, folder: Path) -> dict:
    """Small copies of all of the paper's data sets and of Inception, published as the real ones are.

    LSUN Bedroom lies unpacked in a folder, as on a cluster that has it already; all else is downloaded. Of the
    statistics that others published, CIFAR-10's can be had, and LSUN's are where nobody answers.
    """
    files: dict[str, list[dict]] = {}

    def write(data: str, name: str, content: Callable[[Path], object]) -> Path:
        (path := folder / data / name).parent.mkdir(exist_ok=True, parents=True)
        content(path)
        return path

    path = write("cifar10", "cifar-10-python.tar.gz", lambda path: path.write_bytes(cifar10_archive(10)))
    files["cifar10"] = [served(server, path)]
    faces = folder / "celeba64"
    faces.mkdir()
    write_celeba(faces, [0] * COUNT + [1] + [2] * 10)
    files["celeba64"] = [served(server, faces / name) for name in ("img_align_celeba.zip", "list_eval_partition.txt")]
    parquets = {}
    for split, start, stop in (("train", 0, COUNT - 4), ("validation", COUNT - 4, COUNT)):
        images = [jpeg(i, 256, 256) for i in range(start, stop)]
        path = write("celebahq256", f"{split}.parquet", lambda path, images=images: write_parquet(path, images))
        parquets[split] = served(server, path)["urls"]
    listing = server.add("parquet", json.dumps({"default": parquets}).encode())
    files["celebahq256"] = [{"urls": [listing]}]
    for part, database in (("bedroom", ""), ("church", "church_outdoor_train_lmdb"), ("cat", "cat")):
        lmdb = folder / f"lsun-{part}"
        write_lmdb(lmdb, lsun_images(COUNT))
        if database:
            zip_lmdb(lmdb, folder / f"{database}.zip")
            files[f"lsun-{part}256"] = [served(server, folder / f"{database}.zip")]
    statistics = {}
    for split in ("train", "test"):
        path = write("statistics", f"cifar10_legacy_tensorflow_{split}_32.npz", write_statistics)
        statistics[split] = served(server, path)
    path = write("inception", "inception-2015-12-05.pt", lambda path: write_torchscript(StandIn(), path))
    found = {name: {"files": listed, "train": COUNT} for name, listed in files.items()}
    found["cifar10"] |= {"train": 50, "test": 10, "statistics": statistics}
    found["celeba64"] |= {"test": 10}
    found["lsun-bedroom256"] = {"root": str(folder / "lsun-bedroom"), "train": COUNT}
    for part in ("bedroom", "church", "cat"):
        found[f"lsun-{part}256"]["reference"] = COUNT - 4
    for part in ("church", "cat"):
        nowhere = {"name": f"lsun_{part}_legacy_tensorflow_train_256.npz", "urls": ["http://127.0.0.1:9/statistics"]}
        found[f"lsun-{part}256"]["statistics"] = {"train": nowhere}
    return found | {"inception": {"urls": served(server, path)["urls"], "sha256": sha256(path)}}
