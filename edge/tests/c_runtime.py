"""The C runtime for tests: compiled as a shared library, and run on the interpreter that Python's runtime runs on."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import make_card, make_conv, make_copy
from nets import make_net, make_unpadded

SOURCES = Path(__file__).resolve().parents[1] / "c"
CROSS = "aarch64-linux-gnu-gcc"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CODES = ("ok", "usage", "image", "model", "model-damaged", "card-missing", "engine", "system")
PIXELS = {"uint8": 0, "uint16": 1, "float32": 2}


def compiler(name: str = "cc") -> str:
    """Return the path of a C compiler, or skip the test."""
    if not SOURCES.is_dir():
        pytest.skip("needs the folder c of the repository, which wheels do not hold")
    if name == "cc" and platform.machine() == "aarch64" and shutil.which(CROSS):
        name = CROSS  # an emulated Python: programs that it starts are this machine's
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs the C compiler {name} on PATH (on Debian and Ubuntu: apt-get install gcc clang)")
    return path


def build(
    out: Path, *words: str, by: str = "cc", sources: tuple[str, ...] = ("unetres.c",), libraries: tuple[str, ...] = ()
) -> Path:
    """Compile sources of the C runtime into a program or, with -shared, a library; warnings fail the test."""
    files = [str(SOURCES / name) for name in sources]
    command = [compiler(by), *STRICT, *words, *files, "-o", str(out), *libraries, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


class Error(ctypes.Structure):
    """`UnetresError`."""

    _fields_ = (("status", ctypes.c_int), ("text", ctypes.c_char * 256))


LOAD = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
)
TENSOR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_size_t))
INVOKE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
CLOSE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Interpreter(ctypes.Structure):
    """`UnetresInterpreter`."""

    _fields_ = (("context", ctypes.c_void_p), ("load", LOAD), ("tensor", TENSOR), ("invoke", INVOKE), ("close", CLOSE))


class Image(ctypes.Structure):
    """`UnetresImage`."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("height", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("channels", ctypes.c_uint32),
        ("row_bytes", ctypes.c_size_t),
        ("bgr", ctypes.c_int),
    )


class RefusedError(Exception):
    """What the C runtime refused, with the code of its status."""

    def __init__(self, error: Error) -> None:
        self.code = CODES[error.status]
        super().__init__(error.text.decode("ascii"))


class Library:
    """The C runtime as a shared library."""

    def __init__(self, path: Path) -> None:
        self.calls = ctypes.CDLL(str(path))
        self.calls.unetres_rle.restype = ctypes.c_size_t
        self.calls.unetres_card.restype = ctypes.c_void_p

    def open(self, data: bytes, overlap: int = -1) -> Model:
        """Load a model file on LiteRT."""
        return Model(self, data, overlap)

    def rle(self, class_map: np.ndarray, class_id: int) -> str:
        """Return COCO's run lengths of a class."""
        values = np.ascontiguousarray(class_map, np.uint8)
        size = [ctypes.c_uint32(n) for n in values.shape]
        pointer, number = values.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint8(class_id)
        length = self.calls.unetres_rle(pointer, *size, number, None, ctypes.c_size_t(0))
        text = ctypes.create_string_buffer(length + 1)
        again = self.calls.unetres_rle(pointer, *size, number, text, ctypes.c_size_t(length + 1))
        assert again == length
        return text.value.decode("ascii")


class Model:
    """A model file that the C runtime has opened, on LiteRT's interpreter in Python with one thread."""

    def __init__(self, library: Library, data: bytes, overlap: int = -1) -> None:
        self._library, self._network, self._data = library, None, ctypes.create_string_buffer(data, len(data))
        self._interpreter = Interpreter(
            None, LOAD(self._load), TENSOR(self._tensor), INVOKE(self._invoke), CLOSE(self._close)
        )
        self._model, error = ctypes.c_void_p(), Error()
        size, pointer = ctypes.c_size_t(len(data)), ctypes.byref(self._interpreter)
        status = library.calls.unetres_open(
            self._data, size, pointer, ctypes.c_int(overlap), ctypes.byref(self._model), ctypes.byref(error)
        )
        if status:
            raise RefusedError(error)

    def segment(self, image: np.ndarray, *, bgr: bool = False, gap: int = 0) -> np.ndarray:
        """Return the class map (H, W) uint8; `gap` bytes are left between rows."""
        values = image[..., None] if image.ndim == 2 else image
        height, width, channels = values.shape
        row = width * channels * values.itemsize
        rows = np.full((height, row + gap), 255, np.uint8)
        rows[:, :row] = np.ascontiguousarray(values).view(np.uint8).reshape(height, row)
        seen = Image(
            rows.ctypes.data, PIXELS[values.dtype.name], height, width, channels, row + gap if gap else 0, int(bgr)
        )
        out, error = np.full((height, width), 255, np.uint8), Error()
        status = self._library.calls.unetres_segment(
            self._model, ctypes.byref(seen), out.ctypes.data_as(ctypes.c_void_p), ctypes.byref(error)
        )
        if status:
            raise RefusedError(error)
        return out

    def close(self) -> None:
        """Free the model."""
        self._library.calls.unetres_close(self._model)
        self._model = ctypes.c_void_p()

    def _load(self, context: int, model: int, size: int, network: Any) -> int:
        from ai_edge_litert.interpreter import Interpreter as LiteRT

        try:
            self._network = LiteRT(model_content=ctypes.string_at(model, size), num_threads=1)
            self._network.allocate_tensors()
            self._ends = [
                each[0]["index"] for each in (self._network.get_input_details(), self._network.get_output_details())
            ]
        except Exception:  # ctypes would print it and go on
            return 1
        network[0] = 1
        return 0

    def _tensor(self, network: int, output: int, size: Any) -> int:
        view = self._network.tensor(self._ends[output])()
        size[0] = view.nbytes
        return int(view.__array_interface__["data"][0])

    def _invoke(self, network: int) -> int:
        try:
            self._network.invoke()
        except Exception:
            return 1
        return 0

    def _close(self, network: int) -> None:
        self._network = None


def draw_case(rng: np.random.Generator) -> tuple[bytes, int | None, np.ndarray]:
    """Draw a model file, an overlap (None for the card's) and an image that it takes."""
    channels = int(rng.choice([1, 3, 3, 2, 4]))
    classes = int(rng.integers(2, 6))
    size = (4 * int(rng.integers(1, 8)), 4 * int(rng.integers(1, 8)))
    pre: dict[str, Any] = {"color_order": str(rng.choice(["rgb", "bgr"]))}
    if rng.random() < 0.4:
        low, high = sorted(rng.choice(np.arange(0, 1001), 2, replace=False) / 10)
        pre["per_image"] = (float(low), float(high))
    if rng.random() < 0.5:
        count = int(rng.choice([1, channels]))
        pre["mean"], pre["std"] = (tuple(map(float, rng.uniform(0.1, 200, count).round(3))) for _ in range(2))
    fit = str(rng.choice(["crop", "crop", "resize", "letterbox"]))
    halo, head = int(rng.integers(0, 12)), str(rng.choice(["logits", "logits", "argmax"]))
    kind = str(rng.choice(["net", "conv", "int8", "uint8"]))
    if kind in ("int8", "uint8"):
        classes, head = max(channels, 2), "logits"  # one channel tells of the second class
    card = make_card(size, channels, classes, head=head, fit=fit, pre=pre, halo=halo)
    low = float(rng.choice([0, 0, -1, -127.5]))  # of the value range
    if channels == 1 and kind in ("int8", "uint8"):
        card = replace(card, activation=str(rng.choice(["sigmoid", "none"])))
    card = replace(card, preprocessing=replace(card.preprocessing, value_range=(low, low + 255)))
    if kind == "net":
        data = make_net(card, seed=int(rng.integers(1000)))
    elif kind == "conv":
        data = make_conv(card, rng.normal(0, 1, (classes, channels)), rng.normal(0, 50, classes))
    else:
        zero = int(rng.integers(-128, 128)) + (128 if kind == "uint8" else 0)
        data = make_copy(card, kind, (float(np.float32(rng.uniform(0.2, 3))), zero))
    overlap = None if rng.random() < 0.6 else int(rng.integers(0, min(size)))
    return data, overlap, draw_image(rng, channels, size, "per_image" in pre)


def draw_unpadded(rng: np.random.Generator) -> tuple[bytes, None, np.ndarray]:
    """Draw a network without padding, whose tiles are cut with what is around them, and an image that it takes."""
    channels, classes, features = int(rng.choice([1, 3])), int(rng.integers(2, 6)), 4
    size = (2 * int(rng.integers(4, 20)), 2 * int(rng.integers(4, 20)))
    head = str(rng.choice(["logits", "argmax"]))
    card = make_card(size, channels, classes, head=head, stride=2, crop=3, halo=5)
    shapes = ((features, 3, 3, channels), (features, 3, 3, features), (classes, 1, 1, features))
    first, second, last = (rng.integers(-2, 3, shape) for shape in shapes)
    return make_unpadded(card, (first, second, last)), None, draw_image(rng, channels, size, False)


def draw_image(rng: np.random.Generator, channels: int, size: tuple[int, int], stretched: bool) -> np.ndarray:
    """Draw an image that a network with these channels takes: often of the network's size, or flat, or narrow."""
    height, width = size if rng.random() < 0.2 else (int(n) for n in rng.integers(1, 70, 2))
    taken = {1: (1, 3, 4), 3: (3, 1, 4)}.get(channels, (channels,))
    stored = int(rng.choice(taken))
    cell = int(rng.integers(1, 9))
    knots = rng.random((height // cell + 1, width // cell + 1, stored)) ** rng.uniform(0.3, 3)
    share = knots.repeat(cell, 0).repeat(cell, 1)[:height, :width] * rng.uniform(0.02, 1)
    dtype = str(rng.choice(["uint8", "uint8", "uint16", "float32"]))
    full = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    if stretched and dtype == "float32":
        share = (share - 0.3) * 10.0 ** rng.integers(-3, 6)  # any numbers go
    image = (share * full).astype(dtype)
    if stored == 4 and channels in (1, 3):
        image[..., 3] = full
    return image[..., 0] if stored == 1 and rng.random() < 0.5 else image
