"""`unetres-edge stream`: frames as they come, segmented and shown: a camera, a video, an address, or image files."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import command_line
from ..engines.table import usual_engine
from ..errors import DataError, FileSystemError, UnetresError, UsageError
from ..files import read_bytes
from ..frames.source import Frames, open_frames
from ..frames.video import VideoWriter, written_video
from ..images.decode import read_image
from ..images.view import to_view
from ..model.card import Card, read_card
from ..results.draw import encode_jpeg
from ..segment.files import refuse_collisions, say_faults
from ..segment.inputs import Inputs, find_inputs
from ..segment.segmenter import Segmenter
from ..segment.stacks import stack_pages
from ..segment.stream import FrameResult, Stream
from ..settings import Settings, like, setting
from ..terminal import counted, shown
from ..web.live import LivePage
from .options import add_engine, add_threads, engine_lines, threads_of
from .predict import drift_line, print_failure, print_notes
from .predict_settings import PredictSettings

_SECONDS = 1  # between two lines


@dataclass(frozen=True, kw_only=True)
class StreamSettings(Settings):
    """Where frames come from, and where they are shown."""

    model: str = like(PredictSettings, "model")
    source: tuple[str, ...] = setting(
        help="a camera (0), an address (http://, rtsp://), a video; images, stacks, folders of them, or patterns",
        positional=True,
    )
    every: int = like(PredictSettings, "every", help="take every N-th frame only")
    frames: int | None = like(PredictSettings, "frames", help="end after N frames")
    smoothing: float = setting(
        0.0, "how much of a score is kept from the frame before, to calm the classes", least=0, below=1, metavar="S"
    )
    out: str | None = setting(None, "write the frames with their classes as a video", metavar="F.mp4")
    overwrite: bool = setting(False, "replace a video that exists")
    page: bool = setting(True, "show no page")
    host: str = setting("127.0.0.1", "address that the page listens on", metavar="A")
    port: int = setting(0, "port of the page; 0 for any", least=0, most=65_535, metavar="N")
    overlap: int | None = like(PredictSettings, "overlap")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, where frames come from and go, and how this device runs it."""
    command_line.add_options(parser, StreamSettings)
    add_engine(parser)
    add_threads(parser)
    parser.add_argument("--fallback", action="store_true", help="run LiteRT where --engine cannot")


def run(options: argparse.Namespace) -> None:
    """Segment frame after frame until the last, or Ctrl-C."""
    settings = command_line.read(StreamSettings, options)
    inputs = find_inputs(settings.source)
    print_notes(inputs.notes)
    if settings.out:
        refuse_collisions([each.file for each in inputs.frames], [Path(settings.out)], settings.overwrite)
    total = _Total()
    faults: list[UnetresError] = []  # of images that could not be read
    with contextlib.ExitStack() as stack:
        segmenter = stack.enter_context(
            Segmenter(
                settings.model,
                overlap=settings.overlap,
                num_threads=threads_of(options),
                engine=options.engine or _usual(settings.model),
                fallback=options.fallback,
            )
        )
        sources = _open(inputs, segmenter, settings, stack, faults)
        total.page = stack.enter_context(LivePage(settings.host, settings.port)) if settings.page else None
        if total.page:
            print(f"page       {total.page.address} (Ctrl-C ends it)", flush=True)
        total.writer = stack.enter_context(written_video(settings.out)) if settings.out else None
        try:
            for frames in sources:
                total.follow(Stream(segmenter, frames, drop=frames.live, smoothing=settings.smoothing), frames)
        except KeyboardInterrupt:
            ended = None
        except (DataError, FileSystemError) as error:
            ended = error
        else:
            ended = None
        if not total.frames:
            say_faults(faults, len(inputs.images), "segmented", told=True)
            raise ended or UsageError("no frame came")
        for line in engine_lines(segmenter.engine, options.engine):
            print(shown(line), flush=True)
    print(shown(total.line(settings.out)), flush=True)
    if ended:
        raise ended
    say_faults(faults, len(inputs.images), "segmented", told=True)


def _usual(model: str) -> str:
    return usual_engine(read_card(read_bytes(model, "model file"), file=model))


def _open(
    inputs: Inputs,
    segmenter: Segmenter,
    settings: StreamSettings,
    stack: contextlib.ExitStack,
    faults: list[UnetresError],
) -> Sequence[Frames]:
    """Open every source, so that one that is not there is said at once; images are read as their turn comes."""
    every, count = settings.every, settings.frames
    opened = []
    if inputs.images:
        opened.append(Frames(_images(inputs.images, segmenter.card, faults), live=False, every=every, count=count))
    opened += [open_frames(each.word, every=every, count=count) for each in inputs.frames]
    for frames in opened:
        stack.callback(frames.close)
    return opened


def _images(images: Sequence[Path], card: Card, faults: list[UnetresError]) -> Generator[np.ndarray, None, None]:
    """Yield image files, and stacks page by page; one that cannot be read is said and kept in `faults`."""
    for number, image in enumerate(images, 1):
        try:
            pages = stack_pages(image, stacked=card.stacked)
            for page in range(pages):
                yield read_image(image, page) if pages > 1 else read_image(image, stacked=card.stacked)
        except (DataError, FileSystemError) as error:
            error.file = error.file or os.fspath(image)
            faults.append(error)
            print_failure(number, len(images), error)


class _Total:
    """What is shown of each frame, and what is said of all."""

    def __init__(self) -> None:
        self.page: LivePage | None = None
        self.writer: VideoWriter | None = None
        self.frames = self._dropped = 0
        self._times: list[float] = []
        self._begin = self._said = time.monotonic()
        self._written = 0.0  # seconds of the video so far

    def follow(self, stream: Stream, frames: Frames) -> None:
        """Segment and show the frames of one source."""
        start, dropped = self._written, 0
        for frame in stream:
            self.frames += 1
            self._times.append(frame.result.timing["total"])
            dropped = frame.dropped
            seconds = frame.index / frames.rate if frames.rate else time.monotonic() - self._begin
            self._written = max(self._written, start * bool(frames.rate) + seconds)
            self._show(frame)
        self._dropped += dropped

    def _show(self, frame: FrameResult) -> None:
        result = frame.result
        view = to_view(frame.image)
        areas = [count / result.class_map.size for count in result.areas().values()]
        per_second = self.frames / max(time.monotonic() - self._begin, 1e-6)
        line = (
            f"frame {frame.index}, {result.timing['total']:.0f} ms, {per_second:.1f} a second, {frame.dropped} dropped"
        )
        if frame.drift is not None and frame.drift.fired_at is not None:
            line += f"; unlike the held-out images since result {(frame.drift.since or 0) + 1}"
        drawn = result.overlay(view) if self.writer or (self.page and self.page.watchers) else view
        if self.writer:
            self.writer.write(drawn, self._written)
        if self.page:
            known = zip(result.class_names, result.class_colors, areas, strict=True)
            classes: list[dict[str, object]] = [
                {"name": name, "color": list(color), "share": share} for name, color, share in known
            ]
            self.page.show(lambda: encode_jpeg(drawn), line, classes)
        if frame.drifts and frame.drift is not None:
            print(shown(drift_line(f"frame {frame.index}", frame.drift)), flush=True)
        if time.monotonic() - self._said > _SECONDS or self.frames == 1:
            self._said = time.monotonic()
            shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(result.class_names, areas, strict=True))
            print(shown(f"{line}; {shares}"), flush=True)

    def line(self, out: str | None) -> str:
        """Return what sums it up."""
        mean, late = np.mean(self._times), np.percentile(self._times, 95)
        into = f" in {out}" if out else ""
        return (
            f"{counted(self.frames, 'frame')}{into}, {mean:.0f} ms each, 95 % within {late:.0f} ms, "
            f"{self._dropped} dropped"
        )
