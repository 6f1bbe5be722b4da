"""Run Python in a subprocess that finds both packages and none of the modules in the user's working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import unetres_edge


def run_python(arguments: Sequence[str], *, seconds: float | None = None) -> subprocess.CompletedProcess[str] | None:
    """Run `python -P ARGUMENTS` (no modules of the working folder) and return the completed process.

    Args:
        seconds: time limit, after which it is killed; None for no limit.

    Returns:
        The completed process with its output as text; None if it took too long.
    """
    try:
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": python_path()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None


def failure_reason(done: subprocess.CompletedProcess[str] | None) -> str:
    """Return the most telling line of what a failed process printed."""
    if done is None:
        return "it took too long"
    if done.returncode < 0:
        return f"it died of signal {-done.returncode}"
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "Didn't find op" in line]
    return (telling[:1] or lines[-1:] or ["it gave no reason"])[0][:300]


def python_path() -> str:
    """Return a PYTHONPATH on which a subprocess finds both packages, installed or not."""
    roots = [str(Path(__file__).resolve().parents[2]), str(Path(unetres_edge.__file__).resolve().parents[1])]
    return os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])])
