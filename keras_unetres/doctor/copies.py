"""The same picture twice: its pixels exactly, or nearly so, encoded again, brighter, scaled, mirrored or turned."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..data.faults import Fault, relative
from .portrait import Portrait, flips

_ALIKE = (0.98, 0.9)  # correlation of the coarse and of the fine fingerprints of nearly equal pictures
_SPARSE, _ALIKE_IF_SPARSE = 60, 0.985  # pixels that tell a picture apart, and what is asked of fewer
_ROWS = 512  # pictures compared at a time


def find_copies(portraits: Sequence[Portrait], base: Path) -> tuple[list[tuple[Portrait, Fault]], list[Fault]]:
    """Return leaks between parts with the sample that is to go, and warnings: copies in one part, near-copies."""
    by_content: dict[str, list[Portrait]] = defaultdict(list)
    for portrait in portraits:
        if portrait.content and not portrait.constant:
            by_content[portrait.content].append(portrait)
    leaks, warnings = [], _near_copies(portraits, base)
    for same in by_content.values():
        first = next((p for p in same if p.part == "train"), same[0])
        for portrait in same:
            if portrait is first:
                continue
            leak = portrait.part != first.part
            fault = Fault(
                relative(portrait.sample.image.file, base),
                "leak" if leak else "duplicate",
                f"in {portrait.part}: the pixels of {relative(first.sample.image.file, base)} in {first.part}",
                "every picture once",
                f"exclude: [{json.dumps(portrait.sample.name)}]",
            )
            if leak:
                leaks.append((portrait, fault))
            else:
                warnings.append(fault)
    return leaks, warnings


def _near_copies(portraits: Sequence[Portrait], base: Path) -> list[Fault]:
    seen = [p for p in portraits if p.content and p.fine.any()]
    known = [p for p in seen if p.part == "train"]
    warnings = []
    for part in ("val", "test"):
        others = [p for p in seen if p.part == part]
        for one, other in _alike(known, others):
            if one.content != other.content:
                warnings.append(
                    Fault(
                        relative(other.sample.image.file, base),
                        "near-duplicate",
                        f"in {part}: nearly {relative(one.sample.image.file, base)} in {one.part}",
                        "pictures of their own in every part",
                        f"exclude: [{json.dumps(other.sample.name)}]",
                    )
                )
        known += others
    return warnings


def _alike(known: Sequence[Portrait], others: Sequence[Portrait]) -> Iterator[tuple[Portrait, Portrait]]:
    """Yield (known, other) for the best match of each other portrait, if both its fingerprints match."""
    if not known or not others:
        return
    coarse, fine = (np.stack([getattr(p, name) for p in known]) for name in ("coarse", "fine"))
    for start in range(0, len(others), _ROWS):
        block = others[start : start + _ROWS]
        best = np.full((len(block), len(known)), -1.0, np.float32)
        turned = [(flips(p.coarse), flips(p.fine)) for p in block]
        for way in range(len(turned[0][0])):
            rough = np.stack([t[0][way] for t in turned]) @ coarse.T
            sharp = np.stack([t[1][way] for t in turned]) @ fine.T
            best = np.maximum(best, np.where(rough >= _ALIKE[0], sharp, -1.0))
        for other, row in zip(block, best, strict=True):
            place = int(row.argmax())
            if row[place] >= (_ALIKE[1] if _telling(other.fine) >= _SPARSE else _ALIKE_IF_SPARSE):
                yield known[place], other


def _telling(fingerprint: np.ndarray) -> float:
    """Return by how many pixels a fingerprint is told apart: few where a bright spot or two are all there is to see."""
    return float(np.square(np.square(fingerprint).sum()) / max(float((fingerprint**4).sum()), 1e-12))
