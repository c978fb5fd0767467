"""What is installed is known file by file: every way of installing has hashes, and they are those of one list."""

import re
import subprocess
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from environments import ENVIRONMENTS, PROJECT_FILE, entries, listed, pins
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workspace import PROJECT

ENTRY = re.compile(r"^([\w.-]+)==([\w.+!-]+)((?: ;[^\\]*)?)((?:[ \\\n]+--hash=sha256:[0-9a-f]{64})+)[ \n]*$")


def parsed(entry: str) -> tuple[str, str, set[str]]:
    """Name, version and hashes of one requirement, which must have them."""
    found = ENTRY.fullmatch(entry)
    assert found, f"no pin with hashes: {entry[:80]}"
    return canonicalize_name(found[1]), found[2], set(re.findall(r"sha256:([0-9a-f]{64})", found[4]))


def requirements(name: str) -> dict[tuple[str, str], set[str]]:
    """Hashes by name and version of a requirements file."""
    text = re.sub(r"^#.*\n", "", (PROJECT / name).read_text(), flags=re.MULTILINE)
    return {(name, version): known for name, version, known in map(parsed, re.split(r"\n(?=\S)", text.strip()))}


# Would fail if a pin of pyproject.toml were changed without the list, or an entry had no hash.
def test_the_list_has_every_pin_of_the_project():
    known = requirements("requirements.txt")
    wanted = [*PROJECT_FILE["project"]["dependencies"], *PROJECT_FILE["dependency-groups"]["dev"]]
    missing = {(canonicalize_name(n), v) for n, v in pins(wanted).items()} - known.keys()
    assert not missing, "write them anew: uv run envs/lock.py"


def test_uv_is_pinned_by_hash_where_it_is_brought_along():
    assert {name for name, _ in requirements("envs/uv.txt")} == {"uv"}
    run = (PROJECT / "run").read_text()
    assert "--require-hashes" in run
    assert "curl" not in run
    assert "uv sync" not in run
    assert "uv run" not in run, "which would install what has no hash"


# Would fail if an environment listed a file that the others do not know, or left a dependency to pip's choice.
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_conda_environments_have_hashes_for_all_that_they_install(environment):
    known = requirements("requirements.txt")
    wheels = [entry for entry in entries(environment) if entry != "--require-hashes"]
    for name, version, hashes in map(parsed, wheels):
        assert hashes <= known[name, version], f"{name}: other files than in requirements.txt"
    here = [requirement for entry in wheels if applies(requirement := Requirement(entry.partition(" --hash")[0]))]
    names = [canonicalize_name(requirement.name) for requirement in here]
    assert len(names) == len(set(names)), "two versions for one Python"
    assert set(names) >= brought(set(listed(environment)))


def applies(requirement: Requirement) -> bool:
    return not requirement.marker or requirement.marker.evaluate()


def brought(names: set[str]) -> set[str]:
    """Packages, and all that they depend on here, as it is installed."""
    found, to_do = set(), [(canonicalize_name(name), frozenset()) for name in names]
    while to_do:
        name, extras = to_do.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            environments = [{**default_environment(), "extra": extra} for extra in (extras or {""})]
            if not need.marker or any(map(need.marker.evaluate, environments)):
                to_do.append((canonicalize_name(need.name), frozenset(need.extras)))
    return {name for name, _ in found}


def test_the_image_installs_with_hashes_alone():
    definition = (PROJECT / "envs/ddpm.def").read_text()
    assert definition.count("pip install") == definition.count("pip install --require-hashes") == 1


# Would fail if the address of an index of the machine that wrote the list got into it.
def test_no_list_names_an_index():
    for file in (PROJECT / "requirements.txt", PROJECT / "envs/uv.txt", *ENVIRONMENTS.values()):
        text = file.read_text()
        assert "://" not in text, file
        assert not re.search(r"--(index|extra-index|find-links|trusted)", text), file


# Would fail if the way from a wrong file to an installed one were open: uv must refuse it.
def test_a_file_with_another_hash_is_not_installed(tmp_path):
    from deployed import find_uv, with_index

    python = tmp_path / "python"
    subprocess.run([find_uv(), "venv", "--quiet", "--no-project", python], check=True)
    install = [find_uv(), "pip", "install", "--quiet", "--python", python / "bin/python", "--require-hashes", "-r"]
    known = requirements("requirements.txt")
    (version,) = (version for name, version in known if name == "iniconfig")
    right = " ".join(f"--hash=sha256:{each}" for each in known["iniconfig", version])
    (tmp_path / "right.txt").write_text(f"iniconfig=={version} {right}\n")
    with_index([*install, tmp_path / "right.txt"])
    (tmp_path / "wrong.txt").write_text(f"iniconfig=={version} --hash=sha256:{'0' * 64}\n")
    command = [*install, tmp_path / "wrong.txt", "--reinstall", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "mismatch" in done.stderr.lower()


# Would fail if ruff's rules on security were off, or an exception were made without a word.
def test_every_exception_from_the_rules_on_security_is_explained():
    lint = PROJECT_FILE["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("S")} == {"S603", "S607"}
    assert lint["per-file-ignores"] == {"tests/**": ["S"]}
    for path in (*(PROJECT / "workflow").rglob("*.py"), *(PROJECT / "envs").glob("*.py")):
        for line in path.read_text().splitlines():
            if "noqa" in line:
                assert re.search(r"# noqa: [A-Z]+\d+ - \w+ .+", line), f"{path}: {line}"
