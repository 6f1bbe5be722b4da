"""Frames from where they come: a camera, a video file, an address of the network; upright, RGB.

`open_frames` takes what a user writes: "0", "clip.mp4", "http://10.0.0.7/stream", "rtsp://10.0.0.7/live". MJPEG over
http, which most small cameras speak, is read here; other videos need PyAV, and cameras of this machine OpenCV.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from ..errors import FileSystemError, ImageError, UsageError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
VIDEO_PACKAGE = "av"
_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|srt|tcp|udp)://", re.IGNORECASE)
_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,3})")
_SECONDS = 10  # that a camera of the network may take to answer
_RATE = 1000  # frames a second above which what a file says is no rate


@dataclass(frozen=True)
class FrameSource:
    """A source of frames, as a user names it.

    Args:
        word: a number of a camera, a video file, or an address.
        name: name of the outputs, without an ending.
        found: whether it was found in a folder or by a pattern, and not named itself.
    """

    word: str
    name: str
    found: bool = False

    @property
    def file(self) -> Path:
        """The word as a path, without what an address says of its user."""
        return Path(shown_word(self.word))

    def exists(self) -> bool:
        """Return whether it is a file that is there."""
        return os.path.isfile(self.word)


class Frames:
    """The frames of a source that was opened, once: an iterator of (H, W, 3) uint8, RGB, upright.

    Args:
        images: the frames.
        live: whether they come by themselves, so that one who is slow misses some.
        rate: frames a second of a file, or None.
        every: step from one frame that is taken to the next.
        count: number of frames that are taken; None for all.
    """

    def __init__(
        self,
        images: Generator[np.ndarray, None, None],
        *,
        live: bool,
        rate: float | None = None,
        every: int = 1,
        count: int | None = None,
    ) -> None:
        if every < 1 or (count is not None and count < 1):
            raise UsageError("no such frames", expected="every 1 or above, and 1 frame or more", found=(every, count))
        self.live, self.rate = live, rate / every if rate else None
        self._images = images
        self._taken = itertools.islice(images, 0, None if count is None else (count - 1) * every + 1, every)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._taken

    def close(self) -> None:
        """Let the camera or the file go; where another thread waits for a frame, it does with that."""
        with contextlib.suppress(ValueError):  # a thread waits in it for the next frame
            self._images.close()


def find_frames(word: str | os.PathLike[str]) -> FrameSource | None:
    """Return the source that a word names, or None where it names no camera, video or address.

    A file that is there is itself, whatever it is called.
    """
    text = os.fspath(word)
    if _ADDRESS.match(text):
        parts = urlsplit(text)
        name = "_".join([parts.hostname or "", *re.findall(r"[\w.-]+", parts.path)])
        return FrameSource(text, re.sub(r"[^\w.-]", "_", Path(name).stem if "." in Path(parts.path).name else name))
    if is_video(text):
        return FrameSource(text, Path(text).stem)
    camera = _CAMERA.fullmatch(text)
    if camera and not os.path.isfile(text) and not os.path.isdir(text):
        return FrameSource(text, f"camera{int(camera[1])}")
    return None


def is_video(file: str | os.PathLike[str]) -> bool:
    """Return whether a file is a video, by its ending."""
    return os.fspath(file).lower().endswith(VIDEO_SUFFIXES)


def can_read_videos() -> bool:
    """Return whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def shown_word(word: str) -> str:
    """Return how a source is called in what is written: an address without user and password."""
    if not _ADDRESS.match(word):
        return word
    parts = urlsplit(word)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open_frames(word: str, *, every: int = 1, count: int | None = None) -> Frames:
    """Open a camera, a video file or an address.

    Args:
        word: number of a camera or its device (`0`, `/dev/video0`), a video file, or an address (http, https, rtsp).
        every, count: as `Frames` takes them.

    Raises:
        UsageError: there is no such camera, or what reads it is not installed; the fix says what to install.
        FileSystemError: there is no such file, or nobody answers.
        ImageError: it is no video.
    """
    source = find_frames(word)
    if source is None:
        raise UsageError("no camera, video or address", expected="0, clip.mp4, rtsp://host/path", found=word)
    if _ADDRESS.match(word):
        if word.lower().startswith("http"):
            from .mjpeg import open_http

            opened = open_http(word, _SECONDS)
            if opened is not None:
                return Frames(opened.images, live=opened.live, every=every, count=count)
        images, rate, live = _open_av(word)
        return Frames(images, live=live, rate=rate, every=every, count=count)
    if is_video(word):
        images, rate, _ = _open_av(word)
        return Frames(images, live=False, rate=rate, every=every, count=count)
    camera = _CAMERA.fullmatch(word)
    assert camera is not None  # as `find_frames` says
    return Frames(_open_camera(int(camera[1])), live=True, every=every, count=count)


def _open_camera(number: int) -> Generator[np.ndarray, None, None]:
    """Return the frames of a camera of this machine, by OpenCV."""
    device = Path(f"/dev/video{number}")
    if sys.platform == "linux" and not device.exists():
        others = sorted(path.name for path in Path("/dev").glob("video*"))
        raise UsageError(
            "no such camera",
            file=device,
            found=", ".join(others) or "no camera at all",
            fix="name another, an address (http://, rtsp://), or a video file",
        )
    cv2 = needed("cv2", "opencv-python-headless")
    cv2.setLogLevel(0)  # one line says what is wrong
    camera = cv2.VideoCapture(number)
    first = camera.read()[1] if camera.isOpened() else None
    if first is None:
        camera.release()
        raise UsageError(
            "the camera gives no picture", found=f"camera {number}", fix="see whether another program has it open"
        )
    return _camera_images(camera, first)


def _camera_images(camera: Any, first: np.ndarray) -> Generator[np.ndarray, None, None]:
    try:
        there, frame = True, first
        while there:
            yield np.ascontiguousarray(frame[..., ::-1])
            there, frame = camera.read()
    finally:
        camera.release()


def _open_av(word: str) -> tuple[Generator[np.ndarray, None, None], float | None, bool]:
    """Return frames by PyAV, how many there are in a second, and whether they come by themselves."""
    address = bool(_ADDRESS.match(word))
    if not address and not os.path.isfile(word):
        raise FileSystemError("no such video", file=word, expected="a file", kind="not-a-file")
    av = needed("av", VIDEO_PACKAGE)
    av.logging.set_level(None)
    options = {"rtsp_transport": "tcp"} if word.lower().startswith("rtsp") else {}
    named = shown_word(word)
    try:
        container = av.open(word, options=options, timeout=(_SECONDS, _SECONDS) if address else None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if address:
            raise _unreached(named, error) from error
        raise ImageError(f"cannot read the video: {_reason(error)}", file=named) from error
    if not container.streams.video:
        container.close()
        raise ImageError("no video in the file", file=named, found="sound alone" if container.streams.audio else None)
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = float(stream.average_rate) if stream.average_rate else None
    live = address and not container.duration
    return _av_images(av, container, named, live), rate if rate and rate < _RATE else None, live


def _av_images(av: Any, container: Any, named: str, live: bool) -> Generator[np.ndarray, None, None]:
    number = 0
    try:
        for frame in _av_frames(av, container, live):
            image = frame.to_ndarray(format="rgb24")
            yield np.ascontiguousarray(np.rot90(image, round(getattr(frame, "rotation", 0) / 90) % 4))
            number += 1
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageError(
            f"the video breaks off: {_reason(error)}", file=named, found=f"{number} frames before that"
        ) from error
    finally:
        container.close()
    if number == 0:
        raise ImageError("the video has no frames", file=named)


def _av_frames(av: Any, container: Any, live: bool) -> Iterator[Any]:
    """Yield what the packets of a video hold; of one that comes by itself, damaged ones are passed over, if few."""
    from .mjpeg import MOST_DAMAGED

    damaged = 0
    for packet in container.demux(video=0):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            if not live or damaged == MOST_DAMAGED:
                raise
            continue
        damaged = damaged if not frames else 0
        yield from frames


def _unreached(named: str, error: Exception) -> FileSystemError:
    return FileSystemError(
        f"no video comes from there: {_reason(error)}", file=named, fix="check the address, and that it can be reached"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def needed(module: str, package: str) -> Any:
    """Return a module that not everyone needs.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed", fix=f"pip install '{package}'") from error
