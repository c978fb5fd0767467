"""GPUs of this machine: which there are, which are free, and leases, so that no two jobs take the same one.

Snakemake counts GPUs and assigns no numbers. So a job leases a free one here before CUDA is initialised. A lease is a
lock of the kernel, by filelock, in a folder of this machine: however its process ends, the lock ends at once.
"""

import os
import re
import subprocess
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm.config.errors import UserError
from ddpm.jobs.locks import seconds_from
from ddpm.storage.files import private_folder

VISIBLE = "CUDA_VISIBLE_DEVICES"
MAX_MEMORY_IN_USE = 0.1  # of a free GPU
POLL_INTERVAL = 5  # seconds, while a job waits
LOG_EVERY = 600  # seconds
WAIT_TIMEOUT = 3600  # seconds that a job waits for a GPU, unless DDPM_GPU_WAIT says otherwise


@dataclass(frozen=True)
class Gpu:
    index: str
    uuid: str
    name: str
    memory: int | None = None
    """Bytes; None where the driver does not say."""
    used: int | None = None
    """Bytes, by whomever."""
    driver: str = ""


def nvidia_smi(query: str, *columns: str) -> list[list[str]]:
    """The rows of its answer; none where it is missing, fails or does not list these columns."""
    command = ["nvidia-smi", f"--query-{query}={','.join(columns)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([word.strip() for word in line.split(",")] for line in done.stdout.splitlines())
    return [row for row in rows if len(row) == len(columns)]


def to_bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * 2**20 if mebibytes.isdecimal() else None


def installed() -> tuple[Gpu, ...]:
    """All GPUs that nvidia-smi lists."""
    rows = nvidia_smi("gpu", "index", "uuid", "name", "memory.total", "memory.used", "driver_version")
    return tuple(
        Gpu(index, uuid, name, to_bytes(total), to_bytes(used), driver)
        for index, uuid, name, total, used, driver in rows
    )


def visible() -> tuple[Gpu, ...]:
    """The GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves, in its order."""
    gpus = installed()
    if VISIBLE not in os.environ:
        return gpus
    chosen = []
    for word in os.environ[VISIBLE].replace(" ", "").split(","):
        found = [gpu for gpu in gpus if word == gpu.index or (word.startswith("GPU-") and gpu.uuid.startswith(word))]
        if word.startswith("MIG-"):  # a part of a GPU, which this query does not list
            found = [Gpu("", word, "MIG instance")]
        if not found:  # CUDA ends its list at the first that is not there, too
            break
        chosen += found
    return tuple(chosen)


def busy_gpus(gpus: Sequence[Gpu]) -> dict[Gpu, str]:
    """Those on which a process computes, or whose memory is in use, and the reason.

    If such a GPU has no lease, the process is another user's, or one of ours that is still ending.
    """
    computing: dict[str, list[str]] = {}
    for pid, uuid in nvidia_smi("compute-apps", "pid", "gpu_uuid"):
        computing.setdefault(uuid, []).append(pid)
    busy = {}
    for gpu in gpus:
        if gpu.uuid in computing:
            busy[gpu] = f"process {', '.join(computing[gpu.uuid])} computes on it"
        elif gpu.memory and gpu.used is not None and gpu.used > MAX_MEMORY_IN_USE * gpu.memory:
            busy[gpu] = f"{gpu.used / gpu.memory:.0%} of its memory is in use"
    return busy


def lease_path() -> Path:
    """Where the locks lie: one folder for every process of this user on this machine, whatever its TMPDIR."""
    shared = f"/tmp/ddpm-gpus-{os.getuid()}"  # noqa: S108 - known to all of this user's processes; `private_folder` looks
    return Path(os.environ.get("DDPM_GPU_LEASES") or shared)


def lease_folder() -> Path:
    """The folder of the locks, which is there, and is this user's alone."""
    return private_folder(lease_path(), "Name another folder in DDPM_GPU_LEASES.")


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock on a file, as the kernel lists them: to try it would take it for a moment."""
    try:
        inode, listed = path.stat().st_ino, Path("/proc/locks").read_text()
    except OSError:
        return False
    return f":{inode} " in listed


def lock_free(gpus: Sequence[Gpu], most: int) -> tuple[dict, dict[Gpu, str]]:
    """Lock up to `most` free ones of `gpus`; returns them with their locks, and why others are not free."""
    from filelock import FileLock, Timeout

    locks, busy, folder = {}, busy_gpus(gpus), lease_folder()
    with FileLock(folder / "turn.lock"):  # so that of two jobs that need several each, one gets them
        for gpu in gpus:
            if len(locks) == most:
                break
            if gpu in busy:
                continue
            lock = FileLock(folder / f"{gpu.uuid}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                busy[gpu] = "another job of yours has it"
            else:
                locks[gpu] = lock
    return locks, busy


HELD: list = []  # locks, until this process ends


def lease(count: int = 1, log=print) -> bool:
    """Lease `count` free GPUs for this process and those that it starts, until it ends; CUDA sees these alone.

    Free are those without a lease on which no process computes. All `count` are leased at once, or none. Call it
    before CUDA is initialised. CUDA_VISIBLE_DEVICES is respected: if it names just as many as are needed (`count`, or
    one for each process that torchrun has started here), nothing is leased; of a longer list, some are.

    Returns:
        Whether GPUs were leased: False if nvidia-smi lists none, or CUDA_VISIBLE_DEVICES has chosen already.

    Raises:
        UserError: there are fewer than `count`, or they do not become free within DDPM_GPU_WAIT seconds.
    """
    gpus = visible()
    needed = max(count, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if not gpus or (VISIBLE in os.environ and len(gpus) == needed):
        return False
    if needed > len(gpus):
        raise UserError(too_few(needed, f"{len(gpus)}: {names(gpus)}"))
    timeout, began, logged = seconds_from("DDPM_GPU_WAIT", WAIT_TIMEOUT), time.monotonic(), -LOG_EVERY
    while True:
        locks, busy = lock_free(gpus, count)
        if len(locks) == count:
            break
        for lock in locks.values():
            lock.release()
        waited = time.monotonic() - began
        why = "; ".join(f"GPU {gpu.index or gpu.uuid}: {reason}" for gpu, reason in busy.items())
        if waited >= timeout:
            raise UserError(
                f"no GPU has become free in {timeout:g} s ({why}). Wait for them, set DDPM_GPU_WAIT to more seconds, "
                f"or name a GPU to use all the same, as in {VISIBLE}={gpus[0].index or gpus[0].uuid}."
            )
        if waited - logged >= LOG_EVERY:
            log(f"waiting for {count} of {len(gpus)} GPUs ({why}), for {timeout:g} s at most")
            logged = waited
        time.sleep(min(POLL_INTERVAL, max(timeout - waited, 0)))
        gpus = visible() or gpus  # on a busy machine, nvidia-smi may not answer in time
    HELD.extend(locks.values())
    os.environ[VISIBLE] = ",".join(gpu.uuid for gpu in locks)
    log(f"on {names(locks)}")
    return True


def too_few(needed: int, there: str) -> str:
    more = f", or let {VISIBLE} name more" if VISIBLE in os.environ else ""
    return (
        f"{needed} GPUs are needed here, one for each process, and there are {there}. Ask for fewer "
        f"(compute.training_gpus, compute.gpus; or the number in --device){more}."
    )


def names(gpus) -> str:
    return ", ".join(f"GPU {gpu.index} ({gpu.name})" for gpu in gpus)


def count_free() -> int:
    """GPUs that a job could lease now, without taking any; 1 where there are GPUs and none is free, 0 without GPUs."""
    if not (gpus := visible()):
        return 0
    folder, busy = lease_path(), busy_gpus(gpus)
    free = [gpu for gpu in gpus if gpu not in busy and not is_locked(folder / f"{gpu.uuid}.lock")]
    return max(len(free), 1)


def choose_device(name: str, log=print):
    """The torch device of that name: cpu, cuda (a GPU of its own), cuda:N (that one), or auto: CUDA if there is a GPU.

    Under torchrun, each process has its own.

    Raises:
        UserError: there is no such device, or none for this one of torchrun's processes; or torch cannot use it.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"--device {name}: no such device. Give cpu, cuda, cuda:0 (a certain GPU), or auto.")
    leased = name in ("auto", "cuda") and lease(log=log)
    import torch

    if name == "cpu":
        return torch.device(name)
    with warnings.catch_warnings(record=True) as caught:  # torch warns where it should have found a GPU
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable and (gpus := visible()):
        raise UserError(unusable(name, gpus, torch, [str(warning.message) for warning in caught]))
    if not usable and name != "auto":
        raise UserError(
            f"--device {name}: torch {torch.__version__} finds no usable GPU here, and nvidia-smi lists none. Use "
            "--device cpu (compute.device in the configuration), or a machine with a GPU."
        )
    if not usable:
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if name in ("auto", "cuda") and "LOCAL_RANK" in os.environ:
        mine = 0 if leased else int(os.environ["LOCAL_RANK"])
        if mine >= there:
            raise UserError(too_few(int(os.environ["LOCAL_WORLD_SIZE"]), str(there)))
        return torch.device("cuda", mine)
    device = torch.device("cuda" if name == "auto" else name)
    if (device.index or 0) >= there:
        raise UserError(f"--device {name}: torch finds {there} GPUs here, numbered from 0.")
    return device


def unusable(name: str, gpus: Sequence[Gpu], torch, warned: Sequence[str]) -> str:
    """Why torch cannot use what nvidia-smi lists, as far as it can be known."""
    why = "it is built without CUDA. Install a torch with CUDA"
    if torch.version.cuda:
        why = (
            f"it needs a driver for CUDA {torch.version.cuda}, and the driver here is {gpus[0].driver or 'not named'}: "
            "if that is older, have the driver updated, or install a torch for an older CUDA"
        )
    words = f" (torch says: {' '.join(warned[0].split())})" if warned else ""
    return (
        f"--device {name}: nvidia-smi lists {names(gpus)}, but torch {torch.__version__} cannot use it: {why}. Or "
        f"compute without it: --device cpu (compute.device in the configuration).{words}"
    )
