"""What a task asks of networks, files and data sets, as a table. What it does with them is in `keras_unetres.tasks`."""

from __future__ import annotations

from dataclasses import dataclass

from unetres_edge.images.preprocessing import FITS


@dataclass(frozen=True)
class TaskTraits:
    """A row of the table.

    Args:
        name: name in `run.json`, cards and data sets.
        noun: what a network of the task is called.
        per_pixel: whether each pixel has a class; else the image has one.
        fits: how images can become inputs, see `Preprocessing.fit`; the usual way first.
        data: what the network learns from.
        network: a network of the task, as `--network` takes it.
    """

    name: str
    noun: str
    per_pixel: bool
    fits: tuple[str, ...]
    data: str
    network: str


SEGMENT = TaskTraits("segment", "segmenter", True, FITS, "images and masks", "unet")
CLASSIFY = TaskTraits("classify", "classifier", False, FITS[1:], "class folders", "resnet50")
TASK_TRAITS = {traits.name: traits for traits in (SEGMENT, CLASSIFY)}
