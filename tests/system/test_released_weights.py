"""An experiment with published weights: downloaded and converted by the workflow, never trained."""

import copy
import json

import pytest
import torch
from official_weights import drawn
from servers import serving
from workspace import SHRUNKEN

from ddpm.config.resolving import load

MAIN = "digits-eps-simple"


@pytest.fixture
def server():
    with serving() as server:
        yield server


def released(server) -> tuple[dict, dict]:
    """SHRUNKEN with weights that the server holds, as a converted official checkpoint; and these."""
    override = copy.deepcopy(SHRUNKEN)
    network = load({"scale": "demo", "override": override}).scale_config.experiments[MAIN].network
    override["experiments"][MAIN] |= {
        "weights": "released",
        "checkpoint": {
            "files": [{"name": "model-790000.ckpt", "urls": [f"{server.url}/missing", f"{server.url}/model"]}],
            "averaged": True,
            "step": 790_000,
        },
    }
    return override, {name: tensor.float() for name, tensor in drawn(network).items()}


def test_released_weights_take_the_place_of_training(fresh, server, tmp_path):
    override, weights = released(server)
    torch.save(weights, tmp_path / "model.ckpt")
    server.add("model", (tmp_path / "model.ckpt").read_bytes())
    fresh.configure(override, experiments=[MAIN])
    targets = ("figure13", f"results/demo/{MAIN}/metrics.json")
    rules = [rule for rule, _ in fresh.jobs(*targets)]
    assert "train" not in rules
    assert rules.count("download_weights") == rules.count("import_weights") == 1
    metrics = json.loads((fresh.results / MAIN / "metrics.json").read_text())
    assert metrics["made_from"]["weights"]["kind"] == "ema"
    assert metrics["made_from"]["weights"]["step"] == 790_000
    assert metrics["made_from"]["training"] is None
    assert any("published weights of step 790,000" in deviation["text"] for deviation in metrics["deviations"])
    # What is there is neither asked for again nor needed.
    asked = len(server.asked)
    assert not fresh.jobs(*targets)
    assert len(server.asked) == asked


def test_weights_that_cannot_be_had_stop_the_run_with_a_reason(fresh, server):
    override, _ = released(server)
    fresh.configure(override, experiments=[MAIN])
    (fresh.folder / "workflow/ddpm/storage/download.py").write_text(
        (fresh.folder / "workflow/ddpm/storage/download.py").read_text().replace("ROUNDS = 3", "ROUNDS = 1")
    )
    done = fresh.snakemake(f"results/demo/{MAIN}/model.safetensors", check=False)
    assert done.returncode != 0
    log = (fresh.folder / "resources/logs/weights-digits-eps-simple.log").read_text()
    assert "could not be downloaded" in log
    assert "put it, or a link to it, at resources/weights/digits-eps-simple/" in log
    assert f"{server.url}/missing: 404" in log
    assert not list((fresh.folder / "resources/weights").rglob("*.ckpt"))
