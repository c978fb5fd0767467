"""What every document of this project has in common."""

import re
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

# Names of what is in an address to let somebody in: documents hold addresses, and are passed on.
SECRET = re.compile(r"(?i)token|secret|passw|signature|credential|api.?key|^(sig|key|auth|authorization|pwd)$")


class Strict(BaseModel):
    """Unknown keys are errors, and values do not change after the check. Errors name them without their values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def without_secrets(address: str) -> str:
    """An address that may stand in a document. Raises ValueError for any other, without repeating its secret."""
    parts = urlsplit(address)
    if re.search(r"[\x00-\x1f\x7f]", address):
        raise ValueError("must have no control characters")
    named = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True) if SECRET.search(key)]
    if "@" in parts.netloc or named:
        what = "a user's name or a password" if "@" in parts.netloc else f"{named[0]}=..."
        raise ValueError(
            f"holds {what}, and addresses get into files that are passed on. Put it into the file ~/.netrc, or one "
            f"that the environment variable NETRC names: machine {parts.hostname} login NAME password TOKEN"
        )
    return address


def holds_secrets(text: str) -> bool:
    """Whether one of the addresses in `text` may not be repeated."""
    for address in re.findall(r"[a-z]+://[^\s'\"]+", text):
        try:
            without_secrets(address)
        except ValueError:
            return True
    return False


Address = Annotated[str, AfterValidator(without_secrets)]


def is_open(address: str) -> bool:
    """Whether anybody on the way may change what comes from there: plain HTTP, but for that of this machine."""
    parts = urlsplit(address)
    return parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def bare(address: str) -> str:
    """An address as it is recorded: where the answer came from, without what let somebody in."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
