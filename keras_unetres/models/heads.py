"""Heads, and the checks that all builders share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from keras import layers

from unetres_edge.errors import UsageError


def pixel_head(x: Any, num_classes: int, activation: str | None) -> Any:
    """Return scores for every class at every pixel by a 1x1 convolution, (N, H, W, num_classes) float32."""
    x = layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="head_logits")(x)
    return add_activation(x, activation)


def add_activation(x: Any, activation: str | None) -> Any:
    """Return logits as they are (None), or their softmax over the classes."""
    return layers.Softmax(dtype="float32", name="head_softmax")(x) if activation == "softmax" else x


def check_common(input_shape: Any, num_classes: int, head_activation: str | None) -> None:
    """Check the arguments that every builder takes.

    Raises:
        UsageError: one of them is wrong.
    """
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    whole = [isinstance(side, Integral) and int(side) >= 1 for side in shape]
    if len(shape) != 3 or not whole[2] or not all(w or s is None for w, s in zip(whole, shape, strict=True)):
        raise UsageError("input_shape is wrong", expected="(height, width, channels)", found=repr(input_shape))
    check_whole("num_classes", num_classes, 2)
    if head_activation not in (None, "softmax"):
        raise UsageError("head_activation is unknown", expected="None or 'softmax'", found=head_activation)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise UsageError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, Integral) or value < least:
        raise UsageError(f"{name} is wrong", expected=f"a whole number, at least {least}", found=repr(value))


def check_dropout(dropout: Any) -> None:
    """Raise UsageError unless 0 <= dropout < 1."""
    if not isinstance(dropout, Real) or not 0 <= float(dropout) < 1:
        raise UsageError("dropout is wrong", expected="0 <= dropout < 1", found=repr(dropout))


def check_side(side: int | None, *, step: int, offset: int = 0, least: int = 1, why: str) -> None:
    """Check one side of the input, px, where it is fixed.

    Raises:
        UsageError: it is below `least` or not `offset` plus a multiple of `step`; the nearest sizes are named.
    """
    if side is None or (side >= least and (side - offset) % step == 0):
        return
    lowest = least + (offset - least) % step
    below = max(lowest, side - (side - offset) % step)
    above = max(lowest, below + step if below <= side else below)
    raise UsageError(
        f"input size {side} does not suit {why}",
        expected=f"a multiple of {step}" + (f" plus {offset % step}" if offset % step else "") + f", at least {lowest}",
        fix=f"use {below} or {above}" if below != above else f"use {below}",
    )
