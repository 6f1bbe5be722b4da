"""Classification of image files: many images in, one table of their classes out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError, ExistsError, FileSystemError, UnetresError
from ..files import check_writable, make_folder, write_bytes
from ..segment.files import refuse_collisions, say_faults, written_status
from ..terminal import table_cell
from .classifier import Classification, Classifier

TABLE = "classes.csv"


def predict_classes(
    classifier: Classifier,
    images: Sequence[Path],
    out: str | os.PathLike[str],
    *,
    top: int = 5,
    overwrite: bool = False,
    progress: Callable[[int, int, Path, Classification], None] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    failed: Callable[[int, int, UnetresError], None] | None = None,
) -> list[Classification | None]:
    """Classify image files and write `classes.csv`, one row an image: image, class_1, probability_1, class_2, ...

    Args:
        top: number of classes that are written of each image.
        overwrite: whether to replace files that exist; without it, any collision is refused before the first image.
        progress: callback, called after each image with (done, all, image, its classes).
        failed: callback, called with (done, all, error) where an image fails; the error at the end then only counts.
        json_file: file for {"images": [{"image", "top": [{"id", "name", "probability"}], "ms", "error"}]}.

    Returns:
        The classes of each image, None for one that could not be read.

    Raises:
        ExistsError: an output exists already, or is one of the images.
        DataError: images that could not be read; all others are done.
    """
    table = Path(out) / TABLE
    if Path(out).exists() and not Path(out).is_dir():
        raise ExistsError("not a folder", file=out, fix="choose another --out")
    refuse_collisions(images, [table, *([] if json_file is None else [Path(json_file)])], overwrite)
    make_folder(out)
    check_writable(table)
    answers: list[Classification | None] = []
    faults: list[UnetresError] = []
    with written_status(json_file, images, {"top": None, "ms": None}) as status:
        for image in images:
            try:
                answer = classifier.classify(image, top=top)
            except (DataError, FileSystemError) as error:
                error.file = error.file or os.fspath(image)
                faults.append(error)
                answers.append(None)
                if failed:
                    failed(len(answers), len(images), error)
                status.append({"image": os.fspath(image), "top": None, "ms": None, "error": str(error)})
                continue
            answers.append(answer)
            best = [
                {"id": class_id, "name": name, "probability": round(share, 6)} for class_id, name, share in answer.top
            ]
            ms = {stage: round(value, 3) for stage, value in answer.timing.items()}
            status.append({"image": os.fspath(image), "top": best, "ms": ms, "error": None})
            if progress:
                progress(len(answers), len(images), image, answer)
        write_bytes(table, _table(images, answers, min(top, len(classifier.card.class_names))))
    say_faults(faults, len(images), "classified", told=failed is not None)
    return answers


def _table(images: Sequence[Path], answers: Sequence[Classification | None], top: int) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", *(f"{what}_{n}" for n in range(1, top + 1) for what in ("class", "probability"))])
    for image, answer in zip(images, answers, strict=True):
        if answer is not None:
            best = (cell for _, name, share in answer.top for cell in (table_cell(name), f"{share:.6f}"))
            rows.writerow([table_cell(image), *best])
    return text.getvalue().encode("utf-8", "surrogateescape")
