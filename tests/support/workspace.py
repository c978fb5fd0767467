"""A copy of the project with a shrunken budget, and Snakemake run in it for real."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import ready
import yaml
from waiting import show

PROJECT = Path(__file__).parents[2]

# A folder's name as users have them: a space, an apostrophe, an ampersand, braces, a letter that is not ASCII.
AWKWARD = "it's R&D {été}"

# The demo's shape - its experiments, tables and figures - with T = 20 and a handful of steps and images.
SHRUNKEN = {
    "classifier": {"width": 8, "features": 16, "epochs": 2},
    "defaults": {
        "network": {"ch": 8, "groups": 4},
        "diffusion": {"timesteps": 20},
        "training": {"steps": 8, "batch_size": 8, "warmup": 2, "log_every": 2, "save_every": 4},
        "sampling": {"images": 24, "batch_size": 16},
    },
    "experiments": {
        "digits-eps-simple": {
            "training": {"snapshot_every": 4},
            "snapshots": {"images": 20, "batch_size": 20, "previews": 2},
            "sampling": {"shards": 2},
            "latents": {"chains": 1, "pairs": 1},
            "few_steps": {"steps": [2, 5, 10], "images": 24, "shards": 2, "batch_size": 16},
            "likelihood": {"test": 12, "train": 8},
        },
        "digits-eps-vlb-fixed": {"likelihood": {"test": 12, "train": 8, "shards": 2}},
        "digits-eps-simple-untrained": {"sampling": {"images": 24}},
        "digits-mu-vlb-learned": {"training": {"loss_limit": 1.0e-6}},  # ends as `unstable`
    },
}


class Workspace:
    """A copy of the project that tests may change, with the commands of its user."""

    def __init__(self, folder: Path, scale: str = "demo"):
        self.folder, self.scale = folder, scale
        self.command = [*ready.python(), "-m", "snakemake", "--cores", "2"]
        self.environ = ready.environment()
        for name in ("Snakefile", "config.yaml", "profiles", "envs", "workflow"):
            source = PROJECT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)
        self.configure(SHRUNKEN if scale == "demo" else {})

    def configure(self, override: dict, **keys) -> None:
        """Write config.yaml as a user would."""
        document = {"scale": self.scale, "override": override, **keys}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(document))

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        command = [*self.command, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)
        show(["snakemake", *arguments], self.folder, done)
        if check and done.returncode:
            pytest.fail(f"snakemake {' '.join(arguments)} failed in {self.folder}:\n{done.stderr[-8000:]}")
        return done

    def jobs(self, *arguments: str) -> list[tuple[str, str]]:
        """Run, and return the jobs that ran, or with -n would: (rule, experiment), without `all` and JSON documents."""
        done = self.snakemake(*arguments)
        log = done.stdout + done.stderr
        ran = []
        for block in re.split(r"\n\[.*\]\n", log):
            if found := re.match(r"(?:local)?rule ([\w-]+):", block):
                experiment = re.search(r"wildcards: .*?experiment=([\w-]+)", block)
                ran.append((found[1], experiment[1] if experiment else ""))
        return [job for job in ran if job[0] not in ("all", "source", "stage_config", "classifier_config")]

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.scale
