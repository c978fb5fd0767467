"""A damaged file in a user's own folder: nobody is told to delete it, but what to compare and where to get another."""

import ast
from pathlib import Path

import pytest
from published import jpeg, write_parquet

import ddpm
from ddpm.config.errors import DamagedFile
from ddpm.config.registry import DATASETS
from ddpm.evaluation.published import read_statistics
from ddpm.storage.download import reading_root
from ddpm.storage.files import sha256
from ddpm.training.convert.importing import find_source


def parquet(root):
    write_parquet(root / "train-0000.parquet", [jpeg(0, 256, 256)])
    (root / "train-0000.parquet").write_bytes((root / "train-0000.parquet").read_bytes()[:-1])


def zipped(root):
    (root / "church_outdoor_train_lmdb.zip").write_bytes(b"PK no archive")


def split_list(root):
    (root / "list_eval_partition.txt").write_text("000001.jpg nine")


def image(root):
    (root / "a.png").write_bytes(b"text")


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("celebahq256", parquet, f"compare it with .*{DATASETS['celebahq256'].files[0].urls[0]}"),
        ("lsun-church256", zipped, "compare it with church_outdoor_train_lmdb.zip, as published at http"),
        ("celeba64", split_list, "compare it with list_eval_partition.txt, as published at http"),
        ("mine", image, "compare it with where you have it from"),
    ],
)
def test_a_damaged_file_of_a_root_is_compared_and_not_deleted(name, damage, words, published):
    damage(published.root)
    before = {path: path.read_bytes() for path in published.root.iterdir()}
    with pytest.raises(DamagedFile, match=rf"{published.root}.*\. It is yours and stays as it is: {words}") as refused:
        published.prepare(name, **({"image_size": 8} if name == "mine" else {}))
    assert "elete" not in str(refused.value) and "emove" not in str(refused.value)
    assert {path: path.read_bytes() for path in published.root.iterdir()} == before


def test_what_the_project_made_keeps_its_remedy(tmp_path):
    with pytest.raises(DamagedFile, match="Delete it and run"), reading_root(tmp_path / "root"):
        raise DamagedFile(tmp_path / "prepared/data.mdb", "is cut off")


def test_statistics_in_a_root_are_not_to_be_deleted(tmp_path):
    mine = tmp_path / "statistics.npz"
    mine.write_bytes(b"no archive")
    for checksum in (sha256(mine), "0" * 64):
        with pytest.raises(DamagedFile, match="Put another copy in its place, or move it away, and run"):
            read_statistics(mine, checksum, 3)


def test_a_diffusers_folder_is_not_to_be_deleted(tmp_path):
    for name in ("config.json", "scheduler_config.json", "diffusion_pytorch_model.bin"):
        (tmp_path / name).write_text("{")
    with pytest.raises(DamagedFile, match=r"config\.json: not a whole JSON file .*\. It is yours and stays as it is"):
        find_source(tmp_path, None)


# Would fail if a new message on networks of others took the remedy of what the project makes.
def test_a_network_of_others_is_not_to_be_deleted():
    tree = ast.parse((Path(ddpm.__file__).parent / "evaluation/networks/inception.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "DamagedFile"]
    assert calls and all(ast.unparse(call.args[2]) == "ANOTHER" for call in calls)
