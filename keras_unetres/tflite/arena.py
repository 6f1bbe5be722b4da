"""How much memory the tensors of a graph need while it runs: their lifetimes, and a place for each.

The plan is the one that LiteRT and tflite-micro make: the largest tensors first, each at the lowest place where no
tensor lies that lives at the same time (greedy by size; Pisarchyk and Lee 2020, algorithm 3). Kernels may ask for
scratch memory on top, which only a runtime can tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .inspect import Graph

ALIGNMENT = 64  # bytes, as in LiteRT
_BYTES = {"FLOAT64": 8, "INT64": 8, "UINT64": 8, "FLOAT32": 4, "INT32": 4, "UINT32": 4, "FLOAT16": 2, "INT16": 2}


@dataclass(frozen=True)
class Life:
    """A tensor in memory.

    Args:
        tensor: its number.
        size: bytes, aligned.
        first: place of the op that makes it; -1 for an input of the graph.
        last: place of the last op that reads it; the number of ops for an output of the graph.
    """

    tensor: int
    size: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Return whether both are needed at one time."""
        return self.first <= other.last and other.first <= self.last


def lives(graph: Graph) -> list[Life]:
    """Return the tensors that are computed, with the ops between which each is needed."""
    first = dict.fromkeys(graph.inputs, -1)
    last = dict.fromkeys(graph.inputs, -1)
    for index, operator in enumerate(graph.operators):
        for tensor in map(int, operator.outputs):
            first[tensor] = last[tensor] = index
        for tensor in map(int, operator.inputs):
            if tensor in last:
                last[tensor] = index
    last.update(dict.fromkeys(graph.outputs, len(graph.operators)))
    return [Life(tensor, _size(graph, tensor), first[tensor], last[tensor]) for tensor in first]


def arena_bytes(graph: Graph) -> int:
    """Return the bytes of the plan."""
    placed: list[tuple[int, Life]] = []
    for life in sorted(lives(graph), key=lambda life: (-life.size, life.first)):
        at = 0
        for start, other in sorted(((s, o) for s, o in placed if life.meets(o)), key=lambda pair: pair[0]):
            if start - at >= life.size:
                break
            at = max(at, start + other.size)
        placed.append((at, life))
    return max((start + life.size for start, life in placed), default=0)


def _size(graph: Graph, tensor: int) -> int:
    size = math.prod(graph.shape(tensor)) * _BYTES.get(graph.kind(tensor), 1)
    return -(-size // ALIGNMENT) * ALIGNMENT
