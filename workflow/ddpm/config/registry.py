"""The data sets and published weights that are known by name: registry.yaml, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ddpm.config.errors import UserError
from ddpm.config.reading import parse_yaml
from ddpm.config.sources import Checkpoint, DataSet, Reader

T = TypeVar("T")
PATH = Path(__file__).with_name("registry.yaml")
REGISTRY = parse_yaml(PATH.read_text(), PATH)
NETWORK_32, NETWORK_256 = (REGISTRY["networks"][size] for size in (32, 256))
DATASETS = {name: DataSet.model_validate({"name": name, **entry}) for name, entry in REGISTRY["data_sets"].items()}
PUBLISHED = {name: Checkpoint.model_validate({"name": name, **entry}) for name, entry in REGISTRY["weights"].items()}

# A folder of images, of which nothing is known but `root` and `image_size`.
PLAIN = {
    "source": "a folder of images",
    "licence": "not stated",
    "citation": "none",
    "channels": 3,
    "train": None,
    "test": None,
    "classes": None,
    "flip": False,
    "crop": "centre, to the shorter side",
    "notes": "",
    "reader": Reader.FOLDER,
}
# What is known of the contents, and of the published files, of another copy's images.
NO_CONTENTS: dict[str, Any] = {"contents": {}, "means": {}}
NO_FILES: dict[str, Any] = {**NO_CONTENTS, "files": (), "statistics": {}}


def resolve(name: str, changes: dict[str, Any]) -> DataSet:
    """The data set `name` with the fields in `changes` replaced, or a new one: a folder of images.

    A new one needs `root` and `image_size`; every other field has a plain default.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or cannot stand.
    """
    if name not in DATASETS:
        size = changes.get("image_size")
        known = {**PLAIN, "title": name, "resize": f"{size}x{size}, Lanczos"}
    else:
        known = dict(DATASETS[name])
        if not changes.keys().isdisjoint(("train", "test")):  # other images
            known |= NO_CONTENTS
        if encoding := changes.get("reencoded"):
            title = f"{encoding} copy of {known['title']}"
            known |= {**NO_FILES, "title": title, "notes": "A copy that was encoded anew, with loss."}
    return DataSet.model_validate({**known, **changes, "name": name})


def look_up(known: Mapping[str, T], name: str, what: str) -> T:
    """The data set or the checkpoint of that name, of those `known`.

    Raises:
        UserError: there is none; `what` it should be.
    """
    if name not in known:
        raise UserError(f"{what} {name!r} is unknown. Known: {', '.join(known)}.")
    return known[name]


def default_for(data: str) -> Checkpoint | None:
    """The averaged published weights for that data set, if there are any."""
    return next((each for each in PUBLISHED.values() if each.data == data and each.averaged), None)


def is_authors(checkpoint: dict[str, Any] | None) -> bool:
    """Whether a checkpoint, as a document has it, is the authors' own averaged weights, by its file's checksum."""
    known = {each.weights_file.md5 for each in PUBLISHED.values() if each.averaged} - {None}
    return any(file.get("md5") in known for file in (checkpoint or {}).get("files", ()))
