"""metrics.json: the scores of one experiment and everything that is needed to judge them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm.config import EvaluationConfig
from ddpm.data.store import Images
from ddpm.evaluation.features import read_features
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.rate_distortion import likelihood_summary, rate_distortion, read_bounds
from ddpm.files import read_json, read_npz, sha256, write_csv, write_json, write_npz
from ddpm.provenance import provenance
from ddpm.shards import DDIM, read_shard, unpack_header

if TYPE_CHECKING:  # scoring what has features already needs no torch
    from ddpm.evaluation.classifier import FeatureNetwork

# What the paper's CIFAR-10 numbers come from (Section 4, Appendix B); anything else is named as a deviation.
PAPER = {
    "data": "cifar10",
    "steps": 800_000,
    "images": 50_000,
    "features": "Inception (2015-12-05)",
    "splits": 10,
}
PAPER_NETWORK = {"ch": 128, "ch_mult": [1, 2, 2, 2], "num_res_blocks": 2, "dropout": 0.1}
PAPER_TRAINING = {"learning_rate": 2e-4, "warmup": 5000, "ema_decay": 0.9999}

SPLITS = ("train", "test")
SCORES = ("inception_score", "inception_score_std", *(f"fid_{split}" for split in SPLITS))


def deviations(header: dict, images: int, splits: int, card: dict, likelihood: dict) -> list[str]:
    """How the numbers were made otherwise than the paper's, in words."""
    training = header["training"].get("training")  # None where the weights were published
    found = []
    if card["name"] != PAPER["data"]:
        found.append(f"data: {card['title']}, {card['image_size']}x{card['image_size']}, not CIFAR-10")
    if header["network"]["name"] != PAPER["features"]:
        found.append(f"features and classes: {header['network']['name']}, not Inception")
    if header["weights"] != "ema":
        found.append(f"weights: {header['weights']}, not their running mean")
    if training is None:
        step = header["trained"]["step"]
        found.append(f"published weights{f' of step {step:,}' if step else ''}, not trained here")
    elif training["steps"] != PAPER["steps"]:
        found.append(f"{training['steps']:,} training steps of {training['batch_size']}, not {PAPER['steps']:,} of 128")
    for title, here, paper in (
        ("network", header["training"]["network"], PAPER_NETWORK),
        ("training", training or PAPER_TRAINING, PAPER_TRAINING),
    ):
        if changed := [f"{key} {here[key]}, not {value}" for key, value in paper.items() if here[key] != value]:
            found.append(f"{title}: {', '.join(changed)}")
    if images != PAPER["images"]:
        found.append(f"{images:,} sample images, not {PAPER['images']:,}")
    if splits != PAPER["splits"]:
        found.append(f"Inception Score over {splits} splits, not {PAPER['splits']}")
    for split, summary in likelihood.items():
        if summary and summary["images"] != card[split]:
            found.append(f"bits/dim of {summary['images']:,} of the {card[split]:,} {split} images")
    return found


def real_statistics(reference: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and covariance of the features of the real training and test images."""
    return {split: statistics(reference[f"{split}_features"]) for split in SPLITS}


def scores(features: np.ndarray, probabilities: np.ndarray, config: EvaluationConfig, real: dict) -> tuple[float, ...]:
    """The SCORES of one set of images, against the statistics `real` of `real_statistics`."""
    ours = statistics(features)
    distances = [frechet_distance(*ours, *real[split]) for split in SPLITS]
    return *inception_score(probabilities, config.splits), *distances


def write_metrics(
    config: EvaluationConfig,
    scale: str,
    features: list[Path],
    bounds: list[Path],
    reference: Path,
    card: Path,
    path: Path,
) -> None:
    """Score the samples against the training and the test set, and sum up the bound where it was computed.

    Args:
        features: the feature shards of the experiment. bounds: its likelihood's shards, if there are any.
        reference: real features, from `write_reference`. card: the data set's card.json.
    """
    arrays, header = read_features(features, "features", "probabilities")
    real = read_npz(reference, "train_features", "test_features", "header")
    data = read_json(card)
    method = header["training"]["diffusion"]
    unstable = header["status"]["status"] == "unstable"
    images = len(arrays["features"])
    score = fid = None
    if not unstable:
        mean, std, *distances = scores(*arrays.values(), config, real_statistics(real))
        score = {"mean": mean, "std": std, "splits": config.splits}
        fid = dict(zip(SPLITS, distances, strict=True))
    bound = read_bounds(bounds)
    nll = {split: likelihood_summary(of_split) for split, of_split in bound.items()}
    document = {
        "experiment": header["training"]["name"],
        "scale": scale,
        "data": {"name": data["name"], "title": data["title"]},
        "method": {key: method[key] for key in ("parameterization", "objective", "variance")},
        "status": "unstable" if unstable else "measured",
        "step": header["status"]["step"] if unstable else None,
        "reason": header["status"]["reason"] if unstable else None,
        "inception_score": score,
        "fid": fid,
        "nll": nll or None,
        "features": {"network": header["network"]["name"], "sha256": header["network"]["sha256"]},
        "deviations": deviations(header, header["sampling"]["images"], config.splits, data, nll),
        "made_from": {
            "images": images,
            "weights": {"kind": header["weights"], "sha256": header["weights_sha256"], **header["trained"]},
            "network": header["training"]["network"],
            "process": method,
            "training": header["training"].get("training"),
            "sampler": header["sampler"],
            "quantisation": header["quantisation"],
            "sampling": header["sampling"],
            "likelihood": next(iter(bound.values()))["header"] if bound else None,
            "evaluation": config.model_dump(mode="json"),
            "reference": {"file_sha256": sha256(reference), **unpack_header(real["header"])},
            "data_sha256": data["sha256"],
            "device": header["device"],
            **provenance(),
        },
    }
    write_json(path, document)


def write_rate_distortion(shards: list[Path], path: Path) -> None:
    """The rate-distortion curve of the test set (Figure 5, Table 4). Empty where the training was unstable."""
    curve = rate_distortion(read_bounds(shards)["test"])
    write_csv(path, curve, zip(*(column.tolist() for column in curve.values()), strict=True))


def write_progressive(config: EvaluationConfig, features: list[Path], reference: Path, path: Path) -> None:
    """Inception Score and FID of x0-hat over the reverse process (Figure 10). Empty for unstable samples."""
    arrays, header = read_features(features, "preview_features", "preview_probabilities")
    times = read_npz(features[0], "preview_times")["preview_times"]
    real = real_statistics(read_npz(reference, "train_features", "test_features"))
    timesteps = header["training"]["diffusion"]["timesteps"]
    rows = []
    if header["status"]["status"] != "unstable":
        for t, features_t, probabilities in zip(times.tolist(), *arrays.values(), strict=True):
            rows.append((t + 1, timesteps - t - 1, *scores(features_t, probabilities, config, real)))
    write_csv(path, ("t", "reverse_steps", *SCORES), rows)


def write_few_steps(
    config: EvaluationConfig, network: "FeatureNetwork", samples: list[Path], reference: Path, path: Path
) -> None:
    """Inception Score and FID of few-step samples, a row per setting. Empty where a shard is unstable.

    Their features are never saved: no file of them could be scored in the place of the paper's.

    Args:
        samples: shards of `few_steps_shard`, all of one run. reference: real features, from `write_reference`.
    """
    settings = ("eta", "steps", "evaluations")
    shards = [read_shard(shard, "images", *settings, "start", sampler=DDIM) for shard in samples]
    shards.sort(key=lambda shard: int(shard[0]["start"]))
    arrays, header = shards[0]
    real = real_statistics(read_npz(reference, "train_features", "test_features"))
    rows = []
    if all(header["status"]["status"] != "unstable" for _, header in shards):
        for slot, setting in enumerate(zip(*(arrays[key].tolist() for key in settings), strict=True)):
            images = np.concatenate([arrays["images"][:, slot] for arrays, _ in shards])
            spacing = header["sampling"]["spacing"]
            rows.append((*setting, spacing, len(images), *scores(*network(images), config, real)))
    write_csv(path, (*settings, "spacing", "images", *SCORES), rows)


def write_neighbours(
    config: EvaluationConfig, samples: Path, features: Path, train: Path, reference: Path, path: Path
) -> None:
    """The nearest training images of the first samples, in pixels and in features (Euclidean; Figure 15)."""
    from sklearn.neighbors import NearestNeighbors

    rows, k = config.neighbour_rows, config.neighbours
    images = read_shard(samples, "images")[0]["images"][:rows]
    sample_features = read_npz(features, "features")["features"][:rows]
    training = Images(train)[:]
    real = read_npz(reference, "train_features")["train_features"]

    def nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
        """The `k` training images nearest to each row of `of`, [rows, k, H, W, C]."""
        if len(of) == 0:
            return np.zeros((0, k, *training.shape[1:]), np.uint8)
        search = NearestNeighbors(n_neighbors=min(k, len(among)), algorithm="brute").fit(among)
        return training[search.kneighbors(of, return_distance=False)]

    def flat(array: np.ndarray) -> np.ndarray:
        return array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float32)

    pixel = nearest(flat(images), flat(training))
    write_npz(path, samples=images, pixel=pixel, feature=nearest(sample_features, real))
