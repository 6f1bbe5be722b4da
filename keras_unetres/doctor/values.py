"""Mask values that are no class, and masks in which nothing says what the values mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from unetres_edge.errors import Fix

from ..data.classes import merge_patches
from ..data.findings import Finding, Where, relative
from ..data.fixes import declare
from ..data.kinds import KINDS
from ..data.records import find_strange
from .summaries import DatasetSummary


def find_unknown_values(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield the masks with values that are no class; where one declaration mends several of them, all get it."""
    if summary.classes is None:
        yield from _without_classes(summary)
        return
    classes, dataset = summary.classes, summary.dataset
    findings = [find_strange(image.sample, image.counts, classes, dataset) for image in summary.images]
    strange = [finding for finding in findings if finding is not None]
    patches = {f.fix.text: f.fix.patch for f in strange if f.fix.patch and f.fix.patch.keys() <= {"values", "ignore"}}
    merged = merge_patches(patches.values(), classes) if len(patches) > 1 and not dataset.by_color else None
    for finding in strange:
        yield replace(finding, fix=declare(merged)) if merged and finding.fix.text in patches else finding


def _without_classes(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield why nothing says what the values mean, unless most masks could not be read, which comes first."""
    error, dataset = summary.error, summary.dataset
    read = sum(image.counts is not None for image in summary.images)
    if error is None or read < len(summary.images) / 2:
        return
    kind = error.kind if error.kind in KINDS else "not-contiguous"
    where = Where(relative(dataset.split("all")[0].target.file.parent, dataset.base))
    figures = {"found": str(error.found), "expected": str(error.expected)}
    yield Finding(
        kind, where, figures, error.remedy or Fix("say which class each value is: values: {VALUE: CLASS, ...}")
    )
