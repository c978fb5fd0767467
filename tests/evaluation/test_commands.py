"""The commands of the evaluation that take a network, by hand, with a TorchScript file instead of a classifier."""

import json

import pytest
from helpers import CPU
from stand_in import StandIn, write_torchscript
from typer.testing import CliRunner

from ddpm.cli import app
from ddpm.config.schema import EvaluationConfig, SamplingConfig
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage.files import read_json, read_npz, sha256
from ddpm.storage.tables import read_rows


@pytest.fixture(scope="module")
def command(trained, digits, tmp_path_factory):
    """Run a command on files of this folder, which has samples, a network, and what scores need besides."""
    folder = tmp_path_factory.mktemp("commands")
    write_torchscript(StandIn(), folder / "network.pt")
    sample_shard(
        AncestralSampler(trained, SamplingConfig(images=24), CPU), 1, folder / "samples.npz", log=lambda message: None
    )
    config = EvaluationConfig(splits=4, neighbour_rows=2, neighbours=3, neighbour_crop=(1, 2, 6, 5))
    (folder / "config.json").write_text(json.dumps({"name": "x", "evaluation": config.model_dump(mode="json")}))

    def run(*arguments):
        words = [str(folder / word) if "." in word else word for word in arguments]
        words += ["--network-sha256", sha256(folder / "network.pt")] if "--network" in words else []
        done = CliRunner().invoke(app, [*words, "--device", "cpu"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return folder

    run("reference", "--network", "network.pt", "--data", str(digits), "--out", "real.npz", "--summary", "real.json")
    run("features", "--network", "network.pt", "--samples", "samples.npz", "--out", "features.npz")
    return run


def test_reference_and_features_are_of_the_same_network(command):
    folder = command("features", "--network", "network.pt", "--samples", "samples.npz", "--out", "again.npz")
    assert read_npz(folder / "again.npz", "features")["features"].shape == (24, 64)
    assert read_json(folder / "real.json")["network"].startswith("TorchScript network")


def test_snapshot_scores(command):
    common = ("--config", "config.json", "--network", "network.pt", "--reference", "real.npz")
    folder = command("snapshot-scores", *common, "samples.npz", "--out", "snapshots.csv")
    assert [(row["step"], row["images"]) for row in read_rows(folder / "snapshots.csv")] == [("12", "24")]


def test_neighbours_in_the_box_of_the_configuration_and_without(command, digits):
    sources = ("--config", "config.json", "--samples", "samples.npz", "--features", "features.npz")
    sources += ("--data", str(digits / "train.npy"), "--reference", "real.npz")
    folder = command("neighbours", *sources, "--out", "whole.npz")
    assert read_npz(folder / "whole.npz", "crop")["crop"].tolist() == [0, 0, 8, 8]
    folder = command("neighbours", *sources, "--network", "network.pt", "--crop", "--out", "cropped.npz")
    arrays = read_npz(folder / "cropped.npz", "crop", "pixel", "feature")
    assert arrays["crop"].tolist() == [1, 2, 6, 5]
    assert arrays["pixel"].shape == arrays["feature"].shape == (2, 3, 8, 8, 1)
