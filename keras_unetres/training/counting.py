"""The integers in which metrics count pixels."""

from __future__ import annotations

import keras


def count_dtype() -> str:
    """Return the widest integer type of Keras's backend: int64, but uint32 on JAX, which has no other unless asked for.

    On JAX counts are exact up to 4 thousand million pixels between two resets: 65 thousand images of 256 x 256.
    """
    return "uint32" if keras.backend.backend() == "jax" else "int64"
