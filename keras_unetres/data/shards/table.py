"""Parquet and Arrow files as Hugging Face `datasets` writes them: their columns, and their rows in groups.

Row groups of Parquet and record batches of Arrow are read one at a time. Of an Arrow file the messages are found by
their headers, so that no file is mapped into memory. Columns of Python objects are no images, and nothing is unpickled.
Needs `pip install pyarrow`.
"""

from __future__ import annotations

import io
import json
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers.table
import numpy as np

from unetres_edge.errors import DataError

from .groups import Group
from .store import Store

_GOES_ON, _SCHEMA, _DICTIONARY, _BATCH = 0xFFFFFFFF, 1, 2, 3  # as Arrow's format numbers them
_NUMPY_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}  # of types called otherwise
_MOST_METADATA = 64 << 20  # bytes of the header of a message


@dataclass(frozen=True)
class Table:
    """A file of rows.

    Args:
        schema: pyarrow's.
        groups: rows and bytes of each group.
        offsets: offset of the message of each group of an Arrow file, and its length.
        metadata: footer of a Parquet file.
    """

    schema: Any
    groups: tuple[tuple[int, int], ...]
    offsets: tuple[tuple[int, int], ...] = ()
    metadata: Any = None

    @property
    def features(self) -> dict[str, Any]:
        """What Hugging Face `datasets` says of the columns, {} where it says nothing."""
        try:
            said = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            features = said["info"]["features"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}
        return features if isinstance(features, dict) else {}


def needs_pyarrow(file: Any) -> Any:
    """Return pyarrow.

    Raises:
        DataError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("pyarrow is not installed", file=file, fix="pip install pyarrow") from error
    return pyarrow


def open_table(store: Store, name: str) -> Table:
    """Return the columns and the groups of a Parquet or Arrow file, by its headers.

    Raises:
        DataError: it is neither, or is damaged.
    """
    pa = needs_pyarrow(store.path(name))
    try:
        with store.open(name) as file:
            if not name.lower().endswith(".parquet"):
                return _open_arrow(pa, file)
            parquet = pa.parquet.ParquetFile(file)
            meta = parquet.metadata
            groups = (meta.row_group(n) for n in range(meta.num_row_groups))
            return Table(parquet.schema_arrow, tuple((g.num_rows, g.total_byte_size) for g in groups), metadata=meta)
    except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
        raise DataError(
            f"cannot read: {str(error).splitlines()[0] if str(error) else 'damaged'}",
            file=store.path(name),
            expected="a Parquet or an Arrow file",
        ) from error


def _open_arrow(pa: Any, file: Any) -> Table:
    """Find the messages of an Arrow stream, or of an Arrow file, which holds one."""
    start = 8 if file.read(6) == b"ARROW1" else 0
    size = file.seek(0, io.SEEK_END)
    schema, groups, offsets, at = None, [], [], start
    while at + 8 <= size:
        file.seek(at)
        mark, length = struct.unpack("<Ii", file.read(8))
        if mark != _GOES_ON or length == 0:
            break
        if not 0 < length <= min(size - at, _MOST_METADATA):
            raise ValueError("the header of a message is damaged")
        kind, rows, body = _read_header(file.read(length))
        end = at + 8 + length + body
        if end > size:
            raise ValueError("the file is cut off")
        if kind == _SCHEMA:
            file.seek(at)
            schema = pa.ipc.read_schema(pa.py_buffer(file.read(end - at)))
        elif kind == _DICTIONARY:
            raise ValueError("columns of dictionaries are not read")
        elif kind == _BATCH:
            if rows > body:
                raise ValueError("the header of a message is damaged")
            groups.append((rows, body))
            offsets.append((at, end - at))
        at = end
    if schema is None:
        raise ValueError("no schema")
    return Table(schema, tuple(groups), tuple(offsets))


def _read_header(data: bytes) -> tuple[int, int, int]:
    """Return (kind, rows, bytes of the body) of a message, see Arrow's Message.fbs."""
    table = flatbuffers.table.Table(bytearray(data), struct.unpack_from("<I", data)[0])

    def at(inner: flatbuffers.table.Table, slot: int) -> int:
        return int(inner.Offset(4 + 2 * slot))

    kind = table.Get(flatbuffers.number_types.Uint8Flags, table.Pos + at(table, 1))
    body = table.Get(flatbuffers.number_types.Int64Flags, table.Pos + at(table, 3)) if at(table, 3) else 0
    rows = 0
    if kind == _BATCH and at(table, 2):
        inner = flatbuffers.table.Table(table.Bytes, table.Indirect(table.Pos + at(table, 2)))
        rows = inner.Get(flatbuffers.number_types.Int64Flags, inner.Pos + at(inner, 0)) if at(inner, 0) else 0
    if body < 0 or rows < 0:
        raise ValueError("the header of a message is damaged")
    return kind, rows, body


class TableGroup(Group):
    """A row group of a Parquet file, or a record batch of an Arrow file.

    Args:
        store, name: the file.
        table: its columns and groups.
        index: index of the group in the file.
        number: place among all groups.
        columns: those that are read.
    """

    __slots__ = ("_columns", "_name", "_place", "_store", "_table")

    def __init__(self, store: Store, name: str, table: Table, index: int, number: int, columns: Sequence[str]) -> None:
        self._store, self._name, self._table, self._place, self._columns = store, name, table, index, tuple(columns)
        self.number, self.lock, self.nbytes = number, threading.Lock(), table.groups[index][1]

    def load(self) -> Mapping[str, list[Any]]:
        """Return column -> cells."""
        pa = needs_pyarrow(self._store.path(self._name))
        try:
            cells = self._read(pa)
            return {
                column: [_cell(value, _dtype(pa, self._table, column)) for value in cells.column(column)]
                for column in self._columns
            }
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise DataError(f"cannot read: {error}", file=self._store.path(self._name)) from error

    def _read(self, pa: Any) -> Any:
        if self._table.offsets:
            start, length = self._table.offsets[self._place]
            message = pa.ipc.read_message(pa.py_buffer(self._store.read(self._name, start, length)))
            return pa.ipc.read_record_batch(message, self._table.schema)
        with self._store.open(self._name) as file:
            opened = pa.parquet.ParquetFile(file, metadata=self._table.metadata)
            return opened.read_row_group(self._place, columns=list(self._columns))


def read_names(store: Store, name: str, table: Table, column: str) -> Iterator[str]:
    """Yield the name of the file that each image of a Parquet file came from, "" where it is not said."""
    pa = needs_pyarrow(store.path(name))
    try:
        with store.open(name) as file:
            parquet = pa.parquet.ParquetFile(file)
            for index in range(len(table.groups)):
                for value in parquet.read_row_group(index, columns=[f"{column}.path"]).column(column):
                    said = value.as_py()
                    yield str(said["path"]) if said and said.get("path") else ""
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot read: {error}", file=store.path(name)) from error


def holds(table: Table, column: str) -> str:
    """Return what a column holds, by its type: "files", "arrays", "numbers" or "" of anything else."""
    pa = needs_pyarrow(None)
    kind, depth = _stored_type(pa, table, column)
    if depth == 0 and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return "files"
    if depth == 0 and pa.types.is_struct(kind):
        return "files" if kind.get_field_index("bytes") >= 0 else ""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return "" if not number else "numbers" if depth == 0 else "arrays" if depth in (2, 3) else ""


def _stored_type(pa: Any, table: Table, column: str) -> tuple[Any, int]:
    """Return the type of what a column holds, and in how many lists it lies."""
    kind, depth = table.schema.field(column).type, 0
    kind = getattr(kind, "storage_type", kind)
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return kind, depth


def _dtype(pa: Any, table: Table, column: str) -> np.dtype | None:
    """Return the type of the numbers of a column of arrays, or None of one of files."""
    kind, depth = _stored_type(pa, table, column)
    return np.dtype(_NUMPY_NAMES.get(str(kind), str(kind))) if depth else None


def _cell(value: Any, dtype: np.dtype | None) -> Any:
    """Return the bytes of a file, an array, the name of a file that lies elsewhere, or None of a cell that is empty."""
    content = value.as_py()
    if isinstance(content, dict):
        content = content["bytes"] if content.get("bytes") is not None else content.get("path")
    return np.array(content, dtype) if isinstance(content, list) else content
