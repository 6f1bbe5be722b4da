"""Network builders: pure Keras, on any backend."""

from ..choices.networks import ENCODERS
from .builders import assign, build
from .encoders import encode, feature_pyramid
from .fcn import build_fcn
from .geometry import (
    check_size,
    crop_offset,
    deepest_stride,
    nearest_sizes,
    output_size,
    receptive_field,
    receptive_halo,
)
from .resnet import build_resnet
from .unet import build_unet

__all__ = [
    "ENCODERS",
    "assign",
    "build",
    "build_fcn",
    "build_resnet",
    "build_unet",
    "check_size",
    "crop_offset",
    "deepest_stride",
    "encode",
    "feature_pyramid",
    "nearest_sizes",
    "output_size",
    "receptive_field",
    "receptive_halo",
]
