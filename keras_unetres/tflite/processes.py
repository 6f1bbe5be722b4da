"""Python in a process of its own, with an environment that finds both packages and nothing of the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import unetres_edge


def run_python(arguments: Sequence[str], *, seconds: float | None = None) -> subprocess.CompletedProcess[str] | None:
    """Run `python -P ARGUMENTS` (no modules of the working folder) and return what became of it.

    Args:
        seconds: after which it is killed, or None.

    Returns:
        The process that ended, with its output as text; None if it took too long.
    """
    try:
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None


def why(done: subprocess.CompletedProcess[str] | None) -> str:
    """Return the line of a failed process's output that tells most."""
    if done is None:
        return "it took too long"
    if done.returncode < 0:
        return f"it died of signal {-done.returncode}"
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "Didn't find op" in line]
    return (telling[:1] or lines[-1:] or ["it gave no reason"])[0][:300]


def _environment() -> dict[str, str]:
    roots = [str(Path(__file__).resolve().parents[2]), str(Path(unetres_edge.__file__).resolve().parents[1])]
    paths = [*roots, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": os.pathsep.join(paths)}
