"""What the environment files list, and what the package's commands import."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml
from workspace import PROJECT

ENVIRONMENTS = {path.stem: path for path in sorted((PROJECT / "envs").glob("*.yaml"))}
PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text())
WORKFLOW = PROJECT / "workflow"


def pins(requirements: Iterable[str]) -> dict[str, str]:
    """Versions by package of lines as in `numpy==2.4.6`; others are refused."""
    return dict(requirement.split("==") for requirement in requirements)


def listed(environment: str) -> dict[str, str]:
    """The wheels that an environment's file pins, without what these depend on, which it lists behind them."""
    wheels = entries(environment)
    return pins(wheel.partition(" ")[0] for wheel in wheels[: wheels.index("--require-hashes")])


def entries(environment: str) -> list[str]:
    """The lines of an environment's list of wheels."""
    document = yaml.safe_load(ENVIRONMENTS[environment].read_text())
    (wheels,) = (entry["pip"] for entry in document["dependencies"] if isinstance(entry, dict))
    return wheels


def rules() -> Iterator[tuple[str, str]]:
    """Every rule of the workflow: its name ("" where it is made in a loop), and its own text, not what it inherits."""
    for path in (PROJECT / "Snakefile", *sorted((WORKFLOW / "rules").glob("*.smk"))):
        _, *parts = re.split(
            r"^ *(?:(?:rule|checkpoint)(?: (\w+))?|use rule \w+ as (\w+) with):$", path.read_text(), flags=re.MULTILINE
        )
        names = (own or inheriting or "" for own, inheriting in zip(parts[::3], parts[1::3], strict=True))
        yield from zip(names, parts[2::3], strict=True)


def commands(environment: str) -> set[str]:
    """The commands of the package that rules run in an environment.

    Rules that share a shell line name theirs in `params`; all of these compute.
    """
    texts = [text for _, text in rules()]
    own = [text for text in texts if f" {environment.upper()}_ENV\n" in text]
    found = {command for text in own for command in re.findall(r" -m ddpm ([\w-]+)", text)}
    if environment == "torch":
        found |= {command for text in texts for command in re.findall(r' command="([\w-]+)"', text)}
    return found


@cache
def functions() -> dict[str, ast.FunctionDef]:
    """The functions of `python -m ddpm` by the names of their commands."""
    found = {}
    for path in sorted((WORKFLOW / "ddpm/cli").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "app.command":
                    found[decorator.args[0].value if decorator.args else node.name] = node
    return found


def imported(tree: ast.AST, lazily: bool = True) -> Iterator[str]:
    """Modules, and what may be modules, that `tree` imports; unless `lazily`, without those inside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif lazily or not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from imported(node, lazily)


def source(module: str) -> Path | None:
    """The file of a module of the package."""
    path = WORKFLOW / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def reached(names: Iterable[str], lazily: bool = True) -> set[str]:
    """All modules that importing `names`, and with `lazily` also running any of their functions, may import.

    Without those of `ddpm.load`, which a notebook calls and no command.
    """
    found, to_do = set(), list(names)
    while to_do:
        name = to_do.pop()
        if name in found:
            continue
        found.add(name)
        if name.startswith("ddpm") and (file := source(name)):
            to_do += imported(ast.parse(file.read_text()), lazily and name != "ddpm")
            to_do += [name.rpartition(".")[0]] if "." in name else []
            if lazily and "import_module(" in file.read_text():  # one of its own modules, by a name known later
                to_do += [f"{name}.{module.stem}" for module in file.parent.glob("[a-z]*.py")]
    return found


def foreign(modules: Iterable[str]) -> set[str]:
    """Those of `modules` that are neither Python's nor ours."""
    return {module for module in modules if module.partition(".")[0] not in {*sys.stdlib_module_names, "ddpm"}}


def packages(modules: Iterable[str]) -> set[str]:
    """The packages, by their names in requirements, that foreign modules belong to."""
    installed = packages_distributions()
    names = {module.partition(".")[0] for module in foreign(modules)}
    return {installed.get(name, [name])[0].lower() for name in names}


def used(names: Iterable[str]) -> set[str]:
    """All modules that commands may import."""
    inside = {module for name in names for module in imported(functions()[name])}
    return reached(["ddpm.cli"], lazily=False) | reached(inside)
