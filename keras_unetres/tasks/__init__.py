"""Segmentation and classification: a row each of how data is read, what is trained, scored, drawn and written."""

from __future__ import annotations

import os
from pathlib import Path

from unetres_edge.files import read_bytes
from unetres_edge.model.card import read_card

from ..choices.tasks import SEGMENT
from ..runs import RunFolder
from .classify import Classify
from .foreign import ForeignFile
from .segment import Segment
from .task import Loaded, Model, Task

TASKS: dict[str, Task] = {task.name: task for task in (Segment(), Classify())}


def task_of(model: Model) -> Task:
    """Return the task of a run folder, a `.tflite`, or what `open_own` has loaded of a model of your own.

    Raises:
        ModelError: it cannot be read.
    """
    if isinstance(model, (Loaded, ForeignFile)):
        return TASKS[model.card.task]
    if RunFolder.is_run(model):
        return TASKS[RunFolder(model).read_info().task]
    if Path(model).suffix != ".tflite":
        return TASKS[SEGMENT.name]
    return TASKS[read_card(read_bytes(model, "model file"), file=os.fspath(model)).task]
