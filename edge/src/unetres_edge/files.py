"""Writing and reading files so that nothing is ever half there.

Every output of both distributions goes through `write_bytes`: temporary file in the same folder, flush, fsync,
rename, fsync of the folder. A kill or a full disk at any point leaves the earlier file as it was. A file that is
replaced keeps its rights; what a mount lacks (network shares, FUSE: rights, fsync of folders) is left out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from .errors import ExistsError, FileSystemError, UsageError
from .temporaries import create_file, new_folder, remove_left_over

Contents: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO  # of a file

_RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789\u00b9\u00b2\u00b3"),
}


_ANOTHER = "choose another"
_LONGEST_LINE = 1 << 16  # bytes of the head of a table


def write_bytes(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> None:
    """Write `data` to `path` atomically and durably.

    Raises:
        FileSystemError: the folder does not exist, is not writable, or the disk is full; an earlier file is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        rights = _rights(path)
        handle, temporary = create_file(path, 0o666 if rights is None else rights)
        with os.fdopen(handle, "wb") as file:
            if rights is not None and os.name == "posix":  # those that the umask took
                with contextlib.suppress(OSError):
                    os.fchmod(file.fileno(), rights)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        _fsync_folder(path.parent)
    except OSError as error:
        raise FileSystemError(f"cannot write: {error.strerror or error}", file=path) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def has_no_room(error: BaseException) -> bool:
    """Return whether it says that a disk, or one's share of it, is full, so that nothing else can be written either."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of an empty file beside `path`, which takes its place at the end, flushed; after an error it goes.

    Raises:
        FileSystemError: as `write_bytes` says.
    """
    path = Path(path)
    try:
        handle, name = create_file(path, 0o666)
        os.close(handle)
    except OSError as error:
        raise FileSystemError(f"cannot write: {error.strerror or error}", file=path) from error
    temporary = Path(name)
    try:
        yield temporary
        _take_place(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _take_place(temporary: Path, path: Path) -> None:
    try:
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FileSystemError(f"cannot write: {error.strerror or error}", file=path) from error
    _fsync_folder(path.parent)


@contextlib.contextmanager
def building(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder that gets the name `path` at the end; after an error or a stop it goes.

    It lies beside `path`. Where that is there and empty, as the folder at hand or a mount may be, it lies within, and
    its entries move up.

    Raises:
        ExistsError: something is there by then that is no empty folder.
        FileSystemError: it cannot be made.
    """
    path = Path(path)
    within = path.is_dir()
    make_folder(path.parent)
    try:
        with new_folder(path / path.name if within else path) as new:
            yield new
            check_free(path, but=new)
            if within:
                for each in sorted(new.iterdir()):
                    os.rename(each, path / each.name)
            else:
                os.rename(new, path)
    except OSError as error:
        check_free(path)  # another was faster
        raise FileSystemError(f"cannot write: {error.strerror or error}", file=path) from error
    _fsync_folder(path.parent)


def check_free(path: str | os.PathLike[str], *, but: Path | None = None) -> None:
    """Raise ExistsError if there is something at `path`, other than a folder that is empty `but` for an entry."""
    if os.path.isdir(path):
        remove_left_over(path)
        if all(name == (but and but.name) for name in os.listdir(path)):
            return
    if os.path.lexists(path):
        raise ExistsError("the output exists already", file=path, fix="choose another --out")


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused by `json` (ValueError)."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def check_output(path: str | os.PathLike[str], ending: str) -> Path:
    """Return where something is to be written that a person has named, before any work is done for it.

    Raises:
        UsageError: the name has another ending, such as that of an image.
        FileSystemError: as `check_writable` says.
    """
    file = Path(path)
    if file.suffix.lower() != ending:
        raise UsageError(f"the output is not a {ending}", file=path, expected=f"a name ending in {ending}")
    check_writable(file)
    return file


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise what `write_bytes` would raise of a folder, before any work is done for the file.

    Raises:
        FileSystemError: the folder does not exist, or no file can be made in it.
    """
    file = Path(path).absolute()
    if not file.parent.is_dir():
        raise FileSystemError("its folder does not exist", file=path)
    try:
        handle, temporary = create_file(file, 0o600)
        os.close(handle)
        os.unlink(temporary)
    except OSError as error:
        raise FileSystemError(f"cannot write: {error.strerror or error}", file=path) from error


def check_folder_writable(path: str | os.PathLike[str]) -> None:
    """Raise what writing into a folder that may have to be made would raise, before any work is done for its files.

    Raises:
        FileSystemError: something else is there, or no file can be made in it or where it is to be made.
    """
    place = Path(path).absolute()
    there = next(each for each in (place, *place.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise FileSystemError("cannot create the folder: Not a directory", file=there)
    try:
        check_writable(there / place.name)
    except FileSystemError as error:
        raise FileSystemError(error.message, file=path) from error


def write_report(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as `write_json` does, in the place of nothing, or of a file of about the same keys.

    Raises:
        ExistsError: the file that is there holds something else, such as annotations.
    """
    _refuse_other(path, value)
    write_json(path, value)


def check_report(path: str | os.PathLike[str], like: object) -> None:
    """Raise what `check_output` and `write_report` would raise, before any work is done.

    Args:
        like: JSON values with some of the keys that are written.

    Raises:
        UsageError, FileSystemError, ExistsError: as they say.
    """
    check_output(path, ".json")
    _refuse_other(path, like)


def write_table(path: str | os.PathLike[str], table: bytes) -> None:
    """Write a CSV file, in the place of nothing, or of a table of about the same columns.

    Raises:
        ExistsError: the file that is there is another table, or none.
    """
    check_table(path, table.splitlines()[0].decode().split(","))
    write_bytes(path, table)


def check_table(path: str | os.PathLike[str], columns: Iterable[str]) -> None:
    """Raise what `check_output` and `write_table` would raise, before any work is done.

    Raises:
        UsageError, FileSystemError, ExistsError: as they say.
    """
    check_output(path, ".csv")
    if os.path.lexists(path):
        try:
            with Path(path).open("rb") as file:
                before = set(file.readline(_LONGEST_LINE).decode("utf-8", "replace").strip().split(","))
        except OSError:
            before = set()
        if 2 * len(before & set(columns)) < len(before | set(columns)):
            raise ExistsError("not an earlier table of this kind, so it is not replaced", file=path, fix=_ANOTHER)


def _refuse_other(path: str | os.PathLike[str], value: object) -> None:
    try:
        old = json.loads(Path(path).read_bytes()) if os.path.lexists(path) else None
    except (OSError, RecursionError, ValueError):
        old = ""
    before, now = _keys(old), _keys(value)
    if old is not None and 2 * len(before & now) < max(1, min(len(before), len(now))):
        raise ExistsError("not an earlier file of this kind, so it is not replaced", file=path, fix=_ANOTHER)


def _keys(value: object) -> set[str]:
    """Return the keys of an object, and of the first object in each of its lists; or of the first of several."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return set()
    rows = {name: each[0] for name, each in first.items() if isinstance(each, list) and each}
    return {*first, *(f"{name}.{key}" for name, row in rows.items() if isinstance(row, dict) for key in row)}


def parse_json(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: not JSON, or a key stands twice in an object, of which readers take one or the other.
        RecursionError: nested too deep.
    """
    return json.loads(data, object_pairs_hook=_object)


def parse_state(data: bytes | str, *, last_counts: bool = False) -> Any:
    """Return the value of a JSON text that a command wrote for itself.

    Args:
        data: JSON text.
        last_counts: whether of a key that stands twice the last value counts, as in every runtime that reads cards.

    Raises:
        ValueError, RecursionError: as `parse_json`; or a number is none, or beyond what 64 bits hold.
    """
    make = None if last_counts else _object
    return json.loads(
        data, object_pairs_hook=make, parse_constant=_refuse, parse_float=_parse_float, parse_int=_parse_int
    )


def _refuse(word: str) -> float:
    raise ValueError(f"{word[:40]} is no number of a file like this")


def _parse_float(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse(word)


def _parse_int(word: str) -> int:
    if len(word) > 20 or not -(2**63) <= int(word) < 2**64:
        _refuse(word)
    return int(word)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name[:100]!r} stands twice")
    return values


def open_in_place(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that is written or read where it stands; return its handle.

    A link there may lead to a file that is none of ours, and a pipe may have no other end.

    Raises:
        OSError: it cannot be opened; FileNotFoundError and FileExistsError as of `os.open`.
        FileSystemError: a link, or no ordinary file, is in its place.
    """
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if os.path.islink(path):
        raise FileSystemError("a link is in the place of a file of ours", file=path, fix="remove the link")
    handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileSystemError("no ordinary file is in the place of one of ours", file=path, fix="remove it")
    return handle


def read_bytes(path: str | os.PathLike[str], what: str = "file") -> bytes:
    """Return the content of `path`.

    Args:
        what: kind of file, as errors say it ("model file", "image").

    Raises:
        FileSystemError: the file is missing, not a regular file, or cannot be read.
    """
    path = os.fspath(path)
    try:
        if not os.path.isfile(path):
            raise _no_file(path, what)
        return Path(path).read_bytes()
    except OSError as error:
        raise FileSystemError(f"cannot read {what}: {error.strerror or error}", file=path, kind="not-a-file") from error


def read_contents(source: Contents, what: str = "file") -> tuple[bytes, str | None]:
    """Return the content of a file, however it is given, and the name by which errors call it.

    Args:
        source: a path; bytes or what holds them in memory (bytearray, memoryview, mmap); or a file opened for reading
            bytes, which is read from where it stands to its end.
        what: kind of file, as errors say it.

    Raises:
        UsageError: it is none of these, or a file opened as text.
        FileSystemError: it cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_bytes(source, what), os.fspath(source)
    if isinstance(source, bytes):
        return source, None
    read: Any = getattr(source, "read", None)
    if callable(read) and not is_buffer(source):
        name = getattr(source, "name", None)
        named = name if isinstance(name, str) else None
        try:
            data = read()
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise FileSystemError(f"cannot read {what}: {error}", file=named, kind="not-a-file") from error
        if not is_buffer(data):
            raise UsageError(
                f"the {what} is open as text", file=named, expected="a file of bytes", fix='open it with mode "rb"'
            )
        return bytes(data), named
    if not is_buffer(source):
        raise UsageError(
            f"not a {what}", expected="a path, bytes or a file opened with mode 'rb'", found=type(source).__name__
        )
    return bytes(memoryview(source)), None  # type: ignore[arg-type]


def file_state(about: os.stat_result) -> tuple[int, ...]:
    """Return what changes with a file's bytes: where nothing here differs, what was read of the file still holds.

    A program can give a file its earlier modification time back, and copies keep it; the time of change it cannot set.
    """
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def is_buffer(value: object) -> bool:
    """Return whether a value holds bytes in memory."""
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return False
    return True


def _no_file(path: str | os.PathLike[str], what: str) -> FileSystemError:
    """Return the error for a path that is no file; where a run folder was given for its model, the fix says how."""
    found, fix = "something else" if os.path.exists(path) else "nothing", None
    if os.path.isdir(path):
        found = "a folder"
        if what == "model file" and os.path.isfile(os.path.join(path, "run.json")):
            found, fix = "a run folder", f"unetres export {os.fspath(path)} --out model.tflite, and name that"
    return FileSystemError(f"no such {what}", file=path, expected="a file", found=found, fix=fix, kind="not-a-file")


def name_key(name: str, system: str = sys.platform) -> str:
    """Return a key that two names share where a system takes them for one file of a folder.

    Windows and macOS take capitals and small letters for the same, and so are accents that are composed in one name and
    not in the other; Windows leaves out dots and blanks at the end.
    """
    if system not in ("win32", "darwin"):
        return name
    same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return same.rstrip(". ") if system == "win32" else same


def is_portable(name: str) -> bool:
    """Return whether every system takes a name for a file: Windows has the most rules, and 255 bytes are the limit."""
    stem = name.split(".")[0].rstrip(" ").upper()
    return (
        0 < len(name.encode("utf-8", "surrogateescape")) <= 255
        and not re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        and not name.endswith((".", " "))
        and stem not in _RESERVED
    )


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder `path` with its parents if it is not there, and return it."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise FileSystemError(f"cannot create the folder: {error.strerror or error}", file=path) from error
    except RecursionError as error:  # `makedirs` calls itself for each folder in the name
        raise FileSystemError("cannot create the folder: it lies too deep", file=path) from error
    return Path(path)


def _rights(path: Path) -> int | None:
    """Return the rights of the file that is there, or None."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o777
    except OSError:
        return None


def _fsync_folder(folder: Path) -> None:
    """Flush a folder, where the mount can: the file has its name by now, and is whole."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
