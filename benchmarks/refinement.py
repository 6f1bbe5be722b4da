"""What refinement without labels saves of networks that plain int8 breaks; figures to results/refinement.json.

    python benchmarks/refinement.py [NAME ...] [--steps 120]

Networks as people write them, most of them around an encoder of keras.applications, trained here for so many steps on
dsb2018 or camvid at a small size. Of some, channels are then made unequal, and the answers kept: what a
BatchNormalization gives for a channel is multiplied by a number from 1/16 to 16, and the kernel behind it divided.
Each is exported as int8 the plain way and refined, and both files are scored on held-out images. A loss is in points of
mIoU against the float network, negative where a file gains. Calibration images are training images without their masks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from _command import given_command
from _data import DATA, left_out
from keras import layers
from PIL import Image
from real_data import ROOT, machine

import keras_unetres as ku
from keras_unetres.scores.confusion import Confusion
from unetres_edge import Segmenter
from unetres_edge.files import make_folder, write_json

RESULTS = ROOT / "benchmarks" / "results" / "refinement.json"
INT8 = "static_wi8_ai8"
SIZES = {"dsb2018": (64, 64), "camvid": (96, 128)}  # height, width
CLASSES = {"dsb2018": ("background", "nucleus"), "camvid": tuple(map(str, range(11)))}
IGNORED = 255
CALIBRATION = 48
SPREAD = 4  # doublings either way

Maps = tuple[np.ndarray, np.ndarray]


def read(name: str) -> tuple[Maps, Maps]:
    """Return images (N, h, w, 3) and masks (N, h, w) uint8 to train on, and those to score on."""
    if name == "dsb2018":
        files = sorted((DATA / name / "images").iterdir())
        train, test = ([each for n, each in enumerate(files) if (n % 4 == 3) == last] for last in (False, True))
    else:
        train, test = (sorted((DATA / name / part / "images").iterdir()) for part in ("train", "test"))
    return _pairs(name, train), _pairs(name, test)


def _pairs(name: str, files: list[Path]) -> Maps:
    height, width = SIZES[name]
    images, masks = [], []
    for file in files:
        (mask,) = (file.parent.parent / "masks").glob(f"{file.stem}.*")
        images.append(np.asarray(Image.open(file).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)))
        ids = np.asarray(Image.open(mask)).astype(np.int32)
        ids = np.asarray(Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST))
        masks.append((ids > 0) if name == "dsb2018" else np.where(ids < len(CLASSES[name]), ids, IGNORED))
    return np.stack(images), np.stack(masks).astype(np.uint8)


# Networks


def _convolved(x: Any, filters: int, kernel: int = 3) -> Any:
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def around(encoder: Callable[..., keras.Model], skips: tuple[str, ...], **how: Any) -> Callable[..., keras.Model]:
    """Return what builds a U-Net around an encoder of keras.applications, of which skips are layers."""

    def build(size: tuple[int, int], classes: int) -> keras.Model:
        base = encoder(input_shape=(*size, 3), include_top=False, weights=None, **how)
        maps = [base.get_layer(name).output for name in skips]
        x = maps[-1]
        for skip in reversed(maps[:-1]):
            x = layers.UpSampling2D(skip.shape[1] // x.shape[1], interpolation="bilinear")(_convolved(x, 32, 1))
            x = _convolved(layers.Concatenate()([x, skip]), 32)
        x = layers.Conv2DTranspose(24, 2, strides=2, activation="relu")(x)
        return keras.Model(base.input, layers.Conv2D(classes, 1)(x))

    return build


def separable(size: tuple[int, int], classes: int) -> keras.Model:
    """A U-Net of depthwise and 1x1 convolutions with ReLU and squeeze and excitation."""

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
            x = _convolved(x, filters, 1)
        gate = layers.Conv2D(filters // 4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Multiply()([x, layers.Conv2D(filters, 1, activation="sigmoid")(gate)])

    image = keras.Input((*size, 3))
    x, skips = _convolved(image, 16), []
    for filters in (16, 32, 64):
        skips.append(block(x, filters))
        x = layers.MaxPooling2D()(skips[-1])
    x = block(x, 96)
    for skip in reversed(skips):
        x = layers.Conv2DTranspose(skip.shape[-1], 2, strides=2, padding="same")(x)
        x = block(layers.Concatenate()([x, skip]), skip.shape[-1])
    return keras.Model(image, layers.Conv2D(classes, 1)(x))


def hard_swish(size: tuple[int, int], classes: int) -> keras.Model:
    """Inverted bottlenecks with hard-swish, as in MobileNetV3, in a U."""

    def block(x: Any, filters: int) -> Any:
        y = layers.Conv2D(4 * filters, 1, use_bias=False)(x)
        y = layers.Activation("hard_silu")(layers.BatchNormalization()(y))
        y = layers.DepthwiseConv2D(5, padding="same", use_bias=False)(y)
        y = layers.Activation("hard_silu")(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
        return layers.Add()([x, y])

    image = keras.Input((*size, 3))
    x, skips = _convolved(image, 16), []
    for filters in (16, 24):
        x = block(layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x)), filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(layers.Conv2D(32, 1)(x), 32)
    for skip in reversed(skips):
        x = layers.Conv2DTranspose(skip.shape[-1], 4, strides=2, padding="same")(x)
        x = block(layers.Conv2D(skip.shape[-1], 1)(layers.Concatenate()([x, skip])), skip.shape[-1])
    return keras.Model(image, layers.Conv2D(classes, 1)(x))


def residual(size: tuple[int, int], classes: int) -> keras.Model:
    """A U-Net of residual blocks, whose sums meet at one scale."""

    def block(x: Any, filters: int) -> Any:
        y = layers.BatchNormalization()(
            layers.Conv2D(filters, 3, padding="same", use_bias=False)(_convolved(x, filters))
        )
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
        return layers.ReLU()(layers.Add()([x, y]))

    image = keras.Input((*size, 3))
    x, skips = image, []
    for filters in (16, 24, 32):
        skips.append(block(x, filters))
        x = layers.MaxPooling2D()(skips[-1])
    x = block(x, 48)
    for skip in reversed(skips):
        x = layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(x), skip])
        x = block(x, skip.shape[-1])
    return keras.Model(image, layers.Conv2D(classes, 1)(x))


def pyramid(size: tuple[int, int], classes: int) -> keras.Model:
    """DeepLabV3+ in small: dilated depthwise convolutions side by side, and a skip from a quarter of the size."""

    def apart(x: Any, filters: int, **how: Any) -> Any:
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, **how)(x)
        return _convolved(layers.ReLU()(layers.BatchNormalization()(x)), filters, 1)

    image = keras.Input((*size, 3))
    low = apart(apart(_convolved(image, 16), 24, strides=2), 32, strides=2)
    x = apart(apart(low, 48, strides=2), 64)
    branches = [_convolved(x, 32, 1), *(apart(x, 32, dilation_rate=rate) for rate in (2, 3, 4))]
    whole = _convolved(layers.GlobalAveragePooling2D(keepdims=True)(x), 32, 1)
    branches.append(layers.UpSampling2D(x.shape[1:3], interpolation="bilinear")(whole))
    x = layers.UpSampling2D(2, interpolation="bilinear")(_convolved(layers.Concatenate()(branches), 32, 1))
    x = apart(layers.Concatenate()([x, _convolved(low, 16, 1)]), 32)
    return keras.Model(image, layers.UpSampling2D(4, interpolation="bilinear")(layers.Conv2D(classes, 1)(x)))


MOBILENET_V2 = around(
    keras.applications.MobileNetV2,
    ("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu", "block_10_project"),
    alpha=0.35,
)
MOBILENET_V3 = around(
    keras.applications.MobileNetV3Small,
    ("activation", "expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_6_project_bn"),
    include_preprocessing=False,
)
# name -> (data set, builder, whether channels are made unequal)
NETWORKS: dict[str, tuple[str, Callable[..., keras.Model], bool]] = {
    "MobileNetV2 U-Net": ("camvid", MOBILENET_V2, False),
    "MobileNetV2 U-Net, unequal": ("camvid", MOBILENET_V2, True),
    "MobileNetV3 U-Net": ("dsb2018", MOBILENET_V3, False),
    "hard-swish U-Net": ("dsb2018", hard_swish, False),
    "separable U-Net, unequal": ("dsb2018", separable, True),
    "separable U-Net, unequal, camvid": ("camvid", separable, True),
    "residual U-Net, unequal": ("dsb2018", residual, True),
    "residual U-Net, unequal, camvid": ("camvid", residual, True),
    "DeepLabV3+ of depthwise convolutions, unequal": ("dsb2018", pyramid, True),
    "DeepLabV3+ of depthwise convolutions, unequal, camvid": ("camvid", pyramid, True),
    "hard-swish U-Net, camvid": ("camvid", hard_swish, False),
    "MobileNetV3 U-Net, camvid": ("camvid", MOBILENET_V3, False),
}


def trained(name: str, steps: int, images: np.ndarray, masks: np.ndarray) -> keras.Model:
    """Return a network, trained for so many steps; its channels made unequal if its row says so."""
    data, build, unequal = NETWORKS[name]
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = build(SIZES[data], len(CLASSES[data]))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # statistics that settle in so many steps
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss=ku.CrossEntropy(), jit_compile=False)
    random = np.random.default_rng(0)
    for _ in range(steps):
        chosen = random.integers(0, len(images), 8)
        turned = np.s_[:, :, ::-1] if random.random() < 0.5 else np.s_[:]
        model.train_on_batch(images[chosen][turned], masks[chosen][turned])
    if unequal:
        before = model.predict(images[:8], verbose=0)
        changed = make_unequal(model, random)
        after = model.predict(images[:8], verbose=0)
        print(f"{name}: {changed} layers with unequal channels; answers off by {np.abs(after - before).max():.1e}")
    return model


def make_unequal(model: keras.Model, random: np.random.Generator) -> int:
    """Multiply the channels of normalised maps, and divide the kernels behind them; return how many maps."""
    count = 0
    for layer in model.layers:
        behind = _kernel_behind(layer) if isinstance(layer, layers.BatchNormalization) else None
        if behind is None:
            continue
        factors = 2.0 ** random.uniform(-SPREAD, SPREAD, layer.gamma.shape)
        layer.gamma.assign(layer.gamma * factors)
        layer.beta.assign(layer.beta * factors)
        kernel, *bias = behind.get_weights()
        behind.set_weights([kernel / factors[:, None], *bias])
        count += 1
    return count


def _kernel_behind(layer: Any) -> Any:
    """Return the convolution that alone takes what a layer gives, by way of a ReLU or not; None if there is none."""
    while len(layer._outbound_nodes) == 1:
        layer = layer._outbound_nodes[0].operation
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)) and not isinstance(layer, layers.Conv2DTranspose):
            return layer
        if not isinstance(layer, (layers.MaxPooling2D, layers.ZeroPadding2D)) and (
            not isinstance(layer, layers.ReLU) or layer.max_value is not None
        ):
            return None
    return None


def measure(name: str, steps: int) -> dict[str, Any]:
    """Return the figures of a network."""
    data = NETWORKS[name][0]
    (images, masks), test = read(data)
    pre = ku.Preprocessing(channels=3, value_range=(-1.0, 1.0), size=SIZES[data])
    seen = pre.normalise(images)
    model = trained(name, steps, seen, masks)
    calibration = seen[np.linspace(0, len(seen) - 1, CALIBRATION).astype(int)]
    row: dict[str, Any] = {"data": data, "unequal": NETWORKS[name][2], "parameters": model.count_params()}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def score(title: str, network: keras.Model, **how: Any) -> float:
            file = Path(folder) / f"{title}.tflite"
            done = ku.export_tflite(
                network, file, preprocessing=pre, classes=CLASSES[data], allow_disagreement=True, **how
            )
            row[f"{title}_kb"] = round(done.num_bytes / 1000, 1)
            with Segmenter(file) as segmenter:
                pairs = zip(*test, strict=True)
                counts = [
                    Confusion.of(mask, segmenter.segment(image).class_map, len(CLASSES[data])) for image, mask in pairs
                ]
            return 100 * sum(counts, Confusion.empty(len(CLASSES[data]))).mean_iou()

        exact = score("float32", model, recipe="float32")
        row["miou"] = round(exact, 2)
        row["plain_loss"] = round(exact - score("plain", model, recipe=INT8, calibration=calibration), 2)
        aware = ku.quantize_aware(model, calibration, preprocessing=pre, allow_disagreement=True)
        row["aware_loss"] = round(exact - score("aware", aware, recipe=INT8), 2)
        begun, spent = time.perf_counter(), time.process_time()
        refined = ku.quantize_aware(model, calibration, preprocessing=pre, refine=True, allow_disagreement=True)
        row["seconds"], row["processor_seconds"] = (
            round(time.perf_counter() - begun, 1),
            round(time.process_time() - spent, 1),
        )
        row["refined_loss"] = round(exact - score("refined", refined, recipe=INT8), 2)
    return row


def main() -> None:
    """Measure, and write the figures of each network as they come."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []], help="networks (all)")
    parser.add_argument("--steps", type=int, default=120, help="of each training (120)")
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"networks": {}}
    for name in options.names or NETWORKS:
        if not (DATA / NETWORKS[name][0]).is_dir():
            print(left_out(NETWORKS[name][0]))
            continue
        row = measure(name, options.steps)
        print(f"{name}: {row}", flush=True)
        kept["networks"][name] = row
        write_json(
            make_folder(RESULTS.parent) / RESULTS.name,
            {"command": given_command(), "machine": machine(), "steps": options.steps, "networks": kept["networks"]},
        )


if __name__ == "__main__":
    main()
