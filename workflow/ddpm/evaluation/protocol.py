"""How the paper made its numbers (Section 4, Appendix B, and the authors' code), and where a run departs from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ddpm.config.catalogue import is_large
from ddpm.config.enums import Variance
from ddpm.config.registry import DATASETS, is_authors
from ddpm.evaluation.networks.inception import NAME
from ddpm.storage.shards import ANCESTRAL_SAMPLER


@dataclass(frozen=True)
class Protocol:
    """One column of Appendix B's settings; the dicts have the keys of an experiment's training document."""

    title: str
    steps: int
    batch_size: int
    network: dict[str, Any]
    training: dict[str, Any]
    diffusion: dict[str, Any]
    reference: int | None = None
    """Training images that the FID is against, from the first on; None: all of them."""
    images: int = 50_000
    """Samples per score."""
    splits: int = 10
    """Parts of the samples over which the Inception Score is averaged."""
    features: str = NAME
    learned: bool = False
    """Whether the paper also has rows with a learned variance."""


SIZES = {"ch": 128, "num_res_blocks": 2, "attn_resolutions": [16], "groups": 32}
SCHEDULE = {"timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
# Clipping and warm-up are in the authors' code only.
OPTIMISER = {"warmup": 5000, "grad_clip": 1.0, "ema_decay": 0.9999}


def photographs(title: str, steps: int, flip: bool = True, ch: int = 128, reference: int | None = None) -> Protocol:
    """A model of 256x256 images: L_simple on eps, no dropout, and the posterior's variance."""
    return Protocol(
        title=title,
        steps=steps,
        batch_size=64,
        network={**SIZES, "ch": ch, "ch_mult": [1, 1, 2, 2, 4, 4], "dropout": 0.0},
        training={"learning_rate": 2e-5, **OPTIMISER, "flip": flip},
        diffusion={"parameterization": "eps", "objective": "simple", "variance": Variance.FIXEDSMALL, **SCHEDULE},
        reference=reference,
    )


def lsun(part: str, steps: int, flip: bool = True, ch: int = 128) -> Protocol:
    """A model of LSUN, scored as StyleGAN2 does: against the first 50,000 images."""
    return photographs(f"LSUN {part}", steps, flip, ch, reference=50_000)


# The text has no flips for Bedroom; the authors' commands leave them out for Cat instead.
PROTOCOLS = {
    "cifar10": Protocol(
        title="CIFAR-10",
        steps=800_000,
        batch_size=128,
        network={**SIZES, "ch_mult": [1, 2, 2, 2], "dropout": 0.1},
        training={"learning_rate": 2e-4, **OPTIMISER, "flip": True},
        diffusion={"variance": Variance.FIXEDLARGE, **SCHEDULE},
        learned=True,
    ),
    "celebahq256": photographs("CelebA-HQ", 500_000),
    "lsun-bedroom256": lsun("bedroom", 2_400_000, flip=False),
    "lsun-church256": lsun("church", 1_200_000),
    "lsun-cat256": lsun("cat", 1_800_000),
}
# "Increasing filter count" to about 256 million weights: ch 192 has 255,677,955. Inferred; the paper does not say.
LARGE = {"lsun-bedroom256": lsun("bedroom", 1_150_000, flip=False, ch=192)}


def protocol_of(data: str, experiment: str) -> Protocol:
    """The paper's protocol for a data set; CIFAR-10's for a data set that the paper does not have."""
    if is_large(experiment) and data in LARGE:
        return LARGE[data]
    return PROTOCOLS.get(data, PROTOCOLS["cifar10"])


NUMBERS = ("is", "fid_train", "fid_test", "nll_test", "nll_train")
"""The numbers of an experiment, by the columns of the published tables."""
OF_SAMPLES = NUMBERS[:3]
SETS = {"train": "training", "test": "test"}
TOLERANCE = 1e-3  # share by which a data set may differ from the published count: some images of LSUN do not decode


class Check(NamedTuple):
    """One thing in which a run may differ from the paper."""

    differs: bool
    text: str
    """In what, in words."""
    affects: tuple[str, ...] = NUMBERS
    """The numbers that then do not compare with the paper's; none where it is only to be said."""


def deviations(header: dict, images: int, splits: int, card: dict, likelihood: dict, reference: dict) -> list[dict]:
    """In what the numbers were made otherwise than the paper's: `text` in words, and which numbers it `affects`.

    Args:
        header: of the feature shards. images, splits: samples that were scored, and parts of their Inception Score.
        card: the data set's. likelihood: a summary per split, where there is one.
        reference: header of the real features.
    """
    paper = protocol_of(card["name"], header["training"]["name"])
    network, weights, sampler = header["network"]["name"], header["weights"], header["sampler"]
    checks = [
        *data_checks(card, paper),
        Check(network != paper.features, f"features and classes: {network}, not Inception", OF_SAMPLES),
        Check(weights != "ema", f"weights: {weights}, not their running mean"),
        Check(sampler != ANCESTRAL_SAMPLER, f"sampler: {sampler}", OF_SAMPLES),
        *training_checks(header["training"], header["trained"], paper),
        Check(images != paper.images, f"{images:,} sample images, not {paper.images:,}", OF_SAMPLES),
        Check(splits != paper.splits, f"Inception Score over {splits} splits, not {paper.splits}", ("is",)),
        *reference_checks(reference, card, paper),
        *likelihood_checks(likelihood, card),
    ]
    return [{"text": check.text, "affects": list(check.affects)} for check in checks if check.differs]


def data_checks(card: dict, paper: Protocol) -> Iterator[Check]:
    """Other images, or another number of them."""
    title = card["title"]
    if card["name"] not in PROTOCOLS:
        yield Check(True, f"data: {title}, {card['image_size']}x{card['image_size']}, not {paper.title}")
        return
    yield Check(bool(card.get("reencoded")), f"data: {title}, not {paper.title} itself")
    for split, affects in (("train", NUMBERS), ("test", ("fid_test", "nll_test"))):
        here, theirs = card[split], getattr(DATASETS[card["name"]], split)
        yield Check(abs(here - theirs) > TOLERANCE * theirs, f"{here:,} {SETS[split]} images, not {theirs:,}", affects)


def training_checks(document: dict, trained: dict, paper: Protocol) -> Iterator[Check]:
    """Another training, network or process, by the training document and what is known of the weights."""
    if training := document.get("training"):
        ours, theirs = (training["steps"], training["batch_size"]), (paper.steps, paper.batch_size)
        yield Check(ours != theirs, "{:,} training steps of {}, not {:,} of {}".format(*ours, *theirs))
    else:
        step = f" of step {trained['step']:,}" if trained["step"] else ""
        # Numbers of the authors' own model compare with the paper's. That it was not trained here is said.
        theirs = is_authors(document.get("checkpoint"))
        whose, affected = ("the authors' weights", ()) if theirs else ("published weights", NUMBERS)
        yield Check(True, f"{whose}{step}, not trained here", affected)
    process = dict(paper.diffusion)
    if paper.learned and document["diffusion"]["variance"] == Variance.LEARNED:
        del process["variance"]
    yield settings_check("network", document["network"], paper.network)
    yield settings_check("process", document["diffusion"], process)
    if training:
        yield settings_check("training", training, paper.training)
        final = trained.get("checkpoint") == "final"
        yield Check(final, "checkpoint: the final one, not the one of lowest FID")


def settings_check(title: str, ours: dict, theirs: dict) -> Check:
    changed = [f"{key} {ours[key]}, not {value}" for key, value in theirs.items() if ours[key] != value]
    return Check(bool(changed), f"{title}: {', '.join(changed)}")


def reference_checks(reference: dict, card: dict, paper: Protocol) -> Iterator[Check]:
    """A FID against other images than all of a split, or than the first ones of LSUN."""
    for split, count in (("train", min(paper.reference or card["train"], card["train"])), ("test", card["test"])):
        compared = reference.get(split, {"images": 0})["images"]
        text = f"FID against {compared:,} {SETS[split]} images, not {count:,}"
        yield Check(compared != count, text, (f"fid_{split}",))


def likelihood_checks(likelihood: dict, card: dict) -> Iterator[Check]:
    """A bound on the likelihood of a part of the images."""
    for split, summary in likelihood.items():
        if summary:
            images, count = summary["images"], card[split]
            text = f"bits/dim of {images:,} of the {count:,} {SETS[split]} images"
            yield Check(images != count, text, (f"nll_{split}",))
