"""Where the real data sets are: below the folder that UNETRES_DATA names, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("UNETRES_DATA") or os.devnull)


def left_out(name: str) -> str:
    """Return what a benchmark says of a set that is not there."""
    return f"{name}: left out; set UNETRES_DATA to a folder that holds it"
