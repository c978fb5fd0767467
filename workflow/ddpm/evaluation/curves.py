"""Scores over the reverse process, numbers of steps and the training, and the rate-distortion curve, as CSV."""

import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation.features import FeatureShards
from ddpm.evaluation.fid import Moments, TooFewImages, frechet_distance
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.rate_distortion import rate_distortion, read_bounds
from ddpm.evaluation.reference import SPLITS, RealStatistics, read_reference
from ddpm.storage.files import write_csv
from ddpm.storage.shards import read_few_steps, read_shard

SCORES = ("inception_score", "inception_score_std", *(f"fid_{split}" for split in SPLITS))


def write_rate_distortion(shards: list[Path], path: Path) -> None:
    """The rate-distortion curve of the test set (Figure 5, Table 4). No rows where the training was unstable."""
    curve = rate_distortion(read_bounds(shards)["test"])
    write_csv(path, curve, zip(*(column.tolist() for column in curve.values()), strict=True))


def write_progressive(config: EvaluationConfig, features: list[Path], reference: Path, path: Path) -> None:
    """Inception Score and FID of x0-hat over the reverse process (Figure 10). No rows for unstable samples."""
    shards = FeatureShards(features)
    real, _ = read_reference(reference, shards.header["network"]["sha256"])
    timesteps = shards.header["training"]["diffusion"]["timesteps"]
    rows = []
    if not shards.unstable:
        for t in shards.times:
            of_t = compute_scores(shards.each("features", t), shards.all("probabilities", t), config, real)
            rows.append((t + 1, timesteps - t - 1, *of_t))
    write_csv(path, ("t", "reverse_steps", *SCORES), rows)


def write_few_steps(
    config: EvaluationConfig, network: FeatureNetwork, samples: list[Path], reference: Path, path: Path
) -> None:
    """Inception Score and FID of few-step samples, a row per setting. No rows where a shard is unstable.

    Their features are never saved, so that nobody scores them in place of the paper's samples.

    Args:
        samples: shards of `few_steps_shard`, all of one run. reference: real features, from `write_reference`.
    """
    settings = ("eta", "steps", "evaluations", "spacing")
    shards = sorted(map(read_few_steps, samples), key=lambda shard: int(shard[0]["start"]))
    arrays, _ = shards[0]
    real, _ = read_reference(reference, network.sha256)
    rows = []
    if all(header["status"]["status"] != "unstable" for _, header in shards):
        for slot, setting in enumerate(zip(*(arrays[key].tolist() for key in settings), strict=True)):
            images = np.concatenate([arrays["images"][:, slot] for arrays, _ in shards])
            rows.append((*setting, len(images), *score_images(images, network, config, real)))
    write_csv(path, (*settings, "images", *SCORES), rows)


def write_snapshot_scores(
    config: EvaluationConfig, network: FeatureNetwork, samples: list[Path], reference: Path, path: Path
) -> None:
    """Inception Score and FID over the course of a training: a row per snapshot, in the order of their steps.

    Unstable snapshots have no row. Each row says how many images it is of, and in how many steps these were drawn.

    Args:
        samples: shards of `sample_shard`, one per snapshot. reference: real features, from `write_reference`.
    """
    real, _ = read_reference(reference, network.sha256)
    rows = []
    for shard in samples:
        arrays, header = read_shard(shard, "images", sampler=None)
        if header["status"]["status"] != "unstable" and len(arrays["images"]):
            step, images = header["trained"]["step"], arrays["images"]
            (evaluations,) = header["sampling"].get("steps", [header["training"]["diffusion"]["timesteps"]])
            rows.append((step, len(images), evaluations, *score_images(images, network, config, real)))
    write_csv(path, ("step", "images", "evaluations", *SCORES), sorted(rows))


def score_images(
    images: np.ndarray, network: FeatureNetwork, config: EvaluationConfig, real: RealStatistics
) -> tuple[float, ...]:
    """The SCORES of images, whose features are not kept."""
    features, probabilities = network(images)
    return compute_scores([features], probabilities, config, real)


def compute_scores(
    features: Iterable[np.ndarray], probabilities: np.ndarray, config: EvaluationConfig, real: RealStatistics
) -> tuple[float, ...]:
    """The SCORES of one set of images; nan where it, or the real images of a split, are too few.

    Args:
        features: blocks [n, D] of the N images, in any number. probabilities: [N, K] of all images.
    """
    score, distances, moments = (math.nan, math.nan), dict.fromkeys(SPLITS, math.nan), Moments()
    for block in features:
        moments.add(block)
    with suppress(TooFewImages):
        ours = moments.statistics()
        distances |= {split: frechet_distance(*ours, *theirs) for split, theirs in real.items()}
    with suppress(TooFewImages):
        score = inception_score(probabilities, config.splits)
    return *score, *distances.values()
