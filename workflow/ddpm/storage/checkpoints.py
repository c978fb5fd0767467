"""Saved states and weights: whole files that carry their own checksum and the fingerprint of their config."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.files import atomic_write, set_aside
from ddpm.storage.weights_file import (
    KEPT_STATES,
    check_seal,
    header_of,
    metadata,
    read_header,
    saved_states,
    step_of,
    with_header,
)


@dataclass
class State:
    """All that a training needs to go on: tensors by name, the next step, and how it ended if it did."""

    tensors: dict[str, Tensor]
    step: int
    fingerprint: str
    data: str
    outcome: dict | None = None


HEADER = ("step", "fingerprint", "data", "outcome")  # what a saved state's has


def pack(tensors: dict[str, Tensor], header: dict) -> bytes:
    """safetensors bytes; the header is one JSON value, since the format does not order several keys."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(contiguous, metadata=metadata(header))


def unpack(data: bytes, path: Path, *keys: str) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the header of the bytes that `path` holds, which must have `keys`."""
    try:
        check_seal(data)
        tensors, header = load(data), header_of(data)
        if missing := [key for key in keys if key not in header]:
            raise ValueError(f"it does not say its {', '.join(missing)}")
        return tensors, header
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(path, f"not a whole file of this project's weights ({error})") from error


def save_state(folder: Path, state: State) -> None:
    """Write `state`, and keep it and the one before it; of later steps, which it does not follow, none is removed."""
    content = pack(state.tensors, {key: getattr(state, key) for key in HEADER})
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = folder / f"{state.step:09d}-{digest}.safetensors"
    with atomic_write(path) as part:
        part.write_bytes(content)
    before = [other for other in saved_states(folder) if other != path and step_of(other)[0] <= state.step]
    for old in before[: 1 - KEPT_STATES]:
        old.unlink(missing_ok=True)


def folder_for_data(folder: Path, data: str) -> Path:
    """`folder`; or one in it, where its states are of other images, as of a folder of a user's before one was added."""
    newest = next(filter(None, map(read_header, reversed(saved_states(folder)))), {})
    return folder if newest.get("data", data) == data else folder / f"data-{data[:16]}"


def load_state(
    folder: Path, fingerprint: str, data: str, log: Callable[[str], None] = print, is_main: bool = True
) -> State | None:
    """The newest undamaged state of `folder`, or None where there is none. Damaged ones are set aside.

    Args:
        is_main: whether this process does that, of several that read the state; it is the one that holds the lock.

    Raises:
        UserError: the state belongs to another configuration or other data.
    """
    damaged: list[Path] = []

    def say_what_is_lost(good: int) -> None:
        for path in damaged if is_main else ():
            log(
                f"{path} is damaged (its checksum is not the one in its name): going back from step {step_of(path)[0]} "
                f"to {good}. It is kept as {set_aside(path).name}, which nothing needs."
            )

    for path in reversed(saved_states(folder)):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # it was damaged, and the first process has set it aside
            continue
        if hashlib.sha256(content).hexdigest()[:16] != path.stem.rpartition("-")[2]:
            damaged.append(path)
            continue
        tensors, header = unpack(content, path, *HEADER)
        for key, mine in (("fingerprint", fingerprint), ("data", data)):
            if header[key] != mine:
                raise UserError(
                    f"{path}: this state was trained with another configuration ({key} {header[key]}, "
                    f"yours is {mine}). Give another --state folder, or delete {folder} to start again."
                )
        say_what_is_lost(header["step"])
        return State(tensors, *(header[key] for key in HEADER))
    say_what_is_lost(0)
    return None


def save_weights(path: Path, weights: dict[str, Tensor], header: dict) -> None:
    """Write a network's weights with all that is needed to use and to judge them, and a checksum of it."""
    with atomic_write(path) as part:
        part.write_bytes(with_header(pack(weights, header), header))
