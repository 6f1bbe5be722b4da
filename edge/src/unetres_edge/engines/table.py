"""Which engine runs a model: by name, or "auto", which measures once and remembers.

Another engine than LiteRT is taken only while it computes the same labels: on the self-test's images and on the first
tile, at least 99.5 % of them equal, and the rest within two output steps of a tie in LiteRT's scores.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EngineError, UnetresError, UsageError
from ..files import write_json
from ..model.card import Card
from ..model.selftest import LEAST_EQUAL, make_images

if TYPE_CHECKING:
    from ..segment.segmenter import Engine
    from .litert import LiteRTEngine

NAMES = ("auto", "litert", "litert-gpu", "litert-npu", "openvino")
MOST_STEPS = 2.0
_FASTER = 0.95  # of LiteRT's time; what is hardly faster is not worth other roundings
_RUNS = 5


@dataclass(frozen=True)
class Agreement:
    """How the labels of an engine compare with LiteRT's.

    Args:
        equal: share of equal labels.
        steps: of the others, how far LiteRT's scores of the two labels lie apart at most, in steps of the output (of
            float scores, 1/255 of their range); None where there are no scores.
    """

    equal: float
    steps: float | None

    @property
    def passes(self) -> bool:
        return self.equal >= LEAST_EQUAL and (self.steps is None or self.steps <= MOST_STEPS + 1e-3)


def compare(reference: np.ndarray, values: np.ndarray, step: float | None) -> Agreement:
    """Compare what two engines gave for one tile.

    Args:
        reference: LiteRT's scores (..., classes) float32, or labels uint8.
        values: the other's.
        step: of a quantized output; None for float.
    """
    if reference.dtype == np.uint8:
        return Agreement(float((reference == values).mean()), None)
    own, other = reference.argmax(-1), values.argmax(-1)
    differ = own != other
    if not differ.any():
        return Agreement(1.0, 0.0)
    if step is None:
        step = float(reference.max() - reference.min()) / 255 or 1.0
    scores = reference[differ]
    places = np.arange(len(scores)), np.atleast_1d(own[differ]), np.atleast_1d(other[differ])
    apart = scores[places[0], places[1]] - scores[places[0], places[2]]
    return Agreement(float(1 - differ.mean()), float(apart.max()) / step)


def open_engine(
    name: str, data: bytes, card: Card, *, num_threads: int | None = None, fallback: bool = False
) -> Engine:
    """Load a verified model file on an engine.

    Args:
        name: one of `NAMES`.
        fallback: load it on LiteRT where the engine cannot run it, instead of raising.

    Raises:
        UsageError: unknown name.
        EngineError: the engine is not installed, or cannot run the file.
        ModelError: no engine can: the file is not what its card says.
    """
    if name not in NAMES:
        raise UsageError("the engine is unknown", expected=" or ".join(NAMES), found=repr(name))
    from .litert import LiteRTEngine

    litert = LiteRTEngine(data, card, num_threads=num_threads)
    if name == "litert":
        return litert
    if name == "auto":
        return _open_auto(litert, data, card, num_threads)
    try:
        return _open_other(name, litert, data, num_threads)
    except EngineError:
        if not fallback:
            raise
        return litert


def _open_other(name: str, litert: LiteRTEngine, data: bytes, num_threads: int | None) -> Any:
    if name == "openvino":
        from .openvino import OpenVINOEngine

        return OpenVINOEngine(data, litert.ends, num_threads=num_threads)
    from .litert import CompiledEngine

    return CompiledEngine(data, litert.ends, name.removeprefix("litert-"))


def _open_auto(litert: LiteRTEngine, data: bytes, card: Card, num_threads: int | None) -> Engine:
    if importlib.util.find_spec("openvino") is None:
        return litert
    key = _key(data, num_threads)
    found = _remembered(key)
    try:
        if found is not None and found["engine"] == "litert":
            return litert
        other = _open_other("openvino", litert, data, num_threads)
    except EngineError as error:
        _remember(key, {"engine": "litert", "why": str(error)})
        return litert
    if found is None:
        found = measure(litert, other, card)
        _remember(key, found)
    return CheckedEngine(litert, other, found["equal"]) if found["engine"] == other.name else litert


def measure(litert: LiteRTEngine, other: Any, card: Card) -> dict[str, Any]:
    """Return which of two engines to take: "engine", with "equal", "steps", "ms" and "litert_ms" (medians)."""
    images = make_images(card)
    found = [compare(litert.run(image), other.run(image), litert.ends.step) for image in images]
    times: dict[str, list[float]] = {"litert": [], "other": []}
    for _ in range(_RUNS):
        for name, engine in (("litert", litert), ("other", other)):
            start = time.perf_counter()
            engine.run_labels(images[0])
            times[name].append(1e3 * (time.perf_counter() - start))
    litert_ms, ms = (float(np.median(times[name])) for name in ("litert", "other"))
    takes = all(one.passes for one in found) and ms < _FASTER * litert_ms
    steps = [one.steps for one in found if one.steps is not None]
    return {
        "engine": other.name if takes else "litert",
        "equal": min(one.equal for one in found),
        "steps": max(steps) if steps else None,
        "ms": round(ms, 3),
        "litert_ms": round(litert_ms, 3),
    }


class CheckedEngine:
    """An engine beside LiteRT, until the first tile has shown that it computes the same labels; else LiteRT goes on.

    Args:
        litert: the reference.
        other: the faster one.
        equal: share of labels that were equal on the self-test.
    """

    def __init__(self, litert: LiteRTEngine, other: Any, equal: float) -> None:
        self._lock = threading.Lock()
        self._litert: LiteRTEngine | None = litert
        self._engine: Any = other
        self.agreement: float | None = equal

    @property
    def name(self) -> str:
        return str(self._engine.name)

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores or labels, as `LiteRTEngine.run`."""
        self._check(tile)
        values: np.ndarray = self._engine.run(tile)
        return values

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return labels, as `LiteRTEngine.run_labels`."""
        self._check(tile)
        labels: np.ndarray = self._engine.run_labels(tile)
        return labels

    def _check(self, tile: np.ndarray) -> None:
        if self._litert is None:
            return
        with self._lock:
            if self._litert is None or self.agreement is None:
                return
            litert, other = self._litert, self._engine
            found = compare(litert.run(tile), other.run(tile), litert.ends.step)
            if found.passes:
                self.agreement = min(self.agreement, found.equal)
                litert.close()
            else:
                self._engine, self.agreement = litert, None
                other.close()
            self._litert = None

    def close(self) -> None:
        """Free both."""
        litert, self._litert = self._litert, None
        self._engine.close()
        if litert is not None:
            litert.close()


def cache_file() -> Path:
    """Return where the choices of "auto" are remembered; removing it makes it measure again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "unetres-edge" / "engines.json"


_chosen: dict[str, dict[str, Any]] = {}


def _remembered(key: str) -> dict[str, Any] | None:
    if key in _chosen:
        return _chosen[key]
    try:
        found = json.loads(cache_file().read_bytes())[key]
        sound = found["engine"] == "litert" or (found["engine"] == "openvino" and LEAST_EQUAL <= found["equal"] <= 1)
        return dict(found) if sound else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # absent, damaged, or of another version
        return None


def _remember(key: str, found: dict[str, Any]) -> None:
    _chosen[key] = found
    try:
        known = json.loads(cache_file().read_bytes())
    except (OSError, ValueError, RecursionError):
        known = {}
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(), {**(known if isinstance(known, dict) else {}), key: found})
    except (OSError, UnetresError):
        return  # a home that cannot be written to: this process remembers, the next one measures again


def _key(data: bytes, num_threads: int | None) -> str:
    """Return what a choice depends on: the file, the machine, the threads and the engines' versions."""
    from importlib.metadata import PackageNotFoundError, version

    from .litert import available_cores

    versions = []
    for package in ("ai-edge-litert", "openvino"):
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
