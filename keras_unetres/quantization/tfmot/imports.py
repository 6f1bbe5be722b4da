"""Imports of tf_keras and tensorflow-model-optimization that leave the Keras of everything else as it was.

TensorFlow decides at the first look at `tf.keras` which Keras that is, by an environment variable, and
tensorflow-model-optimization sets that variable when it is imported. Here the decision is made before, and the variable
is put back after, so that neither this process nor one that it starts sees a difference.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from unetres_edge.errors import UsageError

_VARIABLE = "TF_USE_LEGACY_KERAS"


def load_tf_keras() -> Any:
    """Return the module `tf_keras`.

    Raises:
        UsageError: Keras runs on another backend than TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            "tf_keras and tensorflow-model-optimization run on TensorFlow alone",
            expected="KERAS_BACKEND=tensorflow",
            found=f"KERAS_BACKEND={keras.backend.backend()}",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages about each other
        import tf_keras
    return tf_keras


def load_tfmot() -> Any:
    """Return the module `tensorflow_model_optimization`.

    Raises:
        UsageError: Keras runs on another backend than TensorFlow.
    """
    load_tf_keras()
    import tensorflow as tf

    for module in (tf, tf.compat.v1, tf.compat.v2):
        _ = module.keras.layers  # decides which Keras it is
    before = os.environ.get(_VARIABLE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_model_optimization
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
    return tensorflow_model_optimization
