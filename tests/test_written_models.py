"""What people write into networks and at their ends: file, quantized network and score say what Keras says, or refuse.

A refusal is one of our errors, and says what to write instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from foreign_models import with_statistics
from PIL import Image
from written_models import ENDS, INSIDE, SIDE, conv, network, truth_of

import keras_unetres as ku
from unetres_edge import Segmenter
from unetres_edge.errors import UsageError

PRE = ku.Preprocessing(channels=3, size=(SIDE, SIDE))
_SURE = 0.02  # of the range of probabilities
QUICK = ("two softmaxes",)
# What others of these cases are made of, or what the tests of `test_own_models.py` export and quantize at every push.
REPEATED = (
    *("nested", "sigmoids", "a sigmoid", "a sigmoid without its axis", "a hard sigmoid", "a softmax, enlarged"),
    *("scores", "scores behind dropout"),
)
CASES = {
    **{name: (inside, None, "scores") for name, inside in INSIDE.items()},
    **{n: (conv, *e) for n, e in ENDS.items()},
}


def pictures(count: int, seed: int) -> np.ndarray:
    """Return smooth pictures (count, SIDE, SIDE, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for x in small])


def built(inside: Callable[[Any], Any], end: Callable[[Any], Any] | None) -> keras.Model:
    keras.utils.set_random_seed(3)
    return with_statistics(network(inside) if end is None else network(inside, end))


def tier(name: str) -> list[pytest.MarkDecorator]:
    if name in QUICK:
        return []
    return [pytest.mark.long if name in REPEATED else pytest.mark.slow]


@pytest.mark.parametrize("name", [pytest.param(name, marks=tier(name)) for name in CASES])
def test_every_door_gives_what_keras_answers(name: str, tmp_path: Path) -> None:
    inside, end, kind = CASES[name]
    model, fresh = built(inside, end), pictures(4, seed=99)
    truth = truth_of(model.predict(PRE.normalise(fresh), batch_size=2, verbose=0), kind)
    labels, ordered = truth.argmax(-1), np.sort(truth, -1)
    sure = ordered[..., -1] - ordered[..., -2] > _SURE * np.ptp(truth)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="agreement: .*one class everywhere")
        ku.export(model, tmp_path / "m.tflite", recipe="float32", preprocessing=PRE, say=lambda line: None)
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        results = [segmenter.segment(each, scores=True) for each in fresh]
    np.testing.assert_allclose(np.stack([each.probabilities() for each in results]), truth, atol=2e-3)
    assert (np.stack([each.class_map for each in results]) == labels)[sure].mean() > 0.999
    told = ku.evaluate(model, (fresh, labels.astype(np.uint8)), preprocessing=PRE, say=lambda line: None)
    assert told["pixel_accuracy"] > 0.999
    check_quantized(model, PRE.normalise(pictures(16, seed=0)), PRE.normalise(fresh), labels, sure, kind)


def check_quantized(
    model: keras.Model, seen: np.ndarray, fresh: np.ndarray, labels: np.ndarray, sure: np.ndarray, kind: str
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="agreement: ")
        try:
            aware = ku.quantize_aware(model, seen, preprocessing=PRE)
        except UsageError as error:
            assert error.fix is not None, error
            return
    found = truth_of(np.asarray(aware(fresh)), kind).argmax(-1)
    assert not sure.any() or (found == labels)[sure].mean() > 0.95
