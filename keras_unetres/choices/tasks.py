"""What a task asks of networks, files and data sets, as a table. What it does with them is in `keras_unetres.tasks`."""

from __future__ import annotations

from dataclasses import dataclass

from unetres_edge.images.preprocessing import FITS


@dataclass(frozen=True)
class TaskTraits:
    """The properties of a task that networks, files and data sets ask about.

    Args:
        name: name in `run.json`, cards and data sets.
        noun: word for a network of the task.
        per_pixel: whether each pixel has a class; else the image has one.
        fits: ways in which images become inputs, see `Preprocessing.fit`; the usual way first.
        data: words for the data that the network learns from.
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
