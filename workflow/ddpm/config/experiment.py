"""One experiment, and a scale: the budget of several. `resolving` fills them in."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ddpm.config.base import Address, FrozenModel
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

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$")
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
    def name_fits(self) -> Self:
        prefix = f"{self.data}-{self.diffusion.parameterization}-{self.diffusion.objective}"
        if self.name != prefix and not self.name.startswith(prefix + "-"):
            raise ValueError(f"an experiment of this data set and method is called {prefix} or {prefix}-...")
        return self

    @model_validator(mode="after")
    def samples_suffice(self) -> Self:
        splits = self.evaluation.splits
        for section in ("sampling", "few_steps", "snapshots"):
            drawn = getattr(self, section)
            if drawn and drawn.images < 2 * splits:
                few = f"{section}.images: {drawn.images} is too few for evaluation.splits: {splits}"
                raise ValueError(f"{few}; a part needs two images")
        if self.sampling.images < 4:
            raise ValueError(f"sampling.images: {self.sampling.images} is too few for precision and recall; 4 or more")
        return self

    @model_validator(mode="after")
    def steps_fit(self) -> Self:
        previews, timesteps = self.sampling.previews, self.diffusion.timesteps
        if previews and timesteps % previews:
            raise ValueError(f"sampling.previews: {previews} does not divide diffusion.timesteps: {timesteps}")
        few_steps = max(self.few_steps.steps) if self.few_steps else 0
        snapshots = (self.snapshots and self.snapshots.steps) or 0
        for section, steps in (("few_steps", few_steps), ("snapshots", snapshots)):
            if steps > timesteps:
                raise ValueError(f"{section}.steps: {steps} is more than diffusion.timesteps; allowed: 2..{timesteps}")
        return self

    @model_validator(mode="after")
    def crop_fits(self) -> Self:
        if box := self.evaluation.neighbour_crop:
            (top, left, height, width), size = box, self.network.image_size
            if max(top + height, left + width) > size:
                raise ValueError(f"evaluation.neighbour_crop: {list(box)} reaches out of images of {size}x{size}")
        return self

    @model_validator(mode="after")
    def snapshots_fit(self) -> Self:
        taken = bool(self.training and self.training.snapshot_every)
        if taken != bool(self.snapshots):
            raise ValueError("training.snapshot_every and the section `snapshots` (images, ...) need each other")
        if self.checkpoint is Selection.LOWEST_FID and not taken:
            raise ValueError("checkpoint: lowest-fid needs snapshots: training.snapshot_every and section `snapshots`")
        if self.snapshots and self.snapshots.seed in (self.sampling.seed, *self.seeds.sampling):
            raise ValueError(
                f"snapshots.seed: {self.snapshots.seed} is a seed of the samples too, and the images that choose the "
                "weights must not be those that are scored; name another"
            )
        return self

    @model_validator(mode="after")
    def likelihood_fits(self) -> Self:
        if (likelihood := self.likelihood) is None:
            return self
        for split in ("test", "train"):
            available = getattr(self.data_set, split)
            if available is None:  # known once the data are prepared
                continue
            asked = getattr(likelihood, split)
            images = available if asked == "all" else asked
            if not 1 <= images <= available:
                raise ValueError(f"likelihood.{split}: {asked} images; allowed: 1..{available}, or all")
            if images < likelihood.shards:
                raise ValueError(f"likelihood.shards: {likelihood.shards} is more than likelihood.{split}")
        return self

    @model_validator(mode="after")
    def seeds_are_others(self) -> Self:
        for section, seeds in self.seeds:
            own = getattr(self, section)
            if seeds and own is None:
                raise ValueError(f"seeds.{section}: the weights are released; nothing is trained")
            if seeds and own.seed in seeds:
                raise ValueError(f"seeds.{section}: {own.seed} is the experiment's own {section}.seed; name others")
        return self

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

    root: Path | None = Field(None, description="Folder that holds inception-2015-12-05.pt already.")
    urls: tuple[Address, ...] = Field((), description="Addresses of it, for a mirror; none: where it is published.")
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
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
    def classifier_has_labels(self) -> Self:
        for name, experiment in self.experiments.items():
            if self.features is Features.CLASSIFIER and not experiment.data_set.may_have_classes:
                raise ValueError(
                    f"features: classifier: {experiment.data} of {name} has no labels to train a classifier on; "
                    "choose features: inception."
                )
        return self
