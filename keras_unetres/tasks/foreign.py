"""A `.tflite` of another program: what its graph tells, and the card made of that and of what a caller says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unetres_edge import Card, Preprocessing
from unetres_edge.errors import CardMissingError, ModelError, UsageError
from unetres_edge.files import read_bytes
from unetres_edge.model.card import default_colors, read_card

if TYPE_CHECKING:
    from ..tflite.contents import Contents

_AROUND = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "CAST")  # ops after the one that says what scores mean
_IDS = ("INT32", "INT64", "UINT8")


@dataclass(frozen=True)
class ForeignFile:
    """A file without a card, and the card by which it runs."""

    file: str
    card: Card


@dataclass(frozen=True)
class Ends:
    """What the graph of a file takes and gives.

    Args:
        size: (height, width) of the input, px.
        channels: channels of the input.
        classes: number of classes; None where it gives ids.
        task: "segment" or "classify".
        head: "logits" or "argmax".
        activation: activation, as the card calls it; "" of one channel without a sigmoid, which may be anything.
    """

    size: tuple[int, int]
    channels: int
    classes: int | None
    task: str
    head: str
    activation: str


def is_foreign(file: object) -> bool:
    """Whether something is the path of a `.tflite` without a card; of others the errors come when they are opened."""
    if not isinstance(file, (str, os.PathLike)) or Path(file).suffix != ".tflite" or not Path(file).is_file():
        return False
    try:
        read_card(read_bytes(file, "model file"), file=os.fspath(file))
    except CardMissingError:
        return True
    except ModelError:
        return False
    return False


def read_ends(contents: Contents, file: str) -> Ends:
    """Return what the graph of a file takes and gives.

    Raises:
        ModelError: it does not take one image, or gives neither scores nor class ids.
    """
    if len(contents.inputs) != 1 or len(contents.outputs) != 1:
        found = f"{len(contents.inputs)} inputs and {len(contents.outputs)} outputs"
        raise ModelError("the file does not give one answer of one image", file=file, found=found)
    image, answer = contents.inputs[0], contents.outputs[0]
    if len(image.shape) != 4 or image.shape[0] != 1:
        raise ModelError("the file does not take an image", file=file, expected="(1, H, W, C)", found=image.shape)
    size, shape = (image.shape[1], image.shape[2]), answer.shape
    last = next((op.name for op in reversed(contents.ops) if op.name not in _AROUND), "")
    if last == "ARG_MAX" or (answer.kind in _IDS and answer.quantization is None and shape[1:3] == size):
        return Ends(size, image.shape[3], None, "segment", "argmax", "softmax")
    if len(shape) == 2 and shape[1] > 1 or len(shape) == 4 and shape[1:3] == size:
        activation = {"SOFTMAX": "none", "LOGISTIC": "none"}.get(last, "softmax" if shape[-1] > 1 else "")
        return Ends(
            size, image.shape[3], max(2, shape[-1]), "segment" if len(shape) == 4 else "classify", "logits", activation
        )
    raise ModelError(
        "the file gives no score for every class at every pixel",
        file=file,
        expected=f"(1, {size[0]}, {size[1]}, classes), or (1, classes) of a classifier",
        found=shape,
    )


def describe_file(
    file: str | os.PathLike[str], preprocessing: Preprocessing | None, classes: Sequence[str] | None
) -> ForeignFile:
    """Return a file without a card, with the card that its graph and a caller make.

    Raises:
        CardMissingError: no preprocessing given; the error names the options with what the graph says.
        ModelError, UsageError: its graph is not what is said.
    """
    name, ends = os.fspath(file), _ends_of(file)
    if preprocessing is None:
        raise CardMissingError(
            "the .tflite has no card, which says how images are fed to it",
            file=file,
            found=f"an input of {ends.size[0]} x {ends.size[1]} x {ends.channels}",
            fix="pass --size, --channels, --value-range and --classes; in Python preprocessing=ku.Preprocessing(...)",
        )
    input_shape = (*preprocessing.size, preprocessing.channels)
    if input_shape != (*ends.size, ends.channels):
        raise UsageError(
            "the model takes another input", file=file, expected=(*ends.size, ends.channels), found=input_shape
        )
    if ends.activation == "":
        raise ModelError(
            "the file gives one channel, and no sigmoid at its end says what it means",
            file=file,
            fix='open it in Python by Segmenter(file, card=Card(..., activation="sigmoid")) if it is a logit',
        )
    if ends.classes is None and not classes:
        raise UsageError(
            "the file gives class ids, of which it does not say how many there are",
            file=file,
            fix="pass the class names",
        )
    names = tuple(classes or map(str, range(ends.classes or 0)))
    if ends.classes == 2 and len(names) == 1:
        names = ("background", *names)
    if ends.classes not in (None, len(names)):
        raise UsageError(
            "number of class names differs from the model", file=file, expected=ends.classes, found=len(names)
        )
    card = Card(names, default_colors(len(names)), preprocessing, ends.task, ends.head, activation=ends.activation)
    return ForeignFile(name, card)


def options_of_file(file: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return the options of the command line that a file needs, as far as its graph tells them.

    Raises:
        ModelError: its graph is that of no segmenter or classifier.
    """
    ends = _ends_of(file)
    sides = ends.size[:1] if ends.size[0] == ends.size[1] else ends.size
    options = {"--size": [*map(str, sides)], "--channels": [str(ends.channels)], "--value-range": ["LOW", "HIGH"]}
    return options | ({"--fit": ["resize"]} if ends.task == "classify" else {})


def stand_in(ends: Ends) -> Card:
    """Return a card of what the graph alone tells, by which no image can be fed."""
    names = tuple(map(str, range(ends.classes or 1)))
    pre = Preprocessing(channels=ends.channels, size=ends.size)
    return Card(names, default_colors(len(names)), pre, ends.task, ends.head, activation=ends.activation or "sigmoid")


def _ends_of(file: str | os.PathLike[str]) -> Ends:
    from ..tflite.contents import read_contents

    return read_ends(read_contents(read_bytes(file, "model file")), os.fspath(file))
