"""Where the files of a run lie, by name: what rules read and write, and what tables and figures are made from."""

from dataclasses import dataclass
from pathlib import Path

from ddpm.config.catalogue import FIGURES, SAMPLES, SCORES_TABLE
from ddpm.config.enums import Features
from ddpm.config.experiment import Experiment
from ddpm.config.resolving import Config

MOST_SHOWN = 256  # first samples in a figure
# Files of an experiment that the evaluation makes for figures, beside its metrics.
EVALUATED = (
    *("rate_distortion.csv", "progressive.csv", "few_steps.csv", "snapshots.csv"),
    *("neighbours.npz", "neighbours-crop.npz"),
)


@dataclass(frozen=True)
class Layout:
    """The files of a configuration, relative to the folder that Snakemake runs in."""

    config: Config

    @property
    def results(self) -> str:
        """The folder of the scale."""
        return f"results/{self.config.scale}"

    @property
    def experiments(self) -> dict[str, Experiment]:
        return self.config.scale_config.experiments

    @property
    def inception(self) -> str:
        """Inception's file: downloaded, or in the folder that config.yaml names."""
        return f"{self.config.inception.root or 'resources/inception'}/inception-2015-12-05.pt"

    def weights(self, experiment: str) -> str:
        """The weights that an experiment samples from, which may be another's."""
        return f"{self.results}/{self.experiments[experiment].trained_as}/model.safetensors"

    def network(self, data: str) -> str:
        """What turns images of `data` into features and class probabilities at this scale."""
        if self.config.scale_config.features is Features.INCEPTION:
            return self.inception
        return f"{self.results}/reference/{data}/classifier.safetensors"

    def downloads(self, data: str) -> list[str]:
        """The card of a data set's download; nothing for data that ship with a dependency, or lie in a `root`."""
        source = self.config.data_sets[data]
        return [f"resources/downloads/{data}/card.json"] if source.files and not source.root else []

    def statistics(self, data: str) -> list[str]:
        """The card of published statistics of Inception's features, where there are some and ours are its own, too."""
        comparable = self.config.scale_config.features is Features.INCEPTION and self.config.data_sets[data].statistics
        return [f"resources/statistics/{data}/card.json"] if comparable else []

    def shards(self, experiment: str, folder: str, section: str) -> list[str]:
        """The numbered files of `folder` of an experiment, as many as its `section` says; none where it has none."""
        settings = getattr(self.experiments[experiment], section)
        count = settings.shards if settings else 0
        return [f"{self.results}/{experiment}/{folder}/{i}-of-{count}.npz" for i in range(1, count + 1)]

    def samples(self, experiment: str, most: int | None = None) -> list[str]:
        """The shards of an experiment's samples; as many as hold the first `most` of them."""
        sampling = self.experiments[experiment].sampling
        shards = self.shards(experiment, "samples", "sampling")
        return shards if most is None else shards[: -(-most * sampling.shards // sampling.images)]

    def features(self, experiment: str) -> list[str]:
        """The shards of the features of an experiment's samples."""
        return self.shards(experiment, "features", "sampling")

    def few_steps(self, experiment: str) -> list[str]:
        """The shards of an experiment's samples by DDIM."""
        return self.shards(experiment, "few_steps", "few_steps")

    def bounds(self, experiment: str, split: str) -> list[str]:
        """The shards of the likelihood's terms of the images of a split."""
        return self.shards(experiment, f"likelihood/{split}", "likelihood")

    def snapshots(self, experiment: str) -> list[str]:
        """The samples of each snapshot of a training."""
        training = self.experiments[experiment].training
        steps = training.snapshot_steps if training else ()
        return [f"{self.results}/{experiment}/snapshots/{step}.npz" for step in steps]

    def with_repeats(self, table: str) -> list[str]:
        """The experiments of a table, and those that repeat them with other seeds."""
        experiments = self.config.experiments_of(table)
        repeats = [repeat for experiment in experiments for repeat in self.config.repeats_of(experiment)]
        return list(dict.fromkeys(experiments + repeats))

    def figure_sources(self, name: str) -> list[str]:
        """The saved arrays that a figure is drawn from, and the metrics that say what they are."""
        if name == "reproduced":
            return [f"{self.results}/tables/{table}.csv" for table in self.config.tables if table != SCORES_TABLE]
        sources = []
        for experiment in dict.fromkeys(self.config.experiments_of(name)):
            for file in FIGURES[name].files:
                shards = self.samples(experiment, MOST_SHOWN)
                sources += shards if file == SAMPLES else [f"{self.results}/{experiment}/{file}"]
            if name == "fewsteps":
                sources += self.few_steps(experiment)
            if name == "training-curve" and self.experiments[experiment].snapshots:
                sources += [f"{self.results}/{experiment}/snapshots.{suffix}" for suffix in ("csv", "npz")]
        return sources

    def sampled_for_figures(self) -> list[str]:
        """What the sampling makes for figures."""
        return [file for file in self.sources() if file.endswith(".npz") and Path(file).name not in EVALUATED]

    def evaluated_for_figures(self) -> list[str]:
        """What the evaluation makes for figures and Table 4, beside the metrics of every experiment."""
        curves = self.curves("table4") if "table4" in self.config.tables else []
        return [*curves, *(file for file in self.sources() if Path(file).name in EVALUATED)]

    def sources(self) -> list[str]:
        """The files that the figures of this run are drawn from, each once."""
        return list(dict.fromkeys(file for name in self.config.figures for file in self.figure_sources(name)))

    def curves(self, table: str) -> list[str]:
        """The curves of rate and distortion that Table 4 is made from."""
        names = self.with_repeats(table) if table == "table4" else []
        return [f"{self.results}/{name}/rate_distortion.csv" for name in names if self.experiments[name].likelihood]

    def figure_stamp(self, name: str) -> str:
        """The small print in a figure: data sets and scale."""
        return ", ".join(filter(None, (self.config.data_of(name), f"scale {self.config.scale}")))
