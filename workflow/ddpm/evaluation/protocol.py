"""How the paper made its numbers (Section 4, Appendix B, and the authors' code), and where a run departs from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ddpm.config.catalogue import is_large
from ddpm.config.enums import Parameterization, Quantisation, Selection, Variance
from ddpm.config.registry import DATASETS, is_authors
from ddpm.config.schema import SamplingConfig, SnapshotsConfig, TrainingConfig
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
    snapshots: int = 8
    """Among so many, or more, the weights of lowest FID are chosen. The paper gives no number: it is scale paper's."""


SIZES = {"ch": 128, "num_res_blocks": 2, "attn_resolutions": [16], "groups": 32}
SCHEDULE = {"timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
# Clipping and warm-up are in the authors' code only.
OPTIMISER = {"warmup": 5000, "grad_clip": 1.0, "ema_decay": 0.9999}


TPU_CORES = 8  # each clips the gradient of its part of a batch


def photographs(
    title: str, steps: int, flip: bool = True, ch: int = 128, reference: int | None = None, snapshots: int = 8
) -> Protocol:
    """A model of 256x256 images: L_simple on eps, no dropout, and the posterior's variance."""
    return Protocol(
        title=title,
        steps=steps,
        batch_size=64,
        network={**SIZES, "ch": ch, "ch_mult": [1, 1, 2, 2, 4, 4], "dropout": 0.0},
        training={"learning_rate": 2e-5, **OPTIMISER, "flip": flip},
        diffusion={"parameterization": "eps", "objective": "simple", "variance": Variance.FIXEDSMALL, **SCHEDULE},
        reference=reference,
        snapshots=snapshots,
    )


def lsun(part: str, steps: int, flip: bool = True, ch: int = 128, snapshots: int = 8) -> Protocol:
    """A model of LSUN, scored as StyleGAN2 does: against the first 50,000 images."""
    return photographs(f"LSUN {part}", steps, flip, ch, reference=50_000, snapshots=snapshots)


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
        snapshots=14,
    ),
    "celebahq256": photographs("CelebA-HQ", 500_000),
    "lsun-bedroom256": lsun("bedroom", 2_400_000, flip=False),
    "lsun-church256": lsun("church", 1_200_000),
    "lsun-cat256": lsun("cat", 1_800_000),
}
# "Increasing filter count" to about 256 million weights: ch 192 has 255,677,955. Inferred; the paper does not say.
LARGE = {"lsun-bedroom256": lsun("bedroom", 1_150_000, flip=False, ch=192, snapshots=6)}


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
    weights, sampler = header["weights"], header["sampler"]
    checks = [
        *data_checks(card, paper),
        *score_checks(header["network"]["name"], images, splits, paper),
        Check(weights != "ema", f"weights: {weights}, not their running mean"),
        Check(sampler != ANCESTRAL_SAMPLER, f"sampler: {sampler}", OF_SAMPLES),
        *sampling_checks(header["sampling"], header["quantisation"]),
        *training_checks(header["training"], header["trained"], paper),
        *reference_checks(reference, card, paper),
        *likelihood_checks(likelihood, card),
    ]
    return describe_differences(checks)


def deviations_of_scores(network: str, images: int, splits: int, card: dict, reference: dict) -> list[dict]:
    """`deviations` as far as they are known of images from anywhere."""
    paper = protocol_of(card["name"], "")
    return describe_differences(
        [
            *data_checks(card, paper),
            *score_checks(network, images, splits, paper),
            *reference_checks(reference, card, paper),
        ]
    )


def describe_differences(checks: list[Check]) -> list[dict]:
    return [{"text": check.text, "affects": list(check.affects)} for check in checks if check.differs]


def score_checks(network: str, images: int, splits: int, paper: Protocol) -> Iterator[Check]:
    """Another network of the scores, another number of images or of parts."""
    yield Check(network != paper.features, f"features and classes: {network}, not Inception", OF_SAMPLES)
    yield Check(images != paper.images, f"{images:,} sample images, not {paper.images:,}", OF_SAMPLES)
    yield Check(splits != paper.splits, f"Inception Score over {splits} splits, not {paper.splits}", ("is",))


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


def sampling_checks(sampling: dict, quantisation: str) -> Iterator[Check]:
    """Samples that end as unstable where others' go on, and other 8 bits.

    The authors' code truncates where it writes images, and the paper does not say of which its numbers are: that is
    said, and affects nothing.
    """
    yield limit_check("|x_t| of samples", sampling["limit"], SamplingConfig.model_fields["limit"].default, OF_SAMPLES)
    rounded = sampling.get("quantisation", Quantisation.NEAREST)  # the only way of versions without the key
    yield Check(rounded != Quantisation.NEAREST, f"samples are {quantisation}", ())


def limit_check(title: str, ours: float, usual: float, affects: tuple[str, ...] = NUMBERS) -> Check:
    """The authors have no limit: a run beyond the usual one is lost, but one below it may not be."""
    return Check(ours < usual, f"unstable where the {title} is above {ours:g}, not {usual:g}", affects)


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
        clipped = document["diffusion"]["parameterization"] == Parameterization.MU  # at every step, so that it matters
        clipping = {"clip_shards": TPU_CORES} if clipped else {}
        yield settings_check("training", training, paper.training | clipping)
        yield limit_check("loss", training["loss_limit"], TrainingConfig.model_fields["loss_limit"].default)
        yield from choice_checks(TrainingConfig.model_construct(**training), trained, process["timesteps"], paper)


def choice_checks(training: TrainingConfig, trained: dict, timesteps: int, paper: Protocol) -> Iterator[Check]:
    """Other weights than those of lowest FID, or a choice among fewer, or by fewer or other images."""
    yield Check(trained.get("checkpoint") == Selection.FINAL, "checkpoint: the final one, not the one of lowest FID")
    if trained.get("checkpoint") == Selection.LOWEST_FID:
        count, wanted = len(training.snapshot_steps), SnapshotsConfig.model_fields["images"].default
        images, steps = trained.get("snapshot_images", wanted), trained.get("snapshot_evaluations", timesteps)
        yield Check(count < paper.snapshots, f"lowest FID of {count} snapshots, not of {paper.snapshots}")
        yield Check(images < wanted, f"lowest FID by {images:,} images of each snapshot, not {wanted:,}")
        yield Check(steps != timesteps, f"lowest FID by images of {steps:,} steps, not {timesteps:,}")


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


SPREAD = "cuts the same work, image by image, into files, jobs or calls; results change by rounding at most"
SEED = "a seed: the paper's are not known, and no seed is better than another; repeats show the spread"
ADDITION = "of few-step sampling, an addition: no number of the paper is made of it"
SHOWN = "of pictures, which no number is made of"
FOLLOWS = "follows from another key, which is checked"
NAMED = "names or describes what is checked otherwise"
OUTCOME = "how a run went: an unstable one has no numbers, and the tables say where and why it ended"
MACHINE = "says where it was computed; sums are rounded otherwise there"
HARMLESS = {
    "name": NAMED,
    "network.image_size": FOLLOWS,  # from the data
    "network.channels": FOLLOWS,
    "network.out_channels": FOLLOWS,  # from the variance
    "training.log_every": "decides on rows of training.csv, and how soon a run with losses above the limit ends",
    "training.save_every": "how much of a killed training is repeated, which gives the same again",
    "training.micro_batch": SPREAD,
    "training.seed": SEED,
    "checkpoint.name": NAMED,  # whose weights they are, their checksum says
    "checkpoint.data": NAMED,
    "checkpoint.variance": FOLLOWS,
    "checkpoint.network": FOLLOWS,
    "checkpoint.note": NAMED,
    "checkpoint.files.name": NAMED,
    "checkpoint.files.urls": NAMED,
    "checkpoint.files.sha256": NAMED,
    "checkpoint.files.size": NAMED,
    "checkpoint.files.about": NAMED,
    "sampling.shards": SPREAD,
    "sampling.batch_size": SPREAD,
    "sampling.previews": SHOWN,
    "sampling.seed": SEED,
    "snapshots.batch_size": SPREAD,
    "snapshots.previews": SHOWN,
    "snapshots.limit": "a snapshot beyond it is not chosen, and its FID would hardly be the lowest",
    "snapshots.seed": "a seed; that of the samples is refused",
    "few_steps.steps": ADDITION,
    "few_steps.eta": ADDITION,
    "few_steps.spacing": ADDITION,
    "few_steps.images": ADDITION,
    "few_steps.shards": ADDITION,
    "few_steps.batch_size": ADDITION,
    "few_steps.limit": ADDITION,
    "few_steps.seed": ADDITION,
    "likelihood.shards": SPREAD,
    "likelihood.batch_size": SPREAD,
    "likelihood.seed": SEED,
    "evaluation.replicates": "makes the error of a FID more or less certain, not the FID",
    "evaluation.seed": "of those draws, and of scores that the paper does not have",
    "evaluation.neighbour_rows": SHOWN,
    "evaluation.neighbours": SHOWN,
    "evaluation.neighbour_crop": SHOWN,
    "repeat.of": NAMED,
    "repeat.varies": NAMED,
    "repeat.seed": SEED,
    # What metrics.json says beside these in made_from.
    "made_from.weights.sha256": NAMED,
    "made_from.weights.status": OUTCOME,
    "made_from.weights.reason": OUTCOME,
    "made_from.weights.snapshots": "the snapshots that were scored; those that the training was to leave are checked",
    "made_from.likelihood.weights_sha256": NAMED,
    "made_from.likelihood.images_sha256": NAMED,
    "made_from.likelihood.split": NAMED,
    "made_from.likelihood.device": MACHINE,
    "made_from.likelihood.precision": "see compute.precision",
    "made_from.reference.file_sha256": NAMED,
    "made_from.reference.data": NAMED,  # images of other data are refused
    "made_from.reference.title": NAMED,
    "made_from.reference.network": NAMED,  # features of another network than the samples' are refused
    "made_from.reference.network_sha256": NAMED,
    "made_from.reference.kinds": "which features there are, for scores that the paper does not have",
    "made_from.reference.accuracy": "of a classifier, whose scores do not compare in any case",
    "made_from.reference.train.sha256": NAMED,
    "made_from.reference.test.sha256": NAMED,
    "made_from.data_sha256": "hashes of the data, whose kind, number and encoding are checked",
    "made_from.device": MACHINE,
    "made_from.precision": "see compute.precision",
    "made_from.python": MACHINE,
    "made_from.packages": MACHINE,
    "made_from.machine": MACHINE,
    "made_from.code": NAMED,
    # Of the scale.
    "compute.device": "a GPU compiles the network, which rounds otherwise in the last digits (docs/speed.md)",
    "compute.precision": "the authors' TPU multiplies in bfloat16 as well; it costs 0.03 of FID here (docs/cifar10.md)",
    "compute.threads": MACHINE,
    "compute.gpus": SPREAD,
    "compute.training_gpus": SPREAD,
}
"""Every key of the documents of a run that `deviations` does not look at, and why it moves no number of the paper.

Keys are those of a stage's document, or of `made_from` in metrics.json. A test demands that each is here or is checked.
"""
