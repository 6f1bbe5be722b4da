"""Network builders: pure Keras, on any backend."""

from .builders import assign, build
from .geometry import input_multiple, receptive_halo
from .unet import build_unet

__all__ = ["assign", "build", "build_unet", "input_multiple", "receptive_halo"]
