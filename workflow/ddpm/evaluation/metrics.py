"""metrics.json: the scores of one experiment and everything that is needed to judge them."""

from pathlib import Path

from ddpm.config.errors import UserError
from ddpm.config.experiment import Repeat
from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation.features import FeatureShards
from ddpm.evaluation.kid import kernel_distance
from ddpm.evaluation.precision_recall import precision_recall
from ddpm.evaluation.protocol import deviations
from ddpm.evaluation.rate_distortion import likelihood_summary, read_bounds
from ddpm.evaluation.reference import SPLITS, RealStatistics, read_reference
from ddpm.evaluation.scores import compute_scores
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
) -> None:
    """Score the samples against the training set and the test set, if there is one, and sum up the bound.

    Args:
        features: the feature shards of the experiment. bounds: its likelihood's shards, if there are any.
        reference: real features, from `reference.write_reference`. card: the data set's card.json.
        repeat: where the experiment is another one with another seed.

    Raises:
        UserError: the shards are not those of one run, not of `repeat`, or the reference is of other data.
    """
    shards, data = FeatureShards(features), read_json(card)
    header = shards.header
    if repeat:
        refuse_others(repeat, header, features[0])
    real, real_header = read_reference(reference, header["network"]["sha256"])
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
        "status": "unstable" if shards.unstable else "measured",
        "step": header["status"]["step"] if shards.unstable else None,
        "reason": header["status"]["reason"] if shards.unstable else None,
        **(NO_SCORES if shards.unstable else scores_of(shards, config, real, reference)),
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


NO_SCORES = dict.fromkeys(("inception_score", "fid", "fid_spread", "kid", "precision_recall"))


def scores_of(shards: FeatureShards, config: EvaluationConfig, real: RealStatistics, reference: Path) -> dict:
    """Every score of the samples, from their features and class probabilities and those of the real images."""
    mean, std, *distances = compute_scores(shards.each("features"), shards.all("probabilities"), config, real)
    ours, seed = shards.all("features"), config.seed
    training = read_npz(reference, "train_features")["train_features"]
    return {
        "inception_score": {"mean": mean, "std": std, "splits": config.splits},
        "fid": {split: fid if split in real else None for split, fid in zip(SPLITS, distances, strict=True)},
        "fid_spread": dict.fromkeys(SPLITS) | fid_spread(ours, real, seed, config.replicates),
        "kid": kernel_distance(ours, training, seed),
        "precision_recall": precision_recall(ours, training),
    }


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
