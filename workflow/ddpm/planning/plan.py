"""What would run, and what it would take: work, rates and this machine put together."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from ddpm.compute.flops import network_cost, training_state
from ddpm.config.base import ConfigError
from ddpm.config.resolving import Config, load
from ddpm.planning.inventory import all_work
from ddpm.planning.machine import Machine, some_cores, this_machine
from ddpm.planning.rates import RATES, Rate, Rates, no_rate, papers_tpu, read_rates
from ddpm.planning.work import Work


def rate_of(work: Work, rates: Rates) -> Rate | None:
    return rates.of(work.kind, work.network) if work.kind else None


def hours_of(work: Work, rates: Rates) -> float | None:
    """What is left of `work`, one job after another; None where a count or a rate is not known."""
    if not work.kind:
        return 0.0
    rate = rate_of(work, rates)
    return None if rate is None or work.flops is None else work.flops * work.share / rate.flops / 3600


@dataclass(frozen=True)
class Hours:
    """A sum, which may leave something out."""

    known: float
    complete: bool

    @classmethod
    def of(cls, works: Iterable[Work], rates: Rates) -> "Hours":
        hours = [hours_of(work, rates) for work in works]
        return cls(sum(each for each in hours if each is not None), None not in hours)

    def __str__(self) -> str:
        if self.known < 1 / 60 and not self.complete:
            return "an unknown time"
        return ("" if self.complete else "at least ") + duration(self.known)


def duration(hours: float) -> str:
    """In words, to two digits: "40 minutes", "3.5 hours", "12 days", "1.4 years"."""
    if hours < 1 / 60:
        return "less than a minute"
    units = {"minutes": (1 / 60, 90), "hours": (1, 48), "days": (24, 730), "years": (8766, float("inf"))}
    unit, number = next((unit, hours / size) for unit, (size, most) in units.items() if hours / size < most)
    return f"{float(f'{number:.2g}'):,.15g} {unit}"


@dataclass(frozen=True)
class Memory:
    """What training needs, for experiments of the same network and batch; in bytes."""

    experiments: tuple[str, ...]
    batch: int
    state: int
    per_image: int

    @property
    def whole(self) -> int:
        """For the whole batch at once."""
        return self.state + self.batch * self.per_image

    def images(self, memory: float) -> int:
        """The largest micro-batch that fits into `memory`; 0 where not even one image does."""
        return max(0, min(self.batch, int((memory - self.state) // self.per_image)))


@dataclass(frozen=True)
class Plan:
    """All that a run would do here, and at which rates."""

    config: Config
    machine: Machine
    rates: Rates
    work: tuple[Work, ...]
    """What is left of it."""
    done: int
    """Jobs that are done already."""
    root: Path
    """The project's folder."""

    @property
    def on_cpu(self) -> bool:
        return runs_on_cpu(self.config, self.machine)

    @property
    def device(self) -> str:
        """What the file of rates calls the device that jobs compute on."""
        return cpu_device(self.config, self.machine) if self.on_cpu else self.machine.gpus[0].name

    @property
    def hours(self) -> Hours:
        return Hours.of(self.work, self.rates)

    @property
    def side_by_side(self) -> int:
        """Jobs that this machine runs at the same time."""
        return jobs_on_cpu(self.config, self.machine) if self.on_cpu else len(self.machine.gpus)

    @property
    def memory(self) -> list[Memory]:
        """Of every kind of training that is left."""
        training = {work.subject for work in self.work if work.rule == "train"}
        groups: dict[tuple, list[str]] = {}
        for name in self.config.scale_config.experiments:
            if name in training:
                experiment = self.config.scale_config.experiments[name]
                groups.setdefault((experiment.network, experiment.training.batch_size), []).append(name)
        return [
            Memory(tuple(names), batch, training_state(network), network_cost(network).kept)
            for (network, batch), names in groups.items()
        ]


def threads_of(config: Config, machine: Machine) -> int:
    """The CPU threads of a job."""
    return min(config.scale_config.compute.threads, machine.cores)


def jobs_on_cpu(config: Config, machine: Machine) -> int:
    """Jobs that the cores have room for at the same time."""
    return max(1, machine.cores // threads_of(config, machine))


def runs_on_cpu(config: Config, machine: Machine) -> bool:
    """Whether jobs compute on the CPU here."""
    return config.scale_config.compute.device == "cpu" or not machine.gpus


def cpu_device(config: Config, machine: Machine) -> str:
    """What the file of rates calls the CPU: by the threads of a job, since several jobs share it."""
    return some_cores(machine.cpu, threads_of(config, machine))


def make_plan(config: Config, machine: Machine | None = None, root: Path = Path()) -> Plan:
    """The plan of the project in folder `root`.

    Hours are those of this machine where it was measured, and else the paper's. A scale that wants a GPU is told the
    paper's, too, where there is none; one that is meant for a CPU is told its own or nothing.
    """
    machine = machine or this_machine()
    if config.scale_config.compute.device == "cpu":
        rates = Rates(read_rates(cpu_device(config, machine), root / RATES), no_rate)
    elif machine.gpus:
        rates = Rates(read_rates(machine.gpus[0].name, root / RATES), papers_tpu)
    else:
        rates = Rates({}, papers_tpu)
    work = all_work(config, root)
    left = tuple(each for each in work if each.share)
    return Plan(config, machine, rates, left, sum(each.done for each in work), root)


def read_config(path: Path, document: str | None = None, scale: str | None = None) -> Config:
    """The configuration of config.yaml, or of a JSON document in its place; `scale` replaces its scale.

    Raises:
        ConfigError: it cannot be read, or something in it cannot stand.
    """
    try:
        raw = yaml.safe_load(path.read_text()) if document is None else json.loads(document)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Run this in the project's folder, or name the file.") from None
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        where = path if document is None else "--document"
        raise ConfigError(f"{where}: cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path if document is None else '--document'}: must be a mapping of keys to values.")
    return load({**raw, "scale": scale} if scale else raw)
