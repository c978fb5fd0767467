"""Name and instructions of this machine's processor, as far as the system says them."""

import platform
from functools import cache
from pathlib import Path

INFO = Path("/proc/cpuinfo")


@cache
def description() -> dict[str, str]:
    """The fields of /proc/cpuinfo for the first processor; empty where there is none."""
    lines = INFO.read_text().split("\n\n")[0].splitlines() if INFO.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def instructions() -> set[str]:
    """Its instruction set extensions, as Linux names them."""
    found = description()
    return set(found.get("flags", found.get("Features", "")).split())


def has_bf16() -> bool:
    """Whether it has instructions for bf16."""
    return not instructions().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def processor_name() -> str:
    """Its model name, with "with bf16" where that is so: the machines of one cloud have the same name either way."""
    name = description().get("model name") or platform.processor() or platform.machine()
    return f"{name} with bf16" if has_bf16() else name
