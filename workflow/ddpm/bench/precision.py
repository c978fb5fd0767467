"""What the ways to compute do to the loss, bits/dim and FID of an experiment, beside the spread over seeds."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pandas as pd
import torch

from ddpm import computing, norm, winograd
from ddpm.compiling import missing_compiler
from ddpm.config import Experiment, Features, LikelihoodConfig, Repeat
from ddpm.data.prepare import download_data, prepare
from ddpm.data.store import Images
from ddpm.evaluation.classifier import train_classifier
from ddpm.evaluation.features import write_features
from ddpm.evaluation.likelihood import likelihood_shard
from ddpm.evaluation.metrics import write_metrics
from ddpm.evaluation.networks import FeatureNetwork, load_network
from ddpm.evaluation.reference import write_reference
from ddpm.files import UserError, claim_folder, read_json, whole, write_json
from ddpm.planning.measuring import device_name
from ddpm.precision import ASKED, Precision
from ddpm.resolving import Config, repeated
from ddpm.sampling.ancestral import sample_shard
from ddpm.training.loop import train
from ddpm.training.selection import Selection
from ddpm.training.state import load_weights


class Way(NamedTuple):
    """How networks are computed."""

    precision: Precision
    compiled: bool = False
    minimal: bool = False
    """By Winograd's convolutions, on images of any size that they can."""
    in_one_pass: bool = False
    """With norm.cpp, on a CPU."""

    @property
    def of_cpus(self) -> bool:
        """Whether on a GPU it is no way of its own."""
        return self.precision is Precision.FP32 and self.in_one_pass


BASE = "fp32"  # what the others are compared with
WAYS = {
    BASE: Way(Precision.FP32),
    "fp32 in one pass": Way(Precision.FP32, in_one_pass=True),
    "fp32 Winograd": Way(Precision.FP32, minimal=True, in_one_pass=True),
    "bf16": Way(Precision.BF16, in_one_pass=True),
    "fp32 compiled": Way(Precision.FP32, compiled=True),
    "bf16 compiled": Way(Precision.BF16, compiled=True),
}
LAST = 4  # rows of training.csv whose mean is the final loss
NUMBERS = {"loss": 5, "bits_per_dim": 4, "fid": 3}  # with decimals


@contextmanager
def forced(way: Way) -> Iterator[None]:
    """What is computed in the block is computed in this way, whatever the device, the network and the job's length."""
    if way.compiled:
        torch.compiler.reset()  # or it refuses, after a few networks, to compile the same code for another
    with (
        patch.dict(os.environ, {ASKED: way.precision}),
        patch.object(computing, "earned", lambda network, passes, device: way.compiled),
        patch.object(computing, "saves_products", lambda network, device, precision: way.minimal),
        patch.object(winograd, "SMALLEST", winograd.STEP),
        patch.object(norm, "compiled", norm.compiled if way.in_one_pass else lambda: False),
    ):
        yield


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return path


@dataclass(frozen=True)
class Common:
    """What all ways and seeds share; no way to compute networks has a part in it."""

    data: Path
    network: FeatureNetwork
    reference: Path


def prepare_common(config: Config, of: Experiment, out: Path, device: torch.device, log) -> Common:
    """The prepared data set, the network of the scores, and its features of the real images, made once in `out`."""
    data, source, scale = out / "data", None, config.scale_config
    if of.data_set.files and not of.data_set.root:
        source = out / "download"
        once(source / "card.json", lambda card: download_data(of.data_set, source, log))
    once(data / "card.json", lambda card: prepare(of.data_set, source, data, log=log))
    if scale.features is Features.INCEPTION:
        file = (config.inception.root or Path("resources/inception")) / "inception-2015-12-05.pt"
    else:
        file = out / "classifier.safetensors"
        once(file, lambda path: train_classifier(scale.classifier, data, path, device, log))
    network, reference, splits = (
        load_network(file, device, config.inception.sha256),
        out / "reference.npz",
        of.evaluation.splits,
    )
    summary = out / "reference.json"  # written last
    once(summary, lambda path: write_reference(network, data, splits, reference, path, out / "state", log))
    return Common(data, network, reference)


def measure(of: Experiment, way: str, common: Common, folder: Path, device: torch.device, log) -> dict:
    """Train, sample and score `of` in `folder` by the functions of the workflow's jobs; returns what came out."""
    images, state = Images(common.data / "train.npy"), folder / "state"
    final, history, outcome = (folder / name for name in ("final.safetensors", "training.csv", "training.json"))
    bounds, card = [], common.data / "card.json"
    with forced(WAYS[way]):
        document = of.stage_config("training")
        train(document, images, state / "training", final, history, outcome, folder / "weights", device, log=log)
        trained = load_weights(final, device)
        samples = folder / "samples.npz"
        once(samples, lambda path: sample_shard(trained, of.sampling, 1, path, device, log, state / "samples"))
        if available := read_json(card)["test"]:
            count = available if of.likelihood.test == "all" else of.likelihood.test
            work = (trained, Images(common.data / "test.npy"), "test", count, of.likelihood, 1)
            bounds = [folder / "bound.npz"]
            once(bounds[0], lambda path: likelihood_shard(*work, path, device, log, state / "likelihood"))
    features, metrics = folder / "features.npz", folder / "metrics.json"
    write_features(common.network, samples, features, log=log)
    write_metrics(of.evaluation, "", [features], bounds, common.reference, card, metrics, of.repeat)
    found, numbers = read_json(metrics), dict.fromkeys(NUMBERS)
    if found["status"] == "measured":
        bits = found["nll"]["test"]["bits_per_dim"] if bounds else None
        loss = pd.read_csv(history)["loss"].tail(LAST).mean()
        numbers = {"loss": loss, "bits_per_dim": bits, "fid": found["fid"]["train"]}
    return {"status": found["status"], **numbers}


def last_weights(config: Config, name: str) -> Experiment:
    """The experiment, with its last weights scored, and each thing in one file."""
    known = config.scale_config.experiments
    if name not in known:
        raise UserError(f"experiment {name!r} is unknown at scale {config.scale}. Known: {', '.join(known)}.")
    of = known[name]
    if of.training is None:
        raise UserError(f"{name}: its weights are released, so there is no training to compare. Name another.")
    settings = {"sampling": of.sampling, "likelihood": of.likelihood or LikelihoodConfig()}
    in_one = {section: value.model_copy(update={"shards": 1}) for section, value in settings.items()}
    return of.model_copy(update={**in_one, "checkpoint": Selection.FINAL})


def chosen(ways: str | None, device: torch.device) -> list[str]:
    """The names of WAYS that `benchmark_precision` tries, in their order."""
    gpu = device.type == "cuda"
    asked = None if ways is None else {BASE, *(name.strip() for name in ways.split(","))}
    if asked and (unknown := asked - WAYS.keys()):
        raise UserError(f"--ways {ways}: no way is called {unknown.pop()!r}. There are {', '.join(WAYS)}.")
    usual = (name for name, way in WAYS.items() if (not way.of_cpus if gpu else not way.compiled))
    tried = [name for name in WAYS if name in asked] if asked else list(usual)
    if gpu and any(WAYS[name].compiled for name in tried) and (missing := missing_compiler()):
        raise UserError(f"there is no {missing} here, which compiled ways need. Install it, or give --ways bf16.")
    return tried


def benchmark_precision(
    config: Config,
    experiment: str,
    out: Path,
    device: torch.device,
    seeds: int = 3,
    ways: str | None = None,
    log=print,
) -> pd.DataFrame:
    """Run `experiment` under each seed and in each way, and write precision.csv into `out`, a row for each.

    The scores are those of metrics.json: bits/dim of test images, and FID to the training set. What earlier calls have
    measured in `out` is in the table and not measured again; work that was killed goes on.

    Args:
        seeds: how many, from the training's own on. They name the initial weights and all draws of the training; the
            noise of the samples and of the bound is the same for all.
        ways: of WAYS, with commas between; fp32 is always among them. None: the compiled ones on a GPU only, and
            Winograd's convolutions and normalisation in one pass on a CPU only.

    Raises:
        UserError: there is no such experiment or way, it is not trained, or `out` is another one's.
    """
    of, tried = last_weights(config, experiment), chosen(ways, device)
    scoring = config.scale_config.model_dump(mode="json", include={"features", "classifier"})
    document = {**of.model_dump(mode="json"), **scoring, "device": device.type}
    if not (out / "experiment.json").exists():
        claim_folder(out, "a comparison of precisions")
    if read_json(once(out / "experiment.json", lambda path: write_json(path, document))) != document:
        raise UserError(f"{out}: what is there is of another experiment, or another device. Give another --out.")

    machine = device_name(device)
    about = {"experiment": experiment, "steps": of.training.steps, "images": of.sampling.images, "device": machine}
    about |= {"torch": torch.__version__, "date": date.today().isoformat()}
    common = prepare_common(config, of, out, device, log)
    for seed in range(of.training.seed, of.training.seed + seeds):
        job = repeated(of, Repeat(of=experiment, varies="training", seed=seed))
        for way in tried:
            row = out / way.replace(" ", "-") / f"seed{seed}" / "row.json"
            if not row.exists():
                found = measure(job, way, common, row.parent, device, partial(say, log, f"{way}, seed {seed}"))
                write_json(row, {"way": way, "seed": seed, **found, **about})
    rows = [read_json(row) for row in out.glob("*/seed*/row.json")]
    rows.sort(key=lambda row: (row["seed"], list(WAYS).index(row["way"])))
    table = pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float))
    with whole(out / "precision.csv") as part:
        table.to_csv(part, index=False)
    log(f"{experiment}, {of.training.steps:,} steps, {of.sampling.images:,} samples")
    log(f"{machine}, torch {torch.__version__}")
    for words in summary(table):
        log(words)
    return table


def say(log, about: str, words: str) -> None:
    log(f"{about}: {words}")


def summary(table: pd.DataFrame) -> Iterator[str]:
    """In Markdown: each way's mean over seeds, and that of its difference from fp32 under the same seed.

    Behind a mean stands its standard error, and behind that of a difference how many of its errors it is from none.
    """
    by_way = {way: rows.set_index("seed")[list(NUMBERS)] for way, rows in table.groupby("way", sort=False)}
    yield "| Way | Seeds | Loss | Bits/dim | FID |"
    yield "|---|---|---|---|---|"
    for way, numbers in by_way.items():
        yield line(way, numbers, differences=False)
    for way, numbers in by_way.items():
        if way != BASE:
            yield line(f"{way} - {BASE}", (numbers - by_way[BASE]).dropna(how="all"), differences=True)


def line(name: str, numbers: pd.DataFrame, differences: bool) -> str:
    """A row of the table."""
    cells = []
    for key, decimals in NUMBERS.items():
        form = "+.2g" if differences else f".{decimals}f"
        mean, error = numbers[key].mean(), numbers[key].sem()
        cell = f"{mean:{form}}"
        if not math.isnan(error):  # there is none of a single seed
            cell += f" ± {error:{form.strip('+')}}"
            cell += f" ({abs(mean) / error:.1f})" if differences and error else ""
        cells.append(cell)
    return f"| {name} | {len(numbers)} | {' | '.join(cells)} |"
