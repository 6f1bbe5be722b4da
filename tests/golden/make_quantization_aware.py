"""Make the `.keras` file of all quantization-aware layers that later versions must load, and the answers it gave.

    python tests/golden/make_quantization_aware.py

`tests/test_fake_quant.py` loads it. The kept file was written by version 0.1.0 at commit d6a4999, before modules moved:
run this only to add layers, not because a test fails.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_unetres as ku

HERE = Path(__file__).parent


def main() -> None:
    keras.utils.set_random_seed(7)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.ReLU(name="relu")(layers.Conv2D(4, 3, padding="same", name="conv")(image))
    y = layers.LeakyReLU(0.1, name="leaky")(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = layers.Subtract(name="difference")([layers.Add(name="sum")([x, y]), layers.Multiply(name="product")([x, y])])
    x = layers.AveragePooling2D(2, padding="same", name="pool")(x)
    x = layers.Conv2DTranspose(4, 2, 2, name="up")(x)
    x = layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D(name="mean")(x))
    model = keras.Model(image, x, name="every_layer")
    images = np.random.default_rng(7).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)
    quantized = ku.quantize_aware(model, images)
    file = HERE / "quantization_aware.keras"
    quantized.save(file)
    with zipfile.ZipFile(file) as saved:  # as it is, which is mostly zeros
        members = {name: saved.read(name) for name in saved.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    np.save(HERE / "quantization_aware.npy", quantized.predict(images, verbose=0))


if __name__ == "__main__":
    main()
