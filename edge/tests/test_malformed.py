"""A thousand image files, sound, odd and broken, give their pixels or an error with a name; none hangs or dies."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections import Counter
from pathlib import Path

import malformed
import numpy as np
import pytest
from malformed import KINDS, READERS, chunk, ids, malformed_files, png

from unetres_edge.errors import ImageError, MaskError
from unetres_edge.images import png as image_png
from unetres_edge.images.decode import count_pages, read_colors, read_image, read_mask

MEGABYTES = 700  # that the process may have used at its peak, the libraries included
READ = [(read_image, ImageError), (read_mask, MaskError), (read_colors, MaskError), (count_pages, ImageError)]
PIXELS = np.arange(35, dtype=np.uint8).reshape(5, 7)


def outcomes(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Read files in a process of its own, with little memory and an alarm for each, and return what came of it."""
    command = [sys.executable, malformed.__file__, str(count), str(seed), "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 + count // 10)
    lines = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended by {done.returncode} after {lines[-1:]}: {done.stderr[-2000:]}"
    return lines


def check_outcomes(lines: list[tuple[str, str, str]], count: int) -> None:
    *reads, (_, _, peak) = lines
    assert len(reads) == count * len(READERS)
    assert [line for line in reads if line[2].startswith("WRONG")] == []
    assert int(peak) < MEGABYTES
    found = Counter(outcome for _, _, outcome in reads)
    assert found["exact"] > count / 2
    assert found["refused"] > count
    assert found["pixels"] < count / 5


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory of a process as Linux does")
def test_files_of_every_kind(count: int) -> None:
    lines = outcomes(count, seed=1)
    check_outcomes(lines, count)
    assert {kind for kind, _, _ in lines} >= set(KINDS)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory of a process as Linux does")
def test_twenty_thousand_files() -> None:
    check_outcomes(outcomes(20_000, seed=2), 20_000)


def test_the_files_are_the_same_each_time() -> None:
    first, second = ([case.data for case in malformed_files(len(KINDS), seed=5)] for _ in range(2))
    assert first == second
    assert first != [case.data for case in malformed_files(len(KINDS), seed=6)]


NAMES = {
    "newline": b"a\nb.png",
    "emoji": "\N{LEAF FLUTTERING IN WIND}.png".encode(),
    "not UTF-8": b"a\xff\xfe.png",
    "right to left": "\u05ea\u05de\u05d5\u05e0\u05d4.png".encode(),
    "255 bytes": b"a" * 251 + b".png",
    "percent and quotes": b"%s '\"# ;$(x).png",
    "dash": b"-rf.png",
}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_a_file_may_have(tmp_path: Path, name: str) -> None:
    path = os.path.join(tmp_path, os.fsdecode(NAMES[name]))
    try:
        Path(path).write_bytes(png(PIXELS))
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    np.testing.assert_array_equal(read_image(path), PIXELS)
    np.testing.assert_array_equal(read_mask(path), PIXELS)
    Path(path).write_bytes(png(PIXELS)[:50])
    for read, error in READ[:3]:
        with pytest.raises(error, match="truncated") as caught:
            read(path)
        assert caught.value.file == path
        assert len(str(caught.value).splitlines()) == 1


def not_a_file(kind: str, folder: Path) -> Path:
    path = folder / "a.png"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to(folder / "gone.png")
        case "link to itself":
            path.symlink_to(path)
        case "links in a circle":
            path.symlink_to(folder / "b.png")
            (folder / "b.png").symlink_to(path)
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "below a file":
            path.write_bytes(png(PIXELS))
            return path / "a.png"
        case "name too long":
            return folder / ("a" * 300 + ".png")
        case "name with a zero":
            return folder / "a\0.png"
    return path


@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs, sockets and links")
@pytest.mark.parametrize(
    "kind",
    ["nothing", "folder", "fifo", "dangling link", "link to itself", "links in a circle", "link to a device"]
    + ["below a file", "name too long", "name with a zero"],
)
def test_what_is_not_a_file(tmp_path: Path, kind: str) -> None:
    path = not_a_file(kind, tmp_path)
    for read, error in READ:
        with pytest.raises(error, match="no such (image|mask)") as caught:
            read(path)
        assert caught.value.file == str(path)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets with names")
def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.png")
        with pytest.raises(ImageError, match="no such image"):
            read_image("a.png")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(PIXELS))

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for read, error in READ:
        with pytest.raises(error, match="Permission denied"):
            read(path)


def test_a_file_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(2**32 + 1)
    with pytest.raises(ImageError, match="too large"):
        read_image(path)


def odd_exif(folder: Path) -> Path:
    """Return a sound PNG whose EXIF makes Pillow warn."""
    path = folder / "odd.png"
    block = b"II*\0\x08\0\0\0\x01\0" + b"\x0f\x01\x02\0\x40\0\0\0\x00\x10\0\0" + bytes(4)
    path.write_bytes(png(PIXELS, before=chunk(b"eXIf", block)))
    return path


def test_warnings_of_metadata_are_kept_quiet_in_the_thread_that_decodes(tmp_path: Path) -> None:
    from PIL import Image

    path = odd_exif(tmp_path)
    with warnings.catch_warnings(record=True) as seen, Image.open(path) as image:
        warnings.simplefilter("always")
        image.getexif().get(0x0112)
        dict(image.getexif())
    assert seen, "Pillow no longer warns of this file"
    found: list[object] = []

    def decode() -> None:
        for _ in range(50):
            found.append((read_image(path) == PIXELS).all() and (read_mask(path) == PIXELS).all())

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=decode) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(50):
            warnings.warn(f"of another thread {number}", UserWarning, stacklevel=1)
        for thread in threads:
            thread.join()
    assert found == [True] * 200
    assert [str(warning.message) for warning in seen] == [f"of another thread {number}" for number in range(50)]
    with pytest.raises(UserWarning, match="an error again"):
        warnings.warn("an error again", UserWarning, stacklevel=1)


def test_the_filters_of_warnings_do_not_grow(tmp_path: Path) -> None:
    """Whatever others put before it, there is one filter of ours, and it is the first when an image is read."""
    path = odd_exif(tmp_path)
    with warnings.catch_warnings():
        read_image(path)
        before = len(warnings.filters)
        for number in range(20):
            warnings.filterwarnings("error", f"of others {number % 4}")
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert (read_image(path) == PIXELS).all()
            assert (read_image(path) == PIXELS).all()
        assert len(warnings.filters) == before + 4
        with pytest.raises(UserWarning, match="of others 3"):
            warnings.warn("of others 3", UserWarning, stacklevel=1)


def test_a_png_is_inflated_once_unless_its_last_row_is_black(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bytes] = []
    check_rows = image_png.check_rows
    monkeypatch.setattr(image_png, "check_rows", lambda data: looks.append(data) or check_rows(data))
    path = tmp_path / "a.png"
    values = np.arange(1, 64, dtype=np.uint8).reshape(9, 7)
    for last, interlaced, expected in ((1, False, 0), (0, False, 1), (1, True, 1)):
        looks.clear()
        values[-1] = 0
        values[-1, 3] = last
        path.write_bytes(png(values, interlaced=interlaced))
        assert (read_image(path) == values).all()
        assert (read_mask(path) == values).all()
        assert len(looks) == 2 * expected


@pytest.mark.parametrize(
    ("bits", "color", "channels"), [(1, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (8, 4, 2), (8, 6, 4)]
)
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_that_ends_before_its_last_row_is_refused(
    bits: int, color: int, channels: int, interlaced: bool, tmp_path: Path
) -> None:
    """Wherever the pixels end, in the middle of a row or after one, of white rows."""
    width, height = 13, 8
    passes = malformed.PASSES if interlaced else [(0, 0, 1, 1)]  # first column and row, steps between them
    parts = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    body = b"".join((b"\0" + b"\xff" * ((columns * channels * bits + 7) // 8)) * rows for columns, rows in parts)
    row = (parts[-1][0] * channels * bits + 7) // 8  # bytes of the last one
    path = tmp_path / "a.png"
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced)))
    for missing in (1, row, row + 1, 2 * row, 4 * (row + 1), len(body)):
        data = chunk(b"IDAT", zlib.compress(body[: len(body) - missing]))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))
        for read, error in ((read_image, ImageError), (read_mask, MaskError)):
            with pytest.raises(error, match="truncated"):
                read(path)


def test_an_expectation_that_does_not_come_true_is_seen(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    values = ids(np.random.default_rng(0))
    Path(path).write_bytes(png(values))
    assert malformed.judge(path, "mask", values) == "exact"
    assert malformed.judge(path, "mask", values ^ 1).startswith("WRONG: uint8")
    assert malformed.judge(path, "mask", "refused").startswith("WRONG: uint8")
    assert malformed.judge(path, "mask", "either") == "pixels"
    Path(path).write_bytes(b"")
    assert malformed.judge(path, "mask", values).startswith("WRONG: refused")
    assert malformed.judge(path, "mask", ["refused", values]) == "refused"
