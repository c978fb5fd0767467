"""What bf16, and compiling, do to the loss, bits/dim and FID of an experiment, beside the spread over seeds.

    python benchmarks/precision.py --experiment digits-eps-simple --seeds 3

Trains, samples and scores it under each seed and in each way by the functions of the workflow's jobs, into a row of
precision.csv each. The seeds name initial weights and all draws of the training; the noise of samples and bound is the
same for all. What is in --out is not measured again, and work that was killed goes on.
"""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from unittest.mock import patch

import common
import pandas as pd
import torch

from ddpm.compute import device as compute_device
from ddpm.compute.device import missing_compiler
from ddpm.config import resolving
from ddpm.config.enums import PRECISION_ENV, Features, Precision, Selection
from ddpm.config.experiment import Experiment, Repeat
from ddpm.config.schema import LikelihoodConfig
from ddpm.data.prepare import download_data, prepare
from ddpm.data.store import Images
from ddpm.evaluation.features import write_features
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.metrics import write_metrics
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.networks.classifier import train_classifier
from ddpm.evaluation.reference import write_reference
from ddpm.jobs.gpus import choose_device
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage.files import read_json, write_json
from ddpm.training.loop import train
from ddpm.training.model import load_model

BASE = "fp32"  # what the others are compared with
WAYS = {  # in which precision, and whether compiled
    BASE: (Precision.FP32, False),
    "bf16": (Precision.BF16, False),
    "fp32 compiled": (Precision.FP32, True),
    "bf16 compiled": (Precision.BF16, True),
}
LAST = 4  # rows of training.csv whose mean is the final loss
NUMBERS = ["loss", "bits_per_dim", "fid"]


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return path


def prepare_shared(
    config: resolving.Config, of: Experiment, out: Path, device: torch.device
) -> tuple[Path, FeatureNetwork, Path]:
    """The prepared data set, the network of the scores, and its features of the real images: the same for all."""
    data, source, scale = out / "data", None, config.scale_config
    if of.data_set.files and not of.data_set.root:
        source = out / "download"
        once(source / "card.json", lambda card: download_data(of.data_set, source))
    once(data / "card.json", lambda card: prepare(of.data_set, source, data))
    if scale.features is Features.INCEPTION:
        file = (config.inception.root or Path("resources/inception")) / "inception-2015-12-05.pt"
    else:
        file = out / "classifier.safetensors"
        once(file, lambda path: train_classifier(scale.classifier, data, path, device))
    network, reference = load_network(file, device, config.inception.sha256), out / "reference.npz"
    state = out / "state"
    once(
        out / "reference.json",  # written last
        lambda path: write_reference(network, data, of.evaluation.splits, reference, path, state),
    )
    return data, network, reference


def measure(
    of: Experiment, way: str, data: Path, network: FeatureNetwork, reference: Path, folder: Path, device: torch.device
) -> dict:
    """Train, sample and score `of` in `folder`; returns what came out."""
    precision, compiled = WAYS[way]
    state, final, history, samples, features, metrics = (
        folder / name
        for name in ("state", "final.safetensors", "training.csv", "samples.npz", "features.npz", "metrics.json")
    )
    bounds, card, images = [], data / "card.json", Images(data / "train.npy")
    torch.compiler.reset()  # or it refuses, after a few networks, to compile the same code for another
    with (
        patch.dict(os.environ, {PRECISION_ENV: precision}),
        patch.object(compute_device, "worth_compiling", lambda network, passes, device: compiled),
    ):
        outcome, document = folder / "training.json", of.stage_config("training")
        train(document, images, state / "training", final, history, outcome, folder / "weights", device)
        trained = load_model(final, device)
        once(
            samples,
            lambda path: sample_shard(
                AncestralSampler(trained, of.sampling, device), 1, path, print, state / "samples"
            ),
        )
        if available := read_json(card)["test"]:
            count = available if of.likelihood.test == "all" else of.likelihood.test
            bound = Bound(trained, Images(data / "test.npy"), "test", count, of.likelihood, device)
            bounds = [folder / "bound.npz"]
            once(bounds[0], lambda path: likelihood_shard(bound, 1, path, print, state / "likelihood"))
    write_features(network, samples, features)
    write_metrics(of.evaluation, "", [features], bounds, reference, card, metrics, of.repeat)
    found, numbers = read_json(metrics), dict.fromkeys(NUMBERS)
    if found["status"] == "measured":
        bits = found["nll"]["test"]["bits_per_dim"] if bounds else None
        loss = pd.read_csv(history)["loss"].tail(LAST).mean()
        numbers = {"loss": loss, "bits_per_dim": bits, "fid": found["fid"]["train"]}
    return {"status": found["status"], **numbers}


def last_weights(of: Experiment) -> Experiment:
    """The experiment, with its last weights scored, and each thing in one file."""
    settings = {"sampling": of.sampling, "likelihood": of.likelihood or LikelihoodConfig()}
    in_one = {section: value.model_copy(update={"shards": 1}) for section, value in settings.items()}
    return of.model_copy(update={**in_one, "checkpoint": Selection.FINAL})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Over the seeds: each way's mean and its standard error, and those of its difference from fp32 per seed."""
    numbers = table.astype(dict.fromkeys(NUMBERS, float)).set_index(["way", "seed"])[NUMBERS]
    both = {"itself": numbers, f"less {BASE}": numbers.sub(numbers.loc[BASE], level="seed").drop(BASE, level="way")}
    return pd.concat(both).groupby(level=[0, 1], sort=False).agg(["count", "mean", "sem"])


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--scale", help="The experiment's; demo, or that of --config.")
    parser.add_argument("--experiment", default="digits-eps-simple", help="What to train, sample and score.")
    parser.add_argument("--config", type=Path, help="A config.yaml, for an experiment or a data set of your own.")
    parser.add_argument("--seeds", type=int, default=3, help="How many, from the experiment's own on.")
    parser.add_argument("--ways", help='As in "bf16,bf16 compiled", beside fp32; by default compiled on a GPU only.')
    parser.add_argument("--out", type=Path, default=Path("results/bench/precision"), help="Folder for precision.csv.")
    args = parser.parse_args(arguments)

    device, out = choose_device(args.device), args.out
    gpu = device.type == "cuda"
    usual = [name for name, (_, compiled) in WAYS.items() if gpu or not compiled]
    tried = usual if args.ways is None else dict.fromkeys([BASE, *map(str.strip, args.ways.split(","))])
    if unknown := [name for name in tried if name not in WAYS]:
        parser.error(f"--ways {args.ways}: no way is called {unknown[0]!r}. There are {', '.join(WAYS)}.")
    if gpu and any(WAYS[name][1] for name in tried) and (missing := missing_compiler()):
        parser.error(f"there is no {missing} here, which compiled ways need. Install it, or give --ways bf16.")
    if args.config:
        config = resolving.read_config(args.config, None, args.scale)
    else:
        config = resolving.load({"scale": args.scale or "demo"})
    known = config.scale_config.experiments
    if args.experiment not in known or known[args.experiment].training is None:
        parser.error(f"--experiment {args.experiment}: is none that this scale trains. It has {', '.join(known)}.")
    of = last_weights(known[args.experiment])
    scoring = config.scale_config.model_dump(mode="json", include={"features", "classifier"})
    document = {**of.model_dump(mode="json"), **scoring, "device": device.type}
    if read_json(once(out / "experiment.json", lambda path: write_json(path, document))) != document:
        parser.error(f"{out}: what is there is of another experiment, or another device. Give another --out.")

    about = {"experiment": args.experiment, "steps": of.training.steps, "images": of.sampling.images}
    about |= {"device": common.device_name(device), "torch": torch.__version__, "date": date.today().isoformat()}
    shared = prepare_shared(config, of, out, device)
    for seed in range(of.training.seed, of.training.seed + args.seeds):
        job = of.repeated(Repeat(of=args.experiment, varies="training", seed=seed))
        for way in tried:
            row = out / way.replace(" ", "-") / f"seed{seed}" / "row.json"
            if not row.exists():
                print(f"{way}, seed {seed}:", flush=True)
                found = measure(job, way, *shared, row.parent, device)
                write_json(row, {"way": way, "seed": seed, **found, **about})
    rows = [read_json(row) for row in out.glob("*/seed*/row.json")]
    table = pd.DataFrame(sorted(rows, key=lambda row: (row["seed"], list(WAYS).index(row["way"]))))
    table.to_csv(out / "precision.csv", index=False)
    print(summary(table).to_string())


if __name__ == "__main__":
    main()
