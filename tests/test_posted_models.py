"""Networks as people post them: the file gives the labels of Keras on fresh pictures, or the export says the way on."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import silent
from foreign_models import with_statistics
from PIL import Image
from posted_models import POSTED, Posted

import keras_unetres as ku
from unetres_edge import Segmenter
from unetres_edge.errors import UnetresError

QUICK = ("functional_subclass_with_train_step", "one_channel_of_logits", "two_inputs")
# Whose parts the slow tests of `test_written_models.py` export and quantize, or that are refused as another is.
REPEATED = (
    *("attention_unet_of_additive_gates", "unet_of_pixel_shuffles", "enet_with_prelu", "mix_transformer"),
    *("pix2pix_generator_with_instance_norm", "johnson_net_with_reflection", "relus_of_every_make", "more_functions"),
    *("selu_with_alpha_dropout", "scse_blocks", "deeplab_v3_plus_by_ops", "lanczos_upsampling", "classes_300"),
)


def pictures(count: int, shape: tuple[int, int, int], *, seed: int) -> np.ndarray:
    """Return smooth pictures (N, h, w, C) uint8."""
    height, width, channels = shape
    random = np.random.default_rng(seed)

    def channel() -> np.ndarray:
        small = Image.fromarray(random.integers(0, 256, (6, 6), np.uint8))
        return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))

    return np.stack([np.stack([channel() for _ in range(channels)], -1) for _ in range(count)])


def labels_of_keras(model: keras.Model, posted: Posted, images: np.ndarray) -> np.ndarray:
    """Return the labels (N, h, w) that the answers of a model mean."""
    answers = model.predict(images, batch_size=2, verbose=0)
    if posted.output is not None:
        names = list(answers) if isinstance(answers, dict) else model.output_names
        answers = answers[posted.output] if isinstance(answers, dict) else answers[names.index(posted.output)]
    size = (len(images), *posted.shape[:2])
    if posted.kind == "one":
        return np.asarray(answers, np.float32).reshape(size) > 0.5
    return np.asarray(answers, np.float32).reshape(*size, -1).argmax(-1)


def tier(name: str) -> list[pytest.MarkDecorator]:
    if name in QUICK:
        return []
    return [pytest.mark.long if name in REPEATED else pytest.mark.slow]


@pytest.mark.parametrize("name", [pytest.param(name, marks=tier(name)) for name in POSTED])
def test_the_file_gives_the_labels_of_keras_or_the_way_on(name: str, tmp_path: Path) -> None:
    posted = POSTED[name]
    keras.utils.set_random_seed(3)
    model = with_statistics(posted.build())
    how = {"channels": posted.shape[2], "size": posted.shape[:2], "value_range": posted.value_range}
    pre, path = ku.Preprocessing(**how), tmp_path / "m.tflite"
    options = {"preprocessing": pre, "output": posted.output, "recipe": "float32", "say": silent}
    if posted.refused:
        with pytest.raises(UnetresError, match=posted.refused) as caught:
            ku.export(model, path, **options)
        assert caught.value.fix
        return
    ku.export(model, path, **options)
    fresh = pictures(4, posted.shape, seed=99)
    whole = getattr(model, "inputs", None) and model.inputs[0].dtype == "uint8"
    expected = labels_of_keras(model, posted, fresh if whole else pre.normalise(fresh))
    with Segmenter(path) as segmenter:
        found = np.stack([segmenter.segment(each).class_map for each in fresh])
    assert (found == expected).mean() > 0.99
