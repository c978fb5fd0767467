"""Inception Score and FID of one set of images: the scores that every table and curve is made of."""

import math
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation.fid import Moments, TooFewImages, frechet_distance
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.reference import SPLITS, RealStatistics

SCORES = ("inception_score", "inception_score_std", *(f"fid_{split}" for split in SPLITS))


def compute_scores(
    features: Iterable[np.ndarray], probabilities: np.ndarray, config: EvaluationConfig, real: RealStatistics
) -> tuple[float, ...]:
    """The SCORES of one set of images; nan where it, or the real images of a split, are too few.

    Args:
        features: blocks [n, D] of the N images, in any number. probabilities: [N, K] of all images.
    """
    score, distances = (math.nan, math.nan), [math.nan] * len(SPLITS)
    moments = Moments()
    for block in features:
        moments.add(block)
    with suppress(TooFewImages):
        ours = moments.statistics()
        distances = [frechet_distance(*ours, *real[split]) if split in real else math.nan for split in SPLITS]
    with suppress(TooFewImages):
        score = inception_score(probabilities, config.splits)
    return *score, *distances
