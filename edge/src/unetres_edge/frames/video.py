"""Videos that are written, by PyAV: H.264 in MP4, which every browser and player shows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileSystemError, ImageError
from ..files import replacing
from .source import VIDEO_PACKAGE, needed

_CLOCK = 1000  # ticks a second of the times of frames
_QUALITY = {"crf": "20", "preset": "veryfast"}


class VideoWriter:
    """Encodes frames into an open container; made by `written_video`."""

    def __init__(self, av: Any, container: Any, path: Path) -> None:
        self._av, self._container, self._path = av, container, path
        self._stream: Any = None
        self._last = -1

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8, of one size in a video; an odd side gets one more row or column.
            seconds: time at which it is shown, from the first frame on; a frame is shown 1 ms after the last at the
                earliest.

        Raises:
            ImageError: it has another size than the first.
            FileSystemError: the disk refuses.
        """
        height, width = image.shape[:2]
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._start(even.shape[1], even.shape[0])
        if (self._stream.width, self._stream.height) != (even.shape[1], even.shape[0]):
            raise ImageError(
                "frames of a video have one size",
                expected=f"{self._stream.width} x {self._stream.height} px",
                found=f"{width} x {height} px",
            )
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(self._last + 1, round(seconds * _CLOCK))
        frame.pts, frame.time_base = self._last, Fraction(1, _CLOCK)
        self._mux(frame)

    def finish(self) -> None:
        """Write what the encoder still holds, and the head of the file."""
        if self._stream is None:
            raise ImageError("a video has one frame or more", file=self._path)
        self._mux(None)
        self._container.close()

    def _start(self, width: int, height: int) -> Any:
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=_CLOCK, options=_QUALITY if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        return stream

    def _mux(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (self._av.error.FFmpegError, OSError) as error:
            raise FileSystemError(f"cannot write the video: {error.strerror or error}", file=self._path) from error


@contextlib.contextmanager
def written_video(path: str | os.PathLike[str]) -> Iterator[VideoWriter]:
    """Yield what writes an MP4 file, which is there under its name once it is whole; after an error there is none.

    Raises:
        UsageError: PyAV is not installed.
        FileSystemError: the file cannot be written.
        ImageError: it got no frame.
    """
    av = needed("av", VIDEO_PACKAGE)
    av.logging.set_level(None)
    with replacing(path) as temporary, av.open(os.fspath(temporary), "w", format="mp4") as container:
        writer = VideoWriter(av, container, Path(path))
        yield writer
        writer.finish()
