"""From config.yaml and the scale that it names to a checked configuration.

The scale's file names experiments and budgets; config.yaml may replace any key of it. `load` merges both, fills in
what data sets, methods and published weights imply, and checks the whole before any job runs.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ddpm.config.base import ConfigError, FrozenModel, readable, validated
from ddpm.config.catalogue import FIGURES, NEEDS, SCORES_TABLE, TABLES
from ddpm.config.enums import Features, Parameterization, Selection, Variance, WeightsSource
from ddpm.config.experiment import Experiment, InceptionSource, Repeat, Scale
from ddpm.config.registry import DATASETS, PUBLISHED, default_for, resolve
from ddpm.config.schema import SeedsConfig
from ddpm.config.sources import Checkpoint, DataSet

SCALES = Path(__file__).parents[2] / "scales"
REPEATS = re.compile(r"(.+)-(?:training|sampling)-seed\d+")  # what `Repeat.name` gives


class Config(FrozenModel):
    """config.yaml and its scale, checked and resolved."""

    scale: str
    scale_config: Scale
    data_sets: dict[str, DataSet]
    inception: InceptionSource = InceptionSource()
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()

    def stand_in(self, data: str) -> str:
        """The data set that plays the part of the paper's `data` at this scale."""
        return self.scale_config.stand_ins.get(data, data)

    def experiments_of(self, name: str) -> list[str]:
        """The experiments that table or figure `name` is made from, in the order of its rows or panels."""
        if name == SCORES_TABLE:
            return list(self.scale_config.experiments)
        return [f"{self.stand_in(data)}-{ending}" for data, ending in {**TABLES, **FIGURES}[name]]

    def repeats_of(self, name: str) -> list[str]:
        """The experiments that are experiment `name` with another seed, those of the training before the sampling's."""
        experiments = self.scale_config.experiments.items()
        return [other for other, experiment in experiments if experiment.repeat and experiment.repeat.of == name]

    def data_of(self, name: str) -> str:
        """The data sets that table or figure `name` shows at this scale, in words; a drawing shows none."""
        if name == SCORES_TABLE:
            shown = [each.data for each in self.scale_config.experiments.values()]
        else:
            named = [name] if name != "reproduced" else self.tables
            shown = [self.stand_in(data) for each in named for data, _ in {**TABLES, **FIGURES}[each]]
        sets = (self.data_sets[data] for data in dict.fromkeys(shown))
        return " and ".join(each.title if each.reencoded else each.name for each in sets)


KEYS = {
    "scale": "the budget: a file of workflow/scales",
    "experiments": "`all`, or a list of experiments of the scale",
    "tables": "`all`, or a list of tables",
    "figures": "`all`, or a list of figures",
    "sources": "where data sets are, and data sets of your own",
    "override": "keys of the scale's file to replace",
}


def merge(base: Any, changes: Any) -> Any:
    """`base` with the keys of `changes` replaced, level by level."""
    if isinstance(base, dict) and isinstance(changes, dict):
        return {**base, **{key: merge(base.get(key), value) for key, value in changes.items()}}
    return changes


def load(document: dict[str, Any], scales: Path = SCALES) -> Config:
    """Check config.yaml (already parsed) and the scale that it names.

    Raises:
        ConfigError: for the first document with errors; every error with path, value and what is allowed.
    """
    for key in document:
        if key not in KEYS:
            raise ConfigError(f"config.yaml: {key}: unknown key. Allowed: {', '.join(KEYS)}.")
    available = sorted(path.stem for path in scales.glob("*.yaml"))
    scale = document.get("scale")
    if scale not in available:
        raise ConfigError(f"config.yaml: scale: {scale!r} is unknown. Allowed: {', '.join(available)}.")
    source = f"workflow/scales/{scale}.yaml"
    try:
        raw = yaml.safe_load((scales / f"{scale}.yaml").read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    raw = {key: value for key, value in raw.items() if not key.startswith(".")}  # what YAML's anchors are kept in
    override = document.get("override") or {}
    if not isinstance(override, dict):
        raise ConfigError(f"config.yaml: override: {override!r}: must be a mapping of keys of {source}.")
    if override:
        source += " with config.yaml: override"
    raw = merge(raw, override)

    data_sets, inception = resolve_sources(document.get("sources") or {})
    defaults = raw.pop("defaults", {})
    if not isinstance(raw.get("experiments"), dict):
        raise ConfigError(f"{source}: experiments: must be a mapping of names to experiments.")
    asked = document.get("experiments", "all")
    for name in asked if isinstance(asked, list) else ():
        if found := REPEATS.fullmatch(str(name)):
            raise ConfigError(f"config.yaml: experiments: {name!r}: a repeat comes with its experiment: {found[1]}.")
    experiments = {}
    for name in chosen("experiments", asked, list(raw["experiments"])):
        raw_experiment = merge(defaults, raw["experiments"][name] or {})
        experiments[name] = resolve_experiment(name, raw_experiment, source, data_sets)
        experiments |= repeats(experiments[name])
    raw["experiments"] = experiments
    scale_config = validated(Scale, raw, source)
    for part, data in scale_config.stand_ins.items():
        if data not in data_sets:
            raise ConfigError(f"{source}: stand_ins.{part}: {data!r} is no data set. Allowed: {', '.join(data_sets)}.")
    for name, experiment in scale_config.experiments.items():
        if scale_config.features is Features.CLASSIFIER and not may_have_classes(experiment.data_set):
            raise ConfigError(
                f"{source}: features: classifier: {experiment.data} of {name} has no labels to train a classifier on; "
                "choose features: inception."
            )

    config = Config(scale=scale, scale_config=scale_config, data_sets=data_sets, inception=inception)
    tables = choose_things(config, "tables", TABLES, document, source)
    figures = choose_things(config, "figures", FIGURES, document, source)
    if not set(tables) - {SCORES_TABLE} and "reproduced" in figures:
        if document.get("figures", "all") != "all":
            raise ConfigError(
                "config.yaml: figures: reproduced needs a table of the paper, and `tables` leaves this run none."
            )
        figures.remove("reproduced")
    return config.model_copy(update={"tables": tuple(tables), "figures": tuple(figures)})


def may_have_classes(data: DataSet) -> bool:
    """Whether a data set has labels, or is a folder that has sub-folders, or archives, which may be its classes."""
    if data.classes is not None or data.root is None:
        return bool(data.classes)
    folder = data.root / "train" if (data.root / "train").is_dir() else data.root
    return any(
        path.is_dir() or path.suffix in (".zip", ".tar", ".gz", ".xz", ".bz2", ".tgz") for path in folder.iterdir()
    )


def resolve_sources(raw: Any) -> tuple[dict[str, DataSet], InceptionSource]:
    """All data sets by name, the registry's with what `sources` of config.yaml says of them, and its own; Inception."""
    if not isinstance(raw, dict):
        raise ConfigError(f"config.yaml: sources: {raw!r}: must be a mapping of data sets to what is known of them.")
    for name, changes in raw.items():
        if not isinstance(changes, dict):
            raise ConfigError(f"config.yaml: sources.{name}: {changes!r}: must be a mapping, as in {{root: FOLDER}}.")
    inception = validated(InceptionSource, raw.get("inception", {}), "config.yaml: sources.inception")
    changed = {}
    for name, changes in raw.items():
        if name != "inception":
            try:
                changed[name] = resolve(name, changes)
            except ValidationError as error:
                raise readable(error, DataSet, f"config.yaml: sources.{name}") from None
    for name, source in {"inception": inception, **changed}.items():
        if source.root and not source.root.is_dir():
            raise ConfigError(f"config.yaml: sources.{name}.root: {source.root}: no such folder.")
    return DATASETS | changed, inception


def choose_things(config: Config, kind: str, things: dict, document: dict, source: str) -> list[str]:
    """The tables or figures that config.yaml asks for; `all` means those that this run's experiments suffice for."""

    def lacking(name: str) -> str:
        """What `name` is made from and this run leaves out, in words; empty if nothing."""
        for experiment in config.experiments_of(name):
            if experiment not in config.scale_config.experiments:
                return f"{experiment}, which this run leaves out"
            value = config.scale_config.experiments[experiment]
            for key in NEEDS.get(name, "name").split("."):
                value = getattr(value, key)
            if not value:
                return f"experiments.{experiment}.{NEEDS[name]}, which {source} leaves out"
        return ""

    asked = document.get(kind, "all")
    if asked == "all":
        return [name for name in things if not lacking(name)]
    for name in chosen(kind, asked, list(things)):
        if missing := lacking(name):
            raise ConfigError(f"config.yaml: {kind}: {name} needs {missing}.")
    return list(asked)


def chosen(key: str, asked: Any, allowed: list[str]) -> list[str]:
    """The names that config.yaml asks for under `key`."""
    if asked == "all":
        return allowed
    if not isinstance(asked, list) or not asked:
        raise ConfigError(f"config.yaml: {key}: {asked!r}: must be `all` or a list of: {', '.join(allowed)}.")
    for name in asked:
        if name not in allowed:
            raise ConfigError(f"config.yaml: {key}: {name!r} is unknown. Allowed: {', '.join(allowed)}.")
    return asked


def resolve_experiment(
    name: str, raw: dict[str, Any], source: str, data_sets: dict[str, DataSet] = DATASETS
) -> Experiment:
    """Fill in what the data set, the method and published weights imply, and check the whole."""
    where = f"{source}: experiments.{name}"
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {raw!r}: must be a mapping.")
    if (found := REPEATS.fullmatch(name)) or "repeat" in raw:
        of = found[1] if found else name
        what = "the name of a repeat" if found else "the key of a repeat"
        raise ConfigError(
            f"{where}{'' if found else '.repeat'}: {what}, which is not described but asked for: "
            f"experiments.{of}.seeds: {{training: [...], sampling: [...]}}."
        )
    data = data_sets.get(raw.get("data", ""))
    if data is None:
        raise ConfigError(f"{where}.data: {raw.get('data')!r} is no data set. Allowed: {', '.join(data_sets)}.")
    sections = ("network", "diffusion", "training")
    for section in sections:
        if not isinstance(raw.get(section, {}), dict):
            raise ConfigError(f"{where}.{section}: {raw[section]!r}: must be a mapping.")
    network, diffusion, training = ({**raw.get(section, {})} for section in sections)
    checkpoint = None
    selections = [each.value for each in Selection]
    if raw.get("weights") == WeightsSource.RELEASED:
        checkpoint = resolve_checkpoint(raw.get("checkpoint"), name, data.name, where)
        network = dict(checkpoint.network) if checkpoint.network else network
        theirs = {"parameterization": Parameterization.EPS, "variance": checkpoint.variance}
        for key, value in theirs.items() if checkpoint.variance else ():
            if (asked := diffusion.setdefault(key, value)) != value:
                raise ConfigError(
                    f"{where}.diffusion.{key}: {asked!r}: the authors' code has {value} for the weights "
                    f"{checkpoint.name}."
                )
    elif raw.get("weights", WeightsSource.TRAIN) == WeightsSource.TRAIN and (
        raw.get("checkpoint", Selection.FINAL) not in selections
    ):
        raise ConfigError(
            f"{where}.checkpoint: {raw['checkpoint']!r}: published weights are for weights: released; with "
            f"weights: train, allowed: {', '.join(selections)}."
        )
    for key, size in (("image_size", data.image_size), ("channels", data.channels)):
        if network.setdefault(key, size) != size:
            raise ConfigError(f"{where}.network.{key}: {network[key]!r}: the images of {data.name} have {size}.")
    learned = diffusion.get("variance") == Variance.LEARNED
    network["out_channels"] = data.channels * (2 if learned else 1)
    training.setdefault("flip", data.flip)
    filled = {**raw, "name": name, "data_set": data}
    filled |= {"network": network, "diffusion": diffusion, "training": training}
    if checkpoint:
        filled |= {"training": None, "snapshots": None, "checkpoint": checkpoint}
    return validated(Experiment, filled, where)


def repeats(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment under each of its further seeds, by name."""
    found = [Repeat(of=experiment.name, varies=key, seed=seed) for key, seeds in experiment.seeds for seed in seeds]
    return {repeat.name: repeated(experiment, repeat) for repeat in found}


def repeated(experiment: Experiment, repeat: Repeat) -> Experiment:
    """`experiment` with the seed of `repeat`; no more is made of it than its numbers.

    Another training starts image i from the same noise. Another sampling has the same weights, on which alone the
    likelihood depends.
    """
    sections = {"training": {}, "sampling": {"previews": 0}}
    sections[repeat.varies]["seed"] = repeat.seed
    changes = {"name": repeat.name, "repeat": repeat, "seeds": SeedsConfig(), "latents": None, "few_steps": None}
    if repeat.varies == "sampling":
        changes["likelihood"] = None
    elif experiment.checkpoint is Selection.FINAL:  # nothing is chosen among snapshots
        sections["training"]["snapshot_every"], changes["snapshots"] = 0, None
    for name, update in sections.items():
        if update:
            changes[name] = getattr(experiment, name).model_copy(update=update)
    return experiment.model_copy(update=changes)


def resolve_checkpoint(raw: Any, name: str, data: str, where: str) -> Checkpoint:
    """The checkpoint that an experiment asks for: a published one by name or by data set, or its own description."""
    where = f"{where}.checkpoint"
    if isinstance(raw, dict):
        return validated(Checkpoint, {"name": name, **raw}, where)
    fitting = [each.name for each in PUBLISHED.values() if each.data == data]
    raw = None if raw in list(Selection) else raw  # what a trained experiment's defaults say is not meant
    checkpoint = default_for(data) if raw is None else PUBLISHED.get(raw) if isinstance(raw, str) else None
    if checkpoint is None or checkpoint.name not in fitting:
        known = f"for {data} there are: {', '.join(fitting)}" if fitting else f"none are published for {data}"
        raise ConfigError(
            f"{where}: {raw!r}: {known}. Or describe your own: {{files: [{{name, urls}}], averaged: ...}}."
        )
    return checkpoint
