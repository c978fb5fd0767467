"""What jobs ask a SLURM cluster for, and whether its partitions have it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddpm.config.reading import parse_yaml
from ddpm.jobs.slurm import try_ask

PROFILE = Path(__file__).parents[3] / "profiles/slurm/profile.yaml"
OTHERS = "every other job"


@dataclass(frozen=True)
class Request:
    """What a job asks for; 0 stands for a number that it does not name."""

    rule: str
    partition: str | None
    """One, or several with commas, of which SLURM takes any."""
    memory: int
    """MB, as SLURM counts them."""
    minutes: int
    cpus: int
    gpus: int

    @classmethod
    def of(cls, rule: str, resources: Mapping[str, Any], cpus: int = 0) -> "Request":
        """By the resources of a Snakemake job, or of a rule in a profile, where some may be expressions."""
        numbers = (value if isinstance(value := resources.get(key), int) else 0 for key in ("mem_mb", "runtime", "gpu"))
        memory, minutes, gpus = numbers
        return cls(rule, resources.get("slurm_partition"), memory, minutes, cpus, gpus)


@dataclass(frozen=True)
class Node:
    """The largest job that one node of a partition takes."""

    partition: str
    minutes: int | None
    """The partition's limit; None: there is none."""
    cpus: int
    memory: int
    gpus: int

    def lacks(self, job: Request) -> list[str]:
        """What `job` asks for and this node does not have, in words."""
        asked = (
            ("MB of memory", job.memory, self.memory),
            ("minutes", job.minutes, self.minutes or float("inf")),
            ("CPUs", job.cpus, self.cpus),
            ("GPUs", job.gpus, self.gpus),
        )
        return [f"{wanted:,} {unit}, where there are {has:,}" for unit, wanted, has in asked if wanted > has]


def read_profile(path: Path = PROFILE) -> list[Request]:
    """What profiles/slurm asks for: the rules that it names, and last all others."""
    profile = parse_yaml(path.read_text(), path)
    rules = {**profile.get("set-resources", {}), OTHERS: {}}
    return [Request.of(rule, profile.get("default-resources", {}) | own) for rule, own in rules.items()]


def read_nodes() -> tuple[Node, ...]:
    """The nodes of this cluster, those that are alike once; none where there is no cluster that answers."""
    columns = ("%R", "%l", "%c", "%m", "%G")  # partition, time limit, CPUs, MB, generic resources
    said = try_ask("sinfo", "--noheader", "--Node", f"--format={'|'.join(columns)}") or ""
    rows = [line.strip().split("|") for line in dict.fromkeys(said.splitlines())]
    return tuple(
        Node(partition, to_minutes(limit), int(cpus), int(memory), count_gpus(gres))
        for partition, limit, cpus, memory, gres in (row for row in rows if len(row) == len(columns))
    )


def to_minutes(limit: str) -> int | None:
    """Of SLURM's [days-]hours:minutes:seconds or minutes:seconds; None for what is no limit."""
    if not (found := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):\d+", limit)):
        return None
    days, hours, minutes = (int(part or 0) for part in found.groups())
    return 60 * (24 * days + hours) + minutes


def count_gpus(gres: str) -> int:
    """Of SLURM's generic resources, as in gpu:a100:4(S:0-1),nvme:1."""
    return sum(int(count) for count in re.findall(r"\bgpu(?::[^:,(]+)*?:(\d+)\b", gres))


def nodes_for(job: Request, nodes: Iterable[Node]) -> list[Node]:
    """Those of its partitions; first the one with most GPUs, and of several with as many, that with most memory."""
    asked = (job.partition or "").split(",")
    there = (node for node in nodes if node.partition in asked)
    return sorted(there, key=lambda node: (node.gpus, node.memory), reverse=True)


def compare(jobs: Iterable[Request], nodes: Sequence[Node]) -> Iterator[str]:
    """What kinds of jobs ask for, beside what the nodes of their partition have."""
    kinds: dict[Request, list[str]] = {}
    for job in jobs:
        kinds.setdefault(replace(job, rule=""), []).append(job.rule)
    for kind, rules in kinds.items():
        offers = [
            f"{node.memory:,} MB, {node.gpus} GPUs, {node.minutes or 'any number of'} minutes"
            for node in nodes_for(kind, nodes)
        ]
        offered = f"; its nodes have {' or '.join(dict.fromkeys(offers))}" if offers else ""
        yield (
            f"{', '.join(rules)}: {kind.memory:,} MB for {kind.minutes} minutes in partition {kind.partition}{offered}."
        )


def misfits(jobs: Iterable[Request], nodes: Sequence[Node]) -> Iterator[str]:
    """Which jobs no node of their partition takes, and why; nothing where no nodes are known."""
    by_reason: dict[str, list[str]] = {}
    for job in jobs if nodes else ():
        there = nodes_for(job, nodes)
        if job.partition and not there:
            names = ", ".join(dict.fromkeys(node.partition for node in nodes))
            reason = f"partition {job.partition}: there is none such here, but {names}"
        elif there and all(node.lacks(job) for node in there):
            reason = f"partition {job.partition}: {'; '.join(min((node.lacks(job) for node in there), key=len))}"
        else:
            continue
        by_reason.setdefault(reason, []).append(job.rule)
    for reason, rules in by_reason.items():
        yield f"No node of this cluster takes {', '.join(dict.fromkeys(rules))} in {reason}."
