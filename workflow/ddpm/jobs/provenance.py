"""What a number was computed with: package versions, machine and code."""

import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from ddpm.jobs.processor import processor_name

PACKAGES = ("numpy", "pydantic", "safetensors", "scikit-learn", "scipy", "torch")


def code_version() -> dict[str, str]:
    """A hash of the package's source, and the git commit where there is one."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted([*package.rglob("*.py"), *package.rglob("*.yaml")]):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=package, capture_output=True, text=True, check=False
    )
    return {"sha256": digest.hexdigest()[:16], "git": git.stdout.strip() or "not a git checkout"}


def provenance() -> dict:
    """Package versions, machine and code version of this process."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": {"system": platform.platform(), "processor": processor_name()},
        "code": code_version(),
    }
