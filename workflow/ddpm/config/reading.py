"""YAML as its writer means it: no key stands twice, and what `--config` says has its types."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ddpm.config.base import ConfigError


class UniqueKeyLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Of a key that stands twice, YAML's own loader keeps the last value, and loses the other without a word."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(
                    f"the key `{name}` stands twice, in lines {lines[name]} and {line}, and one of the two would be "
                    "lost. Keep one, with what both say."
                )
            lines[name] = line
        return node


def parse_yaml(text: str, where: Path | str) -> Any:
    """What a YAML document holds.

    Raises:
        ConfigError: it is not valid, or a key stands twice in the same mapping.
    """
    try:
        return yaml.load(text, UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error


def merge(base: Any, changes: Any) -> Any:
    """`base` with the keys of `changes` replaced, level by level."""
    if isinstance(base, dict) and isinstance(changes, dict):
        return {**base, **{key: merge(base.get(key), value) for key, value in changes.items()}}
    return changes


def read_snakemakes_config(
    document: dict[str, Any], files: Iterable[Path | str], arguments: Iterable[str] | None
) -> dict[str, Any]:
    """Snakemake's `config` once more, as it was written.

    Snakemake reads `files` without a look at keys that stand twice, and hands numbers, lists and null inside of the
    braces of --config over as strings.

    Args:
        document: `config`, in which all files and arguments are merged already.
        files: config.yaml, and those of --configfile.
        arguments: of --config, KEY=VALUE each.

    Raises:
        ConfigError: a file or a value is not valid YAML, or a key stands twice.
    """
    for file in map(Path, files):
        if file.suffix != ".json":
            parse_yaml(file.read_text(), file.name)
    for argument in arguments or ():
        key, _, value = argument.partition("=")
        document = merge(document, {key: parse_yaml(value, f"--config {key}")})
    return document
