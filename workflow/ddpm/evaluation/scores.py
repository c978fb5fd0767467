"""Inception Score and FID of one set of images: the scores that every table and curve is made of."""

import math
from collections.abc import Iterable

import numpy as np

from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation.fid import Moments, frechet_distance
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.reference import SPLITS, RealStatistics

SCORES = ("inception_score", "inception_score_std", *(f"fid_{split}" for split in SPLITS))


def compute_scores(
    features: Iterable[np.ndarray], probabilities: np.ndarray, config: EvaluationConfig, real: RealStatistics
) -> tuple[float, ...]:
    """The SCORES of one set of images. The FID is nan where a split has no real images.

    Args:
        features: blocks [n, D] of the N images, in any number. probabilities: [N, K] of all images.
    """
    moments = Moments()
    for block in features:
        moments.add(block)
    ours = moments.statistics()
    distances = [frechet_distance(*ours, *real[split]) if split in real else math.nan for split in SPLITS]
    return *inception_score(probabilities, config.splits), *distances
