"""Heads: in what form one checkpoint takes its image and gives its answer. Not how it is quantized; see `recipes`.

What the runtime has to know of a head is whether the answer is scores or class ids, which the card says. The rest it
reads off the dtypes of the file's two tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import Preprocessing

from .recipes import Recipe
from .tasks import TASK_TRAITS


@dataclass(frozen=True)
class Head:
    """The form in which a file takes its image and gives its answer.

    Args:
        name: the head's name.
        image: dtype of the input where activations are int8. Elsewhere it is float32.
        answer: dtype of the output where activations are int8. Elsewhere it is float32, or uint8 for class ids.
        about: description, one line for people.
        argmax: whether the answer is class ids (1, h, w), made in the graph, instead of scores (1, h, w, classes).
        needs_int8: whether it has no meaning where activations are float.
        raw: whether the input is pixels 0..255, so that what normalises them is part of the graph.
    """

    name: str
    image: str
    answer: str
    about: str
    argmax: bool = False
    needs_int8: bool = False
    raw: bool = False

    @property
    def on_card(self) -> str:
        """What the card calls it: "argmax" or "logits"."""
        return "argmax" if self.argmax else "logits"


HEADS = {
    head.name: head
    for head in (
        Head("logits", "uint8", "uint8", "scores; blending, flips and smooth edges stay possible"),
        Head("logits_int8", "int8", "int8", "scores, int8 at both ends: microcontrollers, Ethos-U", needs_int8=True),
        Head("logits_float", "uint8", "float32", "scores for programs that know no scale and zero point"),
        Head("argmax", "uint8", "uint8", "class ids made in the graph: fast, and nothing else", argmax=True),
        Head("mediapipe", "uint8", "float32", "scores for MediaPipe's Image Segmenter, with its metadata", raw=True),
    )
}


def find_head(name: str) -> Head:
    """Return a head by name.

    Raises:
        UsageError: no such head.
    """
    if name not in HEADS:
        raise UsageError("the head is unknown", expected=" or ".join(HEADS), found=name)
    return HEADS[name]


def check_head(head: Head, recipe: Recipe, preprocessing: Preprocessing, task: str) -> None:
    """Check that a network of this task can have this head.

    Raises:
        UsageError: it cannot, and why.
    """
    traits = TASK_TRAITS[task]
    if not traits.per_pixel and (head.argmax or head.raw):
        raise UsageError(f"a {traits.noun} gives scores", expected=f"head {_scores()}", found=head.name)
    if head.needs_int8 and recipe.activations != "int8":
        raise UsageError(
            f"recipe {recipe.name} has no {head.image} at its ends",
            expected="recipe static_wi8_ai8",
            fix="export with that recipe, or with head 'logits'",
        )
    if head.raw:
        _check_mediapipe(preprocessing)


def _scores() -> str:
    return " or ".join(repr(head.name) for head in HEADS.values() if not head.argmax and not head.raw)


def _check_mediapipe(preprocessing: Preprocessing) -> None:
    """Refuse a network that MediaPipe cannot feed: it hands over RGB pixels as they are and looks at no other image."""
    for wrong, expected, found in (
        (preprocessing.channels != 3, "3 channels", preprocessing.channels),
        (preprocessing.color_order != "rgb", "colour order 'rgb'", preprocessing.color_order),
        (preprocessing.per_image is not None, "no percentiles of each image", preprocessing.per_image),
    ):
        if wrong:
            raise UsageError(
                "MediaPipe cannot prepare images for this network",
                expected=expected,
                found=found,
                fix="export with head 'logits_float' and prepare the images in your own program, "
                "or train with --channels 3 --per-image 0 0",
            )
