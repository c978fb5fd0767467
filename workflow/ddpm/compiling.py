"""What this machine can compile, and where what is compiled is kept for the next job."""

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import warnings
from functools import cache
from pathlib import Path

from ddpm.files import UserError, private_folder, whole
from ddpm.processor import instructions

COMPILED = Path("resources/compiled")
# NaN and infinity stay what they are, but nothing traps or sets errno.
OPTIONS = ["-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
WIDEST = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []


def cache_folder() -> Path:
    """Where compiled code is kept, which this process will run: a folder that only this user may enter.

    Raises:
        UserError: it is somebody else's, or others may have put something there.
    """
    folder = private_folder(COMPILED.absolute(), "Remove it, so that it is made anew.")
    folder.chmod(0o700)
    return folder


def check_ours(file: Path) -> None:
    """Raise UserError where somebody else may have written the code in `file`."""
    about = os.lstat(file)
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise UserError(f"{file}: is a link, belongs to somebody else, or others may write to it. Remove it.")


def missing_compiler() -> str | None:
    """What torch.compile would need on a GPU and does not find."""
    if importlib.util.find_spec("triton") is None:
        return "Triton"
    if not (os.environ.get("CC") or any(map(shutil.which, ("gcc", "clang", "cc")))):
        return "C compiler (gcc, clang, or the one that CC names)"
    return None


@cache
def library(source: Path) -> ctypes.CDLL | None:
    """The C++ file `source` as a library for this processor: compiled in seconds, once, and kept.

    Returns:
        None where there is no compiler, or it fails, which is said in a warning: there is always another way.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    if compiler is None:
        warnings.warn(
            f"{source.name} is not compiled, which would be faster: no g++ or clang++, and CXX names none", stacklevel=2
        )
        return None
    command = [*compiler.split(), *OPTIONS, *WIDEST, "-fopenmp", "-shared", "-fPIC"]
    try:
        version = subprocess.run([*compiler.split(), "--version"], capture_output=True, check=True).stdout
        said = [source.read_bytes(), " ".join(command).encode(), version, " ".join(sorted(instructions())).encode()]
        name = hashlib.sha256(b"\0".join(said)).hexdigest()[:16]
        path = cache_folder() / f"{source.stem}-{name}.so"
        if not os.path.lexists(path):
            with whole(path) as part:
                subprocess.run([*command, str(source), "-o", str(part)], capture_output=True, check=True)
                part.chmod(0o700)
        check_ours(path)
        return ctypes.CDLL(str(path))
    except (OSError, UserError, subprocess.CalledProcessError) as error:
        words = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip() or str(error)
        warnings.warn(f"{source.name} is not compiled, which would be faster: {words[-500:]}", stacklevel=2)
        return None
