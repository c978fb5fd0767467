"""metrics.json: the scores of one experiment and everything that is needed to judge them."""

import math
from pathlib import Path

import numpy as np

from ddpm.config import EvaluationConfig
from ddpm.data.store import Images
from ddpm.evaluation.features import read_features
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.rate_distortion import likelihood_summary, rate_distortion, read_bounds
from ddpm.files import read_json, read_npz, sha256, write_csv, write_json, write_npz
from ddpm.provenance import provenance
from ddpm.shards import read_shard, unpack_header

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
        mean, std = inception_score(arrays["probabilities"], config.splits)
        score = {"mean": mean, "std": std, "splits": config.splits}
        ours = statistics(arrays["features"])
        fid = {split: frechet_distance(*ours, *statistics(real[f"{split}_features"])) for split in ("train", "test")}
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
    real = read_npz(reference, "train_features", "test_features")
    timesteps = header["training"]["diffusion"]["timesteps"]
    against = {split: statistics(real[f"{split}_features"]) for split in ("train", "test")}
    names = ("t", "reverse_steps", "inception_score", "inception_score_std", "fid_train", "fid_test")
    rows = []
    if header["status"]["status"] != "unstable":
        for t, features_t, probabilities in zip(times.tolist(), *arrays.values(), strict=True):
            ours = statistics(features_t)
            distances = [frechet_distance(*ours, *against[split]) for split in ("train", "test")]
            rows.append((t + 1, timesteps - t - 1, *inception_score(probabilities, config.splits), *distances))
    write_csv(path, names, rows)


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
