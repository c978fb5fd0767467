"""The benchmark of precision: the workflow's own jobs under each seed, in each way, and none of them twice."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from helpers import CPU
from typer.testing import CliRunner

from ddpm import computing, norm, resolving
from ddpm.__main__ import app
from ddpm.bench import precision
from ddpm.bench.precision import LAST, NUMBERS, benchmark_precision, summary
from ddpm.computing import ASKED
from ddpm.config import Precision
from ddpm.files import UserError, read_json
from ddpm.training.loop import Trainer
from ddpm.unet import UNet

NAME = "digits-eps-simple"
SHRUNKEN = {
    "classifier": {"width": 8, "features": 16, "epochs": 1},
    "defaults": {
        "network": {"ch": 8, "groups": 4},
        "diffusion": {"timesteps": 20},
        "training": {"steps": 12, "batch_size": 8, "warmup": 2, "log_every": 2, "save_every": 4},
        "sampling": {"images": 24, "batch_size": 24},
        "evaluation": {"splits": 2, "replicates": 2},
    },
    "experiments": {
        NAME: {
            "training": {"snapshot_every": 6},
            "checkpoint": "lowest-fid",
            "sampling": {"shards": 2},
            "snapshots": {"images": 20, "batch_size": 20, "previews": 2},
            "few_steps": {"steps": [2], "images": 24, "batch_size": 24},
            "likelihood": {"test": 12, "train": 8, "batch_size": 12},
        }
    },
}


def shrunken(**training) -> resolving.Config:
    override = resolving.merge(SHRUNKEN, {"defaults": {"training": training}})
    return resolving.load({"scale": "demo", "experiments": [NAME], "override": override})


@pytest.fixture(autouse=True)
def nothing_is_asked(monkeypatch):
    monkeypatch.setenv(ASKED, Precision.AUTO)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder and the table of a benchmark of two seeds."""
    out = tmp_path_factory.mktemp("bench") / "precision"
    table = benchmark_precision(shrunken(), NAME, out, CPU, seeds=2, log=lambda words: None)
    return out, table


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_row_for_each_way_and_seed(measured):
    out, table = measured
    ways = ["fp32", "fp32 in one pass", "fp32 Winograd", "bf16"]
    assert table[["way", "seed"]].values.tolist() == [[way, seed] for seed in (0, 1) for way in ways]
    assert set(table["status"]) == {"measured"}
    saved = pd.read_csv(out / "precision.csv")
    pd.testing.assert_frame_equal(saved, table)
    assert {"device", "torch", "date", "steps", "images"} <= set(saved.columns)
    for way in ("fp32", "bf16"):
        assert read_json(out / way / "seed1" / "metrics.json")["made_from"]["precision"] == way


@pytest.mark.parametrize("way", ["fp32 in one pass", "fp32 Winograd"])
def test_our_own_layers_round_and_change_nothing_else(way, measured):
    _, table = measured
    by_way = table.pivot(index="seed", columns="way", values=list(NUMBERS))
    found, exact = (by_way.xs(way, axis=1, level="way")[["loss", "bits_per_dim"]] for way in (way, "fp32"))
    assert (found != exact).any(axis=None), "in a last bit here and there"
    assert np.allclose(found, exact, rtol=1e-4)


def test_bf16_rounds_and_the_seed_decides(measured):
    _, table = measured
    by_way = table.pivot(index="seed", columns="way", values=list(NUMBERS))
    for number in NUMBERS:
        fp32, bf16 = by_way[number]["fp32"], by_way[number]["bf16"]
        assert (fp32 != bf16).all()
        assert np.allclose(bf16, fp32, rtol=0.01)
        assert fp32[0] != fp32[1]


def test_normalisation_in_one_pass_is_what_the_commands_give_by_hand(measured, digits, tmp_path):
    """Each with its own document, as the rules call them, and with the second seed."""
    _, table = measured
    config = shrunken(seed=1)
    of = config.scale_config.experiments[NAME]
    classifier = config.scale_config.classifier.model_dump(mode="json")
    documents = {stage: of.stage_config(stage) for stage in ("training", "sampling", "likelihood", "evaluation")}
    for stage, document in {**documents, "classifier": classifier}.items():
        (tmp_path / f"{stage}.json").write_text(json.dumps(document))

    def run(line: str) -> None:
        words = [str(tmp_path / word[1:]) if word.startswith("@") else word for word in line.split()]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output

    files = "--out @final.safetensors --history @training.csv --outcome @outcome.json --snapshots @weights"
    run(f"train --config @training.json --data {digits}/train.npy --state @state {files} --device cpu")
    run(f"classifier --config @classifier.json --data {digits} --out @network.safetensors --device cpu")
    network = "--network @network.safetensors --device cpu"
    run(f"reference {network} --data {digits} --splits 2 --out @real.npz --summary @real.json")
    weights = "--weights @final.safetensors --device cpu"
    for shard in (1, 2):
        run(f"sample --config @sampling.json {weights} --shard {shard} --out @{shard}.npz")
        run(f"features {network} --samples @{shard}.npz --out @features{shard}.npz")
    run(f"likelihood --config @likelihood.json {weights} --data {digits}/test.npy --shard 1 --out @bound.npz")
    scored = f"@features1.npz @features2.npz --bound @bound.npz --reference @real.npz --card {digits}/card.json"
    run(f"evaluate --config @evaluation.json {scored} --out @metrics.json")

    (row,) = table[(table["way"] == "fp32 in one pass") & (table["seed"] == 1)].to_dict("records")
    metrics = read_json(tmp_path / "metrics.json")
    assert row["bits_per_dim"] == metrics["nll"]["test"]["bits_per_dim"]
    assert row["fid"] == pytest.approx(metrics["fid"]["train"], rel=1e-6)
    assert row["loss"] == pytest.approx(pd.read_csv(tmp_path / "training.csv")["loss"][-LAST:].mean(), rel=1e-12)


def test_a_second_call_repeats_nothing(measured):
    out, table = measured
    before, said = times_of(out), []
    again = benchmark_precision(shrunken(), NAME, out, CPU, seeds=1, log=said.append)
    pd.testing.assert_frame_equal(again, table)
    after = times_of(out)
    assert {path for path in after if after[path] != before.get(path)} == {out / "precision.csv"}
    assert "| bf16 | 2 |" in "\n".join(said)


def test_it_goes_on_where_it_was_killed(measured, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def kill(*arguments, **options):
        raise Killed

    _, table = measured
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(precision, "write_metrics", kill)
        benchmark_precision(shrunken(), NAME, tmp_path, CPU, seeds=1)
    made = [tmp_path / "fp32" / "seed0" / name for name in ("samples.npz", "bound.npz")]
    before = times_of(tmp_path)
    monkeypatch.setattr(Trainer, "update", kill)
    with pytest.raises(Killed):  # at the training in the next way
        benchmark_precision(shrunken(), NAME, tmp_path, CPU, seeds=1)
    after = times_of(tmp_path)
    assert all(after[path] == before[path] for path in made)
    row = read_json(tmp_path / "fp32" / "seed0" / "row.json")
    assert {key: row[key] for key in NUMBERS} == table.iloc[0][list(NUMBERS)].to_dict()


def test_a_way_is_forced_on_every_job_and_on_nothing_else(measured, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(UNet, "compile", lambda model, **how: compiled.append(model.precision))
    monkeypatch.setattr(precision, "missing_compiler", lambda: "Triton")  # which is for GPUs
    # A compiled network has no normalisation in one pass. Here nothing is compiled really, and no more may differ.
    monkeypatch.setitem(precision.WAYS, "bf16 compiled", precision.WAYS["bf16 compiled"]._replace(in_one_pass=True))
    _, table = measured
    every = ",".join(precision.WAYS)
    also = benchmark_precision(shrunken(), NAME, tmp_path, CPU, seeds=1, ways=every, log=lambda words: None)
    assert compiled == [each for each in (Precision.FP32, Precision.BF16) for _ in ("train", "sample", "bound")]
    assert also["way"].tolist() == list(precision.WAYS)
    numbers = also.set_index("way")[list(NUMBERS)]
    for way in ("fp32", "bf16"):
        assert numbers.loc[f"{way} compiled"].tolist() == numbers.loc[way].tolist()
        assert numbers.loc[way].tolist() == table[table["seed"] == 0].set_index("way").loc[way, list(NUMBERS)].tolist()
    assert os.environ[ASKED] == Precision.AUTO
    assert not computing.earned(shrunken().scale_config.experiments[NAME].network, 1e30, CPU)


def test_ways_are_chosen_by_device_or_by_name(monkeypatch):
    monkeypatch.setattr(precision, "missing_compiler", lambda: None)
    gpu = computing.torch.device("cuda")
    assert precision.chosen(None, CPU) == ["fp32", "fp32 in one pass", "fp32 Winograd", "bf16"]
    assert precision.chosen(None, gpu) == ["fp32", "bf16", "fp32 compiled", "bf16 compiled"]
    assert precision.chosen("bf16 compiled, bf16", CPU) == ["fp32", "bf16", "bf16 compiled"]
    monkeypatch.setattr(precision, "missing_compiler", lambda: "Triton")
    assert precision.chosen("bf16", gpu) == ["fp32", "bf16"]
    with pytest.raises(UserError, match="there is no Triton here"):
        precision.chosen(None, gpu)


def test_fp32_is_torchs_own_and_the_other_ways_are_ours():
    before = norm.compiled
    for name, way in precision.WAYS.items():
        with precision.forced(way):
            assert (norm.compiled is before) == (name in ("fp32 in one pass", "fp32 Winograd", "bf16"))
    assert norm.compiled is before


def test_the_table_pairs_seeds():
    """Means and standard errors in closed form; a seed that only one way has is in no difference."""
    rows = [("fp32", 0, 1.0), ("bf16", 0, 1.1), ("fp32", 1, 3.0), ("bf16", 1, 3.3), ("fp32", 2, 5.0), ("bf16", 3, 9.0)]
    table = pd.DataFrame([{"way": way, "seed": seed, **dict.fromkeys(NUMBERS, value)} for way, seed, value in rows])
    table.loc[:, "bits_per_dim"] = np.nan
    lines = [line.split(" | ") for line in summary(table)]
    (fp32, bf16, difference) = lines[2:]
    assert fp32[:3] == ["| fp32", "3", "3.00000 ± 1.15470"]
    assert bf16[1] == "3"
    assert difference[:3] == ["| bf16 - fp32", "2", "+0.2 ± 0.1 (2.0)"]


def test_what_cannot_be_compared_is_refused(measured, tmp_path):
    out, _ = measured
    with pytest.raises(UserError, match=r"'digits-x' is unknown at scale demo. Known: digits-eps-simple"):
        benchmark_precision(shrunken(), "digits-x", tmp_path, CPU)
    with pytest.raises(UserError, match=r"is of another experiment, or another device. Give another --out"):
        benchmark_precision(shrunken(steps=14), NAME, out, CPU)
    with pytest.raises(UserError, match=r"--ways bf16,fp8: no way is called 'fp8'. There are fp32, fp32 in"):
        benchmark_precision(shrunken(), NAME, tmp_path, CPU, ways="bf16,fp8")
    config = shrunken()
    released = config.scale_config.experiments[NAME].model_copy(update={"training": None})
    config.scale_config.experiments[NAME] = released
    with pytest.raises(UserError, match=r"its weights are released"):
        benchmark_precision(config, NAME, tmp_path, CPU)


def test_the_command(tmp_path):
    done = CliRunner().invoke(app, ["bench", "precision", "--experiment", "digits-x", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UserError)
    assert "at scale demo. Known: digits-mu-vlb-learned" in str(done.exception)
