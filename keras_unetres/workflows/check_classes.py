"""`unetres check` of a folder of class folders: what it holds, and all that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

_MOST_SIZES = 1024  # told apart in a report


def look_over_classes(data: str | os.PathLike[str], reading: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Decode every image of a folder of class folders once and report on it.

    Args:
        data: a folder of class folders, or one with such folders for its parts.
        reading: fields of `Reading` that say how it is parted.

    Returns:
        JSON values as of any check: "format", "parts" (part -> images), "classes" (rows of "id", "name" and "images"
        by part), "sizes", "modes", "warnings" and "faults"; "notes", "ignored_share" and "hashes" are empty.

    Raises:
        DataError: no such folder, or no images.
        UsageError: options for masks, or a glob that matches nothing.
    """
    from ..data.copies import find_copies
    from ..data.dataset import open_dataset
    from ..data.records import Look, in_parallel, look_at
    from ..data.sources import Sample

    dataset = open_dataset(data, changes=reading, strict=False, task="classify")

    def look(sample: Sample) -> Look:
        return replace(look_at(sample, dataset), image=None)

    samples = [(part, sample) for part, found in dataset.splits.items() for sample in found]
    looks = list(in_parallel(look, [sample for _, sample in samples], progress=True))
    contents: dict[str, list[str]] = {part: [] for part in dataset.splits}
    for (part, _), each in zip(samples, looks, strict=True):
        contents[part].append(each.content)
    counts = {part: Counter(sample.class_id for sample in found) for part, found in dataset.splits.items()}
    findings = [*dataset.faults, *dataset.warnings, *(each.fault for each in looks if each.fault)]
    findings += find_copies(dataset, contents)
    sound = [each for each in looks if not each.fault]
    sizes = Counter(each.size for each in sound).most_common(_MOST_SIZES)
    return {
        "format": dataset.format,
        "notes": [],
        "parts": {part: len(images) for part, images in dataset.splits.items()},
        "classes": [
            {"id": label, "name": name, "images": {part: counts[part][label] for part in counts}}
            for label, name in enumerate(dataset.class_names or ())
        ],
        "sizes": [{"height": h, "width": w, "images": count} for (h, w), count in sizes],
        "modes": dict(Counter(each.mode for each in sound).most_common()),
        "ignored_share": 0,
        "hashes": "",
        "warnings": [finding.to_dict(data) for finding in findings if not finding.is_fault],
        "faults": [finding.to_dict(data) for finding in findings if finding.is_fault],
    }
