"""Images whose pixels are those of another one: in another class, another part, or twice in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unetres_edge.errors import Fix

from .dataset import Dataset
from .findings import Finding, Where, relative
from .sources import Sample


def find_copies(dataset: Dataset, contents: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Return a fault for each image of a class whose pixels were met before.

    Args:
        contents: part -> the digests of the pixels of its samples, "" for one that cannot be read.
    """
    faults = []
    first: dict[str, tuple[str, Sample]] = {}
    for part, digests in contents.items():
        for sample, content in zip(dataset.split(part), digests, strict=True):
            other_part, other = first.setdefault(content, (part, sample))
            if not content or other is sample:
                continue
            same_class = "leak" if part != other_part else "duplicate"
            kind = same_class if sample.class_id == other.class_id else "two-classes"
            file, known = (relative(s.image.file, dataset.base) for s in (sample, other))
            figures = {"part": part, "twin": known, "twin_part": other_part}
            fix = Fix(f"remove {file}" + (f", or {known}" if kind == "two-classes" else ""))
            faults.append(Finding(kind, Where(file), figures, fix))
    return faults
