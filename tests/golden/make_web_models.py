"""Make the models that `tests/test_web.py` compares Node and Python on: one untrained network in three forms.

    python tests/golden/make_web_models.py

They are kept, so that the tests need no conversion. Any other network would do: the test asks for equality alone, and
not for these labels.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from keras_unetres.export import Preprocessing, export_tflite
from keras_unetres.models import build_unet

PRE = Preprocessing(channels=3, size=(32, 48), mean=(0.4, 0.5, 0.45), std=(0.2, 0.25, 0.3))
FORMS = {"int8": ("static_wi8_ai8", "logits"), "argmax": ("static_wi8_ai8", "argmax"), "float32": ("float32", "logits")}


def main() -> None:
    keras.utils.set_random_seed(5)
    model = build_unet((32, 48, 3), 3, filters=8, depth=2)
    crops = PRE.normalise(np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8))
    for name, (recipe, head) in FORMS.items():
        export_tflite(
            model,
            Path(__file__).with_name(f"web_{name}.tflite"),
            recipe=recipe,
            head=head,
            preprocessing=PRE,
            calibration=None if recipe == "float32" else crops,
            classes=["ground", "cells", "edge"],
        )


if __name__ == "__main__":
    main()
