"""Every key of a run's documents, and which of them a key of the table of harmless ones covers."""

from collections.abc import Iterator
from typing import Any

from ddpm.evaluation.protocol import HARMLESS

# Parts of made_from in metrics.json that are sections of the stages' documents.
COPIES = ("network", "process", "training", "sampling", "likelihood.likelihood", "evaluation")
# Other keys of it that `deviations` looks at; tests of the protocol change each.
CHECKED_HEADERS = {
    "images", "sampler", "quantisation", "reference.train.images", "reference.test.images",
    *(f"weights.{key}" for key in ("kind", "step", "checkpoint", "snapshot_images", "snapshot_evaluations")),
}  # fmt: skip


def leaves(document: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, holder, key) of each value that is no section; elements of a list of sections share their names."""
    for key, value in document.items():
        path = f"{name}.{key}" if name else key
        sections = value if isinstance(value, list | tuple) else [value]
        if sections and all(isinstance(section, dict) for section in sections):
            for section in sections:
                yield from leaves(section, path)
        else:
            yield path, document, key


def harmless_key(name: str) -> str | None:
    """The key of the table that covers `name`: itself, or a section around it."""
    parts = name.split(".")
    around = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((each for each in around if each in HARMLESS), None)
