"""Estimates the latency of a graph on a device: the sum over its operations, each told by those that were timed there.

An operation's time is first told by its work: so much a multiply-add, so much an element that is moved, so much by
itself, fitted for each kind and type. What its nearest neighbours among those timed took more or less than that, as
a ratio, is then put upon it; so one that was timed itself gets its own time.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ModelError
from .graph import Op, read_ops
from .profile import Cost, Profile

_NEIGHBOURS = 5
_FEWEST = 4  # operations of a kind, below which it is not fitted


@dataclass(frozen=True)
class Latency:
    """What a network takes.

    Args:
        ms: milliseconds of one call.
        by_kind: ms of each kind of operation, the largest first.
    """

    ms: float
    by_kind: dict[str, float] = field(default_factory=dict)


def predict_latency(graph: bytes | Sequence[Op], profile: Profile) -> Latency:
    """Foretell how long one call of a network takes on a device.

    Args:
        graph: bytes of a `.tflite`, or its operations.
        profile: profile of the device.

    Raises:
        ModelError: the profile knows no operations of a kind and type that the graph has; or LiteRT refuses the file.
    """
    ops = read_ops(graph) if isinstance(graph, bytes) else graph
    models = _models(profile.costs)
    missing = sorted({f"{op.kind} of {op.dtype}" for op in ops if (op.kind, op.dtype) not in models})
    if missing:
        raise ModelError(
            "the profile does not tell what an operation of the network takes",
            found=", ".join(missing),
            fix="make the profile again with this version: unetres-edge profile --out device.json",
        )
    by_kind: Counter[str] = Counter()
    for op in ops:
        by_kind[op.kind] += models[op.kind, op.dtype].ms(op)  # type: ignore[assignment]
    return Latency(profile.call_ms + sum(by_kind.values()), dict(by_kind.most_common()))


class _Kind:
    """The timed operations of one kind and type, from which the time of another is told."""

    def __init__(self, costs: Sequence[Cost]) -> None:
        self._places = np.array([_place(cost.op) for cost in costs])
        works = np.array([_work(cost.op) for cost in costs])
        times = np.array([cost.ms for cost in costs])
        self._rates = _fit(works, times)
        self._ratios = np.log(times / np.maximum(works @ self._rates, 1e-9))

    def ms(self, op: Op) -> float:
        """Return the time of an operation."""
        distance = np.square(self._places - _place(op)).sum(-1)
        near = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
        if distance[near[0]] < 1e-12:
            near = near[distance[near] < 1e-12]
        weight = 1 / np.maximum(distance[near], 1e-12)
        ratio = float((weight * self._ratios[near]).sum() / weight.sum())
        return float(max(_work(op) @ self._rates, 1e-9) * np.exp(ratio))


@functools.lru_cache(maxsize=8)
def _models(costs: tuple[Cost, ...]) -> dict[tuple[str, str], _Kind]:
    groups: dict[tuple[str, str], list[Cost]] = {}
    for cost in costs:
        groups.setdefault((cost.op.kind, cost.op.dtype), []).append(cost)
    return {key: _Kind(group) for key, group in groups.items()}


def _place(op: Op) -> np.ndarray:
    """Return an operation as a point (5,), in doublings of its sizes, so that those of its like lie near."""
    sizes = (op.pixels, op.channels_in, op.channels_out, op.kernel, op.stride)
    return np.log2(np.maximum(sizes, 1e-6)) * (0.5, 1, 1, 1, 1)


def _work(op: Op) -> np.ndarray:
    return np.array([op.multiply_adds, op.elements, op.weights, 1.0])


def _fit(works: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the ms of a unit of each sort of work, none below 0: least squares of the relative error."""
    rates = np.zeros(works.shape[1])
    used = [n for n in range(works.shape[1]) if works[:, n].any()]
    if len(times) < _FEWEST:
        used = [n for n in used if n in (0, 1)][:1] or used[:1]
    while used:
        rows = works[:, used] / times[:, None]
        scale = np.maximum(rows.max(0), 1e-30)
        solution = np.linalg.lstsq(rows / scale, np.ones(len(times)), rcond=None)[0] / scale
        if (solution >= 0).all():
            rates[used] = solution
            break
        used.pop(int(np.argmin(solution * scale)))
    return rates
