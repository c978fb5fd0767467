"""One experiment, and a scale: the budget of several. `resolving` fills them in."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ddpm.config.base import Address, Folder, FrozenModel, Name, Sha256
from ddpm.config.enums import Features, Selection, WeightsSource
from ddpm.config.schema import (
    ClassifierConfig,
    Compute,
    DiffusionConfig,
    EvaluationConfig,
    FewStepsConfig,
    LatentsConfig,
    LikelihoodConfig,
    NetworkConfig,
    SamplingConfig,
    Seed,
    SeedsConfig,
    SnapshotsConfig,
    TrainingConfig,
)
from ddpm.config.sources import Checkpoint, DataSet


class Repeat(FrozenModel):
    """What makes an experiment a repeat: it is the experiment `of`, with one seed replaced."""

    of: str
    varies: Literal["training", "sampling"]
    seed: Seed

    @property
    def name(self) -> str:
        return f"{self.of}-{self.varies}-seed{self.seed}"

    @property
    def trained_as(self) -> str:
        """The experiment that its weights are of."""
        return self.of if self.varies == "sampling" else self.name


class Experiment(FrozenModel):
    """One trained model and all that is measured of it."""

    name: Name
    data: str
    data_set: DataSet = Field(exclude=True, description="What is known of `data`.")
    network: NetworkConfig
    diffusion: DiffusionConfig
    weights: WeightsSource = WeightsSource.TRAIN
    training: TrainingConfig | None = Field(description="None where the weights are released.")
    checkpoint: Selection | Checkpoint = Field(
        Selection.FINAL,
        description="Of a training: final or lowest-fid. Of released weights: a name, or files with addresses.",
    )
    sampling: SamplingConfig
    snapshots: SnapshotsConfig | None = None
    latents: LatentsConfig | None = None
    few_steps: FewStepsConfig | None = None
    likelihood: LikelihoodConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    seeds: SeedsConfig = SeedsConfig()
    repeat: Repeat | None = Field(None, description="Of a repeat, which is made from another's `seeds`.")

    @model_validator(mode="after")
    def parts_fit(self) -> Self:
        if problems := [*self.name_problems(), *self.count_problems(), *self.time_problems(), *self.seed_problems()]:
            raise ValueError("\n".join(problems))
        return self

    def name_problems(self) -> Iterator[str]:
        prefix = f"{self.data}-{self.diffusion.parameterization}-{self.diffusion.objective}"
        if self.name != prefix and not self.name.startswith(prefix + "-"):
            yield f"an experiment of this data set and method is called {prefix} or {prefix}-..."

    def count_problems(self) -> Iterator[str]:
        """Of images: those that are drawn, those that the data set has, and their pixels."""
        splits, size = self.evaluation.splits, self.network.image_size
        for section in ("sampling", "few_steps", "snapshots"):
            if (drawn := getattr(self, section)) and drawn.images < 2 * splits:
                few = f"{section}.images: {drawn.images} is too few for evaluation.splits: {splits}"
                yield f"{few}; a part needs two images"
        if self.sampling.images < 4:
            yield f"sampling.images: {self.sampling.images} is too few for precision and recall; 4 or more"
        for split in ("test", "train"):
            available = getattr(self.data_set, split)
            if self.likelihood is None or available is None:  # which is known once the data are prepared
                continue
            asked, shards = getattr(self.likelihood, split), self.likelihood.shards
            if not 1 <= (images := available if asked == "all" else asked) <= available:
                yield f"likelihood.{split}: {asked} images; allowed: 1..{available}, or all"
            elif images < shards:
                yield f"likelihood.shards: {shards} is more than likelihood.{split}"
        pairs, available = self.latents.pairs if self.latents else 0, self.data_set.train
        if available is not None and 2 * pairs > available:
            yield f"latents.pairs: {pairs} pairs of {available} images of {self.data}; allowed: 1..{available // 2}"
        top, left, height, width = box = self.evaluation.neighbour_crop or (0, 0, 0, 0)
        if max(top + height, left + width) > size:
            yield f"evaluation.neighbour_crop: {list(box)} reaches out of images of {size}x{size}"

    def time_problems(self) -> Iterator[str]:
        """Of the timesteps of the process, and of the steps of the training."""
        previews, timesteps = self.sampling.previews, self.diffusion.timesteps
        if previews and timesteps % previews:
            yield f"sampling.previews: {previews} does not divide diffusion.timesteps: {timesteps}"
        few_steps = max(self.few_steps.steps) if self.few_steps else 0
        for section, steps in (("few_steps", few_steps), ("snapshots", self.snapshots and self.snapshots.steps)):
            if (steps or 0) > timesteps:
                yield f"{section}.steps: {steps} is more than diffusion.timesteps; allowed: 2..{timesteps}"
        if self.latents and timesteps < 4:
            yield f"latents: Figure 7 needs quarters of diffusion.timesteps: {timesteps}; 4 or more"
        taken = bool(self.training and self.training.snapshot_every)
        if self.training and taken and not self.training.steps:
            yield "training.steps: 0 takes no snapshots; leave out training.snapshot_every and `snapshots`"
        if taken != bool(self.snapshots):
            yield "training.snapshot_every and the section `snapshots` (images, ...) need each other"
        if self.checkpoint is Selection.LOWEST_FID and not taken:
            yield "checkpoint: lowest-fid needs snapshots: training.snapshot_every and section `snapshots`"

    def seed_problems(self) -> Iterator[str]:
        if self.snapshots and self.snapshots.seed in (self.sampling.seed, *self.seeds.sampling):
            yield (
                f"snapshots.seed: {self.snapshots.seed} is a seed of the samples too, and the images that choose the "
                "weights must not be those that are scored; name another"
            )
        for section, seeds in self.seeds:
            own = getattr(self, section)
            if seeds and own is None:
                yield f"seeds.{section}: the weights are released; nothing is trained"
            elif seeds and own.seed in seeds:
                yield f"seeds.{section}: {own.seed} is the experiment's own {section}.seed; name others"

    @property
    def trained_as(self) -> str:
        """The experiment that the weights are of: another one where only the seed of the sampling is replaced."""
        return self.repeat.trained_as if self.repeat else self.name

    def repeats(self) -> list["Experiment"]:
        """The experiment under each of its further seeds, those of the training first."""
        return [
            self.repeated(Repeat(of=self.name, varies=section, seed=seed))
            for section, seeds in self.seeds
            for seed in seeds
        ]

    def repeated(self, repeat: Repeat) -> "Experiment":
        """This experiment with the seed of `repeat`; no more is made of it than its numbers.

        Another training starts image i from the same noise. Another sampling has the same weights, on which alone the
        likelihood depends.
        """
        changes = {"name": repeat.name, "repeat": repeat, "seeds": SeedsConfig(), "latents": None, "few_steps": None}
        sampling: dict[str, Any] = {"previews": 0}
        training: dict[str, Any] = {}
        if repeat.varies == "sampling":
            sampling["seed"], changes["likelihood"] = repeat.seed, None
        else:
            training["seed"] = repeat.seed
            if self.checkpoint is Selection.FINAL:  # nothing is chosen among snapshots
                training |= {"snapshot_every": 0, "late_snapshot_every": None}
                changes["snapshots"] = None
        if training and self.training:
            changes["training"] = self.training.model_copy(update=training)
        return self.model_copy(update={**changes, "sampling": self.sampling.model_copy(update=sampling)})

    def stage_config(self, stage: str) -> dict[str, Any]:
        """All that `stage` may depend on, and nothing that only another stage depends on."""
        document = self.model_dump(mode="json")
        if stage == "training":
            document["name"] = self.trained_as
        origin = "training" if self.weights is WeightsSource.TRAIN else "checkpoint"
        keys = {
            "training": ("name", "data", "network", "diffusion", origin),
            "sampling": ("name", "sampling"),
            "snapshots": ("name", "snapshots"),
            "few_steps": ("name", "few_steps"),
            "likelihood": ("name", "likelihood"),
            "evaluation": ("name", *(("repeat",) if self.repeat else ()), "evaluation"),
        }[stage]
        return {key: document[key] for key in keys}

    def fingerprint(self) -> str:
        """Identifies the result of the training."""
        return training_fingerprint(self.stage_config("training"))


def training_fingerprint(config: dict[str, Any]) -> str:
    """Hash of a training configuration without the keys that cannot change the result."""
    training = {key: value for key, value in config["training"].items() if key not in ("save_every", "micro_batch")}
    return hashlib.sha256(json.dumps({**config, "training": training}, sort_keys=True).encode()).hexdigest()[:16]


class InceptionSource(FrozenModel):
    """Where the Inception network is taken from."""

    root: Folder | None = Field(None, description="Folder that holds inception-2015-12-05.pt already.")
    urls: tuple[Address, ...] = Field((), description="Addresses of it, for a mirror; none: where it is published.")
    sha256: Sha256 | None = Field(
        None,
        description="Of another file in its place, which can do on this machine whatever you can; none: the published.",
    )

    @field_validator("root")
    @classmethod
    def has_no_braces(cls, root: Path | None) -> Path | None:
        """Snakemake would fill something in there."""
        if root and re.search("[{}]", str(root)):
            raise ValueError("must have no braces in its name: { or }")
        return root


class Scale(FrozenModel):
    """A budget: which experiments, on which data, how long."""

    description: str
    stand_ins: dict[str, str] = Field(description="Which data set plays the part of which one of the paper.")
    compute: Compute = Compute()
    features: Features = Field(Features.INCEPTION, description="inception or classifier: what scores are made from.")
    classifier: ClassifierConfig = ClassifierConfig()
    experiments: dict[str, Experiment]

    @model_validator(mode="after")
    def experiments_fit(self) -> Self:
        gpus = max(self.compute.gpus_of_training, 1)
        for name, experiment in self.experiments.items():
            if self.features is Features.CLASSIFIER and not experiment.data_set.may_have_classes:
                raise ValueError(
                    f"features: classifier: {experiment.data} of {name} has no labels to train a classifier on; "
                    "choose features: inception."
                )
            for key in ("batch_size", "clip_shards") if experiment.training else ():
                value = getattr(experiment.training, key)
                if value % gpus and (key, value) != ("clip_shards", 1):
                    raise ValueError(
                        f"experiments.{name}.training.{key}: {value} cannot be shared by the {gpus} processes of "
                        "compute.training_gpus."
                    )
        return self
