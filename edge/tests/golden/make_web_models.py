"""Make the models that the tests of the browser runtime compare it with Python on.

    python edge/tests/golden/make_web_models.py

`test_web.py` takes one untrained network in three forms, `test_web_browser.py` one that was trained for a
minute on drawn cells, and a picture for it. They are kept, so that the tests need no conversion. Any other network
would do: the tests ask for equality alone, and not for these labels.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from keras_unetres.data.synthetic import write_cells
from keras_unetres.models import build_unet
from keras_unetres.runs import RunFolder
from keras_unetres.settings import FitSettings, NetworkSettings, TrainSettings
from keras_unetres.tasks.loading import load_run
from keras_unetres.tflite import Preprocessing, export_tflite
from keras_unetres.workflows.train import train
from unetres_edge.images.preprocessing import look_up

HERE = Path(__file__).parent

PRE = Preprocessing(channels=3, size=(32, 48), mean=(0.4, 0.5, 0.45), std=(0.2, 0.25, 0.3))
FORMS = {"int8": ("static_wi8_ai8", "logits"), "argmax": ("static_wi8_ai8", "argmax"), "float32": ("float32", "logits")}


def main() -> None:
    keras.utils.set_random_seed(5)
    model = build_unet((32, 48, 3), 3, filters=8, depth=2)
    crops = PRE.normalise(np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8))
    for name, (recipe, head) in FORMS.items():
        export_tflite(
            model,
            HERE / f"web_{name}.tflite",
            recipe=recipe,
            head=head,
            preprocessing=PRE,
            calibration=None if recipe == "float32" else crops,
            classes=["ground", "cells", "edge"],
        )
    with tempfile.TemporaryDirectory() as folder:
        make_cells(Path(folder))


def make_cells(folder: Path) -> None:
    """Train on drawn cells, and keep the int8 file, and a picture that the network has not seen."""
    run = folder / "run"
    data = write_cells(folder / "cells", num_images=60, size=(128, 128))
    train(data, run, TrainSettings(NetworkSettings(size=64, filters=8, depth=2), FitSettings(epochs=12, batch=8)))
    loaded = load_run(run)
    card = replace(loaded.card, class_colors=((0, 0, 0), (255, 122, 26)), dataset={})
    pre = card.preprocessing
    export_tflite(
        loaded.model,
        HERE / "web_cells.tflite",
        recipe="static_wi8_ai8",
        preprocessing=pre,
        calibration=look_up(pre.table(), RunFolder(run).read_calibration()),
        card=card,
    )
    picture = write_cells(folder / "picture", num_images=1, size=(440, 600), first=5000)
    shutil.copy(next(picture.rglob("images/*.png")), HERE / "web_cells.png")


if __name__ == "__main__":
    main()
