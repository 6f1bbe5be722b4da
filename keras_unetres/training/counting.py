"""The integers in which metrics count pixels, and what counts say that no score tells."""

from __future__ import annotations

from collections.abc import Sequence

import keras

_MOST_NAMED = 6


def count_dtype() -> str:
    """Return the widest integer type of Keras's backend: int64, but uint32 on JAX, which has no other unless asked for.

    On JAX counts are exact up to 4 thousand million pixels between two resets: 65 thousand images of 256 x 256.
    """
    return "uint32" if keras.backend.backend() == "jax" else "int64"


def counted_words(present: Sequence[bool], ignored: int, strange: int, ignore_index: int | None) -> str:
    """Return what is wrong with the masks of an epoch, in words, or "".

    Args:
        present: whether a pixel of each class was counted.
        ignored: pixels with the ignored id.
        strange: pixels that are no class, or no whole number.
        ignore_index: the ignored id, or None.
    """
    absent = [class_id for class_id, there in enumerate(present) if not there]
    if strange:
        rest = f"{strange} pixels of the masks hold no class id 0..{len(present) - 1}"
        return f"{rest}, or no whole number: scores are NaN; give masks of class ids"
    if absent == [1] and len(present) == 2 and ignored and ignore_index == 255:
        return (
            f"the masks hold 0 and 255 alone, and {ignored} pixels of 255 were ignored, so that nothing is learned of "
            "class 1; give masks // 255, or ignore_index=None if 255 is a class"
        )
    if not absent:
        return ""
    names = ", ".join(map(str, absent[:_MOST_NAMED])) + (", ..." if len(absent) > _MOST_NAMED else "")
    rest = f"; {ignored} pixels of {ignore_index} were ignored" if ignored else ""
    return f"no pixel of class {names} was counted in the first epoch{rest}"
