"""Published weights: where they come from, how they get into a network, and builders that do both in one call."""

from .loader import load_published
from .pretrained import build_fcn, build_resnet, build_unet

__all__ = [
    "build_fcn",
    "build_resnet",
    "build_unet",
    "load_published",
]
