"""The backend that Keras computes with: whether it is installed, and whether it is the one that files are made with."""

from __future__ import annotations

import importlib.util
import os

from unetres_edge.errors import UsageError


def check_installed() -> None:
    """Raise UsageError if the environment names a backend of Keras that is not there, as importing Keras would fail."""
    named = os.environ.get("KERAS_BACKEND", "")
    if named in ("jax", "torch") and importlib.util.find_spec(named) is None:
        raise UsageError(
            f"Keras is told to compute with {named}, which is not installed",
            expected="KERAS_BACKEND=tensorflow",
            found=f"KERAS_BACKEND={named}",
            fix=f"export KERAS_BACKEND=tensorflow, or pip install {named}",
        )


def check_tensorflow() -> None:
    """Raise UsageError unless Keras computes with TensorFlow, whose converter writes the file."""
    import keras

    if keras.config.backend() != "tensorflow":
        raise UsageError(
            "a file is made of a model on Keras's TensorFlow backend",
            expected="KERAS_BACKEND=tensorflow",
            found=keras.config.backend(),
            fix='save it by model.save("own.keras") and export that: KERAS_BACKEND=tensorflow unetres export own.keras',
        )
