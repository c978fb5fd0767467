"""The benchmark of the feature pass runs on any file with Inception's interface, and on its architecture."""

import csv

import numpy as np
import pytest
import torch
from stand_in import StandIn, write_torchscript
from typer.testing import CliRunner

from ddpm.__main__ import app
from ddpm.bench.features import write_untrained
from ddpm.evaluation.inception import load_inception
from ddpm.files import sha256


def test_the_pass_is_measured_beside_the_network(tmp_path):
    write_torchscript(StandIn(), tmp_path / "network.pt")
    arguments = ["--network", tmp_path / "network.pt", "--network-sha256", sha256(tmp_path / "network.pt")]
    arguments += ["--images", "70", "--size", "16", "--out", tmp_path / "out.csv"]
    done = CliRunner().invoke(app, ["bench", "features", "--device", "cpu", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    with open(tmp_path / "out.csv") as file:
        (row,) = csv.DictReader(file)
    alone, of_pass = float(row["network_images_per_s"]), float(row["pass_images_per_s"])
    assert of_pass > 0
    assert float(row["share"]) == pytest.approx(of_pass / alone, abs=0.002)
    assert f"| {row['network']} | cpu | 70 of 16x16 |" in done.output


def test_what_stands_for_inception_has_its_interface(tmp_path):
    network = load_inception(file := write_untrained(tmp_path / "untrained.pt"), trusted=sha256(file))
    features, probabilities = network(np.zeros((1, 32, 32, 3), np.uint8))
    assert (features.shape, probabilities.shape) == ((1, 2048), (1, 1008))
    assert sum(p.numel() for p in network.model.parameters()) == pytest.approx(23.9e6, rel=0.02)
    assert torch.is_grad_enabled()
