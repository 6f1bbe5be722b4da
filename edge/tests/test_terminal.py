"""What commands show: names are text, lost output ends no work, and the exit code says what became of the work."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unetres_edge import cli
from unetres_edge.commands.running import run_command
from unetres_edge.errors import DataError
from unetres_edge.objects.table import encode_counts
from unetres_edge.terminal import Writer, guarded, in_words, shown, table_cell

NAME = "a\nsha256  ok\x1b[2J\x9b\udce9\u202eфон"


@pytest.mark.parametrize(("encoding", "last"), [("utf-8", "фон"), ("cp1252", r"\u0444\u043e\u043d")])
def test_a_name_is_shown_as_text(encoding: str, last: str) -> None:
    assert shown(NAME, encoding) == r"a\nsha256  ok\x1b[2J\x9b\udce9\u202e" + last


def test_a_table_that_is_shown_as_it_is_commands_no_terminal() -> None:
    table = encode_counts({NAME: {f"cell{NAME}": 2}})
    assert table.count(b"\n") == 2  # one line a row, and none in a cell
    assert table.splitlines()[1] == rb"a\nsha256  ok\x1b[2J\x9b" + b"\xe9" + r"\u202eфон,2,2".encode()
    assert [table_cell(text) for text in ("\t=1", "\r", "\u200d", "\xa0a")] == [r"\t=1", r"\r", "\u200d", "\xa0a"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_printing_a_name_never_fails(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdout", "stderr"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, encoding, "strict", write_through=True))
        with guarded():
            print(f"class {NAME}", file=getattr(sys, stream))
            print("next", file=getattr(sys, stream))
        text = raw.getvalue().decode(encoding)
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert len(text.splitlines()) == (2 if stream == "stdout" else 3)  # warnings have several lines


def test_an_error_is_one_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise DataError(f"no such {NAME}", file=f"b{NAME}")

    assert run_command(fail) == DataError.exit_code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said


class Gone(io.StringIO):
    """A stream whose reader or disk is gone after a while."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        if len(self.getvalue()) > 20:
            raise OSError(self.number, "gone")
        return super().write(text)


@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 0), (errno.ENOSPC, 5), (errno.EIO, 5)])
def test_the_work_goes_on_without_a_reader(number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def work() -> None:
        for index in range(40):
            print("a line of ten", flush=True)
            done.append(index)

    for stream, right in (("stdout", code), ("stderr", 0)):
        done.clear()
        with monkeypatch.context() as patch:
            patch.setattr(sys, stream, Gone(number))
            if stream == "stderr":
                patch.setattr(sys, "stdout", sys.stderr)
                right = code
            assert run_command(work) == right
        assert len(done) == 40


def test_the_work_is_done_without_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def fail() -> None:
        print("a line")
        assert not sys.stderr.isatty()
        raise DataError("wrong")

    assert run_command(fail) == DataError.exit_code
    assert sys.stdout is None


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals from other programs")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_work_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            os.kill(os.getpid(), number)
            raise AssertionError("it went on")

    before = signal.signal(number, signal.SIG_DFL)  # these tests may run under nohup themselves
    try:
        assert run_command(work) == 128 + number
        assert list(tmp_path.iterdir()) == []
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        assert run_command(lambda: os.kill(os.getpid(), number)) == 0
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals from other programs")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_an_import_made_an_error_of_is_a_stop(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name)

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        assert run_command(work) == 128 + number
        assert signal.getsignal(number) is usual
        with pytest.raises(ImportError):
            run_command(lambda: (_ for _ in ()).throw(ImportError("for another reason")))
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "stopped\n"


def test_ctrl_c_before_a_command_runs_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["inspect", "m.tflite"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_an_empty_text_is_no_name_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parent / "golden" / "web_int8.tflite", "m.tflite")
    before = Path("m.tflite").read_bytes()
    for words in (
        ["predict", "m.tflite", "a.png", "--out", ""],
        ["predict", "m.tflite", "", "--out", "maps"],
        ["bench", "m.tflite", "--json", ""],
        ["profile", "--out", ""],
        ["web", "m.tflite", "--out", ""],
        ["stream", "m.tflite", "a.png", "--out", ""],
        ["seal", "m.tflite", "--out", ""],
    ):
        assert cli.main(words) != 0, words
        assert capsys.readouterr().err.startswith("error: "), words
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"] and Path("m.tflite").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no folder that somebody is in")
def test_a_folder_at_hand_that_is_gone_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.getcwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        assert run_command(lambda: print(Path("a").absolute())) == 5
    finally:
        os.chdir(before)
    assert "the folder at hand was removed" in capsys.readouterr().err


def test_progress_bars_keep_their_controls() -> None:
    below = io.StringIO()
    writer = Writer(below, lines=False)
    for piece in ("\r 50%", "\x1b[A", "\x1b[A\x1b[A", "\r \x1b[A"):
        writer.write(piece)
    assert below.getvalue() == "\r 50%\x1b[A\x1b[A\x1b[A\r \\x1b[A"


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import sys; from unetres_edge.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        f"file = open({str(tmp_path / 'f')!r}, 'w'); print(file.fileno(), file=file)"
    )
    subprocess.run(["sh", "-c", '"$@" 1>&- 2>&-', "sh", sys.executable, "-c", code], check=True)
    assert int((tmp_path / "f").read_text()) > 2


def test_values_are_told_in_words() -> None:
    assert (
        in_words({"miou": 0.47699600523652164, "iou": {"cell": 0.5, "rim": None}})
        == "miou 0.477, iou (cell 0.5, rim none)"
    )
    assert in_words([1, 99.0, "a b"]) == "1, 99, a b"
    assert in_words("test") == "test"
