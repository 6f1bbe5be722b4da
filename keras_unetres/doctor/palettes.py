"""Palette masks in which a colour has another index than in most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from unetres_edge.errors import Fix

from ..data.classes import fix_colors
from ..data.findings import Finding, Where, relative
from ..data.fixes import declare, values_patch
from .summaries import DatasetSummary


def find_other_palettes(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield the masks whose palette gives a colour an index that it has in few others."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for image in summary.images:
        for color, index in (image.palette or {}).items():
            votes[color][index] += 1
    usual = {color: counter.most_common(1)[0][0] for color, counter in votes.items()}
    if summary.dataset.reading.masks_are == "instances" or len(set(usual.values())) < 2:
        return
    fix = _fix(summary, usual)
    for image in summary.images:
        odd = {color: index for color, index in (image.palette or {}).items() if usual[color] != index}
        if odd:
            said = [f"#{color:06x} is {index}, not {usual[color]}" for color, index in sorted(odd.items())]
            where = Where(relative(image.sample.target.file, summary.dataset.base), image.sample.name)
            yield Finding("palettes-differ", where, {"colors": said}, fix)


def _fix(summary: DatasetSummary, usual: Mapping[int, int]) -> Fix:
    """Return the fix that reads all masks by their colours, each of which is a class of its own."""
    if not all(image.palette for image in summary.images if image.counts is not None):
        return Fix("save this mask with the palette of the others")
    known = {} if summary.classes is None else summary.classes.values or {}
    values = {color: known[index] for color, index in usual.items() if index in known}
    if len(values) == len(usual) == len(set(usual.values())):
        return declare(values_patch(values, by_color=True))
    if summary.dataset.class_names is not None:  # which of them has which colour is not known
        return Fix('say which class each colour is: values: {"#rrggbb": CLASS, ...}')
    return fix_colors(_pixels_of_colors(summary))


def _pixels_of_colors(summary: DatasetSummary) -> Counter[int]:
    """Return packed colour -> pixels of it in all masks."""
    pixels: Counter[int] = Counter()
    for image in summary.images:
        for color, index in (image.palette or {}).items():
            pixels[color] += (image.counts or {}).get(index, 0)
    return pixels
