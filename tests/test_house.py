"""House-keeping: formats, lints, pins, and what never goes into the repository."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from environments import (
    ENVIRONMENTS,
    PROJECT_FILE,
    commands,
    functions,
    imported,
    listed,
    packages,
    pins,
    reached,
    rules,
    source,
    used,
)
from workspace import PROJECT

from ddpm.report.figures import MODULES

BIN = Path(sys.executable).parent
PYTHON = "python=3.12"
RULE_FILES = (PROJECT / "Snakefile", *sorted((PROJECT / "workflow/rules").glob("*.smk")))


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["snakefmt", "--check", "Snakefile", "workflow"],
        ["snakemake", "--lint"],
    ],
    ids=" ".join,
)
def test_linters_are_content(command):
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dependency_is_pinned_and_known_to_an_environment():
    """Those of pyproject.toml, for which there are wheels that bring CUDA along, are conda's too."""
    by_hand = pins(PROJECT_FILE["project"]["dependencies"])
    pins(PROJECT_FILE["dependency-groups"]["dev"])
    assert set(by_hand) == {wheel for environment in ENVIRONMENTS for wheel in listed(environment)}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_conda_environments_have_the_pins_of_pyproject(environment):
    document = yaml.safe_load(ENVIRONMENTS[environment].read_text())
    assert document["channels"] == ["conda-forge", "nodefaults"]
    assert document["variables"] == {"PYTHONNOUSERSITE": "1"}
    assert document["dependencies"][:-1] == [PYTHON, "pip"]
    by_hand = pins(PROJECT_FILE["project"]["dependencies"])
    wheels = listed(environment)
    assert list(wheels.items()) == [(name, by_hand[name]) for name in sorted(wheels)]


def test_environments_list_what_their_commands_import_and_nothing_else():
    """Wherever in the package: most of it is imported inside of functions, many of which only some data need."""
    drawing = commands("report")
    assert drawing == {"figure", "table", "report"}
    assert not commands("snakemake")
    brought = {
        "urllib3": "requests",
        "tabulate": "pandas",
        "rich": "typer",
    }  # by another, which depends on it or imports it
    for environment, own in (("report", drawing), ("torch", set(functions()) - drawing)):
        assert own >= commands(environment)
        wheels, imports = set(listed(environment)), packages(used(own))
        assert imports - wheels <= {name for name, by in brought.items() if by in wheels}
        assert wheels - imports <= {name for name, by in brought.items() if by in imports}


def test_snakemakes_own_environment_lists_what_the_rule_files_import():
    for path in RULE_FILES:
        lines = re.findall(r"^ *((?:import|from) [\w., ]+)$", path.read_text(), re.MULTILINE)
        tree = ast.parse("\n".join(lines))
        assert packages(reached(imported(tree), lazily=False)) <= set(listed("snakemake")), path


def test_rules_that_compute_declare_their_environment_and_no_others_do():
    for name, text in rules():
        computes = re.search(r"python -m ddpm|\b(script|notebook|run|wrapper):", text)
        declares = re.search(r"conda:\s+\"../../envs/(torch|report)\.yaml\"", text)
        assert bool(computes) == bool(declares), name or text


def test_helpers_of_rules_are_few():
    """What can be tested without Snakemake belongs into the package."""
    assert len((PROJECT / "workflow/rules/common.smk").read_text().splitlines()) <= 130


def test_the_rules_ask_snakemake_for_no_more_than_they_must():
    """Its documentation names `basedir` and `cores`; what else is read stands in one file, or is --config's."""
    documented = {"basedir", "cores"}
    for path in RULE_FILES:
        asked = set(re.findall(r"(?<!/)\bworkflow\.(\w+)", path.read_text())) - documented
        known = {"remote_exec", "nodes", "global_resources", "register_resource", "dag"}
        known |= {"executor_plugin", "deployment_settings"}
        settings = {"configfiles", "config_settings"} if path.name == "common.smk" else set()
        assert asked <= (known if path.name == "resources.smk" else settings), path
        assert not re.findall(r"^ *(?:from|import) snakemake(?!\.utils\b).*", path.read_text(), re.MULTILINE), path


# Who may import whom: a room imports from those before it. The three of the first tier have no order among themselves,
# but config imports neither.
TIERS = ("config storage jobs", "compute", "unet diffusion", "data", "training", "sampling", "evaluation", "report")
TIERS = {room: i for i, rooms in enumerate((*TIERS, "planning", "cli", "__main__")) for room in rooms.split()}


def package_imports() -> dict[str, set[str]]:
    """By module of the package, relative to it, the modules of it that are imported, at the top or in functions."""
    package = PROJECT / "workflow"
    found = {}
    for path in sorted((package / "ddpm").rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        asked = imported(ast.parse(path.read_text()))
        found[name] = {module for module in asked if module.startswith("ddpm.") and source(module)} - {name}
    return found


def test_no_room_imports_from_one_above_it():
    for module, asked in package_imports().items():
        if module == "ddpm":
            continue
        room = module.split(".")[1]
        for other in (name.split(".")[1] for name in asked):
            assert TIERS[other] <= TIERS[room], f"{module} imports from {other}"
            assert room != "config" or other == "config", f"{module} imports from {other}"


def test_no_modules_import_each_other():
    """Also not inside of functions, and not over third ones."""
    asked, done = package_imports(), set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle: {' -> '.join((*above, module))}"
        if module not in done:
            for other in sorted(asked.get(module, set())):
                visit(other, (*above, module))
            done.add(module)

    for module in sorted(asked):
        visit(module, ())


def test_scoring_and_drawing_start_without_torch():
    """Half of the demo's jobs are short: what they need not, they do not load."""
    modules = ("ddpm.evaluation.metrics", "ddpm.report.tables", "ddpm.report.page", "ddpm.evaluation.neighbours")
    modules += ("ddpm.training.selection", "ddpm.planning.plan", "ddpm.data.prepare", "ddpm.sampling.previews")
    assert not loaded(*modules) & {"torch", "matplotlib", "scipy", "sklearn"}


def test_figures_load_no_more_than_what_draws_them():
    modules = {"ddpm.cli", "ddpm.report.tables", *(f"ddpm.report.figures.{name}" for name in MODULES.values())}
    assert not loaded(*modules) & {"torch", "pydantic", "sklearn"}


def test_networks_start_without_what_only_scores_and_data_need():
    """A small network trains and samples in seconds, and torch alone takes two to load."""
    modules = ("training.loop", "sampling.runner", "sampling.snapshots", "sampling.chains")
    modules += ("evaluation.likelihood", "evaluation.features", "evaluation.networks")
    unused = {"scipy", "sklearn", "pandas", "matplotlib", "torchvision", "sympy", "requests", "pyarrow", "lmdb"}
    assert not loaded(*(f"ddpm.{module}" for module in modules)) & unused


def loaded(*modules: str) -> set[str]:
    """The packages that are loaded in a process that imports these modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
