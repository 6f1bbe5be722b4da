"""What is shown while a network is trained: lines by a clock of ours, event files read back, pictures now and then."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unetres.runs import Plan
from keras_unetres.training.boards import DrawPictures, TensorBoard, forget_events
from keras_unetres.training.progress import Progress, format_seconds

ROOT = Path(__file__).resolve().parents[1]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Run:
    """Drives the callback as `fit` does: a compilation of 60 s, steps of 2 s, validations of 8 s (the first 20 s)."""

    def __init__(self, **named: Any) -> None:
        self.clock, self.lines = Clock(), []
        self.stream = named.pop("stream", io.StringIO())
        self.shown = Progress(
            named.pop("epochs", 4), 10, 8, say=self.lines.append, stream=self.stream, clock=self.clock, **named
        )
        self.validated = 0

    def show(self) -> None:
        """Draw the live line, which else waits for a tenth of a second."""
        if self.shown._bar is not None:
            self.shown._bar.refresh()

    def fit(self, first: int, end: int, steps: int = 10, *, validate: bool = True, loss: float = 0.5) -> None:
        self.shown.set_params({"steps": steps, "epochs": end})
        self.shown.on_train_begin()
        for epoch in range(first, end):
            self.shown.on_epoch_begin(epoch)
            for step in range(steps):
                self.clock.now += 62.0 if step == 0 and epoch == first else 2.0
                self.shown.on_train_batch_end(step, {"loss": loss, "miou": 0.25})
            self.show()
            logs = {"loss": loss, "miou": 0.25}
            if validate:
                self.shown.on_test_begin()
                self.clock.now += 8.0 if self.validated else 20.0
                self.validated += 1
                logs |= {"val_loss": 0.75, "val_miou": 0.125}
            self.shown.on_epoch_end(epoch, logs)
        self.shown.on_train_end()


def test_an_epoch_has_one_line() -> None:
    run = Run(kept=lambda: 2, validations=lambda first: 5 - first)
    run.fit(0, 4)
    assert run.lines == [
        "epoch     1/4  loss 0.5000  mIoU 0.2500  val mIoU 0.1250  2:00 left",
        "epoch     2/4  loss 0.5000  mIoU 0.2500  val mIoU 0.1250 (kept)  0:56 left",
        "epoch     3/4  loss 0.5000  mIoU 0.2500  val mIoU 0.1250  0:28 left",
        "epoch     4/4  loss 0.5000  mIoU 0.2500  val mIoU 0.1250  28.0 s",
    ]
    assert run.stream.getvalue() == ""  # no terminal


def test_what_is_left_counts_the_validations_to_come() -> None:
    run = Run(epochs=10, validations=Plan(10, 1, 5, 0, 0.1).validations)
    run.fit(0, 2, validate=False)
    assert run.lines[1].endswith("2:40 left")  # 8 epochs of 20 s; no validation is known yet
    run.shown.on_train_begin()
    run = Run(epochs=10, validations=lambda first: sum(epoch >= first for epoch in (1, 5, 10)))
    run.fit(0, 1)
    assert run.lines[0].endswith("3:40 left")  # 9 of 20 s, and 2 validations of 20 s


def test_a_run_that_goes_on_in_the_middle_of_an_epoch() -> None:
    run = Run(first_epoch=2, stream=Terminal())
    run.fit(2, 3, steps=4)
    assert run.lines[0].startswith("epoch     3/4  ")
    assert run.lines[0].endswith("0:40 left")  # 20 s, and one end of an epoch of 20 s
    assert " 6/10" in run.stream.getvalue()
    assert "11/10" not in run.stream.getvalue()
    run.fit(3, 4)
    assert [line[:13] for line in run.lines] == ["epoch     3/4", "epoch     4/4"]


def test_a_terminal_has_a_live_line_that_goes() -> None:
    run = Run(stream=Terminal())
    run.fit(0, 1)
    shown = run.stream.getvalue()
    assert "epoch     1/4" in shown and "10/10" in shown and "img/s" in shown and "left" in shown
    assert "validating" in shown
    assert "\n" not in shown
    last = shown.split("\r")
    assert last[-1].strip() == ""  # taken away
    assert "\x1b" not in "".join(run.lines) and "%" not in "".join(run.lines)


@pytest.mark.parametrize(("epochs", "score"), [(4, "miou"), (1000, "miou"), (1000, "accuracy"), (100_000, "accuracy")])
def test_lines_fit_80_columns(epochs: int, score: str) -> None:
    run = Run(epochs=epochs, stream=Terminal(), kept=lambda: epochs - 1)
    run.shown.set_params({"steps": 10, "epochs": epochs})
    run.shown.on_train_begin()
    run.shown.on_epoch_begin(epochs - 2)
    for step in range(10):
        run.clock.now += 20.0
        run.shown.on_train_batch_end(step, {"loss": 0.5, score: 0.25})
        run.show()
    run.shown.on_epoch_end(epochs - 2, {"loss": 0.5, score: 0.25, "val_loss": 0.5, f"val_{score}": 0.125})
    (line,) = run.lines
    assert "loss 0.5000" in line and "0.1250 (kept)" in line and line.endswith(" left")
    shown = run.stream.getvalue().split("\r")
    assert max(len(text.rstrip()) for text in [line, *shown]) <= 80
    assert any(text.rstrip().endswith(" left") for text in shown)


def test_what_is_said_meanwhile_stands_under_the_live_line() -> None:
    run = Run(stream=Terminal())
    run.shown.say("first")
    run.shown.on_epoch_begin(0)
    before = run.stream.getvalue()
    run.shown.say("stopping")
    assert run.lines == ["first", "stopping"]
    assert run.stream.getvalue() == before + "\n"


def test_steps_may_come_several_at_a_time() -> None:
    run = Run(stream=Terminal())
    run.shown.set_params({"steps": 10, "epochs": 1})
    run.shown.on_train_begin()
    run.shown.on_epoch_begin(0)
    for last in (4, 9):
        run.clock.now += 10.0
        run.shown.on_train_batch_end(last, {"loss": 1.0})
    run.show()
    run.shown.on_epoch_end(0, {"loss": 1.0})
    assert "4 img/s" in run.stream.getvalue()  # 5 steps of 8 images in 10 s


def test_one_step_an_epoch_and_odd_losses() -> None:
    lines: list[str] = []
    shown = Progress(2, 1, 8, say=lines.append, stream=Terminal(), clock=Clock())
    shown.set_params({"steps": 1, "epochs": 2})
    shown.on_train_begin()
    shown.on_epoch_begin(0)
    shown.on_train_batch_end(0, {"loss": float("nan")})
    shown.on_epoch_end(0, {"loss": float("nan")})
    assert lines == ["epoch     1/2  loss nan  0.0 s"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01"), (float("inf"), "?"), (-1, "0:00")],
)
def test_durations(seconds: float, said: str) -> None:
    assert format_seconds(seconds) == said


def make_model() -> keras.Model:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(0.125), loss="mse")
    return model


def test_it_goes_with_keras() -> None:
    lines: list[str] = []
    model = make_model()
    data = np.zeros((12, 4), np.float32), np.zeros((12, 1), np.float32)
    shown = Progress(2, 3, 4, say=lines.append, stream=Terminal())
    model.fit(*data, batch_size=4, epochs=2, validation_data=data, verbose=0, callbacks=[shown])
    assert [line[:13] for line in lines] == ["epoch     1/2", "epoch     2/2"]
    assert "loss 0.0000" in lines[1]


# ---------------------------------------------------------------------------------------------------------- event files


def read_events(folder: Path) -> list[tuple[int, str, Any]]:
    """Return (step, tag, value) of every summary in a folder, by TensorFlow's own reader and record."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for data in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(data)
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                assert value.metadata.plugin_data.plugin_name == ("images" if array.ndim else "scalars")
                found.append((event.step, value.tag, array if array.ndim else float(array)))
    return found


def write_epochs(folder: Path, epochs: range, end: bool = True, loss: float = 1.0) -> TensorBoard:
    board = TensorBoard(folder, ["a cell", "lone\udcff"])
    board.set_model(make_model())
    for epoch in epochs:
        figures = {"loss": loss / (epoch + 1), "iou_a cell": 0.25, "iou_lone\udcff": 0.5}
        if epoch % 2:
            figures |= {"val_loss": 2.0, "val_iou_a cell": 0.75}
        board.on_epoch_end(epoch, figures)
    if end:
        board.on_train_end()
    return board


def test_figures_are_in_the_part_they_are_of(tmp_path: Path) -> None:
    write_epochs(tmp_path, range(2))
    assert read_events(tmp_path / "train") == [
        (step, tag, pytest.approx(value))
        for step in (1, 2)
        for tag, value in (("loss", 1 / step), ("iou/a cell", 0.25), ("iou/lone?", 0.5), ("learning_rate", 0.125))
    ]
    assert read_events(tmp_path / "validation") == [(2, "loss", 2.0), (2, "iou/a cell", 0.75)]


def test_a_resumed_run_has_every_epoch_once(tmp_path: Path) -> None:
    """Killed in epoch 5 with a checkpoint after epoch 2: epochs 3 and 4 are gone through again, and differ."""
    write_epochs(tmp_path / "whole", range(6), loss=2.0)
    write_epochs(tmp_path / "killed", range(4), end=False, loss=2.0)
    for path in (tmp_path / "killed").glob("*/events*"):
        with path.open("ab") as file:
            file.write(b"\x18\0\0\0\0\0\0\0torn")  # a record that was being written
    write_epochs(tmp_path / "killed", range(2, 6), loss=2.0)
    for part in ("train", "validation"):
        assert read_events(tmp_path / "killed" / part) == read_events(tmp_path / "whole" / part)
    assert not list((tmp_path / "killed").glob("*/.*"))


def test_a_run_that_starts_again_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    write_epochs(tmp_path, range(4))
    (tmp_path / "train" / "notes.txt").write_text("mine")
    write_epochs(tmp_path, range(1))
    assert {step for step, _, _ in read_events(tmp_path / "train")} == {1}
    assert read_events(tmp_path / "validation") == []
    assert (tmp_path / "train" / "notes.txt").read_text() == "mine"


def test_files_without_later_events_stay_as_they_are(tmp_path: Path) -> None:
    write_epochs(tmp_path, range(2))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/events*")}
    forget_events(tmp_path / "train", 2)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/events*")} == before


def test_pictures_are_png_with_their_size(tmp_path: Path) -> None:
    picture = np.zeros((5, 7, 3), np.uint8) + np.arange(7, dtype=np.uint8)[:, None]
    board = TensorBoard(tmp_path, [], {"b": picture})
    board.set_model(make_model())
    board.show(3, {"a": picture, "b": picture})
    board.on_train_end()
    (step, tag, data), (_, other, beside) = read_events(tmp_path / "validation")
    assert (step, tag, other) == (3, "pictures/a", "pictures/b")
    assert (data[0], data[1]) == (b"7", b"5")
    np.testing.assert_array_equal(tf.io.decode_png(data[2]).numpy(), picture)
    assert int(beside[0]) >= 14  # the truth on its left


@pytest.mark.slow
def test_event_files_need_no_tensorboard_package(tmp_path: Path) -> None:
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
sys.meta_path.insert(0, Refuse())
import numpy as np
from keras_unetres.training.boards import TensorBoard
board = TensorBoard(sys.argv[1], ["a"])
board.on_epoch_end(0, {"loss": 1.0, "learning_rate": 0.5})
board.show(1, {"a": np.zeros((4, 4, 3), np.uint8)})
board.on_train_end()
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "edge" / "src")])
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    assert read_events(tmp_path / "train") == [(1, "loss", 1.0), (1, "learning_rate", 0.5)]
    assert [tag for _, tag, _ in read_events(tmp_path / "validation")] == ["pictures/a"]


# ------------------------------------------------------------------------------------------------------------- pictures


def test_drawing_takes_its_share_of_the_time() -> None:
    clock, drawn, got = Clock(), [], []

    def make() -> dict[str, np.ndarray]:
        clock.now += 30.0 if not drawn else 3.0  # the first compiles
        drawn.append(clock.now)
        return {}

    callback = DrawPictures(make, [lambda epoch, pictures: got.append(epoch)], clock=clock)
    begun = clock.now
    for epoch in range(400):
        clock.now += 10.0
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_miou": 0.5} if epoch % 2 else {"loss": 1.0})
    spent = 3.0 * (len(drawn) - 1)
    assert 0.015 * (clock.now - begun) < spent <= 0.02 * (clock.now - begun)
    assert got[:2] == [2, 4]
    assert all(epoch % 2 == 0 for epoch in got)  # after validations alone
