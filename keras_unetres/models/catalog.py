"""Every network by name, and what it costs: parameters, multiply-adds, receptive field, what is not int8-clean.

`python -m keras_unetres.models.catalog` builds all of them and writes `costs.json`, which `unetres models` reads.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import layers

from unetres_edge.errors import UsageError
from unetres_edge.files import write_json

from ..choices.networks import DEPTHS, EFFICIENTNETS, ENCODERS, RESNETS
from .builders import build
from .encoders import feature_pyramid
from .geometry import map_sizes, receptive_field


@dataclass(frozen=True)
class Network:
    """A named network.

    Args:
        name: its name.
        builder: the builder's name.
        arguments: arguments of the builder, without `input_shape`.
        input_shape: (height, width, channels) at which it is usually quoted.
        about: description, one line for people.
    """

    name: str
    builder: str
    arguments: dict[str, Any] = field(hash=False)
    input_shape: tuple[int, int, int]
    about: str

    def build(self, size: tuple[int, int] | None = None) -> keras.Model:
        """Build it, at another (height, width) if given."""
        height, width, channels = (*(size or self.input_shape[:2]), self.input_shape[2])
        return build(self.builder, {"input_shape": (height, width, channels), "name": self.name, **self.arguments})


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Args:
        parameters: all weights, statistics included.
        multiply_adds: multiply-adds of one forward pass, in convolutions and dense layers.
        receptive_field: side of the input square, px, that one output depends on; before the pooling of a classifier.
        not_int8: layers that leave int8 or split the int8 partition, with the op; empty for an int8-clean network.
    """

    parameters: int
    multiply_adds: int
    receptive_field: int
    not_int8: tuple[str, ...]


_PAPER = {"padding": "valid", "norm": None, "dropout": 0.5, "head_activation": "softmax"}
_U_NETS = (
    Network("unet", "build_unet", {}, (256, 256, 3), "U-Net with same padding and BatchNorm"),
    Network("unet2015", "build_unet", _PAPER, (572, 572, 1), "U-Net as in Ronneberger 2015: unpadded, no norm"),
    Network("unet_residual", "build_unet", {"residual": True}, (256, 256, 3), "U-Net of residual blocks"),
    Network("unet_bilinear", "build_unet", {"upsampling": "bilinear"}, (256, 256, 3), "U-Net, bilinear upsampling"),
    Network("unet_nearest", "build_unet", {"upsampling": "nearest"}, (256, 256, 3), "U-Net, nearest upsampling"),
)
_VARIANTS = {
    "v1": "ResNet (He 2015)",
    "v1.5": "ResNet, stride in the 3x3 convolutions",
    "v2": "ResNet, pre-activation (He 2016)",
    "plain": "no shortcuts (He 2015)",
}
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        *_U_NETS,
        *(
            Network(
                name,
                "build_resnet",
                {"depth": depth, "variant": variant, "num_classes": 1000 if DEPTHS[depth].size == 224 else 10},
                (DEPTHS[depth].size, DEPTHS[depth].size, 3),
                f"{_VARIANTS[variant]}, {depth} layers",
            )
            for name, (depth, variant) in RESNETS.items()
        ),
        *(
            Network(f"{kind}_{name}", f"build_{kind}", {"encoder": name}, (256, 256, 3), about.format(name))
            for kind, about in (("unet", "U-Net with encoder {}"), ("fcn", "FCN on {}, output stride 8"))
            for name, (depth, variant) in RESNETS.items()
            if variant in ("v1", "v1.5") and DEPTHS[depth].size == 224
        ),
        *(
            Network(f"unet_{name}", "build_unet", {"encoder": name}, (256, 256, 3), f"U-Net with encoder {name}")
            for name in EFFICIENTNETS
        ),
    )
}


def find_network(name: str) -> Network:
    """Return a network by name; U-Nets and FCNs on any encoder as `unet_<encoder>` and `fcn_<encoder>`.

    Raises:
        UsageError: no such network.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    kind, _, encoder = name.partition("_")
    if encoder in (ENCODERS if kind == "unet" else RESNETS if kind == "fcn" else ()):
        return Network(name, f"build_{kind}", {"encoder": encoder}, (256, 256, 3), f"{kind} on {encoder}")
    raise UsageError("the network is unknown", expected=", ".join(NETWORKS), found=name, fix="see: unetres models")


def measure(network: Network, model: keras.Model, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the row of a network in the table of costs, as JSON values.

    Args:
        network: the network.
        model: the same, built for this size.
        size: (height, width) of the input, px; None for the one at which it is usually quoted.
    """
    height, width = size or network.input_shape[:2]
    figures = asdict(cost(model, (height, width)))
    about = {"name": network.name, "about": network.about, "size": [height, width]}
    return {**about, **figures, "not_int8": list(figures["not_int8"])}


def cost(model: keras.Model, size: tuple[int, int]) -> Cost:
    """Return what a network of this package costs for an input of (height, width) px."""
    deepest = model.output if len(model.output.shape) == 4 else list(feature_pyramid(model).values())[-1]
    return Cost(model.count_params(), multiply_adds(model, size), receptive_field(model, deepest), not_int8(model))


def multiply_adds(model: keras.Model, size: tuple[int, int]) -> int:
    """Return the multiply-adds of a forward pass of one image, as He 2015, table 1 counts them.

    Convolutions and dense layers count; norms, activations, pooling and biases do not.

    Args:
        model: a flat functional model.
        size: (height, width) of the input, px.

    Raises:
        UsageError: the network does not take this size.
    """
    sizes = map_sizes(model, size)
    total = 0
    for layer in model.layers:
        if not isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.Dense)):
            continue
        transposed = isinstance(layer, layers.Conv2DTranspose)  # whose kernel is applied at every place of its input
        at = layer.input._keras_history.operation if transposed else layer
        total += math.prod(sizes.get(at.name, (1, 1))) * math.prod(layer.kernel.shape)
    return total


def not_int8(model: keras.Model) -> tuple[str, ...]:
    """Return "layer (op)" for the layers of a network of this package that split the int8 partition of XNNPACK."""
    faults = []
    for layer in model.layers:
        if isinstance(layer, layers.UpSampling2D) and layer.interpolation == "nearest":
            faults.append(f"{layer.name} (TILE)")
        elif isinstance(layer, layers.AveragePooling2D) and set(layer.pool_size) == {1} and max(layer.strides) > 1:
            faults.append(f"{layer.name} (AVERAGE_POOL_2D, 1x1 with strides)")
    return tuple(faults)


if __name__ == "__main__":
    write_json(Path(__file__).with_name("costs.json"), [measure(each, each.build()) for each in NETWORKS.values()])
