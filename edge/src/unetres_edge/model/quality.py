"""The mIoU that a mask is expected to have, by trees that saw how pictures that were spoilt came out.

Extremely randomised trees (Geurts 2006) over whole numbers: what a picture is like, how far it is from the training
pictures, and what the network says of its own answer. They were grown on training pictures that were blurred, darkened,
stained and the like, whose true masks are known. All is whole numbers, so that all runtimes get the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

WHOLE = 10_000  # an mIoU of 1
MOST_TREES, MOST_DEPTH = 256, 8
_FARTHEST = 1 << 20  # of what a split compares


@dataclass(frozen=True)
class QualityTrees:
    """Trees of one depth D, each with all its splits and leaves.

    Args:
        inputs: number of whole numbers that are told of a picture.
        splits: (T, 2 (2^D - 1)) of each split, from the top down and from left to right, the place of a number among
            the inputs and a limit: what is above it goes right.
        leaves: (T, 2^D) mIoU in ten-thousandths, from left to right.
        held_out: what is expected of each held-out picture, in ten-thousandths.

    Raises:
        ValueError: lists that do not belong together, or numbers that cannot be meant.
    """

    inputs: int
    splits: tuple[tuple[int, ...], ...]
    leaves: tuple[tuple[int, ...], ...]
    held_out: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.splits) == len(self.leaves) <= MOST_TREES:
            raise ValueError("quality has not as many splits as leaves")
        width = len(self.leaves[0])
        if width not in [2**depth for depth in range(1, MOST_DEPTH + 1)] or any(len(x) != width for x in self.leaves):
            raise ValueError("quality has trees that are no trees of one depth")
        if any(len(tree) != 2 * (width - 1) for tree in self.splits):
            raise ValueError("quality has not one split less than leaves")
        if not all(0 <= place < self.inputs for tree in self.splits for place in tree[::2]):
            raise ValueError("quality has a split of what is not told")
        if not all(abs(limit) < _FARTHEST for tree in self.splits for limit in tree[1::2]):
            raise ValueError("quality has a split that is out of range")
        if not all(0 <= value <= WHOLE for values in (*self.leaves, self.held_out) for value in values):
            raise ValueError("quality has an mIoU that is none")

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        splits = np.array(self.splits, np.int64)
        return splits[:, ::2], splits[:, 1::2], np.array(self.leaves, np.int64)

    def expected(self, values: Sequence[int]) -> int:
        """Return the mIoU, in ten-thousandths, that is expected where (`inputs`,) whole numbers are told."""
        places, limits, leaves = self._arrays
        told, trees = np.asarray(values, np.int64), np.arange(len(leaves))
        node = np.zeros(len(leaves), np.int64)
        while node[0] < places.shape[1]:
            node = 2 * node + 1 + (told[places[trees, node]] > limits[trees, node])
        return int(leaves[trees, node - places.shape[1]].sum()) // len(leaves)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "inputs": self.inputs,
            "splits": [list(tree) for tree in self.splits],
            "leaves": [list(tree) for tree in self.leaves],
            "held_out": list(self.held_out),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityTrees:
        """Read what `to_dict` gives; keys of a later version are left out.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        told = {each.name: values[each.name] for each in fields(cls)}
        if type(told["inputs"]) is not int or not all(isinstance(told[key], list) for key in told if key != "inputs"):
            raise TypeError("quality has what is no list")
        trees = [*told["splits"], *told["leaves"]]
        if not all(isinstance(tree, list) for tree in trees):
            raise TypeError("quality has a tree that is no list")
        if not all(type(value) is int for tree in (*trees, told["held_out"]) for value in tree):
            raise TypeError("quality has what is no whole number")
        return cls(
            told["inputs"],
            tuple(map(tuple, told["splits"])),
            tuple(map(tuple, told["leaves"])),
            tuple(told["held_out"]),
        )
