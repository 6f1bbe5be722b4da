"""The order of samples that lie in shards: groups in random order, and samples at random among a few groups at a time.

A group, such as a row group of a Parquet file, is read as a whole. In an order at random over all samples each of them
would be read again for each of its samples. Here a batch is put together from lanes, each with groups of its own, and
in a lane the samples of a few groups are mixed as in a shuffle buffer. Workers that share a batch have neighbouring
places in it, so each of them reads the groups of its own lanes alone; and how many workers there are changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shards.groups import MEMORY, Cell
from .sources import Sample

_LANES = (8, 4, 2, 1)  # the first that divides a batch, and fits in memory
_SHARE = 0.5  # of the memory for groups, for those that are mixed; others are read ahead or looked at beside
_MOST_MIXED = 64  # groups of a lane


@dataclass(frozen=True)
class Groups:
    """Which group each sample is in.

    Args:
        numbers: (N,) int64.
        nbytes: bytes that a group takes in memory, the mean.
    """

    numbers: np.ndarray
    nbytes: float


def find_groups(samples: Sequence[Sample]) -> Groups | None:
    """Return the groups of samples in shards, or None of samples that are each read alone."""
    if not samples or not all(isinstance(sample.image, Cell) for sample in samples):
        return None
    groups = [sample.image.group for sample in samples if isinstance(sample.image, Cell)]
    sizes = {group.number: group.nbytes for group in groups}
    return Groups(np.array([group.number for group in groups], np.int64), sum(sizes.values()) / len(sizes))


def order_by_groups(owners: np.ndarray, groups: Groups, batch_size: int, key: tuple[int, int]) -> np.ndarray:
    """Return the samples of an epoch's crops in an order in which few groups are in use at a time.

    Args:
        owners: (crops,) int64, the sample of each; whole batches.
        groups: groups of the samples.
        batch_size: crops of a batch.
        key: (seed, epoch), two whole numbers from 0; the order is a function of them.
    """
    lanes, mixed = plan_lanes(groups.nbytes, batch_size)
    rng = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
    of_crop = groups.numbers[owners]
    ranks = rng.permutation(int(groups.numbers.max()) + 1)[of_crop]
    by_rank = np.argsort(ranks, kind="stable")
    by_lane = by_rank.reshape(lanes, -1)
    rank = ranks[by_lane]
    nth = np.cumsum(np.diff(rank, axis=1, prepend=rank[:, :1]) != 0, axis=1)  # of the groups in a lane
    within = np.argsort(nth // mixed + rng.random(rank.shape), axis=1)
    by_lane = np.take_along_axis(by_lane, within, 1)
    batches = by_lane.reshape(lanes, -1, batch_size // lanes).transpose(1, 0, 2)
    return owners[batches.reshape(-1)]


def plan_lanes(nbytes: float, batch_size: int) -> tuple[int, int]:
    """Return (lanes of a batch, groups that are mixed in each), so that all groups in use fit in memory."""
    room = max(1.0, _SHARE * MEMORY / max(1.0, nbytes))
    lanes = next(lanes for lanes in _LANES if batch_size % lanes == 0 and (lanes <= room or lanes == 1))
    return lanes, int(np.clip(room // lanes, 1, _MOST_MIXED))
