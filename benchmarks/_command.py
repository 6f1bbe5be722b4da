"""The command that was given, as it is written beside its figures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def given_command() -> str:
    """Return the command line of this script, with the last part alone of every path below the root."""
    words = (Path(word).name if word.startswith("/") else word for word in sys.argv[1:])
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])
