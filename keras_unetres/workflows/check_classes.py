"""`unetres check` of a folder of class folders: what it holds, and all that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any


def look_over_classes(data: str | os.PathLike[str], reading: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Decode every image of a folder of class folders once and report on it.

    Args:
        data: what `open_class_folders` takes.
        reading: fields of `Reading` that say how it is parted.

    Returns:
        JSON values as of any check: "format", "parts" (part -> images), "classes" (rows of "id", "name" and "images"
        by part), "sizes", "modes", "warnings" and "faults"; "notes", "ignored_share" and "hashes" are empty.

    Raises:
        DataError: no such folder, or no images.
        UsageError: options for masks, or a glob that matches nothing.
    """
    from ..data.class_folders import open_class_folders
    from ..data.labelled import look_at_images

    wanted = {key: value for key, value in (reading or {}).items() if value is not None}
    dataset = open_class_folders(data, changes=wanted, strict=False)
    looks = look_at_images(dataset, None, strict=False)
    counts = {part: Counter(image.label for image in images) for part, images in dataset.splits.items()}
    findings = [*dataset.faults, *dataset.warnings, *looks.faults, *looks.copies]
    return {
        "format": "class folders",
        "notes": [],
        "parts": {part: len(images) for part, images in dataset.splits.items()},
        "classes": [
            {"id": label, "name": name, "images": {part: counts[part][label] for part in counts}}
            for label, name in enumerate(dataset.class_names)
        ],
        "sizes": [{"height": h, "width": w, "images": count} for (h, w), count in looks.sizes()],
        "modes": looks.modes(),
        "ignored_share": 0,
        "hashes": "",
        "warnings": [finding.to_dict(data) for finding in findings if not finding.is_fault],
        "faults": [finding.to_dict(data) for finding in findings if finding.is_fault],
    }
