"""How long a file takes for a tile: on this machine, or on a device by its profile."""

from __future__ import annotations

import time

import numpy as np

from unetres_edge import Segmenter
from unetres_edge.latency.estimate import predict_latency
from unetres_edge.latency.profile import Profile
from unetres_edge.model.card import read_card
from unetres_edge.model.selftest import make_images

_WARM_UP = 2
_CALLS = (5, 40)
_SECONDS = 2.0


def tile_ms(data: bytes, profile: Profile | None = None) -> float:
    """Return the milliseconds that a file takes for a tile: timed here, or foretold for the device of a profile.

    Args:
        data: a sealed `.tflite` of a segmenter.
        profile: of the device, on which the network alone is counted; None for this machine.

    Raises:
        ModelError: the profile does not tell what an operation of the network takes.
    """
    return time_tile(data) if profile is None else round(predict_latency(data, profile).ms, 3)


def time_tile(data: bytes) -> float:
    """Return the milliseconds that an image of the file's own size takes, through everything, on all cores.

    Args:
        data: a sealed `.tflite` of a segmenter.

    Returns:
        The median of 5 to 40 calls, as many as two seconds allow.
    """
    image = make_images(read_card(data), count=1)[0]
    begun = time.perf_counter()
    seconds: list[float] = []
    with Segmenter(data) as segmenter:
        while len(seconds) < _WARM_UP + _CALLS[0] or (
            len(seconds) < _CALLS[1] and time.perf_counter() - begun < _SECONDS
        ):
            start = time.perf_counter()
            segmenter.segment(image)
            seconds.append(time.perf_counter() - start)
    return round(1000 * float(np.median(seconds[_WARM_UP:])), 3)
