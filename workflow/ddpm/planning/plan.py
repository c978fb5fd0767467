"""What would run, and what it would take: work, rates and this machine put together."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isnan

from ddpm.compute.flops import network_cost, training_state
from ddpm.config.resolving import Config
from ddpm.config.schema import Compute
from ddpm.planning.cluster import read_nodes
from ddpm.planning.machine import Machine, this_machine
from ddpm.planning.rates import NO_RATE, Rates, read_rates
from ddpm.planning.work import Work, all_work, work_left


@dataclass(frozen=True)
class Hours:
    """A sum, which may leave something out."""

    known: float
    complete: bool

    @classmethod
    def of(cls, works: Iterable[Work], rates: Rates) -> "Hours":
        hours = [work.hours(rates) for work in works]
        return cls(sum(each for each in hours if not isnan(each)), not any(map(isnan, hours)))

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

    @property
    def compute(self) -> Compute:
        return self.config.scale_config.compute

    @property
    def for_cpu(self) -> bool:
        """Whether the scale is meant for a CPU."""
        return self.compute.device == "cpu"

    @property
    def on_cpu(self) -> bool:
        """Whether jobs compute on the CPU here."""
        return self.for_cpu or not self.machine.gpus

    @property
    def device(self) -> str:
        """What the file of rates calls the device that jobs compute on."""
        return self.machine.cpu_name(self.compute) if self.on_cpu else self.machine.gpus[0].name

    @property
    def side_by_side(self) -> int:
        """Jobs that this machine runs at the same time."""
        return self.machine.jobs_on_cpu(self.compute) if self.on_cpu else len(self.machine.gpus)

    @property
    def gpu_memory(self) -> int | None:
        """Bytes of the smallest GPU; None where there is none, or the driver does not say."""
        return min((gpu.memory for gpu in self.machine.gpus if gpu.memory), default=None)

    @property
    def hours(self) -> Hours:
        return Hours.of(self.work, self.rates)

    @property
    def memory(self) -> list[Memory]:
        """Of every kind of training that is left; none at a scale that wants no GPU."""
        groups: dict[tuple, list[str]] = {}
        for name in (work.subject for work in self.work if work.rule == "train" and not self.for_cpu):
            experiment = self.config.scale_config.experiments[name]
            groups.setdefault((experiment.network, experiment.training.batch_size), []).append(name)
        return [
            Memory(tuple(names), batch, training_state(network), network_cost(network).kept)
            for (network, batch), names in groups.items()
        ]


def make_plan(config: Config, machine: Machine | None = None) -> Plan:
    """The plan of the project in the working directory.

    Hours are those of this machine where it was measured, and else the paper's. A scale that wants a GPU is told the
    paper's, too, where there is none; one that is meant for a CPU is told its own or nothing.
    """
    machine = machine or replace(this_machine(), nodes=read_nodes())
    done = sum(work.done for work in all_work(config))
    plan = Plan(config, machine, Rates({}), work_left(config), done)
    if plan.on_cpu and not plan.for_cpu:
        return plan
    return replace(plan, rates=Rates(read_rates(plan.device), NO_RATE if plan.for_cpu else None))
