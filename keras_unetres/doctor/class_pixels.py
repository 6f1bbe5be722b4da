"""Classes without pixels, or with very few, and masks in which nothing is labelled."""

from __future__ import annotations

from collections.abc import Iterator

from unetres_edge.errors import Fix
from unetres_edge.images.preprocessing import IGNORE

from ..data.findings import Finding, Where, relative
from ..data.fixes import leave_out
from .summaries import DatasetSummary

_RARE = 1e-4  # share of the labelled pixels


def _are_all_known(summary: DatasetSummary) -> bool:
    """Whether every mask was read, and all its values are classes or not labelled; else other faults say why."""
    counts = ((image.counts or {}, summary.class_counts(image)) for image in summary.images)
    known = all(sum(stored.values()) == sum(of_classes.values()) for stored, of_classes in counts)
    return known and not summary.dataset.faults and not any(image.finding for image in summary.images)


def find_class_pixels(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield masks that label nothing, and classes that are absent or rare."""
    dataset = summary.dataset
    for image in summary.images:
        counts = summary.class_counts(image)
        if counts and set(counts) == {IGNORE}:
            where = Where(relative(image.sample.target.file, dataset.base), image.sample.name)
            yield Finding("all-ignored", where, {}, leave_out(image.sample.name))
    here = Where(relative(dataset.base, dataset.base))
    rows = summary.class_rows()
    there = [row for row in rows if row["pixels"]]
    if len(there) == 1 and len(rows) > 1 and _are_all_known(summary):
        only = {"only": there[0]["name"], "images": there[0]["images"]}
        yield Finding("empty-class", here, only, Fix("add masks in which something is drawn"))
    for row in rows:
        figures = {"class_id": row["id"], "class_name": row["name"]}
        for part in dataset.splits:
            if row["parts"].get(part, {"pixels": 0})["pixels"] == 0:
                fix = Fix("another split, or more images; scores of it are absent")
                yield Finding("absent-class", here, figures | {"part": part}, fix)
        if 0 < row["share"] < _RARE:
            of_class = {"pixels": row["pixels"], "images": row["images"], "least": _RARE}
            yield Finding("rare-class", here, figures | of_class, Fix("--balance 0.5, or more images"))
