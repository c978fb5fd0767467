"""The Inception Score (Salimans et al. 2016), as OpenAI's code computes it."""

import numpy as np

from ddpm.evaluation.fid import TooFewImages, require_finite


def inception_score(probabilities: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """exp(mean KL(p(y|x) || p(y))) over each of `splits` consecutive parts.

    Args:
        probabilities: p(y|x) of each image, [N, K], rows summing to 1.

    Returns:
        Mean and (population) standard deviation over the parts, between 1 and K.

    Raises:
        TooFewImages: there are fewer images than parts.
        ValueError: some probabilities are not finite.
    """
    count = len(probabilities)
    if count < splits:
        raise TooFewImages(f"{count} images cannot be split into {splits} parts")
    require_finite(probabilities, "probabilities")
    from scipy.special import rel_entr  # here, as in fid.py

    scores = []
    for i in range(splits):
        part = probabilities[count * i // splits : count * (i + 1) // splits].astype(np.float64)
        divergence = rel_entr(part, part.mean(0, keepdims=True)).sum(1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))
