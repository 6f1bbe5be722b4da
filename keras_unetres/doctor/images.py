"""Images that show nothing, files with the ending of another format, and grey images among coloured ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from unetres_edge.errors import Fix

from ..data.copies import leave_out_sample
from ..data.findings import Finding, Where, relative
from .summaries import DatasetSummary


def find_odd_images(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield what is read, but may not be what was meant."""
    base = summary.dataset.base
    for image in summary.images:
        name = image.sample.name
        if image.constant:
            where = Where(relative(image.sample.image.file, base), name)
            yield Finding("constant-image", where, {}, leave_out_sample(image.sample, summary.dataset))
        for file, ending in image.endings:
            where, fix = Where(relative(file, base), name), Fix(f"rename it to *{ending}")
            yield Finding("wrong-ending", where, {"format": ending[1:], "ending": ending}, fix)
    modes = Counter(image.mode for image in summary.images if image.mode)
    if len({mode.split()[0] for mode in modes}) > 1:
        fix = Fix("--channels 1, or leave it: grey images are read as colour")
        figures = {"modes": [f"{count} {mode}" for mode, count in modes.most_common()]}
        yield Finding("mixed-modes", Where(relative(base, base)), figures, fix)
