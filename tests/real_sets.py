"""The real data sets that some tests read: they lie below the folder that UNETRES_DATA names, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("UNETRES_DATA") or os.devnull)


def real(name: str) -> pytest.MarkDecorator:
    """Skip a test where there is no such set."""
    missing = f"set UNETRES_DATA to a folder that holds the real data set {name}/"
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=missing)
