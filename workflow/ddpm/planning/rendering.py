"""A plan as a text to read, or as a JSON document."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isnan

from ddpm.planning.advising import cluster_lines, memory_lines, warnings, what_fits
from ddpm.planning.cluster import read_profile
from ddpm.planning.machine import GB, Machine, in_gb
from ddpm.planning.plan import Plan
from ddpm.storage.files import to_json


def rows(plan: Plan) -> list[dict]:
    """What is left of each kind of job; hours, bytes and operations that are not known are None."""
    found = []
    for work in plan.work:
        rate = work.rate(plan.rates) if work.kind else None
        row = {"rule": work.rule, "of": work.subject, "part": work.part, "jobs": work.jobs}
        row["rate"] = None if rate is None or isnan(rate.flops) else asdict(rate)
        numbers = {"flops": work.flops, "hours": work.hours(plan.rates)}
        sizes = {"download_bytes": work.download, "disk_bytes": work.disk}
        numbers |= {key: size if isnan(size) else round(size) for key, size in sizes.items()}
        found.append(row | {key: None if isnan(number) else number for key, number in numbers.items()})
    return found


def as_json(plan: Plan) -> str:
    document = {
        "scale": plan.config.scale,
        "machine": asdict(plan.machine),
        "jobs": rows(plan),
        "done": plan.done,
        "hours": asdict(plan.hours),
        "cluster_requests": [asdict(request) for request in read_profile()],
        "training_memory": [asdict(memory) for memory in plan.memory],
        "warnings": warnings(plan),
        "what_would_fit": what_fits(plan.config, plan.rates),
    }
    return to_json(document, indent=2)


def as_text(plan: Plan) -> str:
    """A table with totals; what training needs of a GPU; where this machine falls short, and what would fit."""
    if not plan.work:
        return f"Scale {plan.config.scale}: nothing is left to compute; {plan.done} jobs are done."
    short = warnings(plan)
    blocks = [
        f"What scale {plan.config.scale} would run (nothing is started)\n{describe(plan.machine)}",
        table(plan),
        notes(plan),
        bullets("Memory for training:", memory_lines(plan)),
        bullets("Asked of a cluster, by profiles/slurm/profile.yaml:", cluster_lines(plan)),
        bullets("Warnings:", short),
        bullets("What would fit:" if short else "What takes less:", what_fits(plan.config, plan.rates)),
    ]
    return "\n\n".join(block for block in blocks if block)


def describe(machine: Machine) -> str:
    gpus = [f"{gpu.name} ({in_gb(gpu.memory)})" if gpu.memory else gpu.name for gpu in machine.gpus]
    free = ", ".join(f"{in_gb(disk.free)} free for {folder}/" for folder, disk in machine.disks.items())
    return (
        f"This machine: {', '.join(gpus) or 'no GPU'}; {machine.cpu}, {machine.cores} cores, "
        f"{in_gb(machine.memory)} of memory; {free}"
    )


def bullets(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  - {line}" for line in lines)]) if lines else ""


def table(plan: Plan) -> str:
    """A line for each kind of job and what it is done for, and their sums."""
    lines = [("job", "of", "jobs", unit(plan), "rate", "download GB", "disk GB")]
    numbers = []
    for work in plan.work:
        subject = f"{work.subject} ({work.part})" if work.part else work.subject
        numbers.append((hours := work.hours(plan.rates), work.download / GB, work.disk / GB))
        origin = work.rate(plan.rates).source.partition(" ")[0].strip(":") if hours else ""
        cells = map(number, numbers[-1])
        lines.append((work.rule, subject, f"{work.jobs:,}", next(cells), origin, *cells))
    hours, *sizes = map(total, zip(*numbers, strict=True))
    lines.append(("all", "", f"{sum(work.jobs for work in plan.work):,}", hours, "", *sizes))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    template = "  ".join(f"{{:{align}{width}}}" for align, width in zip("<<>><>>", widths, strict=True))
    head, *body, sums = (template.format(*line).rstrip() for line in lines)
    rule = "-" * max(map(len, (head, *body, sums)))
    return "\n".join([head, rule, *body, rule, sums])


def unit(plan: Plan) -> str:
    return "CPU hours" if plan.for_cpu else "GPU-hours"


def number(value: float) -> str:
    """As many digits as matter; nothing for zero."""
    if not value or isnan(value):
        return "?" if value else ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def total(values: Sequence[float]) -> str:
    """A sum, marked where something in it is not known."""
    known = [value for value in values if not isnan(value)]
    if len(known) < len(values):
        return f">{number(sum(known))}" if sum(known) else "?"
    return number(sum(known)) or "0.00"


def notes(plan: Plan) -> str:
    """What the columns mean, for this plan."""
    sources = dict.fromkeys(work.rate(plan.rates).source for work in plan.work if work.kind)
    stated = any(source.startswith("stated") for source in sources)
    lines = []
    if sources:
        differ = "; yours will differ" if stated else ""
        lines.append(f"{unit(plan)} ({'; '.join(sources)}{differ}) count one job after another.")
        if plan.side_by_side > 1 and not stated:
            lines.append(f"This machine runs up to {plan.side_by_side} side by side.")
    if plan.done:
        lines.append(f"{plan.done} jobs are done already and not listed.")
    lines.append("Not listed: scores, tables and figures, which are made of these in minutes.")
    return "\n".join(lines)
