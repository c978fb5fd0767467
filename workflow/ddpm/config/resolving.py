"""From config.yaml and the scale that it names to a checked configuration, in three steps.

`load` merges config.yaml into the scale's file, fills in what data sets, methods and published weights imply, and
checks the whole. All of it happens before any job runs.
"""

import json
import re
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from ddpm.config.base import ConfigError, FrozenModel, explain, validated
from ddpm.config.catalogue import FIGURES, SCORES_TABLE, TABLES
from ddpm.config.enums import Parameterization, Selection, Spacing, Variance, WeightsSource
from ddpm.config.experiment import Experiment, InceptionSource, Scale
from ddpm.config.reading import merge, parse_yaml
from ddpm.config.registry import DATASETS, PUBLISHED, default_for, resolve
from ddpm.config.sources import Checkpoint, DataSet

SCALES = Path(__file__).parents[2] / "scales"
REPEATS = re.compile(r"(.+)-(?:training|sampling)-seed\d+")  # what `Repeat.name` gives
SPACINGS = {"cifar10": Spacing.QUADRATIC}  # of few steps, by the data set: what the authors of DDIM chose
# Beside the data sets' in resources/.
FOLDERS = ("compiled", "downloads", "logs", "rates.json", "sources", "statistics", "weights")
KEYS = ("scale", "experiments", "tables", "figures", "sources", "override")  # of config.yaml


class Config(FrozenModel):
    """config.yaml and its scale, checked and resolved."""

    scale: str
    scale_config: Scale
    data_sets: dict[str, DataSet]
    inception: InceptionSource = InceptionSource()
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def stand_ins_exist(self) -> Self:
        for part, data in self.scale_config.stand_ins.items():
            if data not in self.data_sets:
                raise ValueError(f"stand_ins.{part}: {data!r} is no data set. Allowed: {', '.join(self.data_sets)}.")
        return self

    def stand_in(self, data: str) -> str:
        """The data set that plays the part of the paper's `data` at this scale."""
        return self.scale_config.stand_ins.get(data, data)

    def experiments_of(self, name: str) -> list[str]:
        """The experiments that table or figure `name` is made from, in the order of its rows or panels.

        Of a table, those that this run has; its other rows say "not run".
        """
        if name == SCORES_TABLE:
            return list(self.scale_config.experiments)
        named = [f"{self.stand_in(data)}-{ending}" for data, ending in (TABLES | FIGURES)[name].experiments]
        return [each for each in named if name not in TABLES or each in self.scale_config.experiments]

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
            shown = [self.stand_in(data) for each in named for data, _ in (TABLES | FIGURES)[each].experiments]
        sets = (self.data_sets[data] for data in dict.fromkeys(shown))
        return " and ".join(each.title if each.reencoded else each.name for each in sets)


def read_config(path: Path, document: str | None = None, scale: str | None = None) -> Config:
    """The configuration of config.yaml, or of a JSON document in its place; `scale` replaces its scale.

    Raises:
        ConfigError: it cannot be read, or something in it cannot stand.
    """
    try:
        raw = parse_yaml(path.read_text(), path) if document is None else json.loads(document)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Run this in the project's folder, or name the file.") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"--document: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path if document is None else '--document'}: must be a mapping of keys to values.")
    return load({**raw, "scale": scale} if scale else raw)


def load(document: dict[str, Any], scales: Path = SCALES) -> Config:
    """Check config.yaml (already parsed) and the scale that it names.

    Raises:
        ConfigError: for the first document with errors; every error with path, value and what is allowed.
    """
    for key in document:
        if key not in KEYS:
            raise ConfigError(f"config.yaml: {key}: unknown key. Allowed: {', '.join(KEYS)}.")
    raw, source = read_scale(document.get("scale"), document.get("override") or {}, scales)
    data_sets, inception = resolve_sources(document.get("sources") or {})
    experiments = resolve_experiments(raw, document.get("experiments", "all"), source, data_sets)
    scale_config = validated(Scale, {**raw, "experiments": experiments}, source)
    whole = {"scale": document["scale"], "scale_config": scale_config, "data_sets": data_sets, "inception": inception}
    return resolve_contents(validated(Config, whole, source), document, source)


# Merging: the scale's file with the keys of config.yaml's `override` replaced.


def read_scale(scale: Any, override: Any, scales: Path) -> tuple[dict[str, Any], str]:
    """The scale's document with `override`, and what errors call it."""
    available = sorted(path.stem for path in scales.glob("*.yaml"))
    if scale not in available:
        raise ConfigError(f"config.yaml: scale: {scale!r} is unknown. Allowed: {', '.join(available)}.")
    source = f"workflow/scales/{scale}.yaml"
    raw = parse_yaml((scales / f"{scale}.yaml").read_text(), source)
    if not isinstance(override, dict):
        raise ConfigError(f"config.yaml: override: {override!r}: must be a mapping of keys of {source}.")
    raw = {key: value for key, value in raw.items() if not key.startswith(".")}  # what YAML's anchors are kept in
    source += " with config.yaml: override" * bool(override)
    merged = merge(raw, override)
    if not isinstance(merged.get("experiments"), dict):
        raise ConfigError(f"{source}: experiments: must be a mapping of names to experiments.")
    if odd := [name for name in merged["experiments"] if not isinstance(name, str)]:
        raise ConfigError(f"{source}: experiments: {odd[0]!r} is no name, as in digits-eps-simple.")
    for name in [name for name, value in merged["experiments"].items() if value is None]:
        if name not in (raw.get("experiments") or {}):
            known = ", ".join(raw.get("experiments") or {})
            raise ConfigError(f"{source}: experiments.{name}: null drops one that is there. There are: {known}.")
        del merged["experiments"][name]
    if not merged["experiments"]:
        raise ConfigError(f"{source}: experiments: none is left.")
    return merged, source


def resolve_sources(raw: Any) -> tuple[dict[str, DataSet], InceptionSource]:
    """All data sets by name, the registry's with what `sources` of config.yaml says of them, and its own; Inception."""
    if not isinstance(raw, dict):
        raise ConfigError(f"config.yaml: sources: {raw!r}: must be a mapping of data sets to what is known of them.")
    found = {}
    for name, changes in raw.items():
        where = f"config.yaml: sources.{name}"
        if not isinstance(changes, dict):
            raise ConfigError(f"{where}: {changes!r}: must be a mapping, as in {{root: FOLDER}}.")
        for key in ("crop", "resize"):
            if key in changes:
                raise ConfigError(
                    f"{where}.{key}: cannot be set. The images of a folder are cut to the centre square and resized by "
                    "Lanczos. To prepare them in another way, do so before."
                )
        if name == "inception":
            found[name] = validated(InceptionSource, changes, where)
        elif name in FOLDERS:
            raise ConfigError(f"{where}: resources/{name} holds something else. Choose another name.")
        else:
            try:
                found[name] = resolve(name, changes)
            except ValidationError as error:
                raise explain(error, DataSet, where) from None
        if (root := found[name].root) and not root.is_dir():
            raise ConfigError(f"{where}.root: {root}: no such folder.")
    inception = found.pop("inception", InceptionSource())
    return DATASETS | found, inception


# Filling in: what the data set, the method and published weights imply.


def resolve_experiments(
    raw: dict[str, Any], asked: Any, source: str, data_sets: dict[str, DataSet]
) -> dict[str, Experiment]:
    """The experiments that config.yaml asks for, each with its repeats behind it; `raw` loses its `defaults`."""
    defaults, known = raw.pop("defaults", {}), raw["experiments"]
    for name in asked if isinstance(asked, list) else ():
        if found := REPEATS.fullmatch(str(name)):
            raise ConfigError(f"config.yaml: experiments: {name!r}: a repeat comes with its experiment: {found[1]}.")
    experiments: dict[str, Experiment] = {}
    for name in choose("experiments", asked, list(known)):
        experiment = resolve_experiment(name, merge(defaults, known[name]), source, data_sets)
        experiments |= {each.name: each for each in (experiment, *experiment.repeats())}
    return experiments


def resolve_experiment(
    name: str, raw: dict[str, Any], source: str, data_sets: dict[str, DataSet] = DATASETS
) -> Experiment:
    """Fill in what the data set, the method and published weights imply, and check the whole."""
    where = f"{source}: experiments.{name}"
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {raw!r}: must be a mapping.")
    refuse_repeat(name, raw, where)
    data = data_sets.get(raw.get("data", ""))
    if data is None:
        raise ConfigError(f"{where}.data: {raw.get('data')!r} is no data set. Allowed: {', '.join(data_sets)}.")
    filled = {**raw, "name": name, "data_set": data}
    if isinstance(few_steps := raw.get("few_steps"), dict):
        filled["few_steps"] = {"spacing": SPACINGS.get(data.name, Spacing.UNIFORM), **few_steps}
    for section in ("network", "diffusion", "training"):
        filled[section] = raw.get(section, {})
        if not isinstance(filled[section], dict):
            raise ConfigError(f"{where}.{section}: {raw[section]!r}: must be a mapping.")
        filled[section] = dict(filled[section])
    weights, checkpoint = raw.get("weights", WeightsSource.TRAIN), raw.get("checkpoint", Selection.FINAL)
    if weights == WeightsSource.RELEASED:
        fill_released(filled, where)
    elif weights == WeightsSource.TRAIN and checkpoint not in list(Selection):
        raise ConfigError(
            f"{where}.checkpoint: {checkpoint!r}: published weights are for weights: released; with weights: train, "
            f"allowed: {', '.join(Selection)}."
        )
    else:
        filled["training"].setdefault("flip", data.flip)
    fill_network(filled, where)
    return validated(Experiment, filled, where)


def refuse_repeat(name: str, raw: dict[str, Any], where: str) -> None:
    """Repeats come from the key `seeds` alone."""
    found = REPEATS.fullmatch(name)
    if not found and "repeat" not in raw:
        return
    of, key, what = (found[1], "", "name") if found else (name, ".repeat", "key")
    raise ConfigError(
        f"{where}{key}: this is the {what} of a repeat. Do not describe a repeat, ask for it by "
        f"experiments.{of}.seeds: {{training: [...], sampling: [...]}}."
    )


def fill_released(filled: dict[str, Any], where: str) -> None:
    """Published weights bring their network, and the method that they were trained by; nothing is trained."""
    checkpoint = resolve_checkpoint(filled.get("checkpoint"), filled["name"], filled["data_set"].name, where)
    filled |= {"checkpoint": checkpoint, "training": None, "snapshots": None}
    if checkpoint.network:
        filled["network"] = dict(checkpoint.network)
    if checkpoint.variance:
        for key, value in (("parameterization", Parameterization.EPS), ("variance", checkpoint.variance)):
            if (asked := filled["diffusion"].setdefault(key, value)) != value:
                raise ConfigError(
                    f"{where}.diffusion.{key}: {asked!r}: the authors' code has {value} for the weights "
                    f"{checkpoint.name}."
                )


def fill_network(filled: dict[str, Any], where: str) -> None:
    """The network's images are the data set's, and a learned variance doubles its output."""
    network, data = filled["network"], filled["data_set"]
    for key in ("image_size", "channels"):
        if network.setdefault(key, value := getattr(data, key)) != value:
            raise ConfigError(f"{where}.network.{key}: {network[key]!r}: the images of {data.name} have {value}.")
    learned = filled["diffusion"].get("variance") == Variance.LEARNED
    network["out_channels"] = data.channels * (2 if learned else 1)


def resolve_checkpoint(raw: Any, name: str, data: str, where: str) -> Checkpoint:
    """The checkpoint that an experiment asks for: a published one by name or by data set, or its own description."""
    where = f"{where}.checkpoint"
    if isinstance(raw, dict):
        return validated(Checkpoint, {"name": name, **raw}, where)
    if raw is None or raw in list(Selection):  # which a trained experiment's defaults may say
        checkpoint = default_for(data)
    else:
        checkpoint = PUBLISHED.get(raw) if isinstance(raw, str) else None
    if checkpoint is None or checkpoint.data != data:
        fitting = [each.name for each in PUBLISHED.values() if each.data == data]
        known = f"for {data} there are: {', '.join(fitting)}" if fitting else f"none are published for {data}"
        raise ConfigError(
            f"{where}: {raw!r}: {known}. Or describe your own: {{files: [{{name, urls}}], averaged: ...}}."
        )
    return checkpoint


# Checking: which tables and figures the run's experiments suffice for.


def resolve_contents(config: Config, document: dict[str, Any], source: str) -> Config:
    """`config` with the tables and figures that are asked for; `all` means those that this run suffices for."""
    for kind, known in (("tables", TABLES), ("figures", FIGURES)):  # in this order: a figure shows the tables
        asked = document.get(kind, "all")
        chosen = choose(kind, asked, list(known))
        missing = {name: lacks(config, name, source) for name in chosen}
        if asked != "all" and (needs := next(filter(all, missing.items()), None)):
            raise ConfigError(f"config.yaml: {kind}: {needs[0]} needs {needs[1]}.")
        config = config.model_copy(update={kind: tuple(name for name in chosen if not missing[name])})
    return config


def lacks(config: Config, name: str, source: str) -> str:
    """What table or figure `name` is made from and this run leaves out, in words; empty if nothing."""
    if name == "reproduced" and not set(config.tables) - {SCORES_TABLE}:
        return "a table of the paper, and `tables` leaves this run none"
    experiments, entry = config.experiments_of(name), (TABLES | FIGURES)[name]
    if not experiments and name in TABLES:
        rows = ", ".join(f"{config.stand_in(data)}-{ending}" for data, ending in entry.experiments)
        return f"one of {rows}, which this run leaves out"
    for experiment in experiments:
        if experiment not in config.scale_config.experiments:
            return f"{experiment}, which this run leaves out"
        value = config.scale_config.experiments[experiment]
        for key in entry.needs.split("."):
            value = getattr(value, key)
        if not value:
            return f"experiments.{experiment}.{entry.needs}, which {source} leaves out"
    return ""


def choose(key: str, asked: Any, allowed: list[str]) -> list[str]:
    """The names that config.yaml asks for under `key`."""
    if asked == "all":
        return allowed
    if not isinstance(asked, list) or not asked:
        raise ConfigError(f"config.yaml: {key}: {asked!r}: must be `all` or a list of: {', '.join(allowed)}.")
    for name in asked:
        if name not in allowed:
            raise ConfigError(f"config.yaml: {key}: {name!r} is unknown. Allowed: {', '.join(allowed)}.")
    return asked
