"""How the paper made its numbers (Section 4, Appendix B, and the authors' code), and where a run departs from it."""

from dataclasses import dataclass
from typing import Any

from ddpm.config.catalogue import is_large
from ddpm.config.enums import Variance
from ddpm.config.registry import DATASETS
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
    """ChunkCache of the Inception Score."""
    features: str = NAME
    learned: bool = False
    """Whether the paper also has rows of a learned variance."""


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


ALL = ("is", "fid_train", "fid_test", "nll_test", "nll_train")
"""The numbers of an experiment, by the columns of the published tables."""
OF_SAMPLES = ALL[:3]
SETS = {"train": "training", "test": "test"}
SHARE = 1e-3  # by which a data set may differ from the published count: some images of LSUN do not decode


def deviations(header: dict, images: int, splits: int, card: dict, likelihood: dict, reference: dict) -> list[dict]:
    """How the numbers were made otherwise than the paper's: `text` in words, and which numbers it `affects`.

    Args:
        header: of the feature shards. images, splits: samples that were scored, and parts of their Inception Score.
        card: the data set's. likelihood: a summary per split, where there is one.
        reference: header of the real features.
    """
    document = header["training"]
    paper = protocol_of(card["name"], document["name"])
    training = document.get("training")  # None where the weights were published
    found = []

    def add(text: str, affects: tuple[str, ...] = ALL) -> None:
        found.append({"text": text, "affects": list(affects)})

    if card["name"] not in PROTOCOLS:
        add(f"data: {card['title']}, {card['image_size']}x{card['image_size']}, not {paper.title}")
    else:
        if card.get("reencoded"):
            add(f"data: {card['title']}, not {paper.title} itself")
        published = DATASETS[card["name"]]
        for split, affects in (("train", ALL), ("test", ("fid_test", "nll_test"))):
            here, theirs = card[split], getattr(published, split)
            if abs(here - theirs) > SHARE * theirs:
                add(f"{here:,} {SETS[split]} images, not {theirs:,}", affects)
    if header["network"]["name"] != paper.features:
        add(f"features and classes: {header['network']['name']}, not Inception", OF_SAMPLES)
    if header["weights"] != "ema":
        add(f"weights: {header['weights']}, not their running mean")
    if header["sampler"] != ANCESTRAL_SAMPLER:
        add(f"sampler: {header['sampler']}", OF_SAMPLES)
    if training is None:
        step = header["trained"]["step"]
        add(f"published weights{f' of step {step:,}' if step else ''}, not trained here")
    elif (training["steps"], training["batch_size"]) != (paper.steps, paper.batch_size):
        add(
            f"{training['steps']:,} training steps of {training['batch_size']}, not {paper.steps:,} of "
            f"{paper.batch_size}"
        )
    process = dict(paper.diffusion)
    if paper.learned and document["diffusion"]["variance"] == Variance.LEARNED:
        del process["variance"]
    for title, here, theirs in (
        ("network", document["network"], paper.network),
        ("process", document["diffusion"], process),
        ("training", training or paper.training, paper.training),
    ):
        if changed := [f"{key} {here[key]}, not {value}" for key, value in theirs.items() if here[key] != value]:
            add(f"{title}: {', '.join(changed)}")
    if training is not None and header["trained"].get("checkpoint") == "final":
        add("checkpoint: the final one, not the one of lowest FID")
    if images != paper.images:
        add(f"{images:,} sample images, not {paper.images:,}", OF_SAMPLES)
    if splits != paper.splits:
        add(f"Inception Score over {splits} splits, not {paper.splits}", ("is",))
    for split, all_of_it in (("train", min(paper.reference or card["train"], card["train"])), ("test", card["test"])):
        compared = reference.get(split, {"images": 0})["images"]
        if compared != all_of_it:
            add(f"FID against {compared:,} {SETS[split]} images, not {all_of_it:,}", (f"fid_{split}",))
    for split, summary in likelihood.items():
        if summary and summary["images"] != card[split]:
            add(f"bits/dim of {summary['images']:,} of the {card[split]:,} {SETS[split]} images", (f"nll_{split}",))
    return found
