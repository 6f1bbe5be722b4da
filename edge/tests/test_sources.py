"""Videos, cameras and addresses: which frames are segmented, what is written of them, and what is not there.

A server of this machine stands in for a camera of the network; where PyAV is installed, videos are drawn and read.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from models import make_card, make_conv
from PIL import Image

from unetres_edge import Segmenter
from unetres_edge.cli import main
from unetres_edge.errors import ExistsError, FileSystemError, ImageError, UsageError
from unetres_edge.frames import mjpeg, source
from unetres_edge.frames.source import Frames, find_frames, open_frames, shown_word
from unetres_edge.images.decode import read_mask
from unetres_edge.segment.files import predict_files
from unetres_edge.segment.inputs import find_inputs
from unetres_edge.web import connections, live
from unetres_edge.web.live import LivePage

WEIGHTS, BIAS = np.array([[1], [-1]]), np.array([0, 200])  # class 1 where the level is below 100
LEVELS = (20, 60, 140, 180, 40)  # of the left half of each frame; the right half is white


def picture(level: int, size: tuple[int, int] = (16, 24)) -> np.ndarray:
    image = np.full((*size, 3), 255, np.uint8)
    image[:, : size[1] // 2] = level
    return image


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(level)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, entered."""
    (tmp_path / "m.tflite").write_bytes(make_conv(make_card(), WEIGHTS, BIAS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def camera(kind: str = "length") -> Iterator[str]:
    """A camera of the network that sends five frames; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/secret" and self.headers.get("Authorization") != basic("me", "p:w"):
                self.send_error(401, "who are you")
                return
            if kind == "missing":
                self.send_error(404)
                return
            types = {"page": "text/html", "single": "image/jpeg"}
            self.send_response(200)
            self.send_header("Content-Type", types.get(kind, 'multipart/x-mixed-replace; boundary="frame"'))
            self.end_headers()
            if kind == "page":
                self.wfile.write(b"<html>")
            elif kind == "single":
                self.wfile.write(jpeg(20))
            else:
                self._parts()

        def _parts(self) -> None:
            for number in range(2 if kind == "noise" else 0):
                self.wfile.write(b"--frame\r\n\r\nno picture %d\r\n" % number)
            for level in () if kind == "noise" else LEVELS:
                data = jpeg(level)
                if kind == "damaged" and level in LEVELS[1:3]:
                    data = data[:200]
                length = b"" if kind == "no length" else b"Content-Length: %d\r\n" % len(data)
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n")
                cut = kind == "cut" and level == LEVELS[3]
                self.wfile.write(data[: len(data) // 2] if cut else data + b"\r\n")
                if cut:
                    return
            self.wfile.write(b"--frame--\r\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def levels(frames: Frames) -> list[int]:
    return [round(float(frame[:, :8].mean())) for frame in frames]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("0", "camera0"),
        ("/dev/video2", "camera2"),
        ("in/clip.MP4", "clip"),
        ("rtsp://me:secret@10.0.0.7:554/live/main", "10.0.0.7_live_main"),
        ("http://cam.local/video.mjpg?x=1", "cam.local_video"),
        ("cells.png", None),
        ("in", None),
        ("12cells", None),
    ],
)
def test_what_names_a_source_of_frames(word: str, name: str | None) -> None:
    found = find_frames(word)
    assert (found and found.name) == name
    assert "secret" not in shown_word(word)


def test_a_file_that_is_called_like_a_camera_is_itself(folder: Path) -> None:
    (folder / "0").mkdir()
    Image.fromarray(picture(20)).save(folder / "0" / "a.png")
    assert find_inputs(["0"]).names == ("a",)


def test_what_takes_images_alone_passes_over_videos_that_it_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetres_edge.segment.inputs.can_read_videos", lambda: True)
    (folder / "in").mkdir()
    Image.fromarray(picture(20)).save("in/a.png")
    (folder / "in" / "clip.mp4").touch()
    found = find_inputs(["in"])
    assert [each.name for each in found.frames] == ["clip"]
    alone = found.images_alone("a classifier")
    assert (alone.images, alone.frames) == ((Path("in/a.png"),), ())
    assert alone.notes == ("not read: in/clip.mp4; a classifier takes images alone",)
    for named in ("in/clip.mp4", "0"):
        with pytest.raises(UsageError, match="a classifier takes images, and no videos or cameras"):
            find_inputs(["in/a.png", named]).images_alone("a classifier")


@pytest.mark.parametrize("kind", ["length", "no length", "cut"])
def test_mjpeg_over_http_is_read_frame_by_frame(kind: str) -> None:
    with camera(kind) as address:
        frames = open_frames(address)
        assert frames.live and frames.rate is None
        assert levels(frames) == list(LEVELS[:3] if kind == "cut" else LEVELS)
    with camera(kind) as address:
        assert levels(open_frames(address, every=2, count=2)) == [20, 140]


def test_a_damaged_picture_is_passed_over_and_many_end_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    with camera("damaged") as address:
        assert levels(open_frames(address)) == [LEVELS[0], *LEVELS[3:]]
        monkeypatch.setattr(mjpeg, "MOST_DAMAGED", 2)
        frames = iter(open_frames(address))
        next(frames)
        with pytest.raises(ImageError, match="cannot decode"):
            next(frames)
    with camera("noise") as address, pytest.raises(ImageError, match="cannot decode"):
        list(open_frames(address))


def test_a_single_picture_of_an_address_is_one_frame() -> None:
    with camera("single") as address:
        frames = open_frames(address + "snapshot.jpg")
        assert not frames.live
        assert levels(frames) == [20]


def test_an_address_may_name_its_user() -> None:
    with camera() as address:
        with pytest.raises(FileSystemError, match="no video comes from there: 401 who are you"):
            open_frames(address + "secret")
        frames = open_frames(address.replace("http://", "http://me:p%3Aw@") + "secret")
        assert levels(frames) == list(LEVELS)


def test_what_is_not_there_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with camera("missing") as missing, camera("page") as page:
        gone = "http://127.0.0.1:9/x"
        for word, code, said in (
            ("/dev/video77", 2, "no such camera"),
            ("77", 2, "no such camera"),
            ("nothing.mp4", 5, "no such video"),
            (gone, 5, "no video comes from there: Connection refused"),
            (missing, 5, "no video comes from there: 404"),
            (page, 3, "the address gives a page, not a video"),
        ):
            for arguments in (["predict", "m.tflite", word, "--out", "o"], ["stream", "m.tflite", word, "--no-page"]):
                assert main(arguments) == code, word
                error = capsys.readouterr().err
                assert (error.count("\n"), said in error) == (1, True), error


class FakeCamera:
    """As OpenCV's: three frames, BGR; camera 1 is there and gives none."""

    released = 0

    def __init__(self, number: int) -> None:
        self.left = [picture(20)] * 3 if number == 0 else []

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not self.left:
            return False, None
        frame = self.left.pop()
        frame[0, 0] = (1, 2, 3)
        return True, frame

    def release(self) -> None:
        FakeCamera.released += 1


def test_a_camera_of_this_machine_is_read_by_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(VideoCapture=FakeCamera, setLogLevel=lambda level: None)
    monkeypatch.setitem(sys.modules, "cv2", module)
    monkeypatch.setattr(sys, "platform", "darwin")  # elsewhere than on Linux no file tells of it
    frames = open_frames("0")
    assert frames.live
    assert [frame[0, 0].tolist() for frame in frames] == [[3, 2, 1]] * 3
    with pytest.raises(UsageError, match="the camera gives no picture; found camera 1"):
        open_frames("1")
    assert FakeCamera.released == 2


def test_a_library_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match="av is not installed; fix: pip install 'av'"):
        open_frames("a.mp4")
    monkeypatch.setattr("unetres_edge.segment.inputs.can_read_videos", lambda: False)
    Image.fromarray(picture(20)).save(folder / "b.png")
    assert find_inputs(["."]).notes == ("1 .mp4 file not read, such as a.mp4: pip install av",)


def test_frames_of_an_address_become_class_maps_in_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with camera() as address:
        segmenter = Segmenter("m.tflite", num_threads=1)
        images = find_inputs([address]).all
        written = predict_files(segmenter, images, "out", geojson=True, json_file="s.json", names=["cam"], count=1)
        assert written == [Path("out/cam/000000.png")]
        np.testing.assert_array_equal(read_mask(written[0])[:, :11], 1)
        assert sorted(path.name for path in Path("out/cam").iterdir()) == ["000000.geojson", "000000.png"]
        (row,) = json.loads(Path("s.json").read_text())["images"]
        assert (row["frames"], row["error"], row["image"]) == (1, None, address)
        with pytest.raises(ExistsError):
            predict_files(segmenter, images, "out", names=["cam"])
        Path("out/cam/000007_objects.csv").touch()
        Path("out/cam/mine.png").touch()
        predict_files(segmenter, images, "out", names=["cam"], count=1, overwrite=True)
        assert sorted(path.name for path in Path("out/cam").iterdir()) == ["000000.geojson", "000000.png", "mine.png"]
        assert main(["predict", "m.tflite", address, "--out", "two", "--every", "5"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"1 class map in two, \d+ ms", last)


def test_images_stream_in_order_and_are_summed_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "deep").mkdir(parents=True)
    for number, level in enumerate(LEVELS):
        Image.fromarray(picture(level)).save(folder / "in" / "deep" / f"{number}.png")
    assert main(["stream", "m.tflite", "in/*/*.png", "--no-page", "--every", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("frame 0, ") and "class 1 50.0%" in out[0]
    assert re.fullmatch(r"3 frames, \d+ ms each, 95 % within \d+ ms, 0 dropped", out[-1])


def test_an_image_that_cannot_be_read_ends_no_stream(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in").mkdir()
    for name in ("a", "c"):
        (folder / "in" / f"{name}.png").write_bytes(b"no picture")
    assert main(["stream", "m.tflite", "in", "--no-page"]) == 3
    assert "2 of 2 images could not be segmented" in capsys.readouterr().err
    Image.fromarray(picture(20)).save(folder / "in" / "b.png")
    assert main(["stream", "m.tflite", "in", "--no-page"]) == 3
    out, err = capsys.readouterr()
    assert out.count("failed  image: in/") == 2 and out.splitlines()[-1].startswith("1 frame, ")
    assert "2 of 3 images could not be segmented" in err


def test_the_page_shows_the_newest_frame_to_who_may_see_it() -> None:
    with LivePage() as page:
        ask = urllib.request.Request(page.address + "now.json", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(ask, timeout=10)
        page.show(lambda: pytest.fail("nobody watches"), "frame 0", [{"name": "a", "color": [1, 2, 3], "share": 1.0}])
        with urllib.request.urlopen(page.address + "now.json", timeout=10) as answer:
            assert json.load(answer)["line"] == "frame 0"
        for name in ("", "live.js", "live.css"):
            with urllib.request.urlopen(page.address + name, timeout=10) as answer:
                assert answer.status == 200
        for name in ("../live.py", "live.py", "stream"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(page.address + name, timeout=10)
        frames = iter(open_frames(page.address + "stream.mjpg"))
        shown: list[np.ndarray] = []
        reader = threading.Thread(target=lambda: shown.append(next(frames)))
        reader.start()
        while reader.is_alive():  # until the reader is one of those who watch
            page.show(lambda: jpeg(60), "frame 1", [])
            reader.join(0.02)
        assert abs(float(shown[0][:, :8].mean()) - 60) < 2


def test_who_watches_and_never_reads_is_let_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live._Handler, "timeout", 0.2)
    with LivePage() as page, ExitStack() as stack:
        port = int(page.address.rsplit(":", 1)[1].strip("/"))
        for request in (b"GET /stream.mjpg HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", b"GET / HT"):
            for _ in range(live._WATCHERS):
                stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(request)
        while page.watchers < live._WATCHERS:
            threading.Event().wait(0.01)
        while page.watchers:  # each waits for bytes that nobody takes
            page.show(lambda: bytes(1 << 22), "frame", [])
            threading.Event().wait(0.01)
        with urllib.request.urlopen(page.address, timeout=10) as answer:
            assert answer.status == 200
    assert capsys.readouterr().err == ""


def test_of_many_connections_the_oldest_goes_and_who_watches_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 4)
    with LivePage() as page, ExitStack() as stack:
        port = int(page.address.rsplit(":", 1)[1].strip("/"))

        def ask(request: bytes) -> socket.socket:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            one.sendall(request)
            return one

        watches = ask(b"GET /stream.mjpg HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        assert watches.recv(9) == b"HTTP/1.0 "
        many = [ask(b"GET / HT") for _ in range(12)]
        with urllib.request.urlopen(page.address, timeout=10) as answer:
            assert answer.status == 200
        assert [one.recv(1) for one in many[:9]] == [b""] * 9
        page.show(lambda: b"a frame", "line", [])
        seen = b""
        while b"a frame" not in seen:
            part = watches.recv(1000)
            assert part, seen
            seen += part


def test_a_page_that_others_reach_has_a_token() -> None:
    with LivePage("0.0.0.0") as page:
        port, token = re.fullmatch(r"http://[^/]+:(\d+)/([\w-]{16})/", page.address).groups()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{token}/now.json", timeout=10) as answer:
            assert answer.status == 200
        for wrong in ("", "now.json", f"{token[:-1]}_/now.json", token):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{wrong}", timeout=10)


@pytest.fixture
def clip(folder: Path) -> Path:
    """A video of 5 frames, 10 a second, and of odd sides."""
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    from unetres_edge.frames.video import written_video

    with written_video(folder / "clip.mp4") as writer:
        for number, level in enumerate(LEVELS):
            writer.write(picture(level, (63, 95)), number / 10)
    return folder / "clip.mp4"


def test_a_video_is_segmented_frame_by_frame(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = open_frames("clip.mp4")
    assert not frames.live and frames.rate == pytest.approx(10, rel=0.3)
    assert np.abs(np.subtract(levels(frames), LEVELS)).max() <= 3
    (clip.parent / "in" / "deep").mkdir(parents=True)
    clip.rename("in/deep/clip.mp4")
    Image.fromarray(picture(20)).save("in/a.png")
    assert main(["predict", "m.tflite", "in", "--out", "out", "--overlay", "--every", "2"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"4 class maps, 1 overlay and 1 overlay video in out, \d+ ms each", last)
    maps = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*"))
    frames_of = [f"deep/clip/{number:06d}.png" for number in (0, 2, 4)]
    assert maps == ["a.png", "a_overlay.png", *frames_of, "deep/clip_overlay.mp4"]
    for name, level in zip(frames_of, LEVELS[::2], strict=True):
        assert (read_mask(Path("out") / name)[:, :40] == (level < 100)).mean() > 0.99
    drawn = list(open_frames("out/deep/clip_overlay.mp4"))
    assert len(drawn) == 3 and drawn[0].shape == (64, 96, 3)


def test_a_stream_is_written_as_a_video(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "m.tflite", "clip.mp4", "--no-page", "--out", "o.mp4", "--frames", "4"]) == 0
    assert re.match(r"4 frames in o\.mp4, \d+ ms each", capsys.readouterr().out.splitlines()[-1])
    assert len(list(open_frames("o.mp4"))) == 4
    assert main(["stream", "m.tflite", "clip.mp4", "--no-page", "--out", "o.mp4"]) == 2
    assert main(["stream", "m.tflite", "clip.mp4", "--no-page", "--out", "clip.mp4", "--overwrite"]) == 2


def test_a_phone_s_video_is_turned_upright(clip: Path) -> None:
    data = clip.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # of its version 0: the matrix of ISO/IEC 14496-12, 8.3.2
    quarter = np.array([0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 95 << 16, 0, 1 << 30], ">u4")
    clip.write_bytes(data[:at] + quarter.tobytes() + data[at + 36 :])
    upright = next(iter(open_frames("clip.mp4")))
    assert upright.shape == (96, 64, 3)
    assert upright[:40].mean() < 60, "what was left is above: turned by a quarter, clockwise"


@pytest.mark.parametrize("live", [True, False], ids=["camera", "file"])
def test_a_damaged_packet_of_a_camera_is_passed_over(live: bool) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")

    def packet(level: int | None) -> types.SimpleNamespace:
        def decode() -> list[int]:
            if level is None:
                raise av.error.InvalidDataError(1, "Invalid data found when processing input")
            return [level]

        return types.SimpleNamespace(decode=decode)

    levels = [20, None, 60, *[None] * 9, 140, *[None] * 10, 180]
    container = types.SimpleNamespace(demux=lambda video: map(packet, levels))
    frames, seen = source._av_frames(av, container, live), []
    with pytest.raises(av.error.InvalidDataError):
        for frame in frames:
            seen.append(frame)
    assert seen == ([20, 60, 140] if live else [20])


def test_a_video_that_breaks_off_keeps_what_was_done(clip: Path) -> None:
    clip.write_bytes(b"\0" * 100)
    with pytest.raises(ImageError, match=r"clip\.mp4: cannot read the video"):
        open_frames("clip.mp4")


def test_frames_of_two_sizes_make_no_video(folder: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    for number, size in enumerate([(16, 24), (24, 24)]):
        Image.fromarray(picture(20, size)).save(f"{number}.png")
    assert main(["stream", "m.tflite", "0.png", "1.png", "--no-page", "--out", "o.mp4"]) == 3
    assert len(list(open_frames("o.mp4"))) == 1, "what was done is there"


@pytest.mark.slow
def test_ctrl_c_ends_a_camera_and_keeps_what_was_done(folder: Path) -> None:
    with LivePage() as page:
        command = [sys.executable, "-m", "unetres_edge.cli", "predict", "m.tflite", page.address + "stream.mjpg"]
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it
        process = subprocess.Popen([*command, "--out", "out"], stdout=subprocess.PIPE, text=True, preexec_fn=heard)
        while len(list(Path("out").glob("*/*.png"))) < 2 and process.poll() is None:  # one may not be counted yet
            page.show(lambda: jpeg(60), "", [])
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            page.show(lambda: jpeg(60), "", [])
        out = process.stdout.read()
        process.stdout.close()
    assert process.returncode == 0
    last = re.match(r"(\d+) class maps? in out, ", out.splitlines()[-1])
    assert last and 0 <= len(list(Path("out").glob("*/*.png"))) - int(last[1]) <= 1, "perhaps stopped after a map"


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"--x\r\n" + b"A: b\r\n" * 2000, "the head of a picture does not end"),
        (b"--x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "a picture is too large"),
        (b"junk\r\n" * 40, "a picture is too large"),
        (b"--x\r\n\r\n" + b"junk\r\n" * 40, "a picture is too large"),
        (b"--x\r\nContent-Length: 3\r\n\r\nabc", "cannot decode"),
    ],
    ids=["head without end", "length of 5000 digits", "no boundary", "picture without end", "no picture"],
)
def test_a_camera_that_does_not_end_is_ended(sent: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "_MOST_BYTES", 200)
    headers = Message()
    headers["Content-Type"] = "multipart/x-mixed-replace; boundary=x"
    with pytest.raises(ImageError, match=says):
        next(mjpeg._sound(mjpeg._parts(io.BytesIO(sent), headers, "http://camera"), "http://camera"))
