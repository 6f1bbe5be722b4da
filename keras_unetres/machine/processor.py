"""What the processor at hand can do, where the system tells."""

from __future__ import annotations

import functools
import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")  # of Linux


@functools.cache
def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the processor's instruction sets by Linux's names, such as "avx2"; none where the system does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86, Arm
            return frozenset(value.split())
    return frozenset()


def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 numbers itself, which is twice as fast as float32 or more."""
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
