"""The scripts in benchmarks/ run on small networks, and write their tables."""

import json
import runpy

import pandas as pd
import pytest
import yaml
from workspace import PROJECT, SHRUNKEN

from ddpm.config.enums import PRECISION_ENV, Precision

NAME = "digits-eps-simple"


@pytest.fixture(autouse=True)
def as_a_script_starts(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    monkeypatch.setenv(PRECISION_ENV, Precision.AUTO)


def run(script: str, *arguments: object) -> None:
    runpy.run_path(str(PROJECT / "benchmarks" / script))["main"]([*map(str, arguments), "--device", "cpu"])


def test_speed(tmp_path, capsys):
    small = ("--scale", "demo", "--experiment", NAME, "--batches", "4,2", "--seconds", 0, "--out", tmp_path)
    run("speed.py", *small)
    table = pd.read_csv(tmp_path / "speed.csv")
    for work, batch in (("training", 4), ("sampling", 2)):
        rows = table[table["work"] == work]
        assert set(rows["code"]) == {"this project", "diffusers"}
        assert set(rows["batch"]) == {batch}
        theirs = rows.loc[rows["code"] == "diffusers", "images_per_s"].max()
        assert rows["ratio"].tolist() == pytest.approx((rows["images_per_s"] / theirs).tolist(), rel=0.01)

    then = tmp_path / "then.csv"
    table.assign(ratio=table["ratio"] * 1e3).to_csv(then)
    with pytest.raises(SystemExit, match=r"slower than in .*: sampling: .* times diffusers, where it was"):
        run("speed.py", *small, "--against", then, "--only", "sampling")
    assert set(pd.read_csv(tmp_path / "speed.csv")["work"]) == {"sampling"}


def test_precision(tmp_path, monkeypatch, capsys):
    config = {"scale": "demo", "experiments": [NAME], "override": SHRUNKEN}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    chosen = ("--config", tmp_path / "config.yaml", "--seeds", 2, "--out", tmp_path / "out")
    run("precision.py", *chosen)
    table = pd.read_csv(tmp_path / "out/precision.csv")
    assert table[["way", "seed"]].values.tolist() == [[way, seed] for seed in (0, 1) for way in ("fp32", "bf16")]
    for number in ("loss", "bits_per_dim", "fid"):
        fp32, bf16 = (table.loc[table["way"] == way, number].tolist() for way in ("fp32", "bf16"))
        assert bf16 == pytest.approx(fp32, rel=0.01)
        assert len({*fp32, *bf16}) == 4, "bf16 rounds, and the seed decides"
    assert "less fp32 bf16" in " ".join(capsys.readouterr().out.split())
    made = json.loads((tmp_path / "out/bf16/seed1/metrics.json").read_text())["made_from"]
    assert made["precision"] == "bf16"

    monkeypatch.setattr("ddpm.training.loop.Trainer.training_step", None)
    run("precision.py", *chosen)  # which measures nothing again
    assert pd.read_csv(tmp_path / "out/precision.csv").equals(table)
