"""Segmentation and classification: a row each of how data is read, what is trained, scored, drawn and written."""

from __future__ import annotations

import os
from pathlib import Path

from unetres_edge.files import read_bytes
from unetres_edge.model.card import read_card

from ..choices.tasks import SEGMENT
from ..runs import RunFolder
from .classify import Classify
from .segment import Segment
from .task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Segment(), Classify())}


def task_of(model: str | os.PathLike[str]) -> Task:
    """Return the task that a run folder or a `.tflite` names; a `.keras` file is taken for a segmenter.

    Raises:
        ModelError: it cannot be read.
    """
    if RunFolder.is_run(model):
        return TASKS[RunFolder(model).read_info().task]
    if Path(model).suffix != ".tflite":
        return TASKS[SEGMENT.name]
    return TASKS[read_card(read_bytes(model, "model file"), file=os.fspath(model)).task]
