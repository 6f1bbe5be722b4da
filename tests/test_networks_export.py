"""Every network as a `.tflite`: float32 answers like Keras, and int8 is clean or named as what it is not.

A conversion takes seconds, so rows that convert by the same ops as another are left to the long tests, and most of the
others to the slow ones.
"""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from lite import answer, assert_int8_between_quantizes, partitions
from networks import ALIKE, NETWORKS

from keras_unetres.choices.heads import HEADS
from keras_unetres.choices.recipes import RECIPES
from keras_unetres.models.catalog import not_int8
from keras_unetres.tflite.convert import convert
from keras_unetres.tflite.inspect import read_ops

INT8 = RECIPES["static_wi8_ai8"]


QUICK = ("unet",)


def rows(*more: str) -> list[Any]:
    """The networks of the table: `QUICK` ones, slow ones, and long ones, which are `more` and what is like others."""
    long = {*ALIKE, *more}
    tiers = {name: pytest.mark.long if name in long else pytest.mark.slow for name in NETWORKS if name not in QUICK}
    return [pytest.param(name, marks=tiers.get(name, ())) for name in NETWORKS]


def made(name: str) -> tuple[keras.Model, np.ndarray]:
    """A network of the table with random weights, and images for it."""
    keras.utils.set_random_seed(0)
    row = NETWORKS[name]
    return row.build(), np.random.default_rng(0).uniform(-1, 1, (8, *row.shape)).astype(np.float32)


@pytest.mark.parametrize("name", rows("resnet50_v2"))
def test_float32_answers_like_keras(name: str) -> None:
    model, images = made(name)
    expected = np.asarray(model.predict_on_batch(images))
    data = convert(model, NETWORKS[name].shape)
    np.testing.assert_allclose(answer(data, images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", rows())
def test_int8_is_clean_or_named(name: str) -> None:
    model, images = made(name)
    data = convert(model, NETWORKS[name].shape, recipe=INT8, calibration=images)
    faults = not_int8(model)
    if not faults:
        assert_int8_between_quantizes(data)
        assert partitions(data) == 1
        return
    ops = read_ops(data)
    assert all("FLOAT" not in kind for op in ops for kind in (*op.inputs, *op.outputs))
    assert partitions(data) > 1
    for fault in faults:
        named = re.fullmatch(r".*\((\w+).*\)", fault)
        assert named is not None
        assert named[1] in {op.name for op in ops}


@pytest.mark.slow
def test_an_argmax_head_is_all_that_lies_outside_the_partition() -> None:
    model, images = made("unet_resnet18")
    data = convert(model, NETWORKS["unet_resnet18"].shape, head=HEADS["argmax"], recipe=INT8, calibration=images)
    ops = read_ops(data)
    assert [op.name for op in ops[-2:]] == ["ARG_MAX", "CAST"]
    assert [op.name for op in ops if "QUANTIZE" in op.name] == ["QUANTIZE"]
    for op in ops[1:-2]:
        assert {*op.inputs, *op.outputs} == {"INT8"}, op
    assert partitions(data) == 1


def test_rows_that_are_left_out_are_like_one_that_is_not() -> None:
    assert set(ALIKE) < set(NETWORKS)
    for others in ALIKE.values():
        assert set(others.split(" and ")) <= set(NETWORKS) - set(ALIKE)
