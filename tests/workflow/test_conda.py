"""`--use-conda`: every rule runs in the environment that it declares, from Snakemake's own, and finds nothing else.

The tests' `conda` is a stand-in that makes environments of exactly the wheels that a file lists. Neither a real conda
nor a channel takes part.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import paper
import pytest
import torch
from environments import ENVIRONMENTS, commands, foreign, functions, listed, rules, used
from official_weights import drawn
from servers import serving
from workspace import PROJECT, SHRUNKEN, Workspace

from ddpm.resolving import load

MAIN = "cifar10-eps-simple"  # the experiment in which most of the rules take part
OTHERS = ("celeba64", "celebahq256", "lsun-bedroom256", "lsun-church256")  # a format each, or a folder that is there
BORROWED = "digits-eps-simple"
SYSTEM = "/usr/bin:/bin"

# Imports what its arguments name: modules, or what `from module import` takes from them.
IMPORT = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ModuleNotFoundError:
        getattr(import_module(module), attribute)
"""


@dataclass
class Conda:
    """A conda whose `bin` holds the command alone, and Snakemake's environment as its user makes it."""

    folder: Path
    uv: str

    def __post_init__(self):
        self.bin, self.own, self.prefix = (self.folder / name for name in ("bin", "snakemake", "environments"))
        self.bin.mkdir()
        script = f'exec {sys.executable} {PROJECT / "tests/stand_in_conda.py"} {self.folder / "conda"} "$@"'
        (self.bin / "conda").write_text(f"#!/bin/sh\nPATH={Path(self.uv).parent}:$PATH {script}\n")
        (self.bin / "conda").chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        """The tests' variables, without their environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return {**kept, "PATH": f"{self.bin}:{SYSTEM}"}

    def create(self, environment: str, prefix: Path) -> None:
        """Make an environment; where no package index can be reached, the test is skipped."""
        command = ["conda", "env", "create", "--file", ENVIRONMENTS[environment], "--prefix", prefix]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            self.skip_without_index()
            pytest.fail(f"{environment}.yaml: {done.stderr}")

    def skip_without_index(self) -> None:
        ask = [self.uv, "pip", "compile", "--quiet", "--no-cache", "-"]
        done = subprocess.run(ask, input="pip", capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"uv reaches no package index: {done.stderr[-200:]}")

    def python(self, environment: str) -> Path:
        """The Python of the environment that Snakemake had made of a file."""
        (copied,) = (
            path for path in self.prefix.glob("*.yaml") if path.read_text() == ENVIRONMENTS[environment].read_text()
        )
        return copied.with_suffix("") / "bin/python"

    def workspace(self, folder: Path, scale: str) -> Workspace:
        """A project whose user has activated Snakemake's environment, and has this conda."""
        folder.mkdir()
        workspace = Workspace(folder, scale)
        snakemake = [self.own / "bin/python", self.own / "bin/snakemake", "--cores", "2"]
        workspace.command = [*snakemake, "--use-conda", "--conda-prefix", self.prefix]
        workspace.environ = {**self.environ, "PATH": f"{self.bin}:{self.own / 'bin'}:{SYSTEM}"}
        return workspace


@pytest.fixture(scope="module")
def conda(tmp_path_factory):
    uv = shutil.which("uv", path=f"{os.environ['PATH']}:{PROJECT / '.uv/bin'}")
    if not uv:
        pytest.skip("uv, which makes the environments, is not here")
    folder = tmp_path_factory.mktemp("conda")
    conda = Conda(folder, uv)
    conda.create("snakemake", conda.own)
    yield conda
    shutil.rmtree(folder)


def rules_run(workspace: Workspace, *arguments: str) -> set[str]:
    return set(re.findall(r"^(?:local)?rule ([\w-]+):", workspace.snakemake(*arguments).stderr, re.MULTILINE))


@pytest.fixture(scope="module")
def ran(conda, tmp_path_factory) -> set[str]:
    """The rules that have run: the paper's on stand-in data, and those that only the demo or others' weights need."""
    published = tmp_path_factory.mktemp("published")
    with serving() as server:
        workspace = conda.workspace(published / "paper", "paper")
        override = paper.budgets()
        override["experiments"][MAIN]["latents"] = {"chains": 1, "pairs": 1}
        workspace.configure(override, sources=paper.sources(server, published))
        latents = [f"results/paper/{MAIN}/{name}.npz" for name in ("latents", "interpolations")]
        ran = rules_run(workspace, "--config", f"experiments=[{MAIN}]", "--", "all", *latents)
        ran |= rules_run(workspace, *(f"resources/{data}/card.json" for data in OTHERS))

        workspace = conda.workspace(published / "demo", "demo")
        override = copy.deepcopy(SHRUNKEN)
        network = load({"scale": "demo", "override": override}).scale_config.experiments[BORROWED].network
        torch.save({name: tensor.float() for name, tensor in drawn(network).items()}, published / "model.ckpt")
        file = {"name": "model.ckpt", "urls": [server.add("model", (published / "model.ckpt").read_bytes())]}
        override["experiments"][BORROWED] |= {
            "weights": "released",
            "checkpoint": {"files": [file], "averaged": True, "step": 1},
        }
        workspace.configure(override, experiments=[BORROWED])
        made = (f"{BORROWED}/model.safetensors", "reference/digits/classifier.safetensors")
        return ran | rules_run(workspace, "plan", *(f"results/demo/{file}" for file in made))


def test_every_rule_runs_with_what_its_environment_declares(ran):
    named = {name for name, text in rules() if name and "shell:" in text}
    assert len(named) > 30
    assert named <= ran
    assert {"table4", "scores", "diffusion", "figure5", "fewsteps", "page"} <= ran  # those that loops make


def test_nothing_else_is_in_an_environment(conda, ran):
    """What one has and another lacks: a job that had run elsewhere would have been noticed."""
    for python, lacks in (
        (conda.own / "bin/python", ("torch", "matplotlib", "typer")),
        (conda.python("torch"), ("matplotlib", "seaborn", "snakemake")),
        (conda.python("report"), ("torch", "scipy", "snakemake")),
    ):
        for name in lacks:
            done = subprocess.run([python, "-c", f"import {name}"], env=conda.environ, capture_output=True, check=False)
            assert done.returncode, f"{python} imports {name}"


def test_what_only_some_commands_or_data_need_can_be_imported(conda, ran):
    """Every import of the package that commands of an environment lead to, also those inside of functions."""
    drawing = commands("report")
    for environment, own in (("torch", set(functions()) - drawing), ("report", drawing)):
        names = sorted(foreign(used(own)))
        assert len(names) > 10
        command = [conda.python(environment), "-c", IMPORT, *names]
        done = subprocess.run(command, env=conda.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_there_are_wheels_for_the_python_of_the_file(environment, conda):
    """The stand-in takes another Python; this asks the index for the one that conda would take."""
    python = re.search(r"python=([\d.]+)", ENVIRONMENTS[environment].read_text())[1]
    requirements = "\n".join(f"{name}=={version}" for name, version in listed(environment).items())
    wheels = ["--no-deps", "--only-binary", ":all:", "--python-version", python]
    command = [conda.uv, "pip", "compile", "--quiet", *wheels, "-"]
    done = subprocess.run(command, input=requirements, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
