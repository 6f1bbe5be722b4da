"""Memory that is free, and is given back to the system."""

from __future__ import annotations

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
