"""The engine "auto": OpenVINO where it is installed, faster than LiteRT, and costs nothing; else LiteRT.

It costs nothing where the file's card says so, by its score on held-out images, and it computes here what it computed
there; of cards that do not say, where it computes LiteRT's labels. Speed and labels are measured once for each file and
machine, and the choice is remembered in the user's cache.
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
from ..model.selftest import make_images
from .agreement import Allowed, CheckedEngine, compare_on_selftest
from .engine import Engine
from .litert import LiteRTEngine
from .pool import available_cores

CANDIDATE = "openvino"  # name of the engine, of its module and of its package
_FASTER = 0.95  # of LiteRT's time; what is hardly faster is not worth other roundings
_RUNS = 5
_SECONDS = 3.0  # after which no more are timed


def choose(
    litert: LiteRTEngine, open_candidate: Callable[[], Engine], data: bytes, card: Card, num_threads: int | None
) -> Engine:
    """Return what "auto" runs a file on: LiteRT, or another engine that is checked against it.

    Args:
        litert: the loaded file.
        open_candidate: loads it on the other engine; raises EngineError where that cannot run it.
        data: the file's bytes, verified.
        num_threads: threads of one inference.
    """
    cost = card.engine_cost(CANDIDATE)
    if importlib.util.find_spec(CANDIDATE) is None:
        return _because(litert, f"{CANDIDATE} is not installed")
    if cost is not None and not cost.is_free:
        return _because(litert, f"{CANDIDATE} {cost}")
    key = _key(data, num_threads)
    choice = _remembered(key, _allowed_on_selftest(card).equal)
    if choice is not None and choice["engine"] == "litert":
        return _because(litert, choice["why"])
    try:
        candidate = open_candidate()
    except EngineError as error:
        _remember(key, {"engine": "litert", "why": error.message})
        return _because(litert, error.message)
    if choice is None:
        choice = measure(litert, candidate, card)
        _remember(key, choice)
    if choice["engine"] != candidate.name:
        candidate.close()
        return _because(litert, choice["why"])
    allowed = Allowed() if cost is None else Allowed.like(cost.least_equal)
    return CheckedEngine(litert, candidate, choice["equal"], allowed=allowed, reason=choice["why"])


def _because(litert: LiteRTEngine, reason: str) -> LiteRTEngine:
    litert.reason = reason
    return litert


def measure(litert: LiteRTEngine, other: Engine, card: Card) -> dict[str, Any]:
    """Return which of two engines to take, as JSON values.

    Returns:
        "engine" (its name), "why" (in words), "equal" (least share of equal labels), "steps" (largest distance from a
        tie), and the medians "ms" and "litert_ms".
    """
    compared = compare_on_selftest(litert, other, card)
    equal = min(one.equal for one in compared)
    steps = [one.steps for one in compared if one.steps is not None]
    litert_ms, ms = _times(litert, other, make_images(card, count=1)[0])
    holds = all(map(_allowed_on_selftest(card).holds, compared))
    cost = card.engine_cost(other.name)
    if not holds:
        than = "LiteRT" if cost is None else "where its score was measured"
        far = f", the farthest {max(steps):.0f} steps from a tie" if steps else ""
        why = f"{other.name} computes other labels than {than}: {equal:.2%} are LiteRT's on the self-test{far}"
    elif ms >= _FASTER * litert_ms:
        why = f"{other.name} is not faster here: {ms:.3g} ms a tile, LiteRT {litert_ms:.3g}"
    else:
        what = f"{equal:.2%} of its labels are LiteRT's on the self-test" if cost is None else str(cost)
        why = f"{litert_ms / ms:.1f} times as fast as LiteRT here; {what}"
    return {
        "engine": other.name if holds and ms < _FASTER * litert_ms else "litert",
        "why": why,
        "equal": equal,
        "steps": max(steps) if steps else None,
        "ms": round(ms, 3),
        "litert_ms": round(litert_ms, 3),
    }


def _allowed_on_selftest(card: Card) -> Allowed:
    cost = card.engine_cost(CANDIDATE)
    return Allowed() if cost is None else Allowed.like(cost.selftest_equal)


def _times(one: Engine, other: Engine, image: np.ndarray) -> tuple[float, float]:
    """Return the median milliseconds of a tile of two engines that take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    for _ in range(_RUNS):
        for taken, engine in zip(times, (one, other), strict=True):
            start = time.perf_counter()
            engine.run_labels(image)
            taken.append(1e3 * (time.perf_counter() - start))
        if time.perf_counter() - began > _SECONDS:
            break
    return float(np.median(times[0])), float(np.median(times[1]))


def cache_file() -> Path:
    """Return where the choices of "auto" are remembered; removing it makes it measure again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "unetres-edge" / "engines.json"


_chosen: dict[str, dict[str, Any]] = {}


def _remembered(key: str, least_equal: float) -> dict[str, Any] | None:
    if key in _chosen:
        return _chosen[key]
    try:
        choice = json.loads(cache_file().read_bytes())[key]
        sound = choice["engine"] in ("litert", CANDIDATE) and isinstance(choice["why"], str)
        sound = sound and (choice["engine"] == "litert" or least_equal <= choice["equal"] <= 1)
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
