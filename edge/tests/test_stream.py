"""Streams: which frames are segmented, in which order, and what smoothing does; with frames made up."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from models import make_card

from unetres_edge import Segmenter
from unetres_edge.errors import UsageError
from unetres_edge.segment.stream import Stream, camera_frames, video_frames

SIZE = (8, 8)


class Level:
    """An engine whose second class gains with the grey level; it may wait before it answers."""

    def __init__(self, wait: threading.Event | None = None) -> None:
        self.wait = wait

    def run(self, tile: np.ndarray) -> np.ndarray:
        if self.wait is not None:
            assert self.wait.wait(30)
        level = tile[..., 0].astype(np.float32)
        return np.stack([np.full_like(level, 100), level], -1)


def frame(level: int) -> np.ndarray:
    return np.full(SIZE, level, np.uint8)


def segmenter(**fields) -> Segmenter:
    return Segmenter(None, card=make_card(SIZE), engine=Level(**fields))


def test_every_frame_of_a_file_is_segmented_in_order() -> None:
    stream = Stream(segmenter(), [frame(level) for level in range(90, 110)], drop=False)
    results = list(stream)
    assert [each.index for each in results] == list(range(20))
    assert [int(each.image[0, 0]) for each in results] == list(range(90, 110))
    assert [int(each.result.class_map[0, 0]) for each in results] == [0] * 11 + [1] * 9
    assert {each.dropped for each in results} == {0}
    times = stream.latency()
    assert set(times) == {"wait", "prepare", "infer", "post", "total", "latency"}
    assert all(0 <= each["p50"] <= each["p95"] for each in times.values())
    assert times["latency"]["p50"] >= times["total"]["p50"]


def test_old_frames_are_dropped_while_one_is_segmented() -> None:
    may_go, first_taken = threading.Event(), threading.Event()

    def frames():
        yield frame(0)
        assert first_taken.wait(30)
        for level in range(1, 10):
            yield frame(level)
        may_go.set()  # all are read before the first is done

    class Slow(Level):
        def run(self, tile: np.ndarray) -> np.ndarray:
            first_taken.set()
            return super().run(tile)

    stream = Stream(Segmenter(None, card=make_card(SIZE), engine=Slow(may_go)), frames())
    assert [(each.index, each.dropped) for each in stream] == [(0, 0), (9, 8)]


def test_smoothing_averages_scores_exponentially() -> None:
    levels = [60, 160, 160, 60, 60]
    smoothed, expected = None, []
    for level in levels:
        smoothed = level if smoothed is None else 0.5 * smoothed + 0.5 * level
        expected.append(smoothed)
    results = [each.result for each in Stream(segmenter(), map(frame, levels), drop=False, smoothing=0.5)]
    assert [float(result.scores[0, 0, 1]) for result in results] == expected == [60, 110, 135, 97.5, 78.75]
    assert [int(result.class_map[0, 0]) for result in results] == [0, 1, 1, 0, 0]
    assert sum(results[0].timing[stage] for stage in ("prepare", "infer", "post")) == pytest.approx(
        results[0].timing["total"]
    )


def test_frames_of_another_size_begin_anew() -> None:
    frames = [frame(60), np.full((12, 9), 160, np.uint8)]
    first, second = Stream(segmenter(), frames, drop=False, smoothing=0.9)
    assert [first.result.class_map.shape, second.result.class_map.shape] == [(8, 8), (12, 9)]
    assert float(second.result.scores.max()) == 160


def test_what_the_source_raises_comes_after_its_frames() -> None:
    def frames():
        yield frame(0)
        raise RuntimeError("unplugged")

    stream = iter(Stream(segmenter(), frames(), drop=False))
    assert next(stream).index == 0
    with pytest.raises(RuntimeError, match="unplugged"):
        next(stream)


def test_leaving_early_ends_the_reader() -> None:
    before, closed = threading.active_count(), threading.Event()

    def frames():
        try:
            while True:
                yield frame(0)
        finally:
            closed.set()

    iterator = iter(Stream(segmenter(), frames(), drop=False))
    next(iterator)
    iterator.close()
    assert closed.wait(30)
    for thread in threading.enumerate():
        if thread.name == "unetres-frames":
            thread.join(30)
    assert threading.active_count() == before


def test_what_cannot_be_is_refused() -> None:
    for wrong in (-0.1, 1, 2):
        with pytest.raises(UsageError, match="smoothing is wrong"):
            Stream(segmenter(), [], smoothing=wrong)
    with pytest.raises(UsageError, match="no scores to smooth"):
        Stream(Segmenter(None, card=make_card(SIZE, head="argmax"), engine=Level()), [], smoothing=0.5)
    stream = Stream(segmenter(), [frame(0)])
    assert len(list(stream)) == 1
    with pytest.raises(UsageError, match="read once"):
        list(stream)


def test_libraries_that_are_missing_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(sys, "platform", "darwin")  # elsewhere than on Linux no file tells of a camera
    with pytest.raises(UsageError, match="cv2 is not installed; fix: pip install"):
        next(camera_frames())
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UsageError, match="av is not installed; fix: pip install"):
        next(video_frames(f"{tmp_path}/a.mp4"))
