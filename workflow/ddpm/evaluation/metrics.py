"""metrics.json: the scores of one experiment and everything that is needed to judge them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddpm.config.errors import UserError
from ddpm.config.experiment import Repeat
from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation.features import FeatureShards
from ddpm.evaluation.fid import Statistics, TooFewImages, frechet_distance
from ddpm.evaluation.fid import statistics as moments_of
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.kid import kernel_distance
from ddpm.evaluation.networks.base import CLEAN
from ddpm.evaluation.precision_recall import precision_recall
from ddpm.evaluation.protocol import deviations
from ddpm.evaluation.published import score_by_published
from ddpm.evaluation.rate_distortion import likelihood_summary, read_bounds
from ddpm.evaluation.reference import SPLITS, RealStatistics, read_header, read_reference
from ddpm.evaluation.uncertainty import fid_spread
from ddpm.jobs.provenance import provenance
from ddpm.storage.files import read_json, read_npz, sha256, write_json


def write_metrics(
    config: EvaluationConfig,
    scale: str,
    features: list[Path],
    bounds: list[Path],
    reference: Path,
    card: Path,
    path: Path,
    repeat: Repeat | None = None,
    statistics: Path | None = None,
) -> None:
    """Score the samples against the training set and the test set, if there is one, and sum up the bound.

    Args:
        features: the feature shards of the experiment. bounds: its likelihood's shards, if there are any.
        reference: real features, from `reference.write_reference`. card: the data set's card.json.
        repeat: where the experiment is another one with another seed.
        statistics: card.json of the published statistics of the data set, if there are any.

    Raises:
        UserError: the shards are not those of one run, not of `repeat`, or the reference is of other data.
    """
    shards, data = FeatureShards(features), read_json(card)
    header = shards.header
    ended = header["status"] if shards.unstable else {"status": "measured", "step": None, "reason": None}
    if repeat:
        refuse_others(repeat, header, features[0])
    real_header = read_header(reference, header["network"]["sha256"])
    refuse_other_data(real_header, reference, data, card)
    method = header["training"]["diffusion"]
    images = header["sampling"]["images"] if shards.unstable else shards.images
    bound = read_bounds(bounds)
    nll = {split: likelihood_summary(of_split) for split, of_split in bound.items()}
    document = {
        "experiment": repeat.name if repeat else header["training"]["name"],
        "repeat": repeat.model_dump() if repeat else None,
        "scale": scale,
        "data": {"name": data["name"], "title": data["title"]},
        "method": {key: method[key] for key in ("parameterization", "objective", "variance")},
        **{key: ended[key] for key in ("status", "step", "reason")},
        **(NO_SCORES if shards.unstable else scores_of(shards.all, header, config, reference, statistics)),
        "nll": nll or None,
        "features": {"network": header["network"]["name"], "sha256": header["network"]["sha256"]},
        "deviations": deviations(header, images, config.splits, data, nll, real_header),
        "made_from": {
            "images": shards.images,
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
            "precision": header["precision"],
            **provenance(),
        },
    }
    write_json(path, document)


SCORES = ("inception_score", "fid", "fid_spread", "kid", "precision_recall", "clean_fid", "clean_kid")
NO_SCORES = {**dict.fromkeys(SCORES), "published": [], "left_out": {}}


def scores_of(
    load: Callable[[str], np.ndarray],
    header: dict,
    config: EvaluationConfig,
    reference: Path,
    statistics: Path | None = None,
) -> dict:
    """Every score of some images, from their features and class probabilities and those of the real images.

    A score is None where `left_out` says why: of too few images, or of another network.

    Args:
        load: gives the images' arrays by kind. header: of the images' features. reference, statistics: see above.
    """
    left_out: dict[str, str] = {}
    found = NO_SCORES | {"left_out": left_out}
    ours: dict[str, Statistics] = {}
    real_header = read_header(reference, header["network"]["sha256"])

    def attempt(name: str, compute: Callable, *arguments):
        try:
            return compute(*arguments)
        except TooFewImages as error:
            left_out[name] = str(error)

    def add_distances(name: str, kind: str) -> tuple[np.ndarray, np.ndarray, RealStatistics]:
        """Find the FIDs and the KID; returns the features of the images and of the training set, and what FIDs need."""
        features, training = load(kind), read_npz(reference, f"train_{kind}")[f"train_{kind}"]
        real, _ = read_reference(reference, header["network"]["sha256"], kind)
        found[name] = dict.fromkeys(SPLITS)
        if mine := attempt(name, moments_of, features):
            ours[kind] = mine
            found[name] |= {split: frechet_distance(*mine, *theirs) for split, theirs in real.items()}
        for split in (split for split in SPLITS if split not in real):
            count = real_header.get(split, {"images": "no"})["images"]
            left_out[f"{name}_{split}"] = f"there are {count} {split} images, and a covariance needs two"
        kid = name.replace("fid", "kid")
        found[kid] = attempt(kid, kernel_distance, features, training, config.seed)
        return features, training, real

    features, training, real = add_distances("fid", "features")
    spread = fid_spread(features, real, config.seed, config.replicates) if "features" in ours and real else {}
    found["fid_spread"] = dict.fromkeys(SPLITS) | spread
    if score := attempt("inception_score", inception_score, load("probabilities"), config.splits):
        found["inception_score"] = {"mean": score[0], "std": score[1], "splits": config.splits}
    found["precision_recall"] = attempt("precision_recall", precision_recall, features, training)
    if reason := why_not_clean(header, real_header):
        left_out |= dict.fromkeys(("clean_fid", "clean_kid"), reason)
    else:
        add_distances("clean_fid", CLEAN)
    if statistics:
        found["published"] = score_by_published(statistics, real_header, ours)
    return found


def why_not_clean(header: dict, real_header: dict) -> str | None:
    """Why there is no clean-FID, by the headers of the samples' features and of the real ones."""
    if any("kinds" not in each for each in (header, real_header)):
        return "features of an earlier version, without those of clean-FID: make the rules reference and features anew"
    if CLEAN not in header["kinds"]:
        return f"clean-FID is of Inception's features, not of {header['network']['name']}"
    return None


def refuse_others(repeat: Repeat, header: dict, path: Path) -> None:
    """Raise where features, by their header, are not of `repeat`: of other weights, or with another seed."""
    settings = header["sampling"] if repeat.varies == "sampling" else header["training"].get("training") or {}
    theirs = f"{header['training']['name']} with {repeat.varies}.seed {settings.get('seed')}"
    wanted = f"{repeat.trained_as} with {repeat.varies}.seed {repeat.seed}"
    if theirs != wanted:
        raise UserError(f"{path}: features of {theirs}, where {repeat.name} is {wanted}. Give its own features.")


def refuse_other_data(real: dict, reference: Path, data: dict, card: Path) -> None:
    """Raise where the real features, by their header, are not of the prepared data set with this card."""
    for split in (split for split in SPLITS if split in real):
        if real[split]["sha256"] != data["sha256"][split]:
            raise UserError(
                f"{reference}: features of other {split} images ({real['data']}) than those of {card} "
                f"({data['name']}). Compute the reference of this data set."
            )
