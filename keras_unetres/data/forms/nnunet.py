"""nnU-Net's folders of pictures: `imagesTr/a_0000.png` (`a_0001.png`, ...: a channel each) and `labelsTr/a.png`.

The labels of `dataset.json` name the classes; `ignore` is not labelled. Images of `imagesTs` have no masks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, ImageError
from unetres_edge.images.decode import read_image

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..sources import ImageFile, MaskFile, Sample, Source, file_digest
from .annotated import save_arrays
from .layout import UNPARTED, Layout, key_of, list_images

_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class ChannelFiles(Source):
    """An image of which each channel is a file."""

    file: Path
    files: tuple[Path, ...]

    def read(self) -> np.ndarray:
        channels = [read_image(file) for file in self.files]
        forms = {f"{channel.shape} {channel.dtype}" for channel in channels}
        if len(forms) > 1 or channels[0].ndim != 2:
            raise ImageError(
                "the files of an image are no channels",
                file=self.file,
                expected="grey images of one size and depth",
                found=", ".join(sorted(forms)),
                kind="unsupported-mode",
            )
        return np.stack(channels, -1)

    def digest(self) -> str:
        return hashlib.sha256("".join(map(file_digest, self.files)).encode()).hexdigest()


def recognises(base: Path) -> bool:
    """Whether there are `imagesTr/`, `labelsTr/` and a `dataset.json` with labels."""
    folders = all((base / name).is_dir() for name in ("imagesTr", "labelsTr"))
    return folders and (base / "dataset.json").is_file() and _labels(base) is not None


def read(declared: Declaration) -> Layout:
    """Pair the images of every case with its mask.

    Raises:
        DataError: no pictures, or labels that are regions or leave numbers out.
    """
    base = declared.base
    labels = _labels(base) or {}
    layout = Layout()
    images: dict[str, list[Path]] = defaultdict(list)
    for file in list_images(base / "imagesTr"):
        match = _CHANNEL.fullmatch(file.stem)
        images[key_of(match.group(1) if match else file.stem)].append(file)
    masks = {key_of(file.stem): file for file in list_images(base / "labelsTr")}
    if not images or not masks:
        other = next((f for f in sorted((base / "labelsTr").iterdir()) if not f.name.startswith(".")), base)
        raise DataError(
            "no pictures in imagesTr/ and labelsTr/",
            file=base,
            expected="PNG or TIFF",
            found=f"files such as {other.name}",
            fix=save_arrays(other),
        )
    layout.ignore = labels.pop("ignore", None)
    if sorted(labels.values()) != list(range(len(labels))):
        raise DataError(
            "labels are not 0, 1, 2, ...", file=base / "dataset.json", expected="a number each", found=str(labels)
        )
    layout.names = tuple(sorted(labels, key=lambda name: labels[name]))
    layout.samples[UNPARTED] = []
    for key in sorted(set(images) | set(masks)):
        file = images[key][0] if key in images else masks[key]
        if declared.excludes(file.name):
            continue
        if key not in images or key not in masks:
            kind, folder = ("missing-mask", "labelsTr") if key in images else ("missing-image", "imagesTr")
            where = Where(relative(file, base), file.name)
            layout.faults.append(Finding(kind, where, {"stem": key, "folder": folder}, leave_out(file.name)))
            continue
        files = tuple(sorted(images[key]))
        image = ImageFile(file) if len(files) == 1 else ChannelFiles(file, files)
        layout.samples[UNPARTED].append(Sample(masks[key].name, image, MaskFile(masks[key])))
    if (base / "imagesTs").is_dir():
        layout.notes.append("the images of imagesTs/ have no masks and are left out")
    return layout


def _labels(base: Path) -> dict[str, int] | None:
    """Return name -> number of the labels, or None where `dataset.json` has none; either way round."""
    try:
        labels: Any = json.loads((base / "dataset.json").read_bytes())["labels"]
        pairs = [(str(name), value) for name, value in labels.items()]
        if all(name.isdigit() for name, _ in pairs):  # of version 1: "0": "background"
            return {str(value): int(name) for name, value in pairs}
        return {name: int(value) for name, value in pairs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
