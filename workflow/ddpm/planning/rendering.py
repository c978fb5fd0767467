"""A plan as a text to read, or as a JSON document."""

import json
from dataclasses import asdict

from ddpm.planning.advising import memory_lines, warnings, what_fits
from ddpm.planning.machine import GB, Machine, in_gb
from ddpm.planning.plan import Plan, hours_of, rate_of
from ddpm.planning.work import Work

UNKNOWN = "?"
UNMEASURED = "not measured; `python -m ddpm plan --measure` does it"


def as_text(plan: Plan) -> str:
    """A table with totals; what training needs of a GPU; where this machine falls short, and what would fit."""
    if not plan.work:
        return f"Scale {plan.config.scale}: nothing is left to compute; {plan.done} jobs are done."
    short = warnings(plan)
    blocks = [
        f"What scale {plan.config.scale} would run (nothing is started)\n{describe(plan.machine)}",
        table(plan),
        notes(plan),
        listed("Memory for training:", memory_lines(plan)),
        listed("Warnings:", short),
        listed("What would fit:" if short else "What takes less:", what_fits(plan.config, plan.rates, plan.root)),
    ]
    return "\n\n".join(block for block in blocks if block)


def describe(machine: Machine) -> str:
    gpus = [f"{gpu.name} ({in_gb(gpu.memory)})" if gpu.memory else gpu.name for gpu in machine.gpus]
    free = ", ".join(f"{in_gb(disk.free)} free for {folder}/" for folder, disk in machine.disks.items())
    return (
        f"This machine: {', '.join(gpus) or 'no GPU'}; {machine.cpu}, {machine.cores} cores, "
        f"{in_gb(machine.memory)} of memory; {free}"
    )


def listed(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  - {line}" for line in lines)]) if lines else ""


def table(plan: Plan) -> str:
    """A line for each kind of job and what it is done for, and their sums."""
    works = plan.work
    rows = [
        ("job", "of", "jobs", unit(plan), "rate", "download GB", "disk GB"),
        *((work.rule, subject(work), f"{jobs_left(work):,}", *cells(work, plan)) for work in works),
        (
            "all", "", f"{sum(map(jobs_left, works)):,}", summed([hours_of(work, plan.rates) for work in works]), "",
            *(summed([left(work, size) for work in works]) for size in ("download", "disk")),
        ),
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = (0, 1, 4)  # columns that are aligned to the left
    lines = [
        "  ".join(
            cell.ljust(width) if i in words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def unit(plan: Plan) -> str:
    return "CPU hours" if plan.config.scale_config.compute.device == "cpu" else "GPU-hours"


def subject(work: Work) -> str:
    return f"{work.subject} ({work.part})" if work.part else work.subject


def jobs_left(work: Work) -> int:
    return work.jobs - work.done


def left(work: Work, size: str) -> float | None:
    """What is left of the bytes of `work`, in GB."""
    bytes_ = getattr(work, size)
    return None if bytes_ is None else bytes_ * work.share / GB


def cells(work: Work, plan: Plan) -> tuple[str, str, str, str]:
    """Hours, where their rate is from, download, disk; empty where nothing is computed or written."""
    rate = rate_of(work, plan.rates)
    origin = rate.source.partition(" ")[0].strip(":") if rate else "none"
    computed = (number(hours_of(work, plan.rates)), origin) if work.kind else ("", "")
    return *computed, *(number(left(work, size)) if getattr(work, size) != 0 else "" for size in ("download", "disk"))


def number(value: float | None) -> str:
    """As many digits as matter."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def summed(values: list[float | None]) -> str:
    """A sum, marked where something in it is not known."""
    known = sum(value for value in values if value is not None)
    if None in values:
        return f">{number(known)}" if known else UNKNOWN
    return number(known)


def notes(plan: Plan) -> str:
    """What the columns mean, for this plan."""
    rates = [rate_of(work, plan.rates) for work in plan.work if work.kind]
    sources = dict.fromkeys(rate.source if rate else UNMEASURED for rate in rates)
    lines = []
    if sources:
        differ = "; yours will differ" if any(source.startswith("stated") for source in sources) else ""
        lines.append(f"{unit(plan)} ({'; '.join(sources)}{differ}) are of one job after another.")
        if plan.side_by_side > 1 and not any(source.startswith("stated") for source in sources):
            lines.append(f"This machine runs up to {plan.side_by_side} side by side.")
    if plan.done:
        lines.append(f"{plan.done} jobs are done already and not listed.")
    lines.append("Not listed: scores, tables and figures, which are made of these in minutes.")
    return "\n".join(lines)


def as_json(plan: Plan) -> str:
    """The same as a JSON document; hours, bytes and operations that are not known are null."""
    jobs = []
    for work in plan.work:
        rate = rate_of(work, plan.rates)
        jobs.append(
            {
                "rule": work.rule,
                "of": work.subject,
                "part": work.part,
                "jobs": jobs_left(work),
                "flops": None if work.flops is None else work.flops * work.share,
                "hours": hours_of(work, plan.rates),
                "rate": asdict(rate) if rate else None,
                "download_bytes": None if work.download is None else round(work.download * work.share),
                "disk_bytes": None if work.disk is None else round(work.disk * work.share),
            }
        )
    document = {
        "scale": plan.config.scale,
        "machine": asdict(plan.machine),
        "jobs": jobs,
        "done": plan.done,
        "hours": asdict(plan.hours),
        "training_memory": [asdict(memory) for memory in plan.memory],
        "warnings": warnings(plan),
        "what_would_fit": what_fits(plan.config, plan.rates, plan.root),
    }
    return json.dumps(document, indent=2)
