"""Reading what the earlier stages left: metrics, curves and CSV rows, checked when they are read."""

from pathlib import Path

from ddpm.config.errors import DamagedFile
from ddpm.storage.files import read_json

PUBLISHED = Path(__file__).parent / "published"

COLUMNS = ("is", "fid_train", "fid_test", "nll_test", "nll_train")  # what a deviation can affect
METRICS_KEYS = (
    "experiment",
    "scale",
    "data",
    "method",
    "status",
    "features",
    "inception_score",
    "fid",
    "fid_spread",
    "kid",
    "precision_recall",
    "nll",
    "deviations",
    "repeat",
)


def read_metrics(path: Path) -> dict:
    """The metrics.json of one experiment, after a check of the keys that tables need and of its deviations."""
    metrics = read_json(path)
    missing = [key for key in METRICS_KEYS if key not in metrics]
    if missing:
        raise DamagedFile(path, f"has no {', '.join(missing)}")
    for deviation in metrics["deviations"]:
        known = isinstance(deviation, dict) and set(deviation) == {"text", "affects"}
        if not known or not set(deviation["affects"]) <= set(COLUMNS):
            raise DamagedFile(path, f"has a deviation that does not say which numbers it affects: {deviation}")
    return metrics


def is_untrained(run: dict) -> bool:
    """Whether this is the baseline of an untrained network, which belongs in no table."""
    return "untrained" in run["experiment"].split("-")


def find_run(runs: list[dict], parameterization: str, objective: str, variance: str) -> dict | None:
    """The trained run of one row of the paper; `variance` is fixed or learned.

    The paper does not say which of its two fixed variances it used, so both count. Where both were run,
    fixedlarge is shown: it is the default of the released code for CIFAR10. A repeat with another seed is no run of
    its own.
    """
    trained = [run for run in runs if not is_untrained(run) and not run["repeat"]]
    found = [run for run in trained if method_of(run) == (parameterization, objective, variance)]
    return min(found, key=lambda run: run["method"]["variance"] != "fixedlarge", default=None)


def method_of(run: dict) -> tuple[str, str, str]:
    """(parameterization, objective, fixed or learned): what tells the rows of Tables 1 and 2 apart."""
    method = run["method"]
    variance = "learned" if method["variance"] == "learned" else "fixed"
    return method["parameterization"], method["objective"], variance


def main_run(runs: list[dict]) -> dict | None:
    """The run of the paper's best row: eps, L_simple, fixed variance."""
    return find_run(runs, "eps", "simple", "fixed")


def ending_of(status: dict) -> str:
    """Where and why a run ended, to be put behind a verb: ' at step 1,234: the loss is not finite'."""
    step = f" at step {status['step']:,}" if status.get("step") is not None else ""
    return f"{step}: {str(status.get('reason') or 'no reason was recorded').rstrip('.')}"


def network_name(run: dict) -> str:
    """What gave the features and class probabilities, such as 'digits classifier'."""
    return run["features"]["network"] if run else "unnamed network"
