"""Which jobs of a run have failed, as Snakemake's own log says, whose path it hands to `onerror`."""

import re
from pathlib import Path

from ddpm.jobs.failures import FailedJob

# A job's start or its failure with what is said of it, a line each; or its end.
EVENT = re.compile(
    r"^(?P<indent> *)(?:(?:local)?rule (?P<started>[\w-]+)|Error in rule (?P<failed>[\w-]+)):\n"
    r"(?P<items>(?:(?P=indent)    .*\n)*)|^Finished jobid: (?P<finished>\d+)",
    re.MULTILINE,
)
ITEM = re.compile(r"^ *(\w+): (.*)$", re.MULTILINE)
HINT = " (check log file(s) for error details)"


def failed_jobs(log: str) -> list[FailedJob]:
    """The jobs that a log of Snakemake's tells of, without those that a later attempt has done."""
    wildcards: dict[str, dict[str, str]] = {}
    failed: dict[str, FailedJob] = {}
    for event in EVENT.finditer(log):
        if event["finished"]:
            failed.pop(event["finished"], None)
            continue
        items = dict(reversed(ITEM.findall(event["items"])))  # the first of a name: a shell line may look like one
        job, logs = items.get("jobid", ""), items.get("log", "").removesuffix(HINT)
        if event["started"]:
            wildcards[job] = dict(each.split("=", 1) for each in items.get("wildcards", "").split(", ") if "=" in each)
        else:
            paths = logs.split(", ") if logs else []
            failed[job] = FailedJob(event["failed"], stage_of(paths), wildcards.get(job, {}), paths)
    return list(failed.values())


def read_failed_jobs(logs: list[str]) -> list[FailedJob]:
    """Those of all the files that Snakemake has logged to."""
    return [job for log in logs for job in failed_jobs(Path(log).read_text(encoding="utf-8", errors="replace"))]


def stage_of(logs: list[str]) -> str:
    """The stage of a job: its logs lie in results/SCALE/logs/STAGE, or in resources/logs."""
    folder = Path(logs[0]).parent.name if logs else "logs"
    return "data" if folder == "logs" else folder
