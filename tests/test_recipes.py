"""Recipes: what each one stores and computes, how far its labels are Keras's, and what it cannot do; calibration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import layers
from lite import answer, partitions
from small_models import PRE, make_calibration, user_model

from keras_unetres.choices.recipes import ALIASES
from keras_unetres.tflite import RECIPES, Exported, choose_for_coverage, export_tflite, find_recipe
from keras_unetres.tflite.inspect import Graph
from unetres_edge import Preprocessing, Segmenter, read_card
from unetres_edge.errors import ConversionError, UsageError


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    """Convolutions, a transposed and a depthwise one; weights and answers far from those of a fresh network."""
    keras.utils.set_random_seed(1)
    model = user_model(layers.DepthwiseConv2D(3, padding="same", name="deep"))
    rng = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.fixture(scope="module")
def make(plain: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Exported]]:
    """The model by any recipe, converted once."""
    done: dict[str, tuple[Path, Exported]] = {}
    folder = tmp_path_factory.mktemp("recipes")

    def made(recipe: str) -> tuple[Path, Exported]:
        if recipe not in done:
            path = folder / f"{recipe}.tflite"
            found = export_tflite(plain, path, recipe=recipe, preprocessing=PRE, calibration=make_calibration())
            done[recipe] = path, found
        return done[recipe]

    return made


def kernels(data: bytes) -> dict[str, set[str]]:
    """Dtypes of the kernels, by op; a kernel that is made float again before its use counts as what it is stored as."""
    graph = Graph(data)
    makers = {int(op.outputs[0]): op for op in graph.operators}
    found: dict[str, set[str]] = {}
    for op in graph.operators:
        name = graph.op_name(op)
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
            kernel = int(op.inputs[1])
            if not graph.is_constant(kernel):
                assert graph.op_name(makers[kernel]) == "DEQUANTIZE"
                kernel = int(makers[kernel].inputs[0])
            found.setdefault(name, set()).add(graph.kind(kernel))
    return found


def between(data: bytes) -> set[str]:
    """Dtypes of what the convolutions make."""
    graph = Graph(data)
    return {graph.kind(int(op.outputs[0])) for op in graph.operators if graph.op_name(op) == "CONV_2D"}


class Row(NamedTuple):
    """What a file by a recipe is made of, as LiteRT names dtypes, and how near its labels are to Keras's.

    `least` is None for recipes of which only the dtypes are tested, and not among the quick tests.
    """

    plain: str  # kernels of plain convolutions
    others: str  # kernels of depthwise and transposed ones
    between: str  # what convolutions give
    least: float | None = None  # share of labels that equal Keras's, 0 to 1


# A kernel of n bits is off by at most half a step of its largest weight; the labels of a network that was never
# trained change where two scores are close. Each `least` is about three times as far from 1 as what was found.
ROWS = {
    "float32": Row("FLOAT32", "FLOAT32", "FLOAT32"),
    "float16": Row("FLOAT16", "FLOAT16", "FLOAT32", 0.999),
    "dynamic_wi8_afp32": Row("INT8", "INT8", "FLOAT32", 0.97),
    "weight_only_wi8_afp32": Row("INT8", "INT8", "FLOAT32"),
    "dynamic_wi4_afp32": Row("INT4", "INT8", "FLOAT32"),
    "weight_only_wi4_afp32": Row("INT4", "INT8", "FLOAT32", 0.85),
    "static_wi8_ai8": Row("INT8", "INT8", "INT8"),
    "static_wi8_ai16": Row("INT8", "INT8", "INT16", 0.98),
}
ELSEWHERE = ("mixed_wi8_ai8_afp32",)  # in test_mixed.py
QUICK = [name for name, row in ROWS.items() if row.least is not None]
RECIPE_NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in ROWS]


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_a_recipe_stores_and_computes_what_its_name_says(recipe: str, make: Callable) -> None:
    path, done = make(recipe)
    data = path.read_bytes()
    row = ROWS[recipe]
    assert kernels(data) == {"CONV_2D": {row.plain}, "DEPTHWISE_CONV_2D": {row.others}, "TRANSPOSE_CONV": {row.others}}
    assert between(data) == {row.between}
    assert read_card(data).recipe == recipe
    assert done.num_calibration == (12 if recipe.startswith("static") else 0)


@pytest.mark.parametrize("recipe", QUICK)
def test_labels_are_those_of_keras_to_the_precision_of_the_recipe(
    recipe: str, make: Callable, plain: keras.Model
) -> None:
    path, done = make(recipe)
    levels = np.random.default_rng(5).integers(0, 256, (6, 16, 16, 1), np.uint8)
    expected = np.asarray(plain(PRE.normalise(levels))).argmax(-1)
    with Segmenter(path) as segmenter:
        found = np.stack([segmenter.segment(image).class_map for image in levels])
    least = ROWS[recipe].least
    assert least is not None
    assert (found == expected).mean() > least - 0.03  # noise, which was not calibrated on
    assert done.agreement > least


def test_float16_is_float32_of_rounded_kernels(make: Callable, plain: keras.Model) -> None:
    """The oracle: Keras with kernels that were rounded to float16, biases as they were."""
    rounded = keras.models.clone_model(plain)
    weights = zip(rounded.weights, plain.weights, strict=True)
    for weight, source in weights:
        value = np.asarray(source.value)
        weight.assign(value.astype(np.float16).astype(np.float32) if value.ndim > 1 else value)
    images = make_calibration(count=3)
    found = answer(make("float16")[0].read_bytes(), images)
    np.testing.assert_allclose(found, np.asarray(rounded(images)), atol=1e-4)


def test_xnnpack_takes_whole_graphs_where_it_has_the_kernels(make: Callable) -> None:
    assert partitions(make("float16")[0].read_bytes()) == 1
    assert partitions(make("dynamic_wi8_afp32")[0].read_bytes()) == 1
    assert partitions(make("static_wi8_ai16")[0].read_bytes()) == 0  # as its row says: slow


def test_every_recipe_is_tested() -> None:
    assert sorted(set(RECIPES) - {*ROWS, *ELSEWHERE}) == [], "give each a row in ROWS of this file"
    assert sorted({*ROWS, *ELSEWHERE} - set(RECIPES)) == [], "rows of ROWS that are no recipes"


def test_names_can_be_decoded_and_short_ones_are_of_recipes() -> None:
    assert {name: find_recipe(name).name for name in ALIASES} == ALIASES
    assert find_recipe("weight_only_wi8").name == "weight_only_wi8_afp32"
    quantized = [name for name, recipe in RECIPES.items() if recipe.quantized]
    assert quantized == ["static_wi8_ai8", "static_wi8_ai16", "mixed_wi8_ai8_afp32"]
    for recipe in RECIPES.values():
        bits = {"int8": "wi8", "int4": "wi4", "float16": "float16", "float32": "float32"}[recipe.weights]
        kinds = {"int8": "ai8", "int16": "ai16", "float32": "", "mixed": "ai8_afp32"}[recipe.activations]
        assert bits in recipe.name
        assert kinds in recipe.name
        assert recipe.dynamic == recipe.name.startswith("dynamic")
        assert recipe.about
        assert recipe.why
    with pytest.raises(UsageError, match="the recipe is unknown; expected float32 or .*; found wi2"):
        find_recipe("wi2")


# ------------------------------------------------------------------------------------------- what cannot be done


def pooled() -> keras.Model:
    """Two channels in, two scores out, and no kernel at all."""
    inputs = keras.Input((16, 16, 2))
    return keras.Model(inputs, layers.AveragePooling2D(3, strides=1, padding="same", name="mean")(inputs))


def test_a_recipe_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    pre = Preprocessing(channels=2, size=(16, 16))
    with pytest.raises(ConversionError, match="recipe dynamic_wi8_afp32 changes nothing in this model"):
        export_tflite(pooled(), tmp_path / "m.tflite", recipe="dynamic_wi8_afp32", preprocessing=pre)
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_float16_cannot_hold_is_named_with_its_layer(plain: keras.Model, tmp_path: Path) -> None:
    model = keras.models.clone_model(plain)
    model.set_weights(plain.get_weights())
    kernel = np.array(model.get_layer("down").kernel)
    kernel[0, 1, 2, 3] = 70000.0  # the largest float16 is 65504
    model.get_layer("down").kernel.assign(kernel)
    with pytest.raises(ConversionError, match=r"not finite in float16; found 1 such weights \(layer down\); fix: .*32"):
        export_tflite(model, tmp_path / "m.tflite", recipe="float16", preprocessing=PRE)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_has_not_learned_a_number_is_refused_before_conversion(
    plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras.models.clone_model(plain)
    bias = np.zeros(4, np.float32)
    bias[2] = np.nan
    model.get_layer("up").bias.assign(bias)
    monkeypatch.setattr("keras_unetres.tflite.export.convert", None, raising=True)
    with pytest.raises(ConversionError, match="a weight of the model is not finite; found up/bias; fix: train again"):
        export_tflite(model, tmp_path / "m.tflite", recipe="float32", preprocessing=PRE)


# --------------------------------------------------------------------------------------------------- coverage


def skewed(seed: int) -> np.ndarray:
    """400 dim, smooth crops (400, 32, 32, 1) uint8, of which eight, somewhere, have bright specks or sharp edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32] / 32
    crops = np.stack([40 + 15 * np.sin(3 * y + a) * np.cos(4 * x + b) for a, b in rng.uniform(0, 6, (400, 2))])
    crops += rng.normal(0, 2, crops.shape)
    for number in rng.choice(400, 8, replace=False):
        for row, column in rng.integers(0, 28, (3, 2)):
            crops[number, row : row + 3, column : column + 3] = rng.uniform(150, 250)
    return np.clip(crops, 0, 255).round().astype(np.uint8)[..., None]


def spans(crops: np.ndarray, choices: list[np.ndarray]) -> list[float]:
    """For each choice: the mean share of the range of 24 random 3x3 filters' answers over all crops that it spans."""
    windows = np.lib.stride_tricks.sliding_window_view(crops[..., 0].astype(np.float32), (3, 3), axis=(1, 2))
    filters = np.random.default_rng(7).normal(0, 1, (9, 24)).astype(np.float32)
    answers = windows.reshape(len(crops), -1, 9)[:, ::3] @ filters
    low, high = answers.min(1), answers.max(1)  # (crops, filters)
    whole = high.max(0) - low.min(0)
    return [float(((high[chosen].max(0) - low[chosen].min(0)) / whole).mean()) for chosen in choices]


def test_coverage_spans_ranges_that_chance_and_the_first_ones_miss() -> None:
    figures = []
    for seed in range(4):
        crops, rng = skewed(seed), np.random.default_rng(100 + seed)
        chosen = choose_for_coverage(crops, 16)
        assert len(set(chosen.tolist())) == 16
        chance = [rng.choice(400, 16, replace=False) for _ in range(10)]
        figures.append(spans(crops, [chosen, np.arange(16), *chance]))
    best, first, *others = np.transpose(figures)
    print(f"coverage {best.mean():.3f}, the first ones {first.mean():.3f}, chance {np.mean(others):.3f}")
    assert best.min() > 0.9
    assert best.mean() > first.mean() + 0.2
    assert best.mean() > np.mean(others) + 0.2


def test_the_usual_stays_usual() -> None:
    """Half of the choice is spread evenly over all crops: none lies further from a chosen one than that half allows."""
    chosen = choose_for_coverage(skewed(3), 32)
    assert np.diff(chosen).min() >= 1
    assert np.diff([0, *chosen, 399]).max() <= 400 / 16 + 8


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11])
def test_as_many_are_chosen_as_are_wanted_or_there_are(count: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (10, 5, 9, 3), np.uint8)
    assert len(choose_for_coverage(crops, count)) == min(count, 10)
    alike = np.repeat(crops[:1], 10, axis=0)
    assert len(set(choose_for_coverage(alike, count).tolist())) == min(count, 10)
