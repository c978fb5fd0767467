"""The typed configuration: the single source of keys, defaults, bounds and descriptions.

`resolving.load` makes it from config.yaml before any job runs. A stage is then handed one small JSON document,
`Experiment.stage_config`, and nothing else.
"""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from ddpm.config.base import FrozenModel
from ddpm.config.enums import Architecture, Objective, Parameterization, Precision, Quantisation, Spacing, Variance

Count = Annotated[int, Field(ge=1, strict=True)]
Level = Annotated[int, Field(ge=1, le=64, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Offset = Annotated[int, Field(ge=0, strict=True)]
Rate = Annotated[float, Field(gt=0)]
# One or several; one alone is written as it is, without a list, so that documents of before stay what they are.
Spacings = Annotated[
    tuple[Spacing, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    PlainSerializer(lambda spacings: spacings if len(spacings) > 1 else spacings[0]),
]
# Keys that several sections share.
BatchSize = Annotated[Count, Field(description="Images per call of the network. Does not change the images.")]
Shards = Annotated[Count, Field(description="Files, and jobs, that they are spread over.")]
Limit = Annotated[Rate, Field(description="An |x_t| above this (the data are in [-1, 1]) is `unstable`.")]


class NetworkConfig(FrozenModel):
    """The U-Net's sizes. `image_size` and `channels` come from the data set, `out_channels` from the variance."""

    image_size: Count = Field(le=8192, description="Height and width of the images, in pixels.")
    channels: Count = Field(le=64, description="Colour channels of the images.")
    out_channels: Count = Field(le=128, description="C, or 2 C where the variance is learned.")
    ch: Count = Field(128, le=8192, description="Base width.")
    ch_mult: tuple[Level, ...] = Field(
        (1, 2, 2, 2), min_length=1, max_length=14, description="Width of each level / ch."
    )
    num_res_blocks: Count = Field(2, le=64, description="Residual blocks per level on the way down; one more going up.")
    attn_resolutions: tuple[Count, ...] = Field((16,), max_length=14, description="Image sizes at which levels attend.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout rate in every residual block.")
    groups: Count = Field(32, le=8192, description="Groups of the group normalisation.")

    @model_validator(mode="after")
    def sizes_fit(self) -> Self:
        levels = len(self.ch_mult)
        if self.image_size % 2 ** (levels - 1):
            most = (self.image_size & -self.image_size).bit_length()
            raise ValueError(
                f"ch_mult has {levels} levels, which halve images of {self.image_size} pixels "
                f"{levels - 1} times; at most {most} levels are possible"
            )
        resolutions = [self.image_size >> i for i in range(levels)]
        for resolution in self.attn_resolutions:
            if resolution not in resolutions:
                raise ValueError(
                    f"attn_resolutions: the network never has {resolution}x{resolution}; "
                    f"its resolutions are {resolutions}"
                )
        if self.ch % 2 or self.ch < 4:
            raise ValueError(f"ch = {self.ch}: the time embedding needs an even width of at least 4")
        for multiplier in (1, *self.ch_mult):
            if self.ch * multiplier % self.groups:
                raise ValueError(f"a width of {self.ch * multiplier} channels has no {self.groups} equal groups")
        return self


class DiffusionConfig(FrozenModel):
    """The process: what is predicted, what is minimised, which variance, over which schedule."""

    parameterization: Parameterization = Field(description="eps, mu or x0: what the network predicts.")
    objective: Objective = Field(description="simple or vlb: what training minimises.")
    variance: Variance = Field(description="fixedlarge, fixedsmall or learned: the reverse process's variance.")
    timesteps: int = Field(1000, ge=2, strict=True, description="T.")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="beta_1.")
    beta_end: float = Field(0.02, gt=0, lt=1, description="beta_T; linear in between.")

    @model_validator(mode="after")
    def combination_exists(self) -> Self:
        if self.variance is Variance.LEARNED and self.objective is Objective.SIMPLE:
            raise ValueError(
                "variance: learned cannot be trained by objective: simple, which never sees the variance; "
                "choose objective: vlb, or variance: fixedlarge or fixedsmall"
            )
        return self


class TrainingConfig(FrozenModel):
    """The training loop."""

    steps: int = Field(ge=0, strict=True, description="Updates of the weights. 0 leaves the initial network.")
    batch_size: Count = Field(128, description="Images per update.")
    learning_rate: Rate = Field(2e-4, description="Adam's, after the warm-up.")
    warmup: int = Field(5000, ge=0, strict=True, description="Steps over which the rate rises from 0; 0: none.")
    grad_clip: Rate = Field(1.0, description="Largest global norm of a gradient.")
    clip_shards: Count = Field(
        1,
        description="Parts of the batch whose gradients are clipped each on its own. 8 is the authors' TPU.",
    )
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="Of the running mean of the weights.")
    flip: bool = Field(description="Random horizontal flips. Default: the paper's choice for the data set.")
    loss_limit: Rate = Field(
        1e3,
        description="Losses (mean square, or bits/dim) above this at every step of a row of training.csv end the run "
        "as `unstable`, as one that is not finite does at once.",
    )
    log_every: Count = Field(100, description="Steps per row of training.csv.")
    save_every: Count = Field(5000, description="Steps between two saved states. Does not change any result.")
    snapshot_every: int = Field(
        0, ge=0, strict=True, description="Steps between two snapshots of the weights, to choose from; 0: none."
    )
    late_snapshot_every: Count | None = Field(
        None,
        exclude_if=lambda every: every is None,
        description="Steps between two in the last quarter of the training, to have more there; null: as before it.",
    )
    micro_batch: Count | None = Field(
        None,
        description="Images that go through the network at once; gradients are added up. Where they do not fit into "
        "the GPU's memory, fewer. Changes no result but for rounding. null: the whole batch.",
    )
    seed: Seed = Field(0, description="Names every random number of the training.")

    @model_validator(mode="after")
    def counts_fit(self) -> Self:
        if self.batch_size % self.clip_shards:
            raise ValueError(f"batch_size {self.batch_size} has no {self.clip_shards} equal clip_shards")
        for key in ("snapshot_every", "late_snapshot_every"):
            if (every := getattr(self, key)) and every % self.log_every:
                raise ValueError(f"{key}: {every} is no multiple of log_every: {self.log_every}")
        return self

    @property
    def snapshot_steps(self) -> list[int]:
        """The numbers of updates after which a snapshot is taken; the last one is always among them."""
        if not self.snapshot_every or not self.steps:
            return []
        early, late = (
            range(every, self.steps + 1, every)
            for every in (self.snapshot_every, self.late_snapshot_every or self.snapshot_every)
        )
        return sorted({*early, *(step for step in late if 4 * step >= 3 * self.steps), self.steps})


Drawn = TypeVar("Drawn", bound="SamplingConfig | FewStepsConfig")


def shards_fit(config: Drawn) -> Drawn:
    """A validator: every shard has an image."""
    if config.shards > config.images:
        raise ValueError(f"shards: {config.shards} is more than images: {config.images}; allowed: 1..{config.images}")
    return config


class SamplingConfig(FrozenModel):
    """Ancestral sampling, all T steps."""

    images: Count = Field(50_000, description="Images to draw.")
    shards: Shards = 1
    batch_size: BatchSize = 500
    previews: int = Field(0, ge=0, strict=True, description="Times at which x0-hat is kept for Figures 6, 10, 14.")
    quantisation: Quantisation = Field(Quantisation.NEAREST, description="nearest or truncate: how 8 bits are made.")
    limit: Limit = 100.0
    seed: Seed = Field(0, description="Names every random number of the samples.")

    check_shards = model_validator(mode="after")(shards_fit)


class SnapshotsConfig(FrozenModel):
    """Samples of each snapshot of a training: for their FID, and to look at."""

    images: Count = Field(5_000, description="Images to draw from each snapshot.")
    steps: int | None = Field(
        None,
        ge=2,
        strict=True,
        description="Steps of DDIM, uniform and with eta 0. null: the ancestral sampler, all T steps.",
    )
    batch_size: BatchSize = 500
    previews: Count = Field(8, description="Images that are also drawn from the weights without averaging.")
    limit: Limit = 100.0
    seed: Seed = Field(
        1000,
        description="Names every random number; none of the samples' seeds, so that what chooses is not scored.",
    )


class FewStepsConfig(FrozenModel):
    """Few-step sampling with DDIM (Song et al. 2021): an addition, in no table or figure of the paper."""

    steps: tuple[Annotated[int, Field(ge=2, strict=True)], ...] = Field(
        (10, 20, 50, 100), min_length=1, description="Numbers S of steps to try; at most T."
    )
    eta: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 1.0), min_length=1, description="Noise to try: 0 adds none, 1 as much as ancestral steps of fixedsmall."
    )
    spacing: Spacings = Field(
        (Spacing.UNIFORM,),
        min_length=1,
        description="uniform, quadratic, or both in a list: which times are visited. Default: quadratic for CIFAR-10, "
        "as its authors'.",
    )
    images: Count = Field(50_000, description="Images to draw for every pair of steps and eta.")
    shards: Shards = 1
    batch_size: BatchSize = 500
    limit: Limit = 100.0
    seed: Seed = Field(0, description="Names every random number; image i starts where that of sampling.seed does.")

    check_shards = model_validator(mode="after")(shards_fit)

    @model_validator(mode="after")
    def settings_differ(self) -> Self:
        for key in ("steps", "eta", "spacing"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: [{', '.join(map(str, values))}] names a value twice")
        return self


class LatentsConfig(FrozenModel):
    """Samples that share a latent, and interpolations between real images: Figures 7, 8 and 9."""

    chains: Count = Field(4, description="Reverse chains that are split into several (Figure 7).")
    pairs: Count = Field(4, description="Pairs of real images to interpolate between (Figure 8).")
    batch_size: BatchSize = 32
    seed: Seed = Field(0, description="Names every random number.")


class LikelihoodConfig(FrozenModel):
    """The variational bound on the log likelihood, with all T terms."""

    test: int | Literal["all"] = Field("all", description="Images of the test set, from the first on.")
    train: int | Literal["all"] = Field("all", description="Images of the training set, from the first on.")
    shards: Count = Field(1, description="Files, and jobs, per set.")
    batch_size: Count = Field(500, description="Images per call of the network. Does not change the result.")
    seed: Seed = Field(0, description="Names the noise: one draw per image and t.")


class EvaluationConfig(FrozenModel):
    """Scores of the samples."""

    splits: Count = Field(10, description="Parts of the samples over which the Inception Score is averaged.")
    replicates: int = Field(100, ge=2, strict=True, description="Bootstrap samples behind the interval of a FID.")
    seed: Seed = Field(0, description="Names the draws of these, of KID's subsets, and of the FID for infinitely many.")
    neighbour_rows: Count = Field(5, description="Samples whose nearest training images are shown (Figure 15).")
    neighbours: Count = Field(9, description="Nearest training images per sample.")
    neighbour_crop: tuple[Offset, Offset, Count, Count] | None = Field(
        None,
        description="top, left, height, width of the box in which Figure 12 compares; None: no such figure.",
    )


class ClassifierConfig(FrozenModel):
    """The classifier that stands for Inception."""

    architecture: Architecture = Field(Architecture.CONVNET, description="convnet, or resnet10 for photographs.")
    width: Count = Field(32, description="Channels of the first convolution; a resnet10 has eight times as many last.")
    features: Count = Field(64, description="Size of the layer whose activations are compared; of a convnet.")
    epochs: Count = Field(30, description="Passes over the training set.")
    batch_size: Count = Field(64, description="Images per update.")
    learning_rate: Rate = Field(1e-3, description="AdamW's, or the largest of SGD's cycle.")
    seed: Seed = Field(0, description="Names every random number of its training.")


class SeedsConfig(FrozenModel):
    """Further seeds, under each of which the experiment is repeated, for the mean and the spread of its numbers."""

    training: tuple[Seed, ...] = Field((), description="For training.seed: each trains, samples and scores again.")
    sampling: tuple[Seed, ...] = Field((), description="For sampling.seed: each samples and scores the same weights.")

    @model_validator(mode="after")
    def seeds_differ(self) -> Self:
        for key, seeds in self:
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{key}: {list(seeds)} names a seed twice")
        return self


class Compute(FrozenModel):
    """What one job of a stage is given."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a GPU.")
    precision: Precision = Field(
        Precision.AUTO, description="fp32, bf16 (the layers of wide networks), or auto: bf16 where the device has it."
    )
    threads: Count = Field(4, description="CPU threads of a job. On a CPU, sums are rounded by thread count.")
    gpus: int = Field(1, ge=0, strict=True, description="GPUs of a job. Several share its batches.")
    training_gpus: int | None = Field(
        None,
        ge=0,
        strict=True,
        description="GPUs of a training, which share every batch. On a CPU: processes. null: as many as of any job.",
    )

    @property
    def gpus_of_training(self) -> int:
        return self.gpus if self.training_gpus is None else self.training_gpus

    def device_of(self, gpus: int) -> str:
        """--device of a job that has so many: several take a process each."""
        return f"{gpus}x{self.device}" if gpus > 1 else self.device
