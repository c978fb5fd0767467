"""What all checked documents share: unknown keys are errors, and errors say what is wrong in words."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from ddpm.config.errors import UserError

# Keys of an address whose values let somebody in. Documents hold addresses and are passed on, so these may not.
SECRET = re.compile(r"(?i)token|secret|passw|signature|credential|api.?key|^(sig|key|auth|authorization|pwd)$")


class FrozenModel(BaseModel):
    """Unknown keys are errors, and values do not change after the check. Errors of pydantic do not repeat values.

    Numbers are finite: JSON, which documents are written in, has no others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


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


def is_elsewhere(address: str) -> str:
    """An address that one downloads from; raises ValueError for a file of this machine."""
    if urlsplit(address).scheme == "file":
        raise ValueError(f"{address}: a file of this machine is used in place: `root` names the folder that holds it")
    return address


def expand_folder(folder: Any) -> Any:
    """A folder's name with `~` and variables, as in `$HOME`, filled in; one that is not set stays as it is.

    What is in front of it in an address, `file://`, is left out.
    """
    if not isinstance(folder, str):
        return folder
    return os.path.expanduser(os.path.expandvars(folder.removeprefix("file://")))


def short_hash(document: Any) -> str:
    """16 digits that name a document, which JSON can hold, by its content."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def matches(pattern: str, words: str) -> AfterValidator:
    """A validator: a value that does not match is told in words what is allowed."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


Address = Annotated[str, AfterValidator(without_secrets), AfterValidator(is_elsewhere)]
Folder = Annotated[Path, BeforeValidator(expand_folder)]
Name = Annotated[
    str, matches(r"[a-z0-9]+([.-][a-z0-9.]+)*", "lower-case letters, digits and hyphens, as in my-flowers64")
]
FileName = Annotated[
    str, matches(r"\w[\w.-]*", "letters, digits, underscores, dots and hyphens, and begin with no dot or hyphen")
]
Md5 = Annotated[str, matches("[0-9a-f]{32}", "an md5: 32 digits 0-9, a-f")]
Sha256 = Annotated[str, matches("[0-9a-f]{64}", "a sha256: 64 digits 0-9, a-f")]


def is_insecure(address: str) -> bool:
    """Whether anybody on the way may change what comes from there: plain HTTP, unless it stays on this machine."""
    parts = urlsplit(address)
    return parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def without_credentials(address: str) -> str:
    """The address to record for a download: without user, password and query, which may let somebody in."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class ConfigError(UserError):
    """A wrong key, with its path, its value and what is allowed."""


def validated(model: type[BaseModel], document: dict[str, Any], where: str) -> Any:
    """`document` as `model`, or a ConfigError with one line per wrong key."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise explain(error, model, where) from None


def explain(error: ValidationError, model: type[BaseModel], where: str) -> ConfigError:
    """One line per wrong key: its path, its value and what is allowed."""
    separator = "." if "experiments." in where or "sources." in where else ": "
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        hidden = isinstance(problem["input"], dict | BaseModel) or holds_secrets(repr(problem["input"]))
        value = "" if hidden else f" {problem['input']!r}:"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = f"unknown key. Allowed: {', '.join(allowed_keys(model, problem['loc']))}"
        lines += [f"{where}{separator if path else ''}{path}:{value} {each}" for each in what.splitlines()]
    return ConfigError("\n".join(lines))


def allowed_keys(model: type[BaseModel], location: tuple) -> list[str]:
    """The keys of the section of `model` that holds the key at `location`."""
    found = [model]
    for part in location[:-1]:  # a key of a model, or else an index, a key of a mapping, or the name of one of several
        fields = [one.model_fields[part] for one in found if part in one.model_fields]
        found = [each for field in fields for each in models_in(field.annotation)] or found
        found = [one for one in found if one.__name__ == part] or found
    return list(dict.fromkeys(key for one in found for key in one.model_fields))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names, as `X | None`, `tuple[X, ...]` and `dict[str, X]` do."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
