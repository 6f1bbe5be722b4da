"""Scoring a segmenter on labelled images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.segment.segmenter import Segmenter

from ..machine.progress_bar import with_progress
from ..objects import Separation, find_instances
from .confusion import Confusion
from .instances import InstanceScores
from .partitions import PartitionScores


def score(
    segmenter: Segmenter,
    records: Iterable[tuple[np.ndarray, ...]],
    *,
    name: str = "scoring",
    total: int | None = None,
    separation: Separation | None = None,
) -> dict[str, Any]:
    """Segment every image and count every labelled pixel once, over the whole set.

    Args:
        records: (image, (H, W) uint8 mask with `IGNORE` for pixels that do not count). For scores of objects, also the
            true ones, an (H, W) integer map with 0 for none.
        name: text of the progress bar.
        total: number of records, for the progress bar.
        separation: settings by which pixels become objects, if objects are scored too.

    Returns:
        JSON values: those of `Confusion.to_dict` (None for a class absent from the masks), "num_images",
        "ms_per_image" (median, preprocessing to class map); with a separation "instances", the values of
        `InstanceScores.to_dict` and `PartitionScores.to_dict`, whatever classes the objects are of.
    """
    names = segmenter.card.class_names
    confusion = Confusion.empty(len(names))
    objects, partitions = InstanceScores(), PartitionScores()
    times = []
    for image, mask, *true in with_progress(records, name, "image", total):
        result = segmenter.segment(image, scores=separation is not None)
        confusion += Confusion.of(mask, result.class_map, len(names))
        times.append(result.timing["total"])
        if separation is not None:
            predicted = find_instances(result, separation).labels
            objects.add(true[0], predicted, mask == IGNORE)
            partitions.add(true[0], predicted, mask == IGNORE)
    of_objects = {} if separation is None else {"instances": {**objects.to_dict(), **partitions.to_dict()}}
    return {
        **confusion.to_dict(names),
        **of_objects,
        "num_images": len(times),
        "ms_per_image": round(float(np.median(times)), 3) if times else None,
    }
