"""metrics.json: the scores of one experiment and everything that is needed to judge them."""

import math
from pathlib import Path

import numpy as np

from ddpm.config import EvaluationConfig
from ddpm.evaluation.features import read_features
from ddpm.evaluation.fid import frechet_distance, statistics
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks import FeatureNetwork
from ddpm.evaluation.protocol import deviations
from ddpm.evaluation.rate_distortion import likelihood_summary, rate_distortion, read_bounds
from ddpm.evaluation.reference import SPLITS, read_reference
from ddpm.files import read_json, read_npz, sha256, write_csv, write_json
from ddpm.provenance import provenance
from ddpm.shards import DDIM, read_shard

SCORES = ("inception_score", "inception_score_std", *(f"fid_{split}" for split in SPLITS))


Statistics = dict[str, tuple[np.ndarray, np.ndarray]]
"""Mean and covariance of the features of the real images, by split; no entry for a split without images."""


def real_statistics(reference: Path, network_sha256: str) -> tuple[Statistics, dict]:
    """The statistics of the real images, and the header of the file."""
    features, header = read_reference(reference, network_sha256)
    return {split: statistics(of_split) for split, of_split in features.items()}, header


def scores(
    features: np.ndarray, probabilities: np.ndarray, config: EvaluationConfig, real: Statistics
) -> tuple[float, ...]:
    """The SCORES of one set of images; the FID is nan where there are no real images of a split."""
    ours = statistics(features)
    distances = [frechet_distance(*ours, *real[split]) if split in real else math.nan for split in SPLITS]
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
    """Score the samples against the training set and the test set, if there is one, and sum up the bound.

    Args:
        features: the feature shards of the experiment. bounds: its likelihood's shards, if there are any.
        reference: real features, from `reference.write_reference`. card: the data set's card.json.
    """
    arrays, header = read_features(features, "features", "probabilities")
    real, real_header = real_statistics(reference, header["network"]["sha256"])
    data = read_json(card)
    method = header["training"]["diffusion"]
    unstable = header["status"]["status"] == "unstable"
    images = len(arrays["features"])
    score = fid = None
    if not unstable:
        mean, std, *distances = scores(*arrays.values(), config, real)
        score = {"mean": mean, "std": std, "splits": config.splits}
        fid = {split: distance if split in real else None for split, distance in zip(SPLITS, distances, strict=True)}
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
        "deviations": deviations(header, header["sampling"]["images"], config.splits, data, nll, real_header),
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
            "reference": {"file_sha256": sha256(reference), **real_header},
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
    real, _ = real_statistics(reference, header["network"]["sha256"])
    timesteps = header["training"]["diffusion"]["timesteps"]
    rows = []
    if header["status"]["status"] != "unstable":
        for t, features_t, probabilities in zip(times.tolist(), *arrays.values(), strict=True):
            rows.append((t + 1, timesteps - t - 1, *scores(features_t, probabilities, config, real)))
    write_csv(path, ("t", "reverse_steps", *SCORES), rows)


def write_few_steps(
    config: EvaluationConfig, network: FeatureNetwork, samples: list[Path], reference: Path, path: Path
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
    real, _ = real_statistics(reference, network.sha256)
    rows = []
    if all(header["status"]["status"] != "unstable" for _, header in shards):
        for slot, setting in enumerate(zip(*(arrays[key].tolist() for key in settings), strict=True)):
            images = np.concatenate([arrays["images"][:, slot] for arrays, _ in shards])
            spacing = header["sampling"]["spacing"]
            rows.append((*setting, spacing, len(images), *scores(*network(images), config, real)))
    write_csv(path, (*settings, "spacing", "images", *SCORES), rows)


def write_snapshot_scores(
    config: EvaluationConfig, network: FeatureNetwork, samples: list[Path], reference: Path, path: Path
) -> None:
    """Inception Score and FID over the course of a training: a row per snapshot, in the order of their steps.

    Unstable ones have no row. As the columns say how many images there were, no row can pass for the paper's.

    Args:
        samples: shards of `sample_shard`, one per snapshot. reference: real features, from `write_reference`.
    """
    real, _ = real_statistics(reference, network.sha256)
    rows = []
    for shard in samples:
        arrays, header = read_shard(shard, "images")
        if header["status"]["status"] != "unstable" and len(arrays["images"]):
            step, images = header["trained"]["step"], arrays["images"]
            rows.append((step, len(images), *scores(*network(images), config, real)))
    write_csv(path, ("step", "images", *SCORES), sorted(rows))
