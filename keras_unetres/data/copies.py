"""Images whose pixels are those of another one: in another part, in another class, or twice in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unetres_edge.errors import Fix

from .dataset import Dataset
from .findings import Finding, Where, relative
from .fixes import leave_out
from .sources import Sample


def find_copies(dataset: Dataset, contents: Mapping[str, Sequence[str | bytes]]) -> list[Finding]:
    """Return a finding for each image whose pixels were met before.

    Args:
        contents: part -> the digests of the pixels of its samples, empty for one that does not count.
    """
    findings = []
    first: dict[str | bytes, tuple[str, Sample]] = {}
    for part, digests in contents.items():
        for sample, content in zip(dataset.split(part) if digests else (), digests, strict=True):
            other_part, other = first.setdefault(content, (part, sample))
            if not content or other is sample:
                continue
            same_class = "leak" if part != other_part else "duplicate"
            kind = same_class if sample.class_id == other.class_id else "two-classes"
            file, known = (relative(s.image.file, dataset.base) for s in (sample, other))
            figures = {"part": part, "twin": known, "twin_part": other_part}
            fix = leave_out_sample(sample, dataset)
            if kind == "two-classes":
                fix = Fix(f"{fix}, or {known}")
            findings.append(Finding(kind, Where(file, sample.name), figures, fix))
    return findings


def leave_out_sample(sample: Sample, dataset: Dataset) -> Fix:
    """Return the fix that leaves a sample out: a declaration, but for class folders, which have none."""
    if sample.class_id is None:
        return leave_out(sample.name)
    return Fix(f"remove {relative(sample.image.file, dataset.base)}")
