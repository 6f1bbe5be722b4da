"""Scoring a segmenter on labelled images."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from tqdm import tqdm

from unetres_edge.segmenter import Segmenter

from .confusion import Confusion


def score(
    segmenter: Segmenter,
    records: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    name: str = "scoring",
    total: int | None = None,
) -> dict[str, Any]:
    """Segment every image and count every labelled pixel once, over the whole set.

    Args:
        records: (image, (H, W) uint8 mask with `IGNORE` for pixels that do not count).
        name: what the progress bar says.
        total: number of records, for the progress bar.

    Returns:
        JSON values: "miou", "per_class_iou" (None for a class absent from the masks), "pixel_accuracy", "num_images",
        "ms_per_image" (median, preprocessing to class map).
    """
    names = segmenter.card.class_names
    confusion = Confusion.empty(len(names))
    times = []
    for image, mask in tqdm(records, total=total, desc=name, unit="image", disable=None, leave=False, file=sys.stderr):
        result = segmenter.segment(image)
        confusion += Confusion.of(mask, result.class_map, len(names))
        times.append(result.timing["total"])
    return {
        **confusion.to_dict(names),
        "num_images": len(times),
        "ms_per_image": round(float(np.median(times)), 3) if times else None,
    }
