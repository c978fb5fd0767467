"""The JSON documents that stages are handed, read and checked."""

from pathlib import Path
from typing import Any

from ddpm.config.base import models_in, validated
from ddpm.config.errors import UserError
from ddpm.config.experiment import Experiment, Repeat
from ddpm.storage.files import read_json


def read_stage_config(path: Path, *sections: str) -> dict[str, Any]:
    """A stage's JSON document, checked: it must have a name and `sections`.

    Raises:
        UserError: the file is missing, damaged, or another stage's; or a value in it cannot stand.
    """
    document = read_json(path)
    missing = [key for key in ("name", *sections) if not isinstance(document, dict) or key not in document]
    if missing:
        raise UserError(f"{path}: has no {', '.join(missing)}: not the document of this stage. Give it the right file.")
    for section in sections:
        checked(path, section, document)
    return document


def checked(path: Path, section: str, document: dict[str, Any]) -> Any:
    """A section of the document in `path`, as its model."""
    (model,) = models_in(Experiment.model_fields[section].annotation)
    return validated(model, document[section], f"{path}: {section}")


def read_section(path: Path, section: str) -> Any:
    """The one section that most stages' documents hold, as its model."""
    return checked(path, section, read_stage_config(path, section))


def read_repeat(path: Path) -> Repeat | None:
    """What the document of an evaluation says of a repeat; None where the experiment is none."""
    return read_section(path, "repeat") if "repeat" in read_stage_config(path, "evaluation") else None
