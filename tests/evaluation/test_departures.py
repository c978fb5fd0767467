"""Every key of a run's documents is one in which it may depart from the paper, or is known to move no number."""

import copy
from enum import StrEnum
from functools import cache

import pytest
from documents import CHECKED_HEADERS, harmless_key, leaves

from ddpm.config import enums, schema
from ddpm.config.resolving import load
from ddpm.evaluation.networks.inception import NAME
from ddpm.evaluation.protocol import HARMLESS, NUMBERS, OF_SAMPLES, deviations
from ddpm.storage.shards import ANCESTRAL_SAMPLER

STAGES = ("training", "sampling", "snapshots", "few_steps", "likelihood", "evaluation")
SECTIONS = {
    "network": schema.NetworkConfig,
    "diffusion": schema.DiffusionConfig,
    "training": schema.TrainingConfig,
    "sampling": schema.SamplingConfig,
    "snapshots": schema.SnapshotsConfig,
    "few_steps": schema.FewStepsConfig,
    "likelihood": schema.LikelihoodConfig,
    "evaluation": schema.EvaluationConfig,
}
REPEATED = {"experiments": {"cifar10-mu-simple": {"seeds": {"sampling": [1]}}}}
TRAIN = {"cifar10": 50_000, "lsun-church256": 126_227}


@cache
def runs() -> dict[str, dict]:
    """The documents of each stage of experiments that have all keys between them, as the paper's scale has them."""
    paper = load({"scale": "paper", "override": REPEATED}).scale_config.experiments
    names = ("cifar10-mu-vlb-learned", "cifar10-eps-simple", "lsun-church256-eps-simple")
    chosen = {name: paper[name] for name in (*names, "cifar10-mu-simple-sampling-seed1")}
    chosen["released"] = load({"scale": "released"}).scale_config.experiments["cifar10-eps-simple"]
    return {name: {stage: each.stage_config(stage) for stage in STAGES} for name, each in chosen.items()}


def found(documents: dict, **header) -> list[dict]:
    """The deviations of a run whose jobs do what its documents say, but for what is given of its header."""
    training, sampling = documents["training"], documents["sampling"]["sampling"]
    checkpoint, snapshots = training.get("checkpoint"), documents["snapshots"]["snapshots"]
    if checkpoint:
        trained = {"status": "released", "step": checkpoint["step"], "checkpoint": "final"}
    else:
        timesteps = training["diffusion"]["timesteps"]
        trained = {"status": "trained", "step": 1, "checkpoint": "lowest-fid"}
        trained |= {"snapshot_images": snapshots["images"], "snapshot_evaluations": snapshots["steps"] or timesteps}
    header = {
        "training": training,
        "sampling": sampling,
        "quantisation": f"by {sampling['quantisation']}",
        "network": {"name": NAME},
        "weights": "raw" if checkpoint and not checkpoint["averaged"] else "ema",
        "trained": trained,
        "sampler": ANCESTRAL_SAMPLER,
    } | header
    card = {"name": training["data"], "title": "", "image_size": 32, "train": TRAIN.get(training["data"], 1)}
    card["test"] = 10_000 if training["data"] == "cifar10" else 0
    asked = documents["likelihood"]["likelihood"] or {"train": "all", "test": "all"}
    counts = {split: card[split] if asked[split] == "all" else asked[split] for split in ("train", "test")}
    reference = {"train": {"images": min(50_000, card["train"])}, "test": {"images": card["test"]}}
    splits = documents["evaluation"]["evaluation"]["splits"]
    likelihood = {split: {"images": count} for split, count in counts.items()}
    return deviations(header, sampling["images"], splits, card, likelihood, reference)


def others(value) -> list:
    """Some other values of a key."""
    match value:
        case None:
            return [7]
        case bool():
            return [not value]
        case int() | float():
            return [2 * value + 1, value / 2 if isinstance(value, float) else value // 2]
        case "all":
            return [9]
        case str():
            kinds = (each for each in vars(enums).values() if isinstance(each, type) and issubclass(each, StrEnum))
            return [value + "x", *(str(member) for kind in kinds if value in list(kind) for member in kind)]
    return [[*value, *value[-1:]]]


@cache
def checked() -> dict[str, bool]:
    """Of every key of the stages' documents, whether another value of it gives other deviations."""
    moved: dict[str, bool] = {}
    for documents in runs().values():
        before = found(documents)
        changed = copy.deepcopy(documents)
        for stage in STAGES:
            for name, holder, key in leaves(changed[stage]):
                if (value := holder[key]) is None and name in SECTIONS:
                    continue  # a section that this experiment does without
                for holder[key] in others(value):
                    moved[name] = moved.get(name, False) or found(changed) != before
                holder[key] = value
    return moved


def test_the_papers_scale_departs_in_nothing_and_the_authors_weights_are_named():
    said = {name: found(documents) for name, documents in runs().items()}
    (theirs,) = said.pop("released")
    assert theirs == {"text": "the authors' weights of step 790,000, not trained here", "affects": []}
    assert not any(said.values())


def test_every_key_of_a_stage_is_checked_or_harmless():
    """A new key must be looked at by `deviations`, or be listed in HARMLESS with the reason."""
    assert [name for name, moves in checked().items() if not moves and not harmless_key(name)] == []
    assert [name for name, moves in checked().items() if moves and harmless_key(name)] == []


def test_every_key_of_the_configuration_is_walked_over():
    known = {f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields}
    assert known <= set(checked())
    assert all(f"compute.{key}" in HARMLESS for key in schema.Compute.model_fields)


def test_the_table_of_harmless_keys_has_no_key_that_is_gone_and_gives_reasons():
    names = set(checked()) | {f"compute.{key}" for key in schema.Compute.model_fields}
    used = {harmless_key(name) for name in names}
    assert {key for key in HARMLESS if not key.startswith("made_from.")} <= used
    assert all(len(reason) > 10 for reason in HARMLESS.values())


@pytest.mark.parametrize(
    "harmless", ["training.seed", "sampling.batch_size", "evaluation.replicates", "snapshots.seed"]
)
def test_another_value_of_a_harmless_key_is_no_deviation(harmless):
    documents = copy.deepcopy(runs()["cifar10-eps-simple"])
    for stage in STAGES:
        for name, holder, key in leaves(documents[stage]):
            if name == harmless:
                holder[key] += 1
    assert documents != runs()["cifar10-eps-simple"]
    assert found(documents) == []


@pytest.mark.parametrize(
    ("name", "stage", "changes", "text", "affects"),
    [
        ("cifar10-mu-vlb-learned", "training", {"clip_shards": 1}, "training: clip_shards 1, not 8", NUMBERS),
        ("cifar10-eps-simple", "training", {"loss_limit": 10.0},
         "unstable where the loss is above 10, not 1000", NUMBERS),
        ("cifar10-eps-simple", "training", {"late_snapshot_every": None},
         "lowest FID of 8 snapshots, not of 14", NUMBERS),
        ("lsun-church256-eps-simple", "training", {"snapshot_every": 600_000},
         "lowest FID of 5 snapshots, not of 8", NUMBERS),
        ("cifar10-eps-simple", "snapshots", {"images": 500},
         "lowest FID by 500 images of each snapshot, not 5,000", NUMBERS),
        ("cifar10-eps-simple", "snapshots", {"steps": 50}, "lowest FID by images of 50 steps, not 1,000", NUMBERS),
        ("cifar10-eps-simple", "sampling", {"limit": 2.0},
         "unstable where the |x_t| of samples is above 2, not 100", OF_SAMPLES),
        ("cifar10-eps-simple", "sampling", {"quantisation": "truncate"}, "samples are by truncate", ()),
    ],
)  # fmt: skip
def test_what_moves_a_number_is_named(name, stage, changes, text, affects):
    documents = copy.deepcopy(runs()[name])
    documents[stage][stage] |= changes
    assert found(documents) == [{"text": text, "affects": list(affects)}]


@pytest.mark.parametrize(
    ("name", "stage", "changes"),
    [
        ("cifar10-eps-simple", "training", {"clip_shards": 8}),  # as there; its steps are hardly ever clipped
        ("cifar10-eps-simple", "training", {"loss_limit": 1e6}),
        ("cifar10-eps-simple", "training", {"late_snapshot_every": 10_000}),
        ("cifar10-eps-simple", "snapshots", {"images": 50_000}),
        ("cifar10-eps-simple", "sampling", {"limit": 1e4}),
    ],
)
def test_more_of_it_is_no_deviation(name, stage, changes):
    documents = copy.deepcopy(runs()[name])
    documents[stage][stage] |= changes
    assert found(documents) == []


# What metrics.json's made_from says beyond copies of the documents, and another value of it.
IN_HEADERS = {
    "weights.kind": ("cifar10-eps-simple", {"weights": "raw"}),
    "weights.step": ("released", {"trained": {"status": "released", "step": 2, "checkpoint": "final"}}),
    "weights.checkpoint": ("cifar10-eps-simple", {"trained": {"step": 1, "checkpoint": "final"}}),
    "weights.snapshot_images": (
        "cifar10-eps-simple", {"trained": {"step": 1, "checkpoint": "lowest-fid", "snapshot_images": 9}}
    ),
    "weights.snapshot_evaluations": (
        "cifar10-eps-simple", {"trained": {"step": 1, "checkpoint": "lowest-fid", "snapshot_evaluations": 9}}
    ),
    "sampler": ("cifar10-eps-simple", {"sampler": "DDIM, few steps"}),
}  # fmt: skip


@pytest.mark.parametrize("key", IN_HEADERS)
def test_what_a_header_says_otherwise_is_a_deviation(key):
    name, changes = IN_HEADERS[key]
    assert key in CHECKED_HEADERS
    assert found(runs()[name], **changes) != found(runs()[name])


def test_an_earlier_choice_among_snapshots_says_less_and_is_not_blamed_for_it():
    trained = {"status": "trained", "step": 1, "checkpoint": "lowest-fid"}
    assert found(runs()["cifar10-eps-simple"], trained=trained) == []
