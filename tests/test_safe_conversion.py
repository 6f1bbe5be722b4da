"""Conversion that meets bad calibration, dies, hangs, or finds no room: an error with a name, and the earlier file."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_models import INT8, PRE, make_calibration, user_model

from keras_unetres.data.calibration import collect_calibration
from keras_unetres.models import build_fcn, build_resnet, build_unet
from keras_unetres.tflite import Preprocessing, converter_process, export_tflite
from keras_unetres.tflite.convert import convert
from unetres_edge import Classifier, Segmenter
from unetres_edge.errors import ConversionError, FileSystemError, UnetresError, UsageError

SIDE = 32
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Subject:
    """A network that knows something, and how images meet it.

    Args:
        task: "segment" (which of three colours a pixel of smoothed noise has most of) or "classify".
    """

    model: keras.Model
    pre: Preprocessing
    task: str

    @property
    def calibration(self) -> np.ndarray:
        return self.pre.normalise(pictures(24, seed=1))


def pictures(count: int, seed: int) -> np.ndarray:
    """Images (N, 32, 32, 3) uint8: one in three mostly red, green or blue, with soft blobs of each."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (count, 4, 4, 3)) * 0.7
    small[np.arange(count), :, :, np.arange(count) % 3] += 70
    return np.clip(small.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2), 0, 255).round().astype(np.uint8)


def fit_head(model: keras.Model, pre: Preprocessing, task: str) -> None:
    """Solve for the last layer by least squares on 48 images, which is what training would come to."""
    images = pictures(48, seed=0)
    head = next(layer for layer in reversed(model.layers) if layer.weights)
    features = np.asarray(keras.Model(model.input, head.input)(pre.normalise(images)))
    answers = images.argmax(-1) if task == "segment" else images.mean((1, 2)).argmax(-1)
    if features.ndim == 4 and features.shape[1] != SIDE:  # a coarse head, whose scores are resized
        answers = answers[:, :: SIDE // features.shape[1], :: SIDE // features.shape[2]]
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    spread = rows.std(0) + 1e-6
    inputs = np.hstack([(rows - rows.mean(0)) / spread, np.ones((len(rows), 1))])
    targets = np.eye(3)[answers.ravel()] * 2 - 1
    solution = np.linalg.solve(inputs.T @ inputs + 1e-2 * np.eye(inputs.shape[1]), inputs.T @ targets)
    kernel = solution[:-1] / spread[:, None]
    head.kernel.assign(kernel.reshape(head.kernel.shape))
    head.bias.assign(solution[-1] - rows.mean(0) @ kernel)


def build(name: str) -> Subject:
    keras.utils.set_random_seed(3)
    shape = (SIDE, SIDE, 3)
    if name == "unet":
        subject = Subject(
            build_unet(shape, 3, filters=8, depth=2), Preprocessing(value_range=(-1, 1), size=shape[:2]), "segment"
        )
    elif name == "fcn":
        pre = Preprocessing(**IMAGENET, size=shape[:2])
        subject = Subject(build_fcn(shape, 3, encoder="resnet20", output_stride=1), pre, "segment")
    else:
        pre = Preprocessing(size=shape[:2], fit="resize")
        subject = Subject(build_resnet(depth=20, input_shape=shape, num_classes=3), pre, "classify")
    fit_head(subject.model, subject.pre, subject.task)
    return subject


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    return {name: build(name) for name in ("unet", "fcn", "classifier")}


NAMES = ("unet", "fcn", "classifier")
Fault = Callable[[np.ndarray], Any]


def planted(value: float) -> Fault:
    def plant(images: np.ndarray) -> np.ndarray:
        images[3, 2, 1, 0] = value
        return images

    return plant


def raising(images: np.ndarray) -> Iterator[np.ndarray]:
    yield images[:4]
    raise OSError("the disk was unplugged")


def levels(count: int = 24) -> np.ndarray:
    return pictures(count, seed=1)


# What is refused, always before the converter is started: (how images become calibration, error, words of it).
REFUSED: dict[str, tuple[Fault, type[UnetresError], str]] = {
    "none": (lambda x: None, UsageError, "needs calibration images; fix: pass calibration=dataset"),
    "a number": (lambda x: 5, UsageError, "holds no images; .*found int"),
    "a path": (lambda x: "images/", UsageError, "holds no images; .*found str"),
    "a dict": (lambda x: {"images": x}, UsageError, "holds no images; .*found dict"),
    "empty array": (lambda x: x[:0], ConversionError, "calibration is empty"),
    "no batches": (lambda x: [], ConversionError, "calibration is empty"),
    "used up": (lambda x: iter(()), ConversionError, "calibration is empty"),
    "NaN in one pixel": (planted(np.nan), ConversionError, "not finite; found 1 such images"),
    "infinite": (planted(np.inf), ConversionError, "not finite; found 1 such images"),
    "minus infinite": (planted(-np.inf), ConversionError, "not finite; found 1 such images"),
    "overflow of float16": (lambda x: np.full(x.shape, np.inf, np.float16), ConversionError, "not finite; found 24"),
    "overflow of float32": (lambda x: x.astype(np.float64) + 1e300, ConversionError, "not finite; found 24"),
    "constant": (lambda x: x * 0 + x.mean(), ConversionError, "constant"),
    "one image": (lambda x: x[:1], ConversionError, "one image, which tells no ranges; expected at least two"),
    "all images equal": (lambda x: np.repeat(x[:1], 24, 0), ConversionError, "one image, .*found 24 times the same"),
    "pixels as floats": (lambda x: levels().astype(np.float32), ConversionError, "outside.*0..255: pass preproc"),
    "uint8": (lambda x: levels(), ConversionError, "whole numbers.*found uint8; fix: pass preprocessing.normalise"),
    "int64": (lambda x: levels().astype(np.int64), ConversionError, "whole numbers.*found int64"),
    "bool": (lambda x: x > 0, ConversionError, "another dtype; expected float32; found bool"),
    "objects": (lambda x: x.astype(object), ConversionError, "another dtype; .*found object"),
    "complex": (lambda x: x.astype(np.complex64), ConversionError, "another dtype; .*found complex64"),
    "text": (lambda x: np.array(["a.png"]), ConversionError, "another dtype"),
    "another size": (
        lambda x: x[:, :, :31],
        ConversionError,
        "another shape; expected .N, .32, 32, 3..; found .24, 32, 31",
    ),
    "another number of channels": (lambda x: x[..., :1], ConversionError, "another shape"),
    "channels first": (lambda x: x.transpose(0, 3, 1, 2), ConversionError, "another shape"),
    "pixels in a row": (lambda x: x.reshape(24, -1), ConversionError, "another shape"),
    "labels before images": (lambda x: [(np.arange(24), x)], ConversionError, "another shape"),
    "a batch of nothing": (lambda x: [x, None], ConversionError, "another dtype"),
    "images of two sizes": (lambda x: [x[0], x[1, :16]], ConversionError, "another shape"),
    "a second batch of another size": (lambda x: [x, x[:, ::2, ::2]], ConversionError, "another shape"),
    "a generator that raises": (
        raising,
        ConversionError,
        "cannot be read: OSError: the disk was unplugged; found in batch 2",
    ),
}


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter must not be reached."""

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("converted")

    monkeypatch.setattr(sys.modules["keras_unetres.tflite.export"], "convert", fail)


@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_named_before_conversion(
    name: str, fault: str, subjects: dict[str, Subject], tmp_path: Path, never: None
) -> None:
    subject = subjects[name]
    change, kind, words = REFUSED[fault]
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the last good file")
    with pytest.raises(kind, match=words):
        export_tflite(
            subject.model,
            path,
            recipe=INT8,
            preprocessing=subject.pre,
            calibration=change(subject.calibration.copy()),
        )
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("m.tflite", b"the last good file")]


RANGES = {
    "0..1": Preprocessing(size=(SIDE, SIDE)),
    "-1..1": Preprocessing(value_range=(-1, 1), size=(SIDE, SIDE)),
    "0..255": Preprocessing(value_range=(0, 255), size=(SIDE, SIDE)),
    "ImageNet": Preprocessing(**IMAGENET, size=(SIDE, SIDE)),
}


@pytest.mark.parametrize("noise", [0.0, 0.003], ids=["levels", "between levels"])
@pytest.mark.parametrize(("given", "own"), list(itertools.permutations(RANGES, 2)))
def test_images_of_another_range_are_refused(given: str, own: str, noise: float) -> None:
    if (given, own) in (("0..1", "0..255"), ("-1..1", "ImageNet")) and noise:
        pytest.skip("values between levels that this network could see, too: nothing tells them from dark images")
    values = RANGES[given].normalise(levels())
    span = np.ptp(RANGES[given].table())
    values = values + (np.abs(np.random.default_rng(0).normal(0, noise, values.shape)) * span).astype(np.float32)
    values = np.clip(values, RANGES[given].table().min(), RANGES[given].table().max())
    with pytest.raises(ConversionError, match="outside of what an image can be|made by other preprocessing"):
        collect_calibration(values, RANGES[own])
    own_values = RANGES[own].normalise(levels())
    np.testing.assert_array_equal(collect_calibration(own_values, RANGES[own]), own_values)


# What looks odd and does no harm.
HARMLESS: dict[str, Fault] = {
    "one image is all zero": lambda x: np.concatenate([x, x[:1] * 0 + x.min()]),
    "one image is all white": lambda x: np.concatenate([x, x[:1] * 0 + x.max()]),
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "batches of several sizes": lambda x: [x[:7], x[7:8], x[8]],
    "tuples with masks and weights": lambda x: [(x[:12], None, 1.0), (x[12:], None, 1.0)],
    "endless": lambda x: itertools.repeat(x),
    "six images": lambda x: x[:6],
}
# By how much the first score must be ahead, of the range of all: these networks are random but for their last layer.
MARGIN = {"segment": 0.08, "classify": 0.4}
QUICK = ("unet", "one image is all zero")
SLOW = {("fcn", "endless"), ("classifier", "float16")}
GRID = [
    pytest.param(*row, marks=() if row == QUICK else pytest.mark.slow if row in SLOW else pytest.mark.long)
    for row in itertools.product(NAMES, HARMLESS)
]


@pytest.mark.parametrize(("name", "fault"), GRID)
def test_what_is_odd_does_no_harm(name: str, fault: str, subjects: dict[str, Subject], tmp_path: Path) -> None:
    subject = subjects[name]
    path = tmp_path / "m.tflite"
    calibration = HARMLESS[fault](subject.calibration)
    done = export_tflite(subject.model, path, recipe=INT8, preprocessing=subject.pre, calibration=calibration)
    others = pictures(60, seed=9)
    scores = np.asarray(subject.model(subject.pre.normalise(others)))
    best = np.sort(scores, -1)
    clear = best[..., -1] - best[..., -2] > MARGIN[subject.task] * np.ptp(scores)
    expected = scores.argmax(-1)
    assert clear.mean() > 0.05
    if subject.task == "segment":
        with Segmenter(path) as segmenter:
            found = np.stack([segmenter.segment(image).class_map for image in others])
    else:
        with Classifier(path) as classifier:
            found = np.array([classifier.classify(image).class_id for image in others])
    assert (found == expected)[clear].mean() >= 0.99
    if subject.task == "segment":  # a random classifier wavers on the few images that are compared
        assert done.agreement >= 0.9


def test_calibration_that_a_recipe_does_not_need_is_checked_all_the_same(tmp_path: Path, never: None) -> None:
    with pytest.raises(ConversionError, match="another shape"):
        export_tflite(
            user_model(), tmp_path / "m.tflite", recipe="float32", preprocessing=PRE, calibration=np.zeros((2, 5, 5, 1))
        )


# ------------------------------------------------------------------------------- a process that dies, and no room


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    return user_model()


def standing_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a shell script be the converter's process; "$@" is what it was to run."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", os.fspath(path))


PYTHON = sys.executable
posix = pytest.mark.skipif(os.name != "posix", reason="signals, limits and shell scripts are of POSIX")


@posix
@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("kill -SEGV $$", ConversionError, f"died of signal {int(signal.SIGSEGV)}; fix: check the calibration images"),
        ("kill -ABRT $$", ConversionError, f"died of signal {int(signal.SIGABRT)}"),
        ("kill -KILL $$", ConversionError, "ran out of memory and was killed; fix: use a smaller input size, or fewer"),
        ("echo terminate: std::bad_alloc >&2; kill -ABRT $$", ConversionError, "ran out of memory"),
        ("echo MemoryError >&2; exit 1", ConversionError, "ran out of memory"),
        ("echo cannot start >&2; exit 3", ConversionError, "refused the model: cannot start"),
        ("exit 0", ConversionError, "refused the model: no reason given"),
        (
            "echo 'OSError: [Errno 28] No space left on device' >&2; exit 1",
            FileSystemError,
            "cannot write its files: No space left on device; fix: free some space there, or set TMPDIR",
        ),
    ],
)
def test_however_the_process_ends_it_is_an_error_and_no_more(
    script: str,
    kind: type[UnetresError],
    words: str,
    plain: keras.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "m.tflite"
    out.write_bytes(b"the last good file")
    standing_in(tmp_path, monkeypatch, script)
    with pytest.raises(kind, match=words):
        export_tflite(plain, out, recipe=INT8, preprocessing=PRE, calibration=make_calibration())
    assert {p.name for p in tmp_path.iterdir()} == {"m.tflite", "python"}
    assert out.read_bytes() == b"the last good file"


@posix
def test_a_process_that_hangs_is_ended(plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standing_in(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/number; exec sleep 100")
    monkeypatch.setattr(converter_process, "SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(
        ConversionError, match="does not come to an end; expected at most 0 s; fix: use a smaller input"
    ):
        export_tflite(plain, tmp_path / "m.tflite", recipe="float32", preprocessing=PRE)
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "number").read_text()), 0)


@posix
@pytest.mark.long
@pytest.mark.parametrize(
    ("limit", "kind", "words"),
    [
        ("ulimit -f 8", FileSystemError, "cannot write its files: File too large"),
        ("ulimit -v 1500000", ConversionError, "memory|died of signal|refused"),
    ],
    ids=["files", "memory"],
)
def test_the_real_process_under_a_limit(
    limit: str,
    kind: type[UnetresError],
    words: str,
    plain: keras.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    real_converter: None,
) -> None:
    standing_in(tmp_path, monkeypatch, f'{limit}; exec {PYTHON} "$@"')
    with pytest.raises(kind, match=words):
        export_tflite(
            user_model(keras.layers.Conv2D(64, 3, padding="same")),
            tmp_path / "m.tflite",
            recipe="float32",
            preprocessing=PRE,
        )
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.parametrize("place", ["/nowhere/at/all", "/proc"], ids=["missing", "not to be written to"])
def test_no_temporary_folder(place: str, plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "/proc" and not os.path.isdir(place):
        pytest.skip("needs /proc, where nobody can make a folder")
    monkeypatch.setattr(tempfile, "tempdir", place)
    with pytest.raises(FileSystemError, match=f"{place}.*: no temporary folder can be made: .*fix: .*TMPDIR"):
        export_tflite(plain, tmp_path / "m.tflite", recipe="float32", preprocessing=PRE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("\udcff\udcfe", "takes no temporary folder whose name is no text"),
        pytest.param("a\nb", None, marks=pytest.mark.slow),
    ],
    ids=ascii,
)
def test_a_temporary_folder_of_any_name(
    name: str, said: str | None, plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works, or the error names the folder: what is sound is not blamed."""
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with contextlib.nullcontext() if said is None else pytest.raises(FileSystemError, match=said):
        export_tflite(plain, tmp_path / "m.tflite", recipe="float32", preprocessing=PRE)
    assert (tmp_path / "m.tflite").is_file() == (said is None)
    assert list((tmp_path / name).glob("unetres-*")) == []


def test_no_room_for_what_the_process_is_to_read(
    plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(FileSystemError, match="cannot write its files: No space left on device"):
        export_tflite(plain, tmp_path / "m.tflite", recipe=INT8, preprocessing=PRE, calibration=make_calibration())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A folder whose conversion waits for ever: what it is to read is a pipe that nobody writes to."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "request.json").write_text('{"floats": []}')
    os.mkfifo(folder / "calibrated.tflite")
    return folder


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@posix
def test_the_process_goes_with_its_parent_and_takes_its_files(blocked: Path) -> None:
    command = [PYTHON, *converter_process.WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(os.fsencode(blocked).hex().encode() + b"\n")
        child.stdin.flush()
        wait_for((blocked / "made").exists)
        child.stdin.close()  # as the death of the parent does
        assert child.wait(timeout=120) == 0
    assert not blocked.exists()


@pytest.mark.slow
def test_one_process_serves_all_conversions_and_is_replaced_where_it_ended(plain: keras.Model) -> None:
    convert(plain, (16, 16, 1))
    first = converter_process._kept[0]
    convert(plain, (16, 16, 1))
    assert converter_process._kept == [first]
    os.kill(first._process.pid, signal.SIGKILL)
    first._process.wait()
    convert(plain, (16, 16, 1))
    assert converter_process._kept != [first]


@pytest.mark.slow
@posix
def test_a_process_that_left_idle_is_not_an_error(
    plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may leave between the question whether it lives and what it is asked."""
    converter_process.end()
    standing_in(tmp_path, monkeypatch, "exit 0")
    converter_process.start()
    left = converter_process._kept[0]
    left._process.wait()
    asked: list[converter_process.Converter] = []
    monkeypatch.setattr(
        converter_process.Converter, "alive", property(lambda self: asked.append(self) or len(asked) == 1)
    )
    monkeypatch.setattr(sys, "executable", PYTHON)
    left.command = (PYTHON, *converter_process.WORKER)
    convert(plain, (16, 16, 1))
    assert asked[0] is left and converter_process._kept[0] is not left


@posix
def test_ctrl_c_ends_the_conversion(blocked: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    timer = threading.Timer(0, lambda: (wait_for((blocked / "made").exists), os.kill(os.getpid(), signal.SIGINT)))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            converter_process.run(blocked)
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()
    assert converter_process._kept == []


# ------------------------------------------------------------------------------- kills and full disks at a write

PUBLISH = """
import sys
from unetres_edge.files import write_bytes
write_bytes(sys.argv[1], open(sys.argv[2], "rb").read())
"""
CALLS = ("write", "fsync", "rename", "renameat", "renameat2", "chmod", "fchmodat")


def publish(path: Path, source: Path, *strace: str) -> subprocess.CompletedProcess[str]:
    """Do all that an export does in the folder of its file, in a process of its own."""
    command = [*strace, PYTHON, "-c", PUBLISH, os.fspath(path), os.fspath(source)]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'edge' / 'src'}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which stops a process at a system call")
@pytest.mark.parametrize("calls", [("write", "fsync"), pytest.param(CALLS, marks=pytest.mark.long)], ids=["two", "all"])
@pytest.mark.parametrize("what", ["signal=SIGKILL", "error=ENOSPC"], ids=["kill", "full"])
def test_a_kill_or_a_full_disk_at_every_write_leaves_the_earlier_file(
    what: str, calls: tuple[str, ...], tmp_path: Path
) -> None:
    path, source = tmp_path / "out" / "m.tflite", tmp_path / "new"
    path.parent.mkdir()
    old, new = b"the last good file", bytes(range(256)) * 4096
    source.write_bytes(new)
    outcomes: dict[tuple[str, int], bytes] = {}
    for call, number in itertools.product(calls, range(1, 12)):
        if number > 1 and (call, number - 1) not in outcomes:
            continue  # the process came to its end
        path.write_bytes(old)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:{what}:when={number}"]
        done = publish(path, source, "strace", "-f", "-qq", "-o", os.devnull, *inject)
        if "ptrace" in done.stderr:
            pytest.skip("strace is not allowed to trace here")
        found = path.read_bytes()
        assert found in (old, new), f"{call} {number}"
        if done.returncode == 0:
            assert found == new
            continue
        outcomes[call, number] = found
        if what.startswith("signal"):
            assert done.returncode == -signal.SIGKILL
        else:
            assert "FileSystemError: system: " in done.stderr or "No space left" in done.stderr, done.stderr
            assert [p.name for p in path.parent.iterdir()] == ["m.tflite"]
    print(f"{len(outcomes)} places, the new file after {[k for k, found in outcomes.items() if found == new]}")
    assert outcomes["write", 1] == outcomes["fsync", 1] == old
    assert publish(path, source).returncode == 0
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [("m.tflite", new)]  # nothing is left over
