"""What would run for one experiment, from its weights to its features."""

from collections.abc import Iterator
from pathlib import Path

from ddpm.compute.flops import FLOAT, network_cost, training_flops
from ddpm.config.experiment import Experiment
from ddpm.config.resolving import Config
from ddpm.planning.rates import Kind
from ddpm.planning.work import Place, Work, count, image_bytes, scored, shards, times
from ddpm.storage.files import read_json
from ddpm.storage.weights_file import KEPT_STATES, saved_states, step_of

VECTORS = 4  # of a training's state: weights, average, and Adam's two


class ExperimentWork:
    """The work of one experiment; its methods follow the stages."""

    def __init__(self, experiment: Experiment, place: Place):
        self.experiment = experiment
        self.folder, self.home = place.results / experiment.name, place.results / experiment.trained_as
        self.place = place
        self.cost = network_cost(experiment.network)
        self.weights = FLOAT * self.cost.parameters
        self.steps = experiment.training.snapshot_steps if experiment.training else []
        final = "final.safetensors" if experiment.training else "model.safetensors"
        self.trained = self.done("training", [final])

    def done(self, stage: str, files: list[str]) -> int:
        """How many of `files` are there, if the stage's settings are still those that they were made with."""
        folder = self.home if stage == "training" else self.folder
        document = folder / "config" / f"{stage}.json"
        if document.exists() and read_json(document) != self.experiment.stage_config(stage):
            return 0
        return sum((folder / file).exists() for file in files)

    def all(self, config: Config) -> Iterator[Work]:
        """From the weights to the features of the samples."""
        if self.home == self.folder:
            yield self.train() if self.experiment.training else self.import_weights()
            if self.steps:
                yield self.snapshot()
        yield (samples := self.sample())
        if self.experiment.few_steps:
            yield self.few_steps()
        if self.experiment.likelihood:
            yield from (self.likelihood(split) for split in ("test", "train"))
        if self.experiment.latents:
            yield self.latents()
        yield self.features(config, samples)

    def train(self) -> Work:
        """The steps after the newest saved state; weights are kept of the states, each snapshot twice, and the end."""
        training, name = self.experiment.training, self.experiment.name
        steps = training.steps - saved_step(self.folder / "state" / self.experiment.fingerprint())
        return Work(
            "train",
            name,
            done=self.trained,
            kind=Kind.TRAINING,
            network=self.experiment.network,
            flops=steps * training.batch_size * training_flops(self.experiment.network),
            disk=self.weights * (KEPT_STATES * VECTORS + 2 * len(self.steps) + 2),
        )

    def import_weights(self) -> Work:
        return Work("import_weights", self.experiment.name, done=self.trained, disk=self.weights)

    def drawn(
        self, rule: str, files: list[str], images: int | None, evaluations: float, bytes_each: int,
        stage: str = "", part: str = "",
    ) -> Work:  # fmt: skip
        """Jobs that write `files`, with so many evaluations of the network and bytes for each of all `images`."""
        return Work(
            rule,
            self.experiment.name,
            part=part,
            jobs=len(files),
            done=self.done(stage or rule, files) if self.trained else 0,
            kind=Kind.SAMPLING,
            network=self.experiment.network,
            flops=times(images, evaluations * self.cost.flops),
            disk=times(images, bytes_each),
        )

    @property
    def timesteps(self) -> int:
        return self.experiment.diffusion.timesteps

    @property
    def pixels(self) -> int:
        return image_bytes(self.experiment.data_set)

    def snapshot(self) -> Work:
        settings, files = self.experiment.snapshots, [f"snapshots/{step}.npz" for step in self.steps]
        images = len(files) * (settings.images + settings.previews)
        steps = settings.steps or self.timesteps
        return self.drawn("snapshot", files, images, steps, self.pixels, stage="snapshots")

    def sample(self) -> Work:
        settings = self.experiment.sampling
        files, pictures = shards("samples", settings.shards), 1 + settings.previews
        return self.drawn("sample", files, settings.images, self.timesteps, pictures * self.pixels, stage="sampling")

    def few_steps(self) -> Work:
        settings = self.experiment.few_steps
        files, pictures = shards("few_steps", settings.shards), len(settings.eta) * len(settings.steps)
        evaluations = len(settings.eta) * sum(settings.steps)
        return self.drawn("few_steps", files, settings.images, evaluations, pictures * self.pixels)

    def likelihood(self, split: str) -> Work:
        settings = self.experiment.likelihood
        images = getattr(settings, split)
        if images == "all":
            images = count(self.experiment.data_set, split, self.place)
        files = shards(f"likelihood/{split}", settings.shards)
        return self.drawn("likelihood", files, images, self.timesteps, 2 * FLOAT * self.timesteps, part=split)

    def latents(self) -> Work:
        """A chain, and three ways on from each quarter of it (Figure 7); eleven mixtures of each pair from the middle
        (Figure 8), and of one pair from each eighth of T (Figure 9)."""
        settings = self.experiment.latents
        chains = settings.chains * (1 + 3 * (1 + 0.75 + 0.5 + 0.25)) + 11 * (settings.pairs * 0.5 + 4.5)
        return self.drawn("latents", ["latents.npz"], round(chains), self.timesteps, self.pixels)

    def features(self, config: Config, samples: Work) -> Work:
        """Of the samples and their previews."""
        settings = self.experiment.sampling
        files = shards("features", settings.shards) if samples.done == samples.jobs else []
        done = sum((self.folder / file).exists() for file in files)
        images = settings.images * (1 + settings.previews)
        return scored(config, "features", self.experiment.name, images, samples.jobs, done)


def saved_step(state: Path) -> int:
    """The step of the newest saved state of a training; 0 where there is none."""
    return max((step_of(path)[0] for path in saved_states(state)), default=0)
