"""Where shards lie: a folder of this machine, or an address that fsspec opens: `s3://`, `gs://`, `https://`, `hf:NAME`.

An address is read from only where a person named it; see `refuse_unasked`. Needs `pip install fsspec`, and for most
kinds of address a library that fsspec names, such as s3fs, gcsfs, or for `hf:` huggingface_hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from unetres_edge.errors import DataError

HUB = "hf:"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*:/", re.IGNORECASE)
_MOST_FILES = 1_000_000


def is_address(source: object) -> bool:
    """Whether something names a place that fsspec opens, and no folder of this machine."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    text = os.fspath(source)
    # A letter alone before the colon is a drive of Windows.
    return text.startswith(HUB) or (len(text) > 2 and text[1] != ":" and _ADDRESS.match(text) is not None)


def address_of(source: str | os.PathLike[str]) -> str:
    """Return an address as fsspec takes it, also of a `Path`, which joins the two slashes."""
    text = os.fspath(source)
    if text.startswith(HUB) and not text.startswith("hf://"):
        name = text.removeprefix(HUB)
        return f"hf://{name.lstrip('/')}" if name.startswith("/") else f"hf://datasets/{name}"
    text = re.sub(r":/(?!/)", "://", text)
    return re.sub(r"^file://(?!/)", "file:///", text)


def refuse_unasked(source: object, file: str | os.PathLike[str], says: str) -> None:
    """Raise DataError: no file has anything fetched from an address.

    Args:
        source: name that a person would have to ask for.
        file: the file concerned.
        says: words for what it says, as the start of a sentence.
    """
    address = address_of(source) if isinstance(source, (str, os.PathLike)) else source
    raise DataError(
        f"{says}, from which is fetched only where it is named on the command line",
        file=file,
        fix=f"if you trust it, name it as the data: {address}",
        kind="address-by-name",
    )


@dataclass(frozen=True)
class Store:
    """A place with files.

    Args:
        base: its folder, or its address.
        remote: the file system of fsspec, or None for a folder of this machine.
        root: the place in that file system.
    """

    base: Path
    remote: Any = None
    root: str = ""

    def files(self, depth: int = 3) -> list[str]:
        """Return the names of the files in it, `depth` folders deep at most, relative and sorted; hidden ones left out.

        Raises:
            DataError: it cannot be listed.
        """
        try:
            listed = self._listed_remote(depth) if self.remote is not None else self._listed(self.base, depth)
            names = []
            for name in listed:
                if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts):
                    names.append(name)
                if len(names) > _MOST_FILES:
                    raise DataError("too many files", file=self.base, expected=f"at most {_MOST_FILES}")
        except DataError:
            raise
        except Exception as error:  # of the libraries behind fsspec: any kind
            raise _failed("cannot list the files", self.base, error) from error
        return sorted(names)

    def _listed(self, folder: Path, depth: int) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_file():
                    yield path.relative_to(self.base).as_posix()
                elif depth > 1 and entry.is_dir() and not entry.is_symlink():
                    yield from self._listed(path, depth - 1)

    def _listed_remote(self, depth: int) -> Iterator[str]:
        if self._is_file:
            yield PurePosixPath(self.root).name
            return
        start = self.root.rstrip("/") + "/"
        for name in self.remote.find(self.root, maxdepth=depth):
            yield name.removeprefix(start)

    def path(self, name: str) -> Path:
        """Return how errors call a file."""
        return self.base / name

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        try:
            return (
                int(self.remote.size(self.place(name))) if self.remote is not None else os.path.getsize(self.path(name))
            )
        except DataError:
            raise
        except Exception as error:  # of the libraries behind fsspec: any kind
            raise _failed("cannot read", self.path(name), error) from error

    def open(self, name: str) -> BinaryIO:
        """Open a file to read anywhere in it.

        Raises:
            DataError: it cannot be opened.
        """
        try:
            if self.remote is None:
                return self.path(name).open("rb")
            opened: BinaryIO = self.remote.open(self.place(name), "rb")
        except DataError:
            raise
        except Exception as error:  # of the libraries behind fsspec: any kind
            raise _failed("cannot read", self.path(name), error) from error
        return opened

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a file.

        Raises:
            DataError: it cannot be read, or is shorter than it was.
        """
        try:
            if self.remote is not None:
                data = self.remote.cat_file(self.place(name), start, None if length is None else start + length)
            else:
                with self.path(name).open("rb") as file:
                    file.seek(start)
                    data = file.read(-1 if length is None else length)
        except DataError:
            raise
        except Exception as error:  # of the libraries behind fsspec: any kind
            raise _failed("cannot read", self.path(name), error) from error
        if length is not None and len(data) != length:
            raise DataError("the file is shorter than it was", file=self.path(name), expected=length, found=len(data))
        return bytes(data)

    def place(self, name: str) -> str:
        """Return where a file is in a file system of fsspec."""
        alone = self._is_file and PurePosixPath(self.root).name == name
        return self.root if alone else f"{self.root.rstrip('/')}/{name}"

    @property
    def _is_file(self) -> bool:
        """Whether the address is one file. A server of pages says so of folders, too, whose names have no ending."""
        named = not self.root.endswith("/") and PurePosixPath(self.root).suffix not in ("", ".zarr")
        return bool(named and self.remote.isfile(self.root))


def open_store(source: str | os.PathLike[str]) -> Store:
    """Return the place with shards that a folder or an address names.

    Raises:
        DataError: fsspec, or the library that it needs for this kind of address, is not installed; no such place.
    """
    return _open_remote(address_of(source)) if is_address(source) else Store(Path(source))


@lru_cache(maxsize=8)
def _open_remote(address: str) -> Store:
    try:
        import fsspec
    except ImportError as error:
        raise DataError("fsspec is not installed", file=address, fix="pip install fsspec") from error
    try:
        remote, root = fsspec.core.url_to_fs(address)
    except ImportError as error:  # fsspec says what to install for this kind of address
        raise DataError(
            f"fsspec cannot open this kind of address: {error}", file=address, fix=_library(address)
        ) from error
    except Exception as error:  # of the libraries behind fsspec: any kind
        raise _failed("cannot open", Path(address), error) from error
    return Store(Path(address), remote, root)


def _library(address: str) -> str:
    known = {
        "s3": "s3fs",
        "gs": "gcsfs",
        "gcs": "gcsfs",
        "http": "aiohttp",
        "https": "aiohttp",
        "hf": "huggingface_hub",
    }
    scheme = re.split(r"::|:", address)[-2] if "::" in address else address.partition(":")[0]
    return f"pip install {known[scheme]}" if scheme in known else "install the library that it names"


def _failed(what: str, file: Path, error: Exception) -> DataError:
    said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{what}: {said}", file=file)
