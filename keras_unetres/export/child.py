"""The converter's own process: `python -m keras_unetres.export.child FOLDER`.

Reads `saved_model/`, `request.json` and `calibration.npy` from the folder and writes `model.tflite`, or `error.txt`.
It imports TensorFlow and nothing of the user's, so it can die without taking anything with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def convert(folder: Path) -> bytes:
    """Return the `.tflite` of the SavedModel in a folder."""
    import tensorflow as tf

    request = json.loads((folder / "request.json").read_text())
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    if request["quantized"]:
        images = np.load(folder / "calibration.npy")

        def representative() -> Iterator[list[np.ndarray]]:
            for image in images:
                yield [image[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8
    else:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert())


def main() -> int:
    """Convert, and leave the reason in `error.txt` where that fails."""
    folder = Path(sys.argv[1])
    try:
        (folder / "model.tflite").write_bytes(convert(folder))
    except Exception as error:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
