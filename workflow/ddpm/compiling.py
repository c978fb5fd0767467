"""What this machine can compile, and where what is compiled is kept for the next job."""

import importlib.util
import os
import shutil
from pathlib import Path

from ddpm.files import private_folder

COMPILED = Path("resources/compiled")


def cache_folder() -> Path:
    """Where compiled code is kept, which this process will run: a folder that only this user may enter.

    Raises:
        UserError: it is somebody else's, or others may have put something there.
    """
    folder = private_folder(COMPILED.absolute(), "Remove it, so that it is made anew.")
    folder.chmod(0o700)
    return folder


def missing_compiler() -> str | None:
    """What torch.compile would need on a GPU and does not find."""
    if importlib.util.find_spec("triton") is None:
        return "Triton"
    if not (os.environ.get("CC") or any(map(shutil.which, ("gcc", "clang", "cc")))):
        return "C compiler (gcc, clang, or the one that CC names)"
    return None
