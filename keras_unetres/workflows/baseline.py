"""The baseline of a data set: the score of always answering one class, which a network has to beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..data.records import count_ids
from ..tasks import TASKS
from ..training.training_data import TrainingData


def say_baseline(data: TrainingData, say: Callable[[str], None]) -> None:
    """Say what always answering one class scores on the validation part, as a network has to be better than that."""
    names = data.info.classes.names
    counts = np.zeros(len(names), np.int64)
    for index in range(len(data.records["val"])):  # one by one, as each may be large
        counts += count_ids(data.records["val"][index].mask, len(names))
    baseline = TASKS[data.info.task].baseline(counts, names)
    if baseline is not None:
        say(f"baseline  {baseline}")
