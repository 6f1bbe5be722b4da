"""The engine "auto": OpenVINO where it is installed, faster than LiteRT, and computes the same labels; else LiteRT.

Both are measured once for each file and machine, and the choice is remembered in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineError, UnetresError
from ..files import write_json
from ..model.card import Card
from ..model.selftest import LEAST_EQUAL, make_images
from .agreement import CheckedEngine, compare
from .engine import Engine
from .litert import LiteRTEngine
from .pool import available_cores

CANDIDATE = "openvino"  # name of the engine, of its module and of its package
_FASTER = 0.95  # of LiteRT's time; what is hardly faster is not worth other roundings
_RUNS = 5


def choose(
    litert: LiteRTEngine, open_candidate: Callable[[], Engine], data: bytes, card: Card, num_threads: int | None
) -> Engine:
    """Return LiteRT, or the other engine beside it.

    Args:
        litert: the loaded file.
        open_candidate: loads it on the other engine; raises EngineError where that cannot run it.
        data: the file's bytes, verified.
        num_threads: threads of one inference.
    """
    if importlib.util.find_spec(CANDIDATE) is None:
        return litert
    key = _key(data, num_threads)
    choice = _remembered(key)
    if choice is not None and choice["engine"] == "litert":
        return litert
    try:
        candidate = open_candidate()
    except EngineError as error:
        _remember(key, {"engine": "litert", "why": str(error)})
        return litert
    if choice is None:
        choice = measure(litert, candidate, card)
        _remember(key, choice)
    return CheckedEngine(litert, candidate, choice["equal"]) if choice["engine"] == candidate.name else litert


def measure(litert: LiteRTEngine, other: Engine, card: Card) -> dict[str, Any]:
    """Return which of two engines to take, as JSON values.

    Returns:
        "engine" (its name), "equal" (least share of equal labels), "steps" (largest distance from a tie), and the
        medians "ms" and "litert_ms".
    """
    images = make_images(card)
    compared = [compare(litert.run(image), other.run(image), litert.codec.step) for image in images]
    times: dict[str, list[float]] = {"litert": [], "other": []}
    for _ in range(_RUNS):
        for name, engine in (("litert", litert), ("other", other)):
            start = time.perf_counter()
            engine.run_labels(images[0])
            times[name].append(1e3 * (time.perf_counter() - start))
    litert_ms, ms = (float(np.median(times[name])) for name in ("litert", "other"))
    takes = all(one.passes for one in compared) and ms < _FASTER * litert_ms
    steps = [one.steps for one in compared if one.steps is not None]
    return {
        "engine": other.name if takes else "litert",
        "equal": min(one.equal for one in compared),
        "steps": max(steps) if steps else None,
        "ms": round(ms, 3),
        "litert_ms": round(litert_ms, 3),
    }


def cache_file() -> Path:
    """Return where the choices of "auto" are remembered; removing it makes it measure again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "unetres-edge" / "engines.json"


_chosen: dict[str, dict[str, Any]] = {}


def _remembered(key: str) -> dict[str, Any] | None:
    if key in _chosen:
        return _chosen[key]
    try:
        choice = json.loads(cache_file().read_bytes())[key]
        sound = choice["engine"] == "litert" or (choice["engine"] == CANDIDATE and LEAST_EQUAL <= choice["equal"] <= 1)
        return dict(choice) if sound else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # absent, damaged, or of another version
        return None


def _remember(key: str, choice: dict[str, Any]) -> None:
    _chosen[key] = choice
    try:
        known = json.loads(cache_file().read_bytes())
    except (OSError, ValueError, RecursionError):
        known = {}
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(), {**(known if isinstance(known, dict) else {}), key: choice})
    except (OSError, UnetresError):
        return  # a home that cannot be written to: this process remembers, the next one measures again


def _key(data: bytes, num_threads: int | None) -> str:
    """Return what a choice depends on: the file, the machine, the threads and the engines' versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = []
    for package in ("ai-edge-litert", CANDIDATE):
        try:
            versions.append(version(package))
        except PackageNotFoundError:
            versions.append("none")
    machine = [platform.node(), platform.machine(), _processor(), num_threads or available_cores(), *versions]
    return f"{hashlib.sha256(data).hexdigest()}/{hashlib.sha256(repr(machine).encode()).hexdigest()[:16]}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("model name", "Model"))), platform.processor())
