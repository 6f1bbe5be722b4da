"""Tar files as WebDataset writes them: the places of their members, by reading the headers alone.

Files of one sample have one name up to its first dot, and follow one another. No member is ever written to the disk,
and nothing in one is run: members that are no image are named and passed over.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from unetres_edge.errors import DataError

from .groups import Group
from .store import Store

_TOGETHER = 4 << 20  # bytes of samples that are read in one piece
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its ending after the first dot of its name, and where its bytes are."""

    ending: str
    start: int
    size: int


class TarGroup(Group):
    """Samples of a tar that lie side by side.

    Args:
        store, name: the tar.
        number: place among all groups.
        rows: column -> member of each sample.
    """

    __slots__ = ("_name", "_rows", "_store")

    def __init__(self, store: Store, name: str, number: int, rows: Sequence[Mapping[str, Member]]) -> None:
        self._store, self._name, self._rows = store, name, rows
        self.number, self.lock = number, threading.Lock()
        start, end = self._span()
        self.nbytes = end - start

    def _span(self) -> tuple[int, int]:
        members = [member for row in self._rows for member in row.values()]
        return min(m.start for m in members), max(m.start + m.size for m in members)

    def load(self) -> Mapping[str, list[bytes]]:
        """Return column -> bytes of the files."""
        start, end = self._span()
        data = self._store.read(self._name, start, end - start)
        return {
            column: [data[m.start - start : m.start - start + m.size] for m in (row[column] for row in self._rows)]
            for column in self._rows[0]
        }


def is_packed(name: str) -> bool:
    """Whether a file ends like a tar that is compressed as a whole, in which no place can be jumped to."""
    return name.lower().endswith(_PACKED)


def list_members(store: Store, name: str) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield (name, ending -> member) of each sample of a tar, by its headers.

    Raises:
        DataError: it is no tar, or is cut off, or the files of a sample do not follow one another.
    """
    key, members = "", dict[str, Member]()
    seen: set[str] = set()
    try:
        with store.open(name) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # which it keeps for names that it is asked for
                if not info.isreg() or info.issparse():
                    continue
                folder, _, last = info.name.rpartition("/")
                stem, _, ending = last.partition(".")
                if not stem or folder.startswith("__MACOSX"):
                    continue
                mine = f"{folder}/{stem}".lstrip("/")
                if mine != key:
                    if members:
                        yield key, members
                    if mine in seen:
                        raise DataError(
                            "the files of a sample do not follow one another",
                            file=store.path(name),
                            found=info.name,
                            fix="write the shard in order of the names",
                        )
                    seen.add(mine)
                    key, members = mine, {}
                members[ending.lower()] = Member(ending.lower(), info.offset_data, info.size)
            size, end = store.size(name), tar.offset
        if members:
            yield key, members
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:  # a header can stand before a header
        raise DataError(
            f"cannot read: {error}", file=store.path(name), expected="a tar file, not compressed"
        ) from error
    if end > size:
        raise DataError("the tar is cut off", file=store.path(name), expected=f"{end} bytes", found=size)


def make_groups(
    store: Store, name: str, first: int, rows: Sequence[Mapping[str, Member]]
) -> Iterator[tuple[TarGroup, int]]:
    """Yield (group, row in it) of each sample of a tar, of which so many are one group as are read in one piece.

    Args:
        first: number of the first group.
    """
    together: list[Mapping[str, Member]] = []
    size = 0
    for row in rows:
        size += sum(member.size for member in row.values())
        together.append(row)
        if size >= _TOGETHER:
            yield from _numbered(TarGroup(store, name, first, together), together)
            first, together, size = first + 1, [], 0
    if together:
        yield from _numbered(TarGroup(store, name, first, together), together)


def _numbered(group: TarGroup, rows: Sequence[Mapping[str, Member]]) -> Iterator[tuple[TarGroup, int]]:
    for row in range(len(rows)):
        yield group, row
