"""The processor of this machine, as well as it can be known."""

import platform
from functools import cache
from pathlib import Path

INFO = Path("/proc/cpuinfo")


@cache
def description() -> dict[str, str]:
    """What the system says of the first processor, by name; empty where there is no /proc."""
    lines = INFO.read_text().split("\n\n")[0].splitlines() if INFO.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def instructions() -> set[str]:
    """The extensions of its instructions, in Linux's words."""
    found = description()
    return set(found.get("flags", found.get("Features", "")).split())


def has_bf16() -> bool:
    """Whether some of them compute in bf16."""
    return not instructions().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def processor_name() -> str:
    """What it calls itself. That of one cloud's machines is the same with instructions for bf16 and without."""
    name = description().get("model name") or platform.processor() or platform.machine()
    return f"{name} with bf16" if has_bf16() else name
