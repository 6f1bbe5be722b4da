"""Labelled images for a model that is there already, read as its training data was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unetres_edge import Segmenter
from unetres_edge.errors import DataError

if TYPE_CHECKING:
    from ..data import ClassFolders, Dataset, Records


def read_for(
    segmenter: Segmenter,
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    split: str,
    changes: Mapping[str, Any] | None = None,
) -> Records:
    """Read a part of a data set as the model's training data was read, except for `changes`."""
    from ..data import Dataset, Reading, open_dataset, read_records
    from ..data.class_folders import refuse_for_segmenter

    refuse_for_segmenter(data)
    assert isinstance(data, (str, os.PathLike, Dataset))
    card = segmenter.card
    reading = Reading(**card.dataset) if card.dataset else None
    dataset = open_dataset(data, reading, changes)
    records = read_records(dataset, [split], class_names=card.class_names)[split]
    if not len(records):
        raise DataError("no images to score", file=dataset.root)
    return records
