"""`ku.next_images` and `unetres next`: which unlabelled images to label, with masks to correct."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge import Card, Segmenter
from unetres_edge.errors import DataError, FileSystemError, UnetresError, UsageError
from unetres_edge.files import (
    building,
    check_folder_writable,
    check_free,
    check_report,
    check_table,
    make_folder,
    name_key,
    read_bytes,
    write_bytes,
    write_json,
    write_report,
    write_table,
)
from unetres_edge.images.decode import read_image
from unetres_edge.results import draw
from unetres_edge.segment.inputs import find_inputs
from unetres_edge.terminal import counted, shown, table_cell

from ..choices.arguments import checks_kinds
from ..machine.progress_bar import with_progress
from ..runs import RunFolder
from ..settings import NextSettings
from ..tasks import task_of
from ..tasks.reading import read_for, recorded_place
from ..tasks.task import Opening

_COLUMNS = ("image", "expected_iou", "doubt_rank", "distance")
MOST_LABELLED = 400  # labelled images that are looked at, spread over all


@dataclass(frozen=True)
class _Seen:
    """What the network says of an image of the pool."""

    file: Path
    name: str
    expected_iou: float
    features: np.ndarray


@checks_kinds
def next_images(
    model: str | os.PathLike[str],
    pool: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    count: int = NextSettings.count,
    form: str = NextSettings.form,
    data: str | os.PathLike[str] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    csv_file: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Choose the images that are worth labelling, and write them with the network's masks, to be corrected.

    Of the images with the lowest expected IoU, those are taken that differ most from each other and from the labelled
    ones, in what they look like and in the classes that are in them.

    Args:
        model: run folder, `.tflite` or `.keras` file of a segmenter; the probabilities of a calibrated file are worth
            most.
        pool: unlabelled images, folders of them, or patterns.
        out: the folder to make, a data set of the chosen images.
        count: number of images.
        form: form in which the masks are written: "masks" (PNG of class ids), "labelme", "coco" or "label-studio".
        data: labelled images, to which the chosen ones shall add something; None for those of a run folder.
        json_file: file for the list as JSON.
        csv_file: file for the list as a table.
        say: callback for lines to the user.

    Returns:
        JSON values of each image, the first first: "image", "expected_iou", "doubt_rank" (1 for the lowest expected
        IoU) and "distance" from the nearest labelled or chosen one (null for none).

    Raises:
        UsageError: a classifier, or no image.
        ExistsError: the folder is there and not empty, or something else than an earlier list is in the place of one.
        DataError: no image of the pool can be read.
    """
    from ..trust.choosing import choose

    if json_file is not None:
        check_report(json_file, {"images": [dict.fromkeys(("expected_iou", "doubt_rank", "distance"))]})
    if csv_file is not None:
        check_table(csv_file, _COLUMNS)
    folder = Path(out)
    check_free(folder)
    check_folder_writable(folder)
    words = [pool] if isinstance(pool, (str, os.PathLike)) else list(pool)
    inputs = find_inputs(words).images_alone("this")
    for note in inputs.notes:
        say(shown(f"note  {note}"))
    with task_of(model).open_model(model, Opening()) as opened:
        card = opened.card
        if not isinstance(opened, Segmenter):
            raise UsageError("images are chosen by masks, and the model is a classifier", fix="train a segmenter")
        if card.head == "argmax":
            raise UsageError("a model with an argmax head has no scores", fix="export it with --head logits")
        seen = [each for each in _look(opened, inputs.images, inputs.names, say) if each is not None]
        if not seen:
            raise DataError("no image of the pool can be read", file=", ".join(os.fspath(word) for word in words))
        labelled = _labelled(model, card, data, say)
        values = np.array([each.expected_iou for each in seen])
        picks = choose(values, np.array([each.features for each in seen]), labelled, count)
        chosen = [seen[pick.place] for pick in picks]
        maps = [opened.segment(read_image(each.file, stacked=card.stacked)).class_map for each in chosen]
    rows = [
        {
            "image": os.fspath(each.file),
            "expected_iou": round(each.expected_iou, 5),
            "doubt_rank": pick.doubt_rank,
            "distance": None if pick.distance is None else round(pick.distance, 4),
        }
        for each, pick in zip(chosen, picks, strict=True)
    ]
    with building(folder) as new:
        _write(new, chosen, maps, card, form)
        if json_file is not None:
            write_report(json_file, {"images": rows})
        if csv_file is not None:
            write_table(csv_file, _table(rows))
    said = f", beside {counted(len(labelled), 'labelled image')}" if len(labelled) else ""
    say(shown(f"chose     {counted(len(rows), 'image')} of {len(seen)}{said}, as {form} in {folder}"))
    for row in rows[:10]:
        say(shown(f"          {row['image']}: expected IoU {row['expected_iou']:.3f}"))
    if card.calibration is None:
        say("note      the probabilities are the network's own; those of a calibrated file rank images better")
    return rows


def _look(
    opened: Segmenter, files: Sequence[Path], names: Sequence[str], say: Callable[[str], None]
) -> list[_Seen | None]:
    """Return what the network says of each image; None of those that cannot be read."""
    from ..trust.choosing import look_of

    seen: list[_Seen | None] = []
    for index in with_progress(range(len(files)), "looking", "image", len(files)):
        try:
            image = read_image(files[index], stacked=opened.card.stacked)
            result = opened.segment(image, scores=True)
        except (DataError, FileSystemError) as error:
            say(shown(f"note  left out: {error}"))
            seen.append(None)
            continue
        features = look_of(opened.card, image, result.class_map)
        seen.append(_Seen(files[index], names[index], result.expected_iou(), features))
    return seen


def _labelled(model: str | os.PathLike[str], card: Card, data: Any, say: Callable[[str], None]) -> np.ndarray:
    """Return the features of labelled images, (M, F); none where they are not asked for and not there."""
    from ..trust.choosing import look_of
    from ..trust.familiarity import spread_places

    nothing = np.zeros((0, 0))
    try:
        if data is None:
            if not isinstance(model, (str, os.PathLike)) or not RunFolder.is_run(model):
                return nothing
            data = recorded_place(RunFolder(model).read_info())
            if data is None:
                return nothing
            records = read_for(card, data, "train")
        else:
            records = read_for(card, data, "all")
    except UnetresError as error:
        if data is not None and not isinstance(error, (DataError, FileSystemError)):
            raise
        say(shown(f"note  the labelled images are not looked at: {error}"))
        return nothing
    places = spread_places(len(records), MOST_LABELLED)
    shown_places = with_progress(places, "labelled images", "image", len(places))
    return np.array([look_of(card, records[index].image, records[index].mask) for index in shown_places])


def _write(
    folder: Path,
    chosen: Sequence[_Seen],
    maps: Sequence[np.ndarray],
    card: Card,
    form: str,
) -> None:
    """Write the chosen images and their masks as a data set."""
    from ..data import tool_writers

    names, background = card.class_names, card.background
    make_folder(folder / "images")
    stems = _free_stems([Path(each.name).name for each in chosen])
    files = [f"{stem}{each.file.suffix.lower()}" for stem, each in zip(stems, chosen, strict=True)]
    for each, file in zip(chosen, files, strict=True):
        write_bytes(folder / "images" / file, read_bytes(each.file, "image"))
    pairs = list(zip(files, maps, strict=True))
    if form == "masks":
        make_folder(folder / "masks")
        for file, class_map in pairs:
            target = folder / "masks" / f"{Path(file).stem}.png"
            write_bytes(target, draw.encode_class_map(class_map, card.class_colors))
    elif form == "labelme":
        for file, class_map in pairs:
            target = folder / f"{Path(file).stem}.json"
            write_json(target, tool_writers.labelme_file(f"images/{file}", class_map, names, background))
    elif form == "coco":
        write_json(folder / "instances.json", tool_writers.coco_file(pairs, names, background))
    else:
        addresses = [(f"/data/local-files/?d=images/{file}", class_map) for file, class_map in pairs]
        write_json(folder / "tasks.json", tool_writers.label_studio_tasks(addresses, names, background, "unetres"))
        config = tool_writers.label_studio_config(names, card.class_colors)
        write_bytes(folder / "label_studio.xml", config.encode())
    if form == "masks" or background == 0:  # the tools' forms have the background first
        write_bytes(folder / "classes.txt", "".join(f"{name}\n" for name in names).encode())


def _free_stems(names: Sequence[str]) -> list[str]:
    """Return names of which no two are one file on any system: those that are taken get a number that is free."""
    counts = Counter(name_key(name, "win32") for name in names)
    taken: set[str] = set()
    stems = []
    for name in names:
        tries = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        free = next(
            each
            for each in tries
            if (key := name_key(each, "win32")) not in taken and (each == name or not counts[key])
        )
        taken.add(name_key(free, "win32"))
        stems.append(free)
    return stems


def _table(rows: Sequence[dict[str, Any]]) -> bytes:
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "image": table_cell(row["image"])} for row in rows)
    return table.getvalue().encode("utf-8", "surrogateescape")
