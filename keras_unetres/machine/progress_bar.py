"""A progress bar on standard error, where somebody is looking on."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def with_progress(items: Iterable[T], title: str, unit: str, total: int | None = None) -> Iterable[T]:
    """Return the items, with a bar that goes on as they are taken; none without a terminal, or without a stream.

    Args:
        items: items that are gone through.
        title: words for the work, before the bar.
        unit: word for an item.
        total: number of items; None to ask `items`.
    """
    silent = True if sys.stderr is None else None  # None leaves it to whether it is a terminal
    bar: Iterable[T] = tqdm(items, total=total, desc=title, unit=unit, disable=silent, leave=False, file=sys.stderr)
    return bar
