"""What the paper did, data set by data set: nothing to say of its own settings, and every other one named."""

import copy

import pytest

from ddpm.config.registry import PUBLISHED
from ddpm.config.resolving import load, resolve_experiment
from ddpm.evaluation.protocol import NUMBERS, deviations
from ddpm.storage.shards import ANCESTRAL_SAMPLER

# Appendix B, with what its columns share in the settings below.
PHOTOGRAPHS = {
    "network": {"ch_mult": [1, 1, 2, 2, 4, 4]},
    "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedsmall"},
    "training": {"batch_size": 64, "learning_rate": 2e-5},
}
STEPS = {"celebahq256": 500_000, "lsun-bedroom256": 2_400_000, "lsun-church256": 1_200_000, "lsun-cat256": 1_800_000}
TRAIN = {"cifar10": 50_000, "celebahq256": 30_000, "lsun-bedroom256": 3_033_042, "lsun-church256": 126_227,
         "lsun-cat256": 1_657_266}  # fmt: skip


def experiment(data, ending="", **sections):
    """The training document of the paper's experiment on `data`; its flips are the data set's own."""
    raw = {
        "data": data,
        "network": {"dropout": 0.1},
        "diffusion": {"parameterization": "eps", "objective": "simple", "variance": "fixedlarge"},
        "training": {"steps": 800_000},
        "sampling": {},
        "snapshots": None,
    }
    if data in STEPS:
        raw |= copy.deepcopy(PHOTOGRAPHS)
        raw["training"]["steps"] = STEPS[data]
    for name, changes in sections.items():
        raw[name] = {**(raw[name] or {}), **changes}
    method = raw["diffusion"]
    name = f"{data}-{method['parameterization']}-{method['objective']}{ending}"
    return resolve_experiment(name, raw, "tests").stage_config("training")


def found(document, data, images=50_000, splits=10, likelihood=None, reference=None, title=None, card=None, **header):
    """The deviations of a run on all of `data`, but for what is given."""
    header = {
        "training": document,
        "network": {"name": "Inception (2015-12-05)", "sha256": "0" * 64},
        "weights": "ema",
        "trained": {"status": "trained", "step": 1, "reason": None},
        "sampler": ANCESTRAL_SAMPLER,
        "sampling": {"limit": 100.0, "quantisation": "nearest"},
        "quantisation": "rounded to the nearest of 256 levels",
    } | header
    train, test = TRAIN.get(data, 1437), 10_000 if data == "cifar10" else 0
    card = {"name": data, "title": title or data, "image_size": 32, "train": train, "test": test} | (card or {})
    compared = {"train": 50_000 if data.startswith("lsun") else train, "test": test} | (reference or {})
    real = {split: {"images": count} for split, count in compared.items() if count}
    return deviations(header, images, splits, card, likelihood or {}, real)


def said(*arguments, **changes):
    """The words of the deviations alone."""
    return [deviation["text"] for deviation in found(*arguments, **changes)]


LARGE = {"network": {"ch": 192}, "training": {"steps": 1_150_000}}


@pytest.mark.parametrize("data", TRAIN)
def test_the_papers_own_settings_are_no_deviation(data):
    assert said(experiment(data), data) == []
    trained = {"step": 1, "checkpoint": "lowest-fid", "snapshots": 16, "snapshot_images": 5000}
    chosen = experiment(data, training={"snapshot_every": 50_000}, snapshots={})
    assert said(chosen, data, trained=trained) == []


@pytest.mark.parametrize("name", load({"scale": "paper"}).scale_config.experiments)
def test_the_papers_scale_is_the_papers_protocol(name):
    """As far as the paper goes: CelebA is not in it, and it has no score of CelebA-HQ to draw 50,000 images for."""
    experiment = load({"scale": "paper"}).scale_config.experiments[name]
    document, sampling = experiment.stage_config("training"), experiment.sampling
    trained = {"step": 1, "checkpoint": experiment.checkpoint.value}
    found = said(document, experiment.data, sampling.images, experiment.evaluation.splits, trained=trained)
    match experiment.data:
        case "celeba64":
            assert any(text.startswith("data: celeba64") for text in found)
        case "celebahq256":
            assert found == ["10,000 sample images, not 50,000", "checkpoint: the final one, not the one of lowest FID"]
        case _:
            assert found == []


def test_the_papers_other_models_are_no_deviation():
    large = experiment("lsun-bedroom256", "-large", **LARGE)
    for name in (large["name"], f"{large['name']}-training-seed1"):
        assert said(large | {"name": name}, "lsun-bedroom256") == []
    learned = {"diffusion": {"parameterization": "mu", "objective": "vlb", "variance": "learned"}}
    learned["training"] = {"clip_shards": 8}
    assert said(experiment("cifar10", "-learned", **learned), "cifar10") == []
    assert said(experiment("cifar10", "-fixed", diffusion={"objective": "vlb"}), "cifar10") == []


def test_the_learned_variance_is_of_cifar10_only():
    learned = {"diffusion": {"objective": "vlb", "variance": "learned"}}
    assert said(experiment("celebahq256", "-learned", **learned), "celebahq256") == [
        "process: objective vlb, not simple, variance learned, not fixedsmall"
    ]


def test_the_large_model_is_told_by_its_name_and_is_of_bedrooms_only():
    assert said(experiment("lsun-bedroom256", "-large"), "lsun-bedroom256") == [
        "2,400,000 training steps of 64, not 1,150,000 of 64",
        "network: ch 128, not 192",
    ]
    wide = ["network: ch 192, not 128"]
    assert said(experiment("lsun-bedroom256", network={"ch": 192}), "lsun-bedroom256") == wide
    assert said(experiment("lsun-cat256", "-large", network={"ch": 192}), "lsun-cat256") == wide


@pytest.mark.parametrize(
    ("data", "section", "key", "value", "words"),
    [
        ("cifar10", "training", "steps", 10, "10 training steps of 128, not 800,000 of 128"),
        ("celebahq256", "training", "batch_size", 32, "500,000 training steps of 32, not 500,000 of 64"),
        ("lsun-cat256", "training", "learning_rate", 2e-4, "training: learning_rate 0.0002, not 2e-05"),
        ("cifar10", "training", "learning_rate", 2e-5, "training: learning_rate 2e-05, not 0.0002"),
        ("cifar10", "training", "warmup", 0, "training: warmup 0, not 5000"),
        ("lsun-cat256", "training", "ema_decay", 0.999, "training: ema_decay 0.999, not 0.9999"),
        ("cifar10", "training", "grad_clip", 2.0, "training: grad_clip 2.0, not 1.0"),
        ("lsun-bedroom256", "training", "flip", True, "training: flip True, not False"),
        ("lsun-cat256", "training", "flip", False, "training: flip False, not True"),
        ("cifar10", "network", "dropout", 0.0, "network: dropout 0.0, not 0.1"),
        ("lsun-church256", "network", "dropout", 0.1, "network: dropout 0.1, not 0.0"),
        ("cifar10", "network", "ch", 64, "network: ch 64, not 128"),
        (
            "celebahq256",
            "network",
            "ch_mult",
            [1, 1, 2, 2, 4],
            "network: ch_mult [1, 1, 2, 2, 4], not [1, 1, 2, 2, 4, 4]",
        ),
        ("cifar10", "network", "num_res_blocks", 3, "network: num_res_blocks 3, not 2"),
        ("cifar10", "network", "attn_resolutions", [8, 16], "network: attn_resolutions [8, 16], not [16]"),
        ("cifar10", "network", "groups", 16, "network: groups 16, not 32"),
        ("cifar10", "diffusion", "timesteps", 500, "process: timesteps 500, not 1000"),
        ("cifar10", "diffusion", "beta_end", 0.01, "process: beta_end 0.01, not 0.02"),
        ("cifar10", "diffusion", "variance", "fixedsmall", "process: variance fixedsmall, not fixedlarge"),
        ("celebahq256", "diffusion", "variance", "fixedlarge", "process: variance fixedlarge, not fixedsmall"),
        ("lsun-cat256", "diffusion", "objective", "vlb", "process: objective vlb, not simple"),
    ],
)
def test_each_changed_setting_is_named(data, section, key, value, words):
    assert said(experiment(data, **{section: {key: value}}), data) == [words]


def test_what_is_not_of_the_training_is_named_too():
    document = experiment("cifar10")
    for changes, words in (
        ({"images": 49_999}, "49,999 sample images, not 50,000"),
        ({"splits": 5}, "Inception Score over 5 splits, not 10"),
        ({"network": {"name": "cifar10 classifier"}}, "features and classes: cifar10 classifier, not Inception"),
        ({"weights": "raw"}, "weights: raw, not their running mean"),
        ({"reference": {"train": 10_000}}, "FID against 10,000 training images, not 50,000"),
        ({"reference": {"test": 9_984}}, "FID against 9,984 test images, not 10,000"),
        ({"reference": {"test": 0}}, "FID against 0 test images, not 10,000"),
        ({"sampler": "DDIM, few steps"}, "sampler: DDIM, few steps"),
        ({"likelihood": {"test": {"images": 9_984}}}, "bits/dim of 9,984 of the 10,000 test images"),
        (
            {"trained": {"step": 9, "checkpoint": "final"}},
            "checkpoint: the final one, not the one of lowest FID",
        ),
    ):
        assert said(document, "cifar10", **changes) == [words]
    church = experiment("lsun-church256")
    assert said(church, "lsun-church256", reference={"train": 126_227}) == [
        "FID against 126,227 training images, not 50,000"  # StyleGAN2 takes the first
    ]


RELEASED = {"status": "released", "step": 790_000, "checkpoint": "final"}


def test_published_weights_are_not_blamed_for_their_checkpoint():
    document = experiment("cifar10") | {"training": None}
    assert said(document, "cifar10", trained=RELEASED) == ["published weights of step 790,000, not trained here"]


@pytest.mark.parametrize("data", ["cifar10", "lsun-church256", "lsun-bedroom256", "lsun-cat256"])
def test_the_authors_weights_leave_every_number_comparable(data):
    checkpoint = PUBLISHED[f"{data}-ema"].model_dump(mode="json")
    document = experiment(data) | {"training": None, "checkpoint": checkpoint}
    text = "the authors' weights of step 790,000, not trained here"
    assert found(document, data, trained=RELEASED) == [{"text": text, "affects": []}]
    checkpoint["files"][0]["md5"] = "0" * 32  # what another file is, its address does not say
    (deviation,) = found(document, data, trained=RELEASED)
    assert deviation["affects"] == list(NUMBERS)


def test_the_authors_weights_that_are_not_averaged_do_not_compare():
    checkpoint = PUBLISHED["cifar10-raw"].model_dump(mode="json")
    document = experiment("cifar10") | {"training": None, "checkpoint": checkpoint}
    assert all(each["affects"] for each in found(document, "cifar10", trained=RELEASED, weights="raw"))


def test_another_data_set_is_named_first():
    first, *others = said(experiment("digits", network={"ch_mult": [1, 2], "attn_resolutions": [8]}), "digits",
                          title="Scans")  # fmt: skip
    assert first == "data: Scans, 32x32, not CIFAR-10"
    assert any(words.startswith("network: ") for words in others)


def test_a_copy_that_was_encoded_again_marks_every_number():
    card = {"reencoded": "JPEG"}
    first, *others = found(experiment("cifar10"), "cifar10", title="JPEG copy of CIFAR-10", card=card)
    assert first == {"text": "data: JPEG copy of CIFAR-10, not CIFAR-10 itself", "affects": list(NUMBERS)}
    assert not others


def test_each_deviation_says_which_numbers_it_affects():
    document, everything = experiment("cifar10"), ["is", "fid_train", "fid_test", "nll_test", "nll_train"]
    of_samples = everything[:3]
    for changes, affected in (
        ({"images": 49_999}, of_samples),
        ({"splits": 5}, ["is"]),
        ({"network": {"name": "cifar10 classifier"}}, of_samples),
        ({"sampler": "DDIM, few steps"}, of_samples),
        ({"weights": "raw"}, everything),
        ({"trained": {"step": 9, "checkpoint": "final"}}, everything),
        ({"reference": {"train": 10_000}}, ["fid_train"]),
        ({"reference": {"test": 9_984}}, ["fid_test"]),
        ({"likelihood": {"test": {"images": 9_984}}}, ["nll_test"]),
        ({"likelihood": {"train": {"images": 9_984}}}, ["nll_train"]),
    ):
        (deviation,) = found(document, "cifar10", **changes)
        assert deviation["affects"] == affected
    for document in (experiment("cifar10", training={"steps": 10}), experiment("cifar10", network={"dropout": 0.0})):
        assert [deviation["affects"] for deviation in found(document, "cifar10")] == [everything]


def test_a_smaller_data_set_under_the_papers_name_is_named():
    few = found(experiment("cifar10"), "cifar10", card={"train": 50, "test": 10}, reference={"train": 50, "test": 10})
    assert [deviation["text"] for deviation in few] == ["50 training images, not 50,000", "10 test images, not 10,000"]
    assert few[1]["affects"] == ["fid_test", "nll_test"]
    # A few images of LSUN do not decode, and the FID is against the first 50,000 in any case.
    assert said(experiment("lsun-cat256"), "lsun-cat256", card={"train": 1_657_200}) == []
