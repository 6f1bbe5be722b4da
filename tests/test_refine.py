"""Int8 without labels: equalized channels keep every bit, rounding is learned, and files of unequal networks answer."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from own_networks import OWN_NETWORKS, with_statistics

import keras_unetres as ku
from keras_unetres.models.inference import flat_form
from keras_unetres.quantization import fold
from keras_unetres.quantization.equalization import equalize, find_channels, scale_channels
from keras_unetres.quantization.refining import Kernel
from keras_unetres.quantization.rounding import Sums, learn_rounding
from unetres_edge import Segmenter
from unetres_edge.errors import ConversionError, GateError, UsageError

PRE = ku.Preprocessing(channels=3, size=(16, 16))
RANDOM = np.random.default_rng


def images(count: int = 8, *, seed: int = 0, channels: int = 3) -> np.ndarray:
    return PRE.normalise(RANDOM(seed).integers(0, 256, (count, 16, 16, channels), np.uint8))


def unequal(spread: float = 6.0) -> keras.Model:
    """Return a network whose channels behind two layers are up to 2**spread times larger or smaller."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3))
    first = layers.Conv2D(8, 3, padding="same", activation="relu")
    wide, head = layers.DepthwiseConv2D(3, padding="same", activation="relu"), layers.Conv2D(3, 1)
    model = keras.Model(image, head(wide(first(image))))
    for before, behind in ((first, wide), (wide, head)):
        factors = 2 ** RANDOM(2).uniform(-spread, spread, 8)
        kernel, bias = before.get_weights()
        kernel *= factors[:, None] if before is wide else factors
        before.set_weights([kernel, (bias + 0.1) * factors])
        kernel, bias = behind.get_weights()
        behind.set_weights([kernel / factors[:, None], bias])
    return model


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "squeeze_unet" else pytest.mark.slow) for n in OWN_NETWORKS]
)
def test_scaled_channels_keep_every_bit_of_the_answers(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = with_statistics(OWN_NETWORKS[name]())
    folded = fold(keras.Model(model.inputs, model.outputs))
    seen = RANDOM(0).uniform(0, 1, (2, *model.input_shape[1:])).astype(np.float32)
    before = np.asarray(folded.model(seen))
    channels = find_channels(folded.model)
    doublings = np.where(channels.fixed, 0, RANDOM(1).integers(-6, 7, len(channels.fixed)))
    assert np.count_nonzero(doublings) > len(doublings) / 3
    scale_channels(folded.model, channels, doublings)
    np.testing.assert_array_equal(np.asarray(folded.model(seen)), before)
    assert equalize(folded, seen).any()
    np.testing.assert_array_equal(np.asarray(folded.model(seen)), before)


def test_channels_of_one_tensor_get_one_range() -> None:
    folded = fold(unequal())
    inner = [layer.output for layer in folded.model.layers if isinstance(layer, layers.ReLU)]
    probe, seen = keras.Model(folded.model.inputs[0], inner), images()

    def spread() -> float:
        ranges = [np.asarray(each).max((0, 1, 2)) for each in probe(seen)]
        return max(float(np.ptp(np.log2(each))) for each in ranges)

    assert spread() > 6
    equalize(folded, seen)
    assert spread() < 3


def test_what_is_no_plain_factor_keeps_its_scale() -> None:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 1, activation="relu6", name="capped")(image)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="gate")(x)
    both = layers.Multiply()([gate, layers.Conv2D(4, 1, name="free")(x)])
    model = fold(keras.Model(image, layers.Conv2D(2, 1, name="end")(both))).model
    channels = find_channels(model)
    fixed = {layer.name: channels.fixed[channels.of[id(layer.output)]].all() for layer in model.layers}
    assert fixed["capped"] and fixed["gate"] and fixed["end"] and not fixed["free"]


KERNELS = {
    "same": layers.Conv2D(5, 3, padding="same", use_bias=False),
    "dilated": layers.Conv2D(5, (3, 2), padding="same", dilation_rate=2, use_bias=False),
    "strided": layers.Conv2D(5, 5, strides=2, padding="valid", use_bias=False),
    "depthwise": layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
    "dense": layers.Dense(4, use_bias=False),
    **{
        f"transposed {kernel} by {strides}, {padding}": layers.Conv2DTranspose(
            5, kernel, strides=strides, padding=padding, use_bias=False
        )
        for kernel, strides, padding in ((3, 2, "same"), (2, 2, "valid"), (4, 2, "same"), (2, 3, "valid"))
    },
}


@pytest.mark.parametrize("name", KERNELS)
def test_sums_of_samples_are_those_of_the_layer(name: str) -> None:
    layer, x = KERNELS[name], RANDOM(0).normal(size=(2, 9, 12, 3)).astype(np.float32)
    y = np.asarray(layer(x))
    kernel = Kernel(layer)
    inputs, outputs = kernel.samples(x, y)
    values = np.asarray(layer.kernel)
    found = Sums(inputs, outputs).of(kernel.flat(values))
    np.testing.assert_allclose(found, outputs, atol=1e-5)
    np.testing.assert_array_equal(kernel.back(kernel.flat(values), values.shape), values)


@pytest.mark.parametrize("depthwise", [False, True])
def test_rounding_is_learned(depthwise: bool) -> None:
    random = RANDOM(0)
    shared = random.normal(size=(2048, 1, 1))  # neighbours are alike, so that roundings can cancel
    inputs = (shared + 0.3 * random.normal(size=(2048, 9, 4))).astype(np.float32)
    inputs = inputs if depthwise else inputs.reshape(2048, 36)
    kernel = random.normal(size=(9 if depthwise else 36, 4)).astype(np.float32)
    step = np.abs(kernel).max(0) / 127 * 16  # coarse
    kernel = np.clip(kernel, -7 * step, 7 * step)
    sums = Sums(inputs, np.einsum("pkc,kc->pc", inputs, kernel) if depthwise else inputs @ kernel)
    learned = learn_rounding(kernel, step, sums)
    np.testing.assert_allclose(learned / step, np.rint(learned / step), atol=1e-3)
    assert (np.abs(learned - kernel) < 1.001 * step).all()
    assert sums.error(learned).sum() < 0.5 * sums.error(np.rint(kernel / step) * step).sum()


def test_an_unequal_network_answers_in_int8_as_in_float() -> None:
    model, fresh = unequal(), images(seed=9)
    expected = np.asarray(model(fresh))
    with pytest.warns(UserWarning, match="agreement: of the quantized network"):
        plain = ku.quantize_aware(model, images(), preprocessing=PRE, allow_disagreement=True)
    refined = ku.quantize_aware(model, images(), preprocessing=PRE, refine=True)
    off = [np.sqrt(np.square(np.asarray(each(fresh)) - expected).mean()) for each in (plain, refined)]
    assert off[1] < off[0] / 4
    assert off[1] < 0.05 * expected.std()


def test_hard_swish_is_folded() -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="hard_silu")(4 * image)
    x = layers.Multiply()([x, layers.Conv2D(6, 1, activation="hard_sigmoid")(x)])
    model = keras.Model(image, layers.Conv2D(2, 1)(keras.ops.cast(keras.ops.hard_silu(x), "float32")))
    folded = fold(flat_form(model)).model
    np.testing.assert_allclose(np.asarray(folded(images())), np.asarray(model(images())), atol=1e-4)


def test_refinement_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(UsageError, match="own engine and ranges.*found tfmot, minmax"):
        ku.quantize_aware(unequal(), images(), engine="tfmot", refine=True)
    for recipe in ("float32", "auto", "static_wi8_ai16"):
        with pytest.raises(UsageError, match=f"refinement is of int8.*found {recipe}"):
            ku.export(unequal(), "never.tflite", preprocessing=PRE, recipe=recipe, refine=True)
    with pytest.raises(UsageError, match="refinement needs calibration images"):
        ku.export(unequal(), "never.tflite", preprocessing=PRE, refine=True, say=lambda line: None)


@pytest.mark.slow
def test_its_file_answers_as_the_float_network(tmp_path: Path) -> None:
    model, say = unequal(), lambda line: None
    given = {"preprocessing": PRE, "calibration": images(16), "say": say}
    pixels, expected = labelled(model)
    with pytest.raises(ConversionError, match="answers otherwise"):
        ku.export(model, tmp_path / "plain.tflite", refine=False, **given)
    ku.export(model, tmp_path / "refined.tflite", refine=True, **given)
    with Segmenter(tmp_path / "refined.tflite") as segmenter:
        found = np.stack([segmenter.segment(each).class_map for each in pixels])
    assert (found == expected).mean() > 0.97
    scored = ku.export(model, tmp_path / "scored.tflite", refine=True, data=(pixels, expected), max_drop=100, **given)
    assert "--refine" not in scored.command  # of a model in memory there is none
    assert scored.rows[0].score == 1
    assert scored.refinement == {"line": "It was refined without labels.", "used": True, "plain": None, "refined": None}
    assert (scored.calibration.images, scored.calibration.ranges) == (16, "of several ways, that nearest to float")


def labelled(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (6, 16, 16, 3) uint8 and the labels that a network gives for them."""
    pixels = RANDOM(9).integers(0, 256, (6, 16, 16, 3), np.uint8)
    return pixels, np.asarray(model(PRE.normalise(pixels))).argmax(-1)


@pytest.mark.slow
def test_export_refines_where_the_plain_file_loses_too_much(tmp_path: Path) -> None:
    """The receipt has both, and equal commands give equal files."""
    model, said = unequal(), []
    pixels, expected = labelled(model)
    given = {"preprocessing": PRE, "calibration": images(16), "data": (pixels, expected), "say": said.append}
    receipt = ku.export(model, tmp_path / "m.tflite", max_drop=9.0, **given)
    assert receipt.passed and receipt.drop is not None and receipt.refinement is not None
    assert receipt.refinement["used"]
    plain, refined = receipt.refinement["plain"], receipt.refinement["refined"]
    assert (refined["drop"], refined["score"]) == (receipt.drop.points, receipt.scores["miou"])
    assert plain["drop"] > 9 >= refined["drop"] and plain["labels_equal"] < refined["labels_equal"]
    line = f"It was refined without labels: plain int8 loses {plain['drop']:.2f} points of mIoU."
    assert receipt.refinement["line"] == line
    assert sum(text.startswith("refining   plain int8 loses") for text in said) == 1
    assert line in (tmp_path / "m.receipt.html").read_text()
    assert ku.read_receipt(tmp_path / "m.tflite") == receipt
    again = ku.export(model, tmp_path / "n.tflite", max_drop=9.0, **given)
    assert again.file.sha256 == receipt.file.sha256


@pytest.mark.slow
def test_a_loss_that_refinement_leaves_is_an_error_with_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ku.quantize_aware
    monkeypatch.setattr(
        "keras_unetres.quantization.quantize_aware", lambda *args, refine, **how: real(*args, refine=False, **how)
    )
    model = unequal()
    given = {"preprocessing": PRE, "calibration": images(16), "data": labelled(model), "say": lambda line: None}
    with pytest.raises(GateError, match="a loss of 1 is allowed") as rejected:
        ku.export(model, tmp_path / "m.tflite", max_drop=1.0, **given)
    message, receipt = str(rejected.value), ku.read_receipt(tmp_path / "m.tflite.rejected")
    assert receipt.refinement is not None and receipt.drop is not None
    losses = [receipt.refinement[name]["drop"] for name in ("plain", "refined")]
    assert receipt.drop.points == min(losses) and receipt.refinement["used"] == (losses[1] < losses[0])
    for words in (*(f"loses {points:.2f} points" for points in losses), "--recipe auto", "unetres quantize"):
        assert words in message
    for way in ("ku.quantize_aware", "static_wi8_ai16", "float16", "--max-drop"):
        assert way in message
    with pytest.raises(GateError, match="refined, without --no-refine"):
        ku.export(model, tmp_path / "n.tflite", max_drop=1.0, refine=False, **given)


@pytest.mark.slow
def test_an_unscored_file_that_answers_otherwise_is_refined(tmp_path: Path) -> None:
    """Calibration may come from a generator, which can be read once."""
    said: list[str] = []
    receipt = ku.export(
        unequal(),
        tmp_path / "m.tflite",
        preprocessing=PRE,
        calibration=(each[None] for each in images(16)),
        say=said.append,
    )
    assert receipt.passed is None and receipt.refinement is not None and receipt.file.agreement > 0.97
    assert "of plain int8, " in receipt.refinement["line"]
    assert any("plain int8 answers otherwise than Keras" in line for line in said)


@pytest.mark.slow
def test_what_cannot_be_refined_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **how: object) -> None:
        raise UsageError("the layer 'odd' has no int8 form")

    monkeypatch.setattr("keras_unetres.quantization.quantize_aware", refuse)
    model = unequal()
    given = {"preprocessing": PRE, "calibration": images(16), "say": lambda line: None}
    with pytest.raises(GateError, match=r"could not be refined: the layer 'odd' has no int8 form.*--recipe auto"):
        ku.export(model, tmp_path / "m.tflite", data=labelled(model), max_drop=1.0, **given)
    with pytest.raises(ConversionError, match="could not be refined: the layer 'odd'.*fix: train it"):
        ku.export(model, tmp_path / "m.tflite", **given)


def test_a_file_that_passes_is_not_refined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_unetres.workflows.refine._refined", None)
    model = unequal(spread=0)
    given = {"preprocessing": PRE, "calibration": images(16), "data": labelled(model), "say": lambda line: None}
    assert ku.export(model, tmp_path / "m.tflite", max_drop=20, **given).refinement is None


def test_always_and_never_exclude_each_other() -> None:
    from keras_unetres.settings import ExportSettings

    ways = ({}, {"always_refine": True}, {"may_refine": False})
    assert [ExportSettings(model="m", **how).refine for how in ways] == [None, True, False]
    with pytest.raises(UsageError, match="--refine and --no-refine exclude each other"):
        ExportSettings(model="m", always_refine=True, may_refine=False)
