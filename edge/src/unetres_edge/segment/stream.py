"""Streams: the newest frame of a camera or a video segmented as soon as the last is done, and how long that took.

A thread reads the frames and keeps only the newest that nobody has taken, so that results never fall behind a camera
(`drop=False` takes every frame, for files). Scores of successive frames may be averaged, which calms the class map.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UsageError
from ..frames.source import open_frames
from ..results.result import Result
from .drift import Drift, DriftTest
from .segmenter import Segmenter

STAGES = ("wait", "prepare", "infer", "post", "total")
_KEPT = 1000  # frames that percentiles are taken of


@dataclass(frozen=True)
class FrameResult:
    """A segmented frame.

    Args:
        index: index of the frame among those that the source gave, from 0.
        image: the frame.
        result: its class map and times.
        latency_ms: milliseconds from the moment the frame was read to its result.
        dropped: frames that were passed over so far.
        drift: whether the frames up to this one became unlike the held-out pictures; None where the model cannot tell.
        drifts: whether it is this frame at which they did; then the user should know.
    """

    index: int
    image: np.ndarray
    result: Result
    latency_ms: float
    dropped: int
    drift: Drift | None = None
    drifts: bool = False


class Stream:
    """Segments the frames of a source, one result at a time; iterate over it, once.

    Args:
        segmenter: segments each frame.
        frames: (H, W) or (H, W, C) arrays, RGB, as `Segmenter.segment` takes them: any iterable.
        drop: pass over frames that came while another was segmented. False waits with reading instead.
        scores: whether to keep the scores of each frame in its result.
        smoothing: 0 to below 1, how much of a score is kept from the frame before: s = smoothing * before + (1 -
            smoothing) * new. 0 takes each frame for itself.

    Raises:
        UsageError: the smoothing is out of range, or asked of an argmax head.

    Example:
        >>> for frame in Stream(segmenter, camera_frames(0)):   # doctest: +SKIP
        ...     show(frame.result.overlay(frame.image))
    """

    def __init__(
        self,
        segmenter: Segmenter,
        frames: Iterable[np.ndarray],
        *,
        drop: bool = True,
        smoothing: float = 0.0,
        scores: bool = False,
    ) -> None:
        if not 0 <= smoothing < 1:
            raise UsageError("the smoothing is wrong", expected="0 to below 1", found=smoothing)
        if smoothing and segmenter.card.head == "argmax":
            raise UsageError("a model with an argmax head has no scores to smooth", fix="export it with head='logits'")
        self._segmenter, self._smoothing, self._keep = segmenter, np.float32(smoothing), scores
        self._reader = _Reader(frames, drop)
        self._times: dict[str, deque[float]] = {stage: deque(maxlen=_KEPT) for stage in (*STAGES, "latency")}
        self._before: np.ndarray | None = None
        known = segmenter.card.familiarity
        self._drift = None if known is None or not known.known else DriftTest(known)

    def __iter__(self) -> Iterator[FrameResult]:
        self._reader.start()
        try:
            while True:
                started = time.perf_counter()
                taken = self._reader.take()
                if taken is None:
                    return
                yield self._segment(taken, time.perf_counter() - started)
        finally:
            self._reader.stop()

    def latency(self) -> dict[str, dict[str, float]]:
        """Return {"p50", "p95"} ms of each stage, over the last 1,000 frames.

        The stages are those of a result's timing, "wait" for a frame to come, and "latency" from reading to result.
        """
        return {
            stage: {"p50": float(np.percentile(ms, 50)), "p95": float(np.percentile(ms, 95))}
            for stage, ms in self._times.items()
            if ms
        }

    def _segment(self, taken: _Taken, waited: float) -> FrameResult:
        result = self._segmenter.segment(taken.image, scores=self._keep or bool(self._smoothing))
        if self._smoothing:
            result = self._smooth(result)
        latency = 1e3 * (time.perf_counter() - taken.read_at)
        for stage, ms in {"wait": 1e3 * waited, "latency": latency, **result.timing}.items():
            self._times[stage].append(ms)
        if self._drift is None or result.familiarity is None:
            return FrameResult(taken.index, taken.image, result, latency, taken.dropped)
        drifts = self._drift.add(result.familiarity)
        return FrameResult(taken.index, taken.image, result, latency, taken.dropped, self._drift.drift, drifts)

    def _smooth(self, result: Result) -> Result:
        start = time.perf_counter()
        scores = result.scores
        assert scores is not None  # they were asked for
        if self._before is not None and self._before.shape == scores.shape:
            scores = self._smoothing * self._before + (1 - self._smoothing) * scores
        self._before = scores
        spent = 1e3 * (time.perf_counter() - start)
        timing = {**result.timing, "post": result.timing["post"] + spent, "total": result.timing["total"] + spent}
        return replace(result, class_map=scores.argmax(-1).astype(np.uint8), scores=scores, timing=timing)


@dataclass(frozen=True)
class _Taken:
    index: int
    image: np.ndarray
    read_at: float
    dropped: int


class _Reader:
    """A thread that reads frames into a place for one."""

    def __init__(self, frames: Iterable[np.ndarray], drop: bool) -> None:
        self._frames, self._drop = frames, drop
        self._changed = threading.Condition()
        self._waiting: _Taken | None = None
        self._dropped = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="unetres-frames", daemon=True)

    def start(self) -> None:
        if self._thread.ident is not None:
            raise UsageError("a stream is read once", fix="make another Stream")
        self._thread.start()

    def take(self) -> _Taken | None:
        """Return the newest frame once there is one, None after the last; raise what the source raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._ended)
            taken, self._waiting = self._waiting, None
            self._changed.notify_all()
        if taken is None and self._error is not None:
            raise self._error
        return taken

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for index, image in enumerate(self._frames):
                read_at = time.perf_counter()
                with self._changed:
                    if not self._drop:
                        self._changed.wait_for(lambda: self._waiting is None or self._stopped)
                    if self._stopped:
                        break
                    self._dropped += self._waiting is not None
                    self._waiting = _Taken(index, image, read_at, self._dropped)
                    self._changed.notify_all()
        except BaseException as error:  # of the source; raised to who iterates
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


def camera_frames(camera: int = 0) -> Iterator[np.ndarray]:
    """Yield the frames of a camera, (H, W, 3) uint8 RGB; needs OpenCV.

    Raises:
        UsageError: OpenCV is not installed, or there is no such camera.
    """
    yield from open_frames(str(camera))


def video_frames(path: str) -> Iterator[np.ndarray]:
    """Yield the frames of a video file or an address, (H, W, 3) uint8 RGB; needs PyAV, but for MJPEG over http.

    Raises:
        UsageError: PyAV is not installed.
        UnetresError: as `unetres_edge.frames.source.open_frames` says.
    """
    yield from open_frames(path)
