"""What every document of this project has in common."""

import re
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

# Names of what is in an address to let somebody in: documents hold addresses, and are passed on.
SECRET = re.compile(r"(?i)token|secret|passw|signature|credential|api.?key|^(sig|key|auth|authorization|pwd)$")


class Strict(BaseModel):
    """Unknown keys are errors, and values do not change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def without_secrets(address: str) -> str:
    """An address that may stand in a document. Raises ValueError for any other, without repeating its secret."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address with http:// or https:// and a host")
    if re.search(r"[\s\x00-\x1f\x7f]", address):
        raise ValueError("must have no spaces and no control characters")
    named = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True) if SECRET.search(key)]
    if "@" in parts.netloc or named:
        what = "a user's name or a password" if "@" in parts.netloc else f"{named[0]}=..."
        raise ValueError(
            f"holds {what}, and addresses get into files that are passed on. Put it into the file ~/.netrc, or one "
            f"that the environment variable NETRC names: machine {parts.hostname} login NAME password TOKEN"
        )
    return address


Address = Annotated[str, AfterValidator(without_secrets)]
