"""`--use-conda`: every rule runs in the environment that it declares, from Snakemake's own, and finds nothing else.

The tests' `conda` is a stand-in that makes environments of exactly the wheels that a file lists. Neither a real conda
nor a channel takes part.
"""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import paper
import pytest
import ready
import torch
from deployed import environ, find_uv, put, with_index
from environments import ENVIRONMENTS, commands, foreign, functions, listed, rules, used
from official_weights import drawn
from servers import serving
from workspace import AWKWARD, SHRUNKEN, Workspace

from ddpm.config.resolving import load

MAIN = "cifar10-eps-simple"  # the experiment in which most of the rules take part
OTHERS = ("celebahq256", "lsun-church256")  # another format each
FIGURES = ("diffusion", "figure2", "figure5", "figure10", "figure15", "fewsteps", "training-curve")  # one of a kind
BORROWED = "digits-eps-simple"

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


class Conda:
    """A conda in `bin`, the environment in which its user runs Snakemake, and those that Snakemake has made."""

    def __init__(self, folder: Path):
        self.bin, self.own, self.made = (folder / name for name in ("bin", "own", "made"))
        self.servers = []
        put("conda", self.bin, folder / "conda")
        create = ["conda", "env", "create", "--file", ENVIRONMENTS["snakemake"], "--prefix", self.own]
        with_index(create, env=environ(self.bin))

    def workspace(self, folder: Path, scale: str) -> Workspace:
        folder.mkdir()
        workspace = Workspace(folder, scale)
        workspace.command = [self.own / "bin/snakemake", "--cores", "2", "--use-conda", "--conda-prefix", self.made]
        workspace.environ = environ(self.bin, self.own / "bin")
        return workspace

    def python(self, environment: str) -> Path:
        """The Python of the environment that Snakemake has had made of a file, which it copies beside it."""
        content = ENVIRONMENTS[environment].read_text()
        (copied,) = (path for path in self.made.glob("*.yaml") if path.read_text() == content)
        return copied.with_suffix("") / "bin/python"

    def fork_jobs(self, environment: str) -> None:
        """Have the jobs of an environment forked from its own Python (ready.py), which has loaded what is there."""
        python = self.python(environment)
        server, place = ready.start(python.rename(python.with_name("plain-python")), environ())
        self.servers.append((server, place))
        python.symlink_to(place.with_name("bin") / "python")

    def end(self) -> None:
        for server in self.servers:
            ready.end(*server)


@pytest.fixture(scope="module")
def conda(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conda")
    conda = Conda(folder)
    yield conda
    conda.end()
    shutil.rmtree(folder)  # some gigabytes, where the file system has no links


def rules_run(workspace: Workspace, *arguments: str) -> set[str]:
    return set(re.findall(r"^(?:local)?rule ([\w-]+):", workspace.snakemake(*arguments).stderr, re.MULTILINE))


class Ran(NamedTuple):
    """The rules that have run: the paper's on stand-in data, and those that only the demo or others' weights need."""

    rules: set[str]
    paper: Workspace
    demo: Workspace


@pytest.fixture(scope="module")
def ran(conda, tmp_path_factory) -> Ran:
    published = tmp_path_factory.mktemp("published")
    with serving() as server:
        paper_scale = workspace = conda.workspace(published / AWKWARD, "paper")
        override = paper.budgets()
        small = override["experiments"][MAIN]
        once = {"latents": {"chains": 1, "pairs": 1}, "few_steps": {"steps": [5], "images": 20, "shards": 1}}
        once |= {"training": {**small["training"], "snapshot_every": 2}, "sampling": {**small["sampling"], "shards": 1}}
        small |= once  # of each kind of job one
        shown = {"tables": ["table4", "scores"], "figures": list(FIGURES)}
        workspace.configure(override, sources=paper.sources(server, published), **shown)
        plain = [*workspace.command[:3], "resources/cifar10/card.json"]
        done = subprocess.run(
            plain, cwd=workspace.folder, env=workspace.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "has none of the packages that the jobs need: add --use-conda." in done.stderr
        assert not workspace.results.exists(), "nothing has begun"
        workspace.snakemake("--conda-create-envs-only")
        for environment in ("torch", "report"):
            conda.fork_jobs(environment)
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
        ran |= rules_run(workspace, "plan", *(f"results/demo/{file}" for file in made))
        return Ran(ran, paper_scale, workspace)


def test_every_rule_runs_with_what_its_environment_declares(ran):
    named = {name for name, text in rules() if name and "log:" in text}
    assert len(named) > 30
    assert named <= ran.rules
    assert {"table4", "scores", *FIGURES} <= ran.rules  # made in loops


def test_another_library_for_drawing_redraws_and_never_resamples(ran):
    with (ran.paper.folder / "envs/report.yaml").open("a") as file:
        file.write("# changed\n")
    planned = ran.paper.snakemake("-n", "--config", f"experiments=[{MAIN}]").stdout
    assert {"all", "page", "table4", "scores", *FIGURES} == set(re.findall(r"^(?:local)?rule ([\w-]+):", planned, re.M))


def test_nothing_else_is_in_an_environment(conda, ran):
    """Each lacks what others have: a job that had run in another would have been noticed."""
    for python, has, lacks in (
        (conda.own / "bin/python", "snakemake", ("torch", "matplotlib", "typer")),
        (conda.python("torch"), "torch", ("matplotlib", "seaborn", "snakemake")),
        (conda.python("report"), "matplotlib", ("torch", "scipy", "snakemake")),
    ):
        found = f"from importlib.util import find_spec; print(*map(bool, map(find_spec, {(has, *lacks)})))"
        done = subprocess.run([python, "-c", found], env=environ(), capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["True", "False", "False", "False"]


def test_what_only_some_commands_or_data_need_can_be_imported(conda, ran):
    """Every import of the package that commands of an environment lead to, also those inside of functions."""
    drawing = commands("report")
    for environment, own in (("torch", set(functions()) - drawing), ("report", drawing)):
        names = sorted(foreign(used(own)))
        assert len(names) > 10
        command = [conda.python(environment), "-c", IMPORT, *names]
        done = subprocess.run(command, env=environ(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_there_are_wheels_for_the_python_of_the_files():
    """The stand-in takes another Python; this asks the index for the one that conda would take."""
    (python,) = {re.search(r"python=([\d.]+)", path.read_text())[1] for path in ENVIRONMENTS.values()}
    wheels = {f"{name}=={version}\n" for environment in ENVIRONMENTS for name, version in listed(environment).items()}
    only = ["--no-deps", "--only-binary", ":all:", "--python-version", python]
    with_index([find_uv(), "pip", "compile", "--quiet", *only, "-"], "".join(sorted(wheels)))


@pytest.mark.network
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_real_conda_makes_the_environment(environment, tmp_path):
    if not (conda := shutil.which("conda")):
        pytest.skip("there is no conda on PATH")
    create = [conda, "env", "create", "--file", ENVIRONMENTS[environment], "--prefix", tmp_path / "made"]
    done = subprocess.run(create, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = f"from importlib.metadata import version; print(*map(version, {list(listed(environment))}))"
    versions = subprocess.check_output([tmp_path / "made/bin/python", "-c", asked], env=environ(), text=True).split()
    assert versions == list(listed(environment).values())
