"""What a file takes: milliseconds, on this machine or on a device by its profile, its size, and memory."""

from __future__ import annotations

import time

import numpy as np

from unetres_edge import Segmenter
from unetres_edge.latency.estimate import predict_latency
from unetres_edge.latency.profile import Profile
from unetres_edge.model.card import read_card
from unetres_edge.model.selftest import make_images

from ..settings import FileCost, LimitSettings
from .arena import arena_bytes
from .inspect import Graph

_WARM_UP = 2
_CALLS = (5, 40)
_SECONDS = 2.0


def file_cost(data: bytes, limits: LimitSettings, profile: Profile | None = None) -> FileCost:
    """Return what a file takes; it is timed only where there is a limit to that.

    Args:
        data: a sealed `.tflite` of a segmenter.
        limits: limits that it is to be held to.
        profile: profile of the device, for which the milliseconds of the network alone are foretold; None for this
            machine.

    Raises:
        ModelError: the profile does not tell what an operation of the network takes.
    """
    ms = None
    if limits.max_ms is not None:
        ms = time_tile(data) if profile is None else round(predict_latency(data, profile).ms, 3)
    return FileCost(ms, round(len(data) / 1000, 1), round(arena_bytes(Graph(data)) / 1000, 1))


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
