"""Masks as a Keras user hands them over: class ids of any number type; what is none of them is named, never cut."""

from __future__ import annotations

from typing import Any

from keras import ops

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE

_ONE_HOT = "masks.argmax(-1), if each channel is a class"


def check_ignored(num_classes: int | None, ignore_index: int | None, name: str) -> None:
    """Raise UsageError if the id that usually means "not labelled" is that of a class.

    Args:
        num_classes: channels of the logits, None where unknown.
        ignore_index: the id that is left out, or None. Another one than 255 is a choice.
        name: name of the loss or the metric, for errors.

    Raises:
        UsageError: 255 is left out, and there are more than 255 classes.
    """
    if num_classes is not None and ignore_index == IGNORE < num_classes:
        raise UsageError(
            f"{name} would leave out class {IGNORE}, for it stands for what is not labelled",
            expected=f"at most {IGNORE} classes with ignore_index={IGNORE}",
            found=num_classes,
            fix="pass ignore_index=None, or another number that is no class",
        )


def to_class_ids(masks: Any, logits: Any, name: str) -> tuple[Any, Any]:
    """Return class ids (N, H, W) int32, and (N, H, W) bool, where a mask holds a whole number.

    Args:
        masks: (N, H, W) or (N, H, W, 1) of any number type.
        logits: (N, H, W, C).
        name: name of the loss or the metric, for errors.

    Raises:
        UsageError: other shapes, such as one-hot masks.
    """
    masks = ops.convert_to_tensor(masks)
    if len(masks.shape) == 4 and masks.shape[-1] == 1:
        masks = ops.squeeze(masks, -1)
    mask_shape, logits_shape = tuple(masks.shape), tuple(logits.shape)
    fits = len(mask_shape) == 3 and len(logits_shape) == 4
    if not fits or any(
        None not in pair and pair[0] != pair[1] for pair in zip(mask_shape, logits_shape[:3], strict=True)
    ):
        raise UsageError(
            f"the shapes of {name} cannot be used",
            expected="masks (N, H, W) of class ids and logits (N, H, W, C)",
            found=f"masks {mask_shape} and logits {logits_shape}",
            fix=_ONE_HOT if len(mask_shape) == 4 else None,
        )
    ids = ops.cast(masks, "int32")
    if "float" not in str(masks.dtype):
        return ids, ops.ones_like(ids, dtype="bool")
    return ids, ops.equal(ops.cast(ids, masks.dtype), masks)
