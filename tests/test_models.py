"""Builders: shapes, parameter counts against a formula written apart from them, geometry against what pixels do."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_unetres.choices.networks import UPSAMPLINGS
from keras_unetres.models import assign, build, build_unet, nearest_sizes, receptive_halo
from unetres_edge.errors import ModelError, RunFolderError, UsageError


def count_parameters(
    channels: int, num_classes: int, filters: int, depth: int, upsampling: str, norm: str | None
) -> tuple[int, int]:
    """Parameters of a U-Net, (trainable, not trainable), counted convolution by convolution."""
    trained = fixed = 0

    def conv(kernel: int, before: int, after: int) -> None:
        nonlocal trained, fixed
        trained += kernel * kernel * before * after + (2 * after if norm else after)
        fixed += 2 * after if norm else 0

    widths = [filters * 2**level for level in range(depth + 1)]
    for before, after in zip([channels, *widths], widths, strict=False):
        conv(3, before, after)
        conv(3, after, after)
    for above, below in zip(widths, widths[1:], strict=False):
        if upsampling == "transpose":
            trained += 2 * 2 * below * above + above
        else:
            conv(2, below, above)
        conv(3, 2 * above, above)
        conv(3, above, above)
    return trained + filters * num_classes + num_classes, fixed


def parameters(model: keras.Model) -> tuple[int, int]:
    return tuple(
        sum(int(np.prod(v.shape)) for v in weights)
        for weights in (model.trainable_weights, model.non_trainable_weights)
    )


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


VARIANTS = [
    {"input_shape": (32, 32, 1), "num_classes": 2, "filters": 4, "depth": 2},
    {"input_shape": (16, 48, 3), "num_classes": 5, "filters": 3, "depth": 1, "upsampling": "bilinear"},
    {"input_shape": (None, None, 4), "num_classes": 3, "filters": 2, "depth": 3, "upsampling": "nearest"},
    {"input_shape": (None, 32, 7), "num_classes": 2, "filters": 1, "depth": 2, "norm": None},
    {
        "input_shape": (32, None, 1),
        "num_classes": 21,
        "filters": 2,
        "depth": 2,
        "upsampling": "bilinear",
        "norm": None,
        "dropout": 0.5,
    },
]


@pytest.mark.parametrize("arguments", VARIANTS, ids=lambda a: f"{a.get('upsampling', 'transpose')}-{a['input_shape']}")
def test_every_variant(arguments: dict, tmp_path) -> None:
    model = build_unet(**arguments)
    height, width, channels = arguments["input_shape"]
    classes, depth = arguments["num_classes"], arguments["depth"]
    images = random_images(2, height or 3 * 2**depth, width or 2 * 2**depth, channels)
    logits = np.asarray(model(images))
    assert logits.shape == (*images.shape[:3], classes)
    assert logits.dtype == np.float32
    assert model.output_shape == (None, height, width, classes)
    assert model.layers[-1].activation is keras.activations.linear
    counted = {"upsampling": "transpose", "norm": "batch", **arguments}
    for name in ("input_shape", "dropout"):
        counted.pop(name, None)
    assert parameters(model) == count_parameters(channels, **counted)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    pattern = r"image|(encoder|decoder)\d+_\w+|bridge_\w+|head_logits"
    assert [name for name in names if not re.fullmatch(pattern, name)] == []
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(again(images)), logits)
    assert [w.path for w in again.weights] == [w.path for w in model.weights]


def test_the_network_of_the_paper_has_its_parameters() -> None:
    """With batch normalisation in place of biases, 31,037,698 are trained (a widespread PyTorch port counts them)."""
    assert parameters(build_unet((None, None, 3), 2))[0] == 31_037_698


def test_upsamplings_are_those_the_builder_takes() -> None:
    assert UPSAMPLINGS == ("transpose", "bilinear", "nearest")
    kinds = {kind: {type(layer) for layer in build_unet((8, 8, 1), filters=1, depth=1, upsampling=kind).layers}
             for kind in UPSAMPLINGS}  # fmt: skip
    assert layers.Conv2DTranspose in kinds["transpose"]
    assert all(layers.UpSampling2D in kinds[kind] for kind in ("bilinear", "nearest"))


def test_no_normalisation_follows_a_transposed_convolution() -> None:
    model = build_unet((16, 16, 1), filters=2, depth=2)
    ups = [layer for layer in model.layers if isinstance(layer, layers.Conv2DTranspose)]
    after = [node.operation for layer in ups for node in layer._outbound_nodes]
    assert len(ups) == 2
    assert {type(layer) for layer in after} == {layers.Concatenate}


def test_a_builder_neither_seeds_nor_compiles() -> None:
    keras.utils.set_random_seed(7)
    one, two = (build_unet((8, 8, 1), filters=2, depth=1) for _ in range(2))
    assert not np.array_equal(one.get_weights()[0], two.get_weights()[0])
    assert not one.compiled
    keras.utils.set_random_seed(7)
    np.testing.assert_array_equal(build_unet((8, 8, 1), filters=2, depth=1).get_weights()[0], one.get_weights()[0])


def test_logits_stay_float32_in_mixed_precision() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build_unet((8, 8, 1), filters=2, depth=1)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.output.dtype == "float32"
    assert model.get_layer("encoder1_1_conv").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (64, 64)}, "input_shape"),
        ({"input_shape": (64, 64, None)}, "input_shape"),
        ({"input_shape": (64, 64, 0)}, "input_shape"),
        ({"input_shape": (65, 64, 1)}, "use 64 or 80"),
        ({"input_shape": (64, 8, 1)}, "use 16$"),
        ({"input_shape": (0, 64, 1)}, "input_shape"),
        ({"num_classes": 1}, "num_classes"),
        ({"filters": 0}, "filters"),
        ({"depth": 0}, "depth"),
        ({"upsampling": "cubic"}, "transpose or bilinear or nearest"),
        ({"norm": "layer"}, "norm"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_unet(**{"input_shape": (64, 64, 1), **arguments})


def probe_reach(model: keras.Model, side: int, step: int) -> int:
    """How far a pixel reaches, found by lighting single pixels, at every offset in a step, of a black image.

    All weights are positive and all biases 0, so that nothing cancels and a black image gives exactly 0.
    """
    for variable in model.weights:
        biased = variable.path.endswith(("bias", "beta", "moving_mean"))
        spread = variable.path.endswith(("gamma", "moving_variance"))
        variable.assign(np.full(variable.shape, 0.0 if biased else 1.0 if spread else 0.1, np.float32))
    channels = model.input_shape[-1]
    farthest = 0
    for offset_y in range(step):
        images = np.zeros((step, side, side, channels), np.float32)
        places = [(side // 2 + offset_y, side // 2 + offset_x) for offset_x in range(step)]
        for image, place in zip(images, places, strict=True):
            image[place] = 1
        for output, (y, x) in zip(np.asarray(model(images)), places, strict=True):
            rows, columns = np.nonzero(output.any(-1))
            assert rows.min() > 0 and rows.max() < side - 1  # the image is large enough to see the end
            farthest = max(farthest, *abs(rows - y), *abs(columns - x))
    return int(farthest)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_halo_is_how_far_a_pixel_reaches(depth: int, upsampling: str) -> None:
    model = build_unet((None, None, 1), filters=1, depth=depth, upsampling=upsampling)
    reach, halo = probe_reach(model, 32 * 2**depth, 2**depth), receptive_halo(model)
    assert reach == halo
    step = 2**depth
    assert nearest_sizes(model, 5 * step + 1) == (5 * step, 6 * step)


def chain(*steps: keras.Layer) -> keras.Model:
    x = inputs = keras.Input((None, None, 2))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


CHAINS = {
    "dilated": (1, [layers.Conv2D(1, 3, padding="same", dilation_rate=3), layers.Conv2D(1, 5, padding="same")]),
    "even kernels": (1, [layers.Conv2D(1, 4, padding="same"), layers.Conv2D(1, 2, padding="same")]),
    "strided, transposed by 4": (
        2,
        [layers.Conv2D(1, 5, 2, padding="same"), layers.Conv2DTranspose(1, 4, 2, padding="same")],
    ),
    "transposed by 3": (2, [layers.MaxPooling2D(2), layers.Conv2DTranspose(1, 3, 2, padding="same"), layers.ReLU()]),
    "average, bilinear by 4": (4, [layers.AveragePooling2D(4), layers.UpSampling2D(4, interpolation="bilinear")]),
    "overlapping pool, nearest": (2, [layers.MaxPooling2D(3, 2, padding="same"), layers.UpSampling2D(2)]),
    "separable": (
        1,
        [
            layers.DepthwiseConv2D(5, padding="same"),
            layers.SeparableConv2D(1, 3, padding="same"),
            layers.LeakyReLU(),
        ],
    ),
}


@pytest.mark.parametrize(("step", "steps"), CHAINS.values(), ids=CHAINS)
def test_the_halo_of_other_models(step: int, steps: list[keras.Layer]) -> None:
    model = chain(*[type(layer).from_config(layer.get_config()) for layer in steps])
    reach, halo = probe_reach(model, 64, step), receptive_halo(model)
    assert reach == halo
    assert nearest_sizes(model, 64 + 1) == ((64 + 1,) if step == 1 else (64, 64 + step))


def test_a_layer_of_unknown_reach_is_named() -> None:
    with pytest.raises(ModelError, match="'everywhere' .GlobalAveragePooling2D. is not known; fix: pass halo="):
        receptive_halo(chain(layers.GlobalAveragePooling2D(keepdims=True, name="everywhere")))


def test_build_makes_what_the_builder_makes() -> None:
    model = build("build_unet", {"input_shape": [16, 16, 1], "num_classes": 2, "filters": 2, "depth": 1})
    assert [layer.name for layer in model.layers] == [
        layer.name for layer in build_unet((16, 16, 1), filters=2, depth=1).layers
    ]


def test_build_refuses_what_it_does_not_know() -> None:
    with pytest.raises(
        RunFolderError, match="expected build_fcn, build_own, build_resnet, build_unet; found build_net"
    ):
        build("build_net", {})
    with pytest.raises(RunFolderError, match="unexpected keyword argument 'fliters'"):
        build("build_unet", {"fliters": 3})


@pytest.fixture(scope="module")
def small() -> keras.Model:
    return build_unet((8, 8, 1), filters=1, depth=1)


def test_assign_sets_every_variable(small: keras.Model) -> None:
    rng = np.random.default_rng(1)
    tensors = {v.path: rng.random(v.shape, np.float32) for v in small.weights}
    assign({v.path: v for v in small.weights}, tensors)
    for variable in small.weights:
        np.testing.assert_array_equal(np.asarray(variable), tensors[variable.path])


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "dtype", "nan"])
def test_assign_refuses_other_tensors_and_changes_nothing(small: keras.Model, fault: str) -> None:
    before = small.get_weights()
    tensors = {v.path: np.asarray(v) + 1 for v in small.weights}
    name = "head_logits/bias"
    if fault == "missing":
        del tensors[name]
    elif fault == "unknown":
        tensors["more"] = tensors[name]
    elif fault == "shape":
        tensors[name] = tensors[name][:1]
    elif fault == "dtype":
        tensors[name] = tensors[name].astype(np.float64)
    else:
        tensors[name] = np.full_like(tensors[name], np.nan)
    with pytest.raises(RunFolderError, match="^run-folder: w: ") as caught:
        assign({v.path: v for v in small.weights}, tensors, file="w")
    assert ("more" if fault == "unknown" else name) in str(caught.value)
    for one, other in zip(small.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
