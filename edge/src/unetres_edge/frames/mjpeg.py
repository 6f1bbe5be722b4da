"""MJPEG over http, as cameras of the network send it: JPEG after JPEG, in parts of one answer (RFC 2046)."""

from __future__ import annotations

import base64
import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import numpy as np

from ..errors import FileSystemError, ImageError
from ..images.decode import pixels_of
from ..images.view import to_view

_MOST_BYTES = 64 * 2**20  # of one picture
_MOST_LINE = 8192
_MOST_LINES = 1000  # of the head of a part
MOST_DAMAGED = 10  # pictures in a row; one now and then is usual of a radio link


@dataclass(frozen=True)
class Opened:
    """Pictures of an address: (H, W, 3) uint8, and whether they come by themselves."""

    images: Generator[np.ndarray, None, None]
    live: bool


def open_http(address: str, seconds: float) -> Opened | None:
    """Return the pictures of an address that sends MJPEG or a single picture; None if it sends something else.

    Args:
        address: http:// or https://; `user:password@` before the host is sent as basic authentication.
        seconds: most time without an answer, or between two pieces of it.

    Raises:
        FileSystemError: nobody answers, or with an error.
    """
    parts = urlsplit(address)
    named = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(named, headers={"User-Agent": "unetres-edge"})
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(words).decode()}")
    try:
        answer = urllib.request.urlopen(request, timeout=seconds)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FileSystemError(
            f"no video comes from there: {code}{getattr(reason, 'strerror', None) or reason}",
            file=named,
            fix="check the address, and that it can be reached",
        ) from error
    kind = answer.headers.get_content_type()
    if kind == "multipart/x-mixed-replace":
        return Opened(_sound(_parts(answer, answer.headers, named), named), live=True)
    if kind.startswith("image/"):
        return Opened(_single(answer, named), live=False)
    answer.close()
    if kind.startswith("text/"):
        raise ImageError(
            "the address gives a page, not a video",
            file=named,
            found=kind,
            fix="name the address of the stream itself, as the camera's manual calls it",
        )
    return None


def _single(answer: BinaryIO, named: str) -> Generator[np.ndarray, None, None]:
    with answer:
        yield _decode(_read(answer, None, named), named)


def _sound(files: Generator[bytes, None, None], named: str) -> Generator[np.ndarray, None, None]:
    """Yield the pictures of files, but those that are damaged; ten of these in a row, or nothing else, are an error."""
    damaged, seen = 0, False
    with contextlib.closing(files):
        for data in files:
            try:
                image = _decode(data, named)
            except ImageError as error:
                damaged, fault = damaged + 1, error
                if damaged == MOST_DAMAGED:
                    raise
                continue
            damaged, seen = 0, True
            yield image
    if damaged and not seen:
        raise fault


def _parts(answer: BinaryIO, headers: Message, named: str) -> Generator[bytes, None, None]:
    """Yield the files between the boundaries; an answer that ends between two of them ends it."""
    boundary = headers.get_param("boundary")
    text = boundary if isinstance(boundary, str) else ""
    mark = b"--" + text.removeprefix("--").encode("ascii", "replace")
    with answer:
        try:
            if not _skip_to(answer, mark, named):
                raise ImageError("the stream has no pictures", file=named)
            while True:
                length = _part_length(answer, named)
                if length is None:
                    data, goes_on = _until(answer, mark, named)
                else:
                    data, goes_on = _read(answer, length, named), True
                if not data:
                    return
                yield data
                if not goes_on or (length is not None and not _skip_to(answer, mark, named)):
                    return
        except (OSError, http.client.HTTPException) as error:
            raise FileSystemError(
                f"the stream breaks off: {getattr(error, 'strerror', None) or error}", file=named
            ) from error


def _skip_to(answer: BinaryIO, mark: bytes, named: str) -> bool:
    """Read up to the line of the next boundary; return whether a picture follows."""
    skipped = 0
    while skipped <= _MOST_BYTES:
        line = answer.readline(_MOST_LINE)
        if not line:
            return False
        if line.startswith(mark):
            return not line.rstrip().endswith(mark + b"--")
        skipped += len(line)
    raise _too_large(named)


def _part_length(answer: BinaryIO, named: str) -> int | None:
    """Read the head of a part; return the bytes that it says will follow."""
    length = None
    for _ in range(_MOST_LINES):
        line = answer.readline(_MOST_LINE).strip()
        if not line:
            return length
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value.strip()[:19])  # more is too large at any rate
    raise ImageError("the head of a picture does not end", file=named, expected=f"at most {_MOST_LINES} lines")


def _until(answer: BinaryIO, mark: bytes, named: str) -> tuple[bytes, bool]:
    """Return what stands before the next boundary, for cameras that say no length, and whether a part follows."""
    data = bytearray()
    while len(data) <= _MOST_BYTES:
        line = answer.readline(2**16)
        if not line:
            return b"", False  # cut off within a picture
        if line.startswith(mark):
            return bytes(data.rstrip(b"\r\n")), not line.rstrip().endswith(mark + b"--")
        data += line
    raise _too_large(named)


def _read(answer: BinaryIO, length: int | None, named: str) -> bytes:
    """Return so many bytes, or all that come; nothing where the answer ends before."""
    most = _MOST_BYTES + 1 if length is None else length
    if most > _MOST_BYTES + 1:
        raise _too_large(named)
    data = b""
    while len(data) < most:
        piece = answer.read(most - len(data))
        if not piece:
            break
        data += piece
    if len(data) > _MOST_BYTES:
        raise _too_large(named)
    return data if length is None or len(data) == length else b""


def _too_large(named: str) -> ImageError:
    return ImageError("a picture is too large", file=named, expected=f"at most {_MOST_BYTES} bytes")


def _decode(data: bytes, named: str) -> np.ndarray:
    try:
        return to_view(pixels_of(data))
    except ImageError as error:
        error.file = error.file or named
        raise
