"""Stacks: TIFF files of several images, segmented page by page into stacks of class maps."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError, UnetresError
from ..files import write_bytes, write_json
from ..images.decode import count_pages, pages_are_channels, read_image
from ..images.view import to_view
from ..results.result import Result
from .segmenter import Segmenter

_TIFF = (".tif", ".tiff")


def stack_pages(image: Path, *, stacked: bool = False) -> int:
    """Return the number of images in a file; 1 where its pages are the channels of one, or it cannot be read.

    Args:
        image: the file.
        stacked: whether pages are channels, whatever the file says.
    """
    if stacked or image.suffix.lower() not in _TIFF:
        return 1
    with contextlib.suppress(UnetresError):  # named when it is read
        return 1 if pages_are_channels(image) else count_pages(image)
    return 1


def segment_stack(
    segmenter: Segmenter,
    image: Path,
    pages: int,
    target: Path,
    overlay: Path | None,
    shapes: Path | None,
    each: Callable[[int, np.ndarray, Result], None] | None = None,
) -> dict[str, float]:
    """Write the class maps of all pages as one TIFF of uint8 pages, and what else is asked for; return the times, ms.

    Args:
        segmenter: segmenter of the model.
        image: the stack.
        pages: images in it.
        target: file of the class maps.
        overlay: file of the overlays, pages of RGB, or None.
        shapes: GeoJSON file, in which each feature has its page, or None.
        each: callback, called with the number of each page, the page as (H, W, 3) uint8 to draw on, and its result with
            scores.

    Raises:
        ImageError: pages that differ in size, or cannot be read.
    """
    maps, drawn = [], []
    features: list[dict[str, Any]] = []
    timing: dict[str, float] = {}
    for page in range(pages):
        pixels = read_image(image, page)
        result = segmenter.segment(pixels, scores=each is not None)
        maps.append(np.asarray(result.class_map))
        if maps[0].shape != maps[-1].shape:
            raise ImageError(
                "pages of a stack differ in size",
                file=image,
                expected=maps[0].shape,
                found=f"{maps[-1].shape} in page {page}",
                fix="save each page as its own file",
            )
        if overlay is not None:
            drawn.append(result.overlay(to_view(pixels, segmenter.card.show)))
        for feature in result.geojson()["features"] if shapes is not None else ():
            features.append({**feature, "properties": {**feature["properties"], "page": page}})
        if each is not None:
            each(page, to_view(pixels, segmenter.card.show), result)
        for stage, value in result.timing.items():
            timing[stage] = timing.get(stage, 0.0) + value
    write_bytes(target, _encode(maps, "minisblack"))
    if overlay is not None:
        write_bytes(overlay, _encode(drawn, "rgb"))
    if shapes is not None:
        write_json(shapes, {"type": "FeatureCollection", "features": features})
    return timing


def _encode(pages: Sequence[np.ndarray], photometric: str) -> bytes:
    """Return pages (H, W) or (H, W, 3) uint8 as a TIFF, deflated."""
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for page in pages:
            file.write(page, photometric=photometric, compression="zlib", metadata=None, contiguous=False)
    return buffer.getvalue()


def output_files(folder: str | os.PathLike[str], name: str, pages: int) -> tuple[Path, Path, Path]:
    """Return the files of the class map, of the overlay and of the polygons of an image, or of a stack of several."""
    ending = "png" if pages == 1 else "tif"
    return (
        Path(folder) / f"{name}.{ending}",
        Path(folder) / f"{name}_overlay.{ending}",
        Path(folder) / f"{name}.geojson",
    )


def page_name(name: str, page: int) -> str:
    """Return what the files of one page of a stack are called, in a folder of the stack's name."""
    return f"{name}/{page:04d}"
