"""The benchmark of the network: what is compared is the same work, and its table says what was measured."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from processes import together
from typer.testing import CliRunner

from ddpm import resolving
from ddpm.__main__ import app
from ddpm.bench import diffusers_work, growth, speed
from ddpm.bench import processes as sharing
from ddpm.planning.costs import network_cost
from ddpm.planning.rates import PAPERS, fingerprint
from ddpm.precision import Precision

CPU = torch.device("cpu")


def small(batch: int):
    """The demo's experiment in place of the paper's."""
    of = resolving.load({"scale": "demo"}).scale_config.experiments["digits-eps-simple"]
    return of.model_copy(update={"training": of.training.model_copy(update={"batch_size": batch})})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("speed")


@pytest.fixture(scope="module")
def measured(place) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(speed, "papers", small)
        sizes = {"block_out_channels": (32, 32), "layers_per_block": 1}
        kinds = {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        }
        monkeypatch.setattr(diffusers_work, "PUBLISHED", {**diffusers_work.PUBLISHED, **sizes, **kinds})
        monkeypatch.setattr(speed.features, "untrained_network", lambda device: None)
        monkeypatch.setattr(speed.features, "run", lambda *arguments: None)
        return speed.benchmark(place, CPU, place / "rates.json", (4, 2), least=0.0, log=lambda line: None)


def test_diffusers_network_is_the_papers():
    model = diffusers_work.network(CPU, torch.contiguous_format)
    assert sum(parameter.numel() for parameter in model.parameters()) == network_cost(PAPERS[32]).parameters
    assert speed.papers(8).network == PAPERS[32].model_copy(update={"dropout": 0.1})


def test_every_work_has_its_rows(measured, place):
    table = pd.read_csv(place / "speed.csv")
    assert len(table) == len(measured)
    assert (place / "speed.png").stat().st_size > 5000
    both = table[table["work"].isin(["training", "sampling"])]
    assert set(both["code"]) == {speed.OURS, speed.THEIRS}
    assert {"likelihood", "features", "reading data"} <= set(table["work"])
    assert set(both.groupby("work")["ratio"].max() >= 1) == {True}
    for _, rows in both.groupby("work"):
        theirs = rows.loc[rows["code"] == speed.THEIRS, "images_per_s"].max()
        assert rows["ratio"].tolist() == pytest.approx((rows["images_per_s"] / theirs).tolist(), rel=0.01)
    assert (both["batch"] == both["work"].map({"training": 4, "sampling": 2})).all()


def test_the_plan_gets_the_rates(measured, place):
    (device, found), *_ = json.loads((place / "rates.json").read_text()).items()
    assert device == measured["device"].iloc[0]
    rates = found["networks"][fingerprint(small(4).network)]
    for work, rate in rates.items():
        assert rate == pytest.approx(1e12 * speed.best(measured, work, speed.OURS)["tflops"])


def test_a_step_of_sampling_goes_down_the_chain():
    step = speed.sampling(small(4), 3, CPU, Precision.FP32, False)
    times = [step()[0] for _ in range(3)]
    assert times == [times[0] - i for i in range(3)]


def earlier(table: pd.DataFrame, path, **changed) -> str:
    table.assign(**changed).to_csv(path, index=False)
    return path


def test_a_ratio_that_has_fallen_is_named(measured, tmp_path):
    then = tmp_path / "then.csv"
    assert speed.regressions(measured, earlier(measured, then)) == []
    assert speed.regressions(measured, earlier(measured, then, ratio=measured["ratio"] / 1.05)) == []
    slower = speed.regressions(measured, earlier(measured, then, ratio=measured["ratio"] * 1.3))
    assert [line.partition(":")[0] for line in slower] == ["training", "sampling"]
    with pytest.raises(speed.UserError, match=r"has no row of .*, only of another machine"):
        speed.regressions(measured, earlier(measured, then, device="another machine"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    (
        (["--batches", "8"], "--batches 8: give two numbers"),
        (["--against", "nowhere.csv"], "nowhere.csv: no such file"),
    ),
)
def test_what_cannot_be_measured_is_refused(arguments, words, tmp_path):
    done = CliRunner().invoke(app, ["bench", "--out", str(tmp_path), *arguments])
    assert done.exit_code
    assert words in str(done.exception)


def test_growth_is_counted_in_thousands(tmp_path, monkeypatch):
    assert growth.counts(50_000) == [1000, 2000, 5000, 10_000, 20_000, 50_000]
    monkeypatch.setattr(growth, "counts", lambda largest: [n for n in (8, 16, 32) if n <= largest])
    growth.benchmark_growth(32, tmp_path, CPU, log=lambda line: None)
    table = pd.read_csv(tmp_path / "growth.csv")
    assert table.groupby("work")["count"].apply(list).tolist() == 3 * [[8, 16, 32]]
    assert (table["seconds"] > 0).all()
    assert (tmp_path / "growth.png").stat().st_size > 5000


def test_the_power_of_growth():
    counts = [1000, 2000, 5000]
    table = pd.DataFrame({"work": 3 * ["a"] + 3 * ["b"], "count": 2 * counts})
    table["seconds"] = [n / 7 for n in counts] + [n**2 / 3 for n in counts]
    assert growth.powers(table) == pytest.approx({"a": 1, "b": 2})


def test_one_process_shares_nothing(tmp_path):
    with pytest.raises(sharing.UserError, match="Give several, as in 2xcpu"):
        sharing.benchmark_processes(2, 0, None, CPU, sharing.ALONE)


def test_two_processes_measure_what_they_share(tmp_path, monkeypatch):
    """By a clock on which a shared step takes longer by the second that is put into each sum."""
    monkeypatch.setattr(sharing, "papers", small)
    plain, now = sharing.Group.sum_, [0.0]

    def passing(seconds: float = 0.01) -> float:
        now[0] += seconds
        return now[0]

    def late(group: sharing.Group, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1000:
            passing(1)
        return plain(group, x)

    monkeypatch.setattr(sharing, "time", SimpleNamespace(perf_counter=passing))

    monkeypatch.setattr(sharing.Group, "sum_", late)
    path = tmp_path / "shared.csv"
    together(2, lambda group: sharing.benchmark_processes(2, 0, path, CPU, group, lambda line: None), tmp_path)
    row = pd.read_csv(path).iloc[0]
    assert (row["processes"], row["images_of_each"]) == (2, 2)
    assert row["shared_s"] - row["alone_s"] == pytest.approx(1)
    assert row["sum_s"] == pytest.approx(1, abs=0.1)
