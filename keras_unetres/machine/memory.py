"""Memory that is free, and is given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import sys


def give_back() -> None:
    """Give the system back what the C library keeps of freed memory, where that is glibc; else do nothing.

    It keeps up to a large image or two for each thread that decoded one, since blocks below 32 MB are not mapped alone.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


def free_bytes() -> int | None:
    """Return how many bytes a process may take without others giving up theirs; None where that is not said."""
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
