"""Segmenting image files: many images in, one indexed PNG each out."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import DataError, ExistsError, UsageError
from ..files import make_folder, write_bytes, write_json
from ..images.decode import IMAGE_SUFFIXES, read_image
from ..images.preprocessing import Preprocessing
from ..results import draw
from ..results.result import Result
from .segmenter import Segmenter


class MoreFiles(Protocol):
    """What else `predict_files` writes for each image, made from its scores."""

    def names(self, stem: str) -> Sequence[str]:
        """Return the names of the files for an image of this stem."""
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


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the images named: files as they are, folders by their image files, patterns by what they match.

    A folder and a pattern (`*`, `?` and `[...]`, `**` for folders below) give their files in order of name. A file
    whose name has such characters is itself.

    Raises:
        UsageError: nothing found, or two images of one stem (their outputs would collide).
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif not path.exists() and glob.has_magic(os.fspath(path)):
            matches = map(Path, glob.glob(os.fspath(path), recursive=True))
            found += sorted(p for p in matches if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        else:
            found.append(path)
    if not found:
        raise UsageError(
            "no image found", file=", ".join(str(path) for path in paths), expected=" ".join(IMAGE_SUFFIXES)
        )
    stems: dict[str, Path] = {}
    for path in found:
        if path.stem in stems:
            raise UsageError(
                "two images would be written to one file",
                file=path,
                found=f"{stems[path.stem]} has the stem {path.stem!r} too",
                fix="predict them into different folders",
            )
        stems[path.stem] = path
    return found


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
) -> list[Path]:
    """Segment image files and write `<stem>.png`, an indexed PNG of the class ids at the image's own size.

    Args:
        overlay: also write `<stem>_overlay.png`.
        geojson: also write `<stem>.geojson`, the polygons of every class but the first, in px.
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
        DataError: images that could not be read; all others are done.
    """
    folder = Path(out)
    targets = [folder / f"{image.stem}.png" for image in images]
    overlays = [folder / f"{image.stem}_overlay.png" for image in images] if overlay else []
    shapes = [folder / f"{image.stem}.geojson" for image in images] if geojson else []
    others = [folder / name for image in images for name in more.names(image.stem)] if more else []
    status_files = [] if json_file is None else [Path(json_file)]
    if more and segmenter.card.head == "argmax":
        raise UsageError("a model with an argmax head has no scores", fix="export it with --head logits")
    refuse_collisions(images, [*targets, *overlays, *shapes, *others, *status_files], overwrite)
    make_folder(folder)
    written: list[Path] = []
    faults: list[DataError] = []
    status: list[dict[str, object]] = []
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        try:
            pixels = read_image(image)
            result = segmenter.segment(pixels, scores=more is not None)
            files, said = more.make(image.stem, _viewable(pixels), result) if more else ({}, {})
        except DataError as error:
            error.file = error.file or os.fspath(image)
            faults.append(error)
            status.append({"image": os.fspath(image), "class_map": None, "ms": None, "error": str(error)})
            continue
        write_bytes(target, draw.encode_class_map(result.class_map, result.class_colors))
        if overlay:
            write_bytes(overlays[number], draw.encode_png(result.overlay(_viewable(pixels))))
        if geojson:
            write_json(shapes[number], result.geojson())
        for name, data in files.items():
            write_bytes(folder / name, data)
        extra = {**said, "files": [os.fspath(folder / name) for name in files]} if more else {}
        written.append(target)
        ms = {stage: round(value, 3) for stage, value in result.timing.items()}
        status.append({"image": os.fspath(image), "class_map": os.fspath(target), "ms": ms, "error": None, **extra})
        if progress:
            progress(number + 1, len(images), image, result.timing)
    if json_file is not None:
        write_json(json_file, {"images": status})
    say_faults(faults, len(images), "segmented")
    return written


def say_faults(faults: Sequence[DataError], count: int, done: str) -> None:
    """Raise what kept images of `count` from being done, as one error, or return if nothing did."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(
            f"{len(faults)} of {count} images could not be {done}: " + " | ".join(map(str, faults)),
            fix="replace or remove them; the others are done",
        )


def _viewable(pixels: np.ndarray) -> np.ndarray:
    return Preprocessing(channels=3).prepare(pixels)


def refuse_collisions(images: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse outputs that exist, that are inputs, or that two images would share.

    Raises:
        ExistsError, UsageError: as `predict_files` says.
    """
    inputs = {image.resolve() for image in images}
    for target in targets:
        if target.resolve() in inputs:
            raise ExistsError("the output would replace an input image", file=target, fix="choose another --out")
    twins = sorted(str(target) for target, count in Counter(targets).items() if count > 1)
    if twins:
        raise UsageError("two outputs would be written to one file", file=twins[0], fix="rename one of the images")
    existing = [target for target in targets if target.exists()]
    if existing and not overwrite:
        raise ExistsError(
            f"{len(existing)} of {len(targets)} output files exist already",
            file=existing[0],
            fix="choose another --out, or pass --overwrite",
        )
