"""Segmenting image files: many images in, one indexed PNG each out."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import DataError, ExistsError, FileSystemError, UnetresError, UsageError
from ..files import make_folder, name_key, write_bytes, write_json
from ..images.decode import read_image
from ..images.view import to_view
from ..results import draw
from ..results.result import Result
from .inputs import find_images
from .segmenter import Segmenter
from .stacks import output_files, segment_stack, stack_pages

__all__ = ["MoreFiles", "find_images", "predict_files", "refuse_collisions", "say_faults", "written_status"]

_NAMED = 20  # faults that an error spells out


class MoreFiles(Protocol):
    """What else `predict_files` writes for each image, made from its scores."""

    def names(self, stem: str) -> Sequence[str]:
        """Return the names of the files for an image whose outputs begin so."""
        ...

    def make(self, stem: str, image: np.ndarray, result: Result) -> tuple[Mapping[str, bytes], Mapping[str, Any]]:
        """Return the content of each of these files, and JSON values for the image's status.

        Args:
            image: (H, W, 3) uint8, to draw on.
            result: a result with scores.

        Raises:
            DataError: this image cannot be written so; the others go on.
        """
        ...


def predict_files(
    segmenter: Segmenter,
    images: Sequence[Path],
    out: str | os.PathLike[str],
    *,
    overlay: bool = False,
    geojson: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int, Path, dict[str, float]], None] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    more: MoreFiles | None = None,
    names: Sequence[str] | None = None,
) -> list[Path]:
    """Segment image files and write `<name>.png`, an indexed PNG of the class ids at the image's own size.

    Of a TIFF of several pages that are no channels, `<name>.tif` has a page of class ids for each.

    Args:
        names: of the outputs of each image, without an ending, perhaps in folders below `out`; None for the stems.
        overlay: also write `<name>_overlay.png`.
        geojson: also write `<name>.geojson`, the polygons of every class but the background, in px.
        overwrite: replace files that exist; without it, any collision is refused before the first image.
        progress: called after each image with (done, all, image, milliseconds by stage).
        json_file: where to write what became of each image: {"images": [{"image", "class_map", "ms", "error"}]},
            and of more files "files" and what `more` says.
        more: makes more files of each image's scores.

    Returns:
        The class map files.

    Raises:
        ExistsError: an output exists already, or is one of the images.
        UsageError: two outputs of one name, such as a.png's overlay and the class map of a_overlay.png; or more files
            of a model with an argmax head, which has no scores.
        DataError: images that could not be read; all others are done, and the status file is there.
        FileSystemError: outputs that the system does not take, likewise; a name that is too long, a full disk.
    """
    folder = Path(out)
    names = [image.stem for image in images] if names is None else names
    pages = [stack_pages(image, stacked=segmenter.card.stacked) for image in images]
    places = [output_files(folder, name, count) for name, count in zip(names, pages, strict=True)]
    targets = [place[0] for place in places]
    overlays = [place[1] for place in places] if overlay else []
    shapes = [place[2] for place in places] if geojson else []
    others = [folder / file for name in names for file in more.names(name)] if more else []
    status_files = [] if json_file is None else [Path(json_file)]
    if more and segmenter.card.head == "argmax":
        raise UsageError("a model with an argmax head has no scores", fix="export it with --head logits")
    several = next((image for image, count in zip(images, pages, strict=True) if count > 1), None)
    if more and several is not None:
        raise UsageError("a stack gives class maps alone", file=several, fix="save each page as its own file")
    refuse_collisions(images, [*targets, *overlays, *shapes, *others, *status_files], overwrite)
    for place in dict.fromkeys(target.parent for target in targets):
        make_folder(place)
    written: list[Path] = []
    faults: list[UnetresError] = []

    def one(number: int) -> dict[str, object]:
        image, target = images[number], targets[number]
        if pages[number] > 1:
            return stack(number)
        pixels = read_image(image, stacked=segmenter.card.stacked)
        result = segmenter.segment(pixels, scores=more is not None)
        files, said = more.make(names[number], to_view(pixels, segmenter.card.show), result) if more else ({}, {})
        write_bytes(target, draw.encode_class_map(result.class_map, result.class_colors))
        written.append(target)
        if overlay:
            write_bytes(overlays[number], draw.encode_png(result.overlay(to_view(pixels, segmenter.card.show))))
        if geojson:
            write_json(shapes[number], result.geojson())
        for name, data in files.items():
            write_bytes(folder / name, data)
        extra = {**said, "files": [os.fspath(folder / name) for name in files]} if more else {}
        ms = {stage: round(value, 3) for stage, value in result.timing.items()}
        if progress:
            progress(number + 1, len(images), image, result.timing)
        return {"image": os.fspath(image), "class_map": os.fspath(target), "ms": ms, "error": None, **extra}

    def stack(number: int) -> dict[str, object]:
        image, target = images[number], targets[number]
        timing = segment_stack(
            segmenter,
            image,
            pages[number],
            target,
            overlays[number] if overlay else None,
            shapes[number] if geojson else None,
        )
        written.append(target)
        ms = {stage: round(value, 3) for stage, value in timing.items()}
        if progress:
            progress(number + 1, len(images), image, timing)
        return {"image": os.fspath(image), "class_map": os.fspath(target), "ms": ms, "error": None}

    with written_status(json_file, images, {"class_map": None, "ms": None}) as status:
        for number, image in enumerate(images):
            try:
                status.append(one(number))
            except (DataError, FileSystemError) as error:
                error.file = error.file or os.fspath(image)
                faults.append(error)
                map_file = os.fspath(targets[number]) if written[-1:] == [targets[number]] else None
                status.append({"image": os.fspath(image), "class_map": map_file, "ms": None, "error": str(error)})
    say_faults(faults, len(images), "segmented")
    return written


@contextlib.contextmanager
def written_status(
    file: str | os.PathLike[str] | None, images: Sequence[Path], nothing: Mapping[str, object]
) -> Iterator[list[dict[str, object]]]:
    """Yield the list of what became of each image, and write it whatever ends the work.

    Args:
        file: the JSON file; None for none.
        images: in the order of the list.
        nothing: further keys of an image that was not reached.
    """
    status: list[dict[str, object]] = []
    try:
        yield status
    finally:
        if file is not None:
            left = ({"image": os.fspath(i), **nothing, "error": "not reached"} for i in images[len(status) :])
            write_json(file, {"images": [*status, *left]})


def say_faults(faults: Sequence[UnetresError], count: int, done: str) -> None:
    """Raise what kept images of `count` from being done, as one error, or return if nothing did."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        kind = DataError if any(isinstance(fault, DataError) for fault in faults) else FileSystemError
        more = f" | {len(faults) - _NAMED} more, in the file of --json" if len(faults) > _NAMED else ""
        raise kind(
            f"{len(faults)} of {count} images could not be {done}: " + " | ".join(map(str, faults[:_NAMED])) + more,
            fix="replace or remove them; the others are done",
        )


def refuse_collisions(images: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse outputs that exist, that are inputs, or that two images would share.

    Raises:
        ExistsError, UsageError: as `predict_files` says.
    """
    inputs = {image.resolve() for image in images}
    for target in targets:
        if target.resolve() in inputs:
            raise ExistsError("the output would replace an input image", file=target, fix="choose another --out")
    places = Counter((target.parent, name_key(target.name)) for target in targets)
    twins = sorted(str(target) for target in targets if places[target.parent, name_key(target.name)] > 1)
    if twins:
        raise UsageError("two outputs would be written to one file", file=twins[0], fix="rename one of the images")
    existing = [target for target in targets if os.path.exists(target)]  # False for a name that is too long
    if existing and not overwrite:
        raise ExistsError(
            f"{len(existing)} of {len(targets)} output files exist already",
            file=existing[0],
            fix="choose another --out, or pass --overwrite",
        )
