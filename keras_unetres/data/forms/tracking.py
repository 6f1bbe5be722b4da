"""Cell Tracking Challenge: a folder of frames for each sequence, and its gold truth (or silver truth) beside it.

    01/t000.tif 01/t001.tif  01_GT/SEG/man_seg000.tif  01_ST/SEG/man_seg000.tif  02/...

Masks number objects. `01_GT/TRA/` holds markers, no masks. Frames without a mask are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from unetres_edge.errors import DataError
from unetres_edge.terminal import counted

from ..declaration import Declaration
from ..sources import ImageFile, MaskFile, Sample
from .layout import UNPARTED, Layout, group_by_folder, list_images

_SEQUENCE, _FRAME, _MASK = re.compile(r"\d{2}"), re.compile(r"t(\d+)"), re.compile(r"man_seg(\d+)")
_TRUTHS = ("GT", "ST")  # by people, by the agreement of algorithms


def recognises(base: Path) -> bool:
    """Whether there is a sequence with masks."""
    return base.is_dir() and any(True for _ in _sequences(base))


def read(declared: Declaration) -> Layout:
    """Pair the frames of all sequences with their masks.

    Raises:
        DataError: no sequence with masks.
    """
    layout = Layout(masks_are="instances")
    samples: list[Sample] = []
    for folder, truth, masks in _sequences(declared.base):
        frames = _by_number(folder, _FRAME)
        pairs = [(frames[number], masks[number]) for number in sorted(frames.keys() & masks.keys())]
        samples += [Sample(f"{folder.name}/{image.name}", ImageFile(image), MaskFile(mask)) for image, mask in pairs]
        without = len(frames) - len(pairs)
        rest = f"; {counted(without, 'frame')} without one left out" if without else ""
        layout.notes.append(f"masks of {folder.name}/ are those of {folder.name}_{truth}/SEG/{rest}")
    if not samples:
        raise DataError(
            "no sequence with masks", file=declared.base, expected="01/t000.tif and 01_GT/SEG/man_seg000.tif"
        )
    layout.samples[UNPARTED] = samples
    group_by_folder(layout, {folder.name for folder, _, _ in _sequences(declared.base)})
    return layout


def _sequences(base: Path) -> Iterator[tuple[Path, str, dict[int, Path]]]:
    """Yield (folder of frames, which truth, number -> mask) of each sequence."""
    for folder in sorted(path for path in base.iterdir() if _SEQUENCE.fullmatch(path.name) and path.is_dir()):
        truths = ((truth, _by_number(base / f"{folder.name}_{truth}" / "SEG", _MASK)) for truth in _TRUTHS)
        first = next(((truth, masks) for truth, masks in truths if masks), None)
        if first is not None and _by_number(folder, _FRAME):
            yield folder, *first


def _by_number(folder: Path, name: re.Pattern[str]) -> dict[int, Path]:
    """Return number -> file of the images in a folder that are called so."""
    matches = ((name.fullmatch(file.stem), file) for file in list_images(folder))
    return {int(match[1]): file for match, file in matches if match is not None}
