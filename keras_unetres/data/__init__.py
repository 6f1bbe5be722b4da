"""Data: any data set of images with masks or classes, read exactly or refused, and fed to `model.fit` by `tf.data`.

Names load on first use, so that what only tells how a data set was read does not wait for its readers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrays import class_folders_from_arrays, dataset_from_arrays, dataset_from_tf
    from .classes import Classes
    from .dataset import Dataset, open_dataset
    from .declaration import Reading
    from .records import Record, Records, read_records
    from .sources import Sample

_HOMES = {
    "Classes": "classes",
    "Dataset": "dataset",
    "Reading": "declaration",
    "Record": "records",
    "Records": "records",
    "Sample": "sources",
    "class_folders_from_arrays": "arrays",
    "dataset_from_arrays": "arrays",
    "dataset_from_tf": "arrays",
    "open_dataset": "dataset",
    "read_records": "records",
}

__all__ = [
    "Classes",
    "Dataset",
    "Reading",
    "Record",
    "Records",
    "Sample",
    "class_folders_from_arrays",
    "dataset_from_arrays",
    "dataset_from_tf",
    "open_dataset",
    "read_records",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
