"""The headers of this project's weights, which are safetensors files: read and replaced without torch.

Such a file begins with the length of a JSON document (8 bytes, little endian) and that document, which says where each
tensor lies behind it; `__metadata__` in it is free to use.
"""

import hashlib
import json
import re
from pathlib import Path

SEAL = "sha256"  # the checksum's key in a header
EMA, RAW = "ema", "raw"  # the running mean of the weights, and the weights themselves
STATE = r"(\d{9,})-([0-9a-f]{16})\.safetensors"  # a state's name: its step, and the beginning of its checksum
SNAPSHOT = r"\d{9,}-(ema|raw)\.safetensors"
# All that ever lies in a training's state, at any depth, but for what killed writers leave.
IN_STATE = rf"{STATE}(\.aside-\d+)?|snapshots/{SNAPSHOT}|lock(-[0-9a-f]{{8}})?"
KEPT_STATES = 2  # of a training: the newest, and the one before it in case the newest is damaged
LONGEST = 2**24  # bytes of a document; the largest network's has some 10,000


def metadata(header: dict) -> dict[str, str]:
    """What `__metadata__` holds of a header: one JSON value, since the format does not order several keys."""
    return {"ddpm": json.dumps(header)}


def document_of(content: bytes) -> tuple[dict, int]:
    """The JSON document at the start of a safetensors file, and where the tensors begin."""
    end = 8 + min(int.from_bytes(content[:8], "little"), LONGEST)
    return json.loads(content[8:end]), end


def header_of(content: bytes) -> dict:
    """The header in the first bytes of a file.

    Raises:
        ValueError, KeyError, TypeError: there is none.
    """
    return json.loads(document_of(content)[0]["__metadata__"]["ddpm"])


def read_header(path: Path) -> dict | None:
    """The header of a weights file of this project; None of any other file."""
    with open(path, "rb") as file:
        try:
            return header_of(file.read(8 + LONGEST))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def with_header(content: bytes, header: dict) -> bytes:
    """The same tensors behind another header, which has a checksum of all of it besides."""
    document, end = document_of(content)
    tensors = memoryview(content)[end:]
    sealed = {**header, SEAL: seal_of(document, header, tensors)}
    text = json.dumps({**document, "__metadata__": metadata(sealed)}).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return b"".join((len(text).to_bytes(8, "little"), text, tensors))


def seal_of(document: dict, header: dict, tensors: memoryview) -> str:
    """The checksum of a file with this header, which need not have it yet."""
    bare = {key: value for key, value in header.items() if key != SEAL}
    text = json.dumps({**document, "__metadata__": metadata(bare)}, sort_keys=True)
    return hashlib.sha256(text.encode() + tensors).hexdigest()


def check_seal(content: bytes) -> None:
    """Raise ValueError if a file is not as it was written. What earlier versions wrote has no checksum."""
    header, (document, end) = header_of(content), document_of(content)
    if SEAL in header and header[SEAL] != seal_of(document, header, memoryview(content)[end:]):
        raise ValueError("its checksum is not the one in its header")


def saved_states(folder: Path) -> list[Path]:
    """The saved states of `folder`, oldest first."""
    return sorted((path for path in folder.glob("*.safetensors") if re.fullmatch(STATE, path.name)), key=step_of)


def step_of(state: Path) -> tuple[int, str]:
    """The step of a saved state, and what tells it from another one of the same step."""
    step, _, rest = state.name.partition("-")
    return int(step), rest


def snapshot_file(folder: Path, step: int, kind: str = EMA) -> Path:
    """Where a training keeps the weights as they were after `step` updates."""
    return folder / f"{step:09d}-{kind}.safetensors"
