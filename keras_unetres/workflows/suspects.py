"""`ku.suspects` and `unetres suspects`: which masks are probably wrong, by networks that were not trained on them."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import DataError, ExistsError
from unetres_edge.files import check_folder_writable, check_report, check_table, make_folder, write_report, write_table
from unetres_edge.images.view import to_view
from unetres_edge.terminal import counted, shown, table_cell

from ..choices.arguments import checks_kinds
from ..choices.tasks import SEGMENT
from ..settings import SuspectsSettings, TrainSettings

if TYPE_CHECKING:
    from ..data import Dataset, Sample
    from ..trust.suspects import Contradiction

SEEN_MOST = 60  # suspects with a picture on the page
_NAMES = ("image", "given", "answered")
_COLUMNS = ("image", "part", "score", "excess", "weight", "given", "answered", "top", "left", "bottom", "right")
_SIDE = 320  # px of a picture's longer side, at most


@dataclass(frozen=True)
class _Judged:
    """What a network that was not trained on an image says of its mask."""

    name: str
    part: str
    found: Contradiction
    picture: np.ndarray


@checks_kinds
def suspects(
    data: Any,
    *,
    folds: int = SuspectsSettings.folds,
    epochs: int = SuspectsSettings.epochs,
    filters: int = SuspectsSettings.filters,
    size: int | None = None,
    runs: str | os.PathLike[str] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    csv_file: str | os.PathLike[str] | None = None,
    html_file: str | os.PathLike[str] | None = None,
    reading: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Put the masks of a data set in order of how likely they are wrong.

    The images are parted into folds; for each, a small network is trained for a short time on all others and asked
    about those of the fold. A mask that it contradicts more than is usual is suspicious. It may be right all the same:
    an unusual image is contradicted, too.

    Args:
        data: data set, as `open_dataset` takes it, with masks; all its parts are judged.
        folds: number of short trainings, each without one part of the images.
        epochs: passes over the data of each.
        filters: filters of the first level of the U-Net.
        size: side of the crops in px; None for what the data set asks for.
        runs: folder in which run folders are kept; None throws them away.
        json_file: file for the list as JSON.
        csv_file: file for the list as a table.
        html_file: file for the list as a page with pictures.
        reading: fields of `Reading` that differ from what the data set says.
        say: callback for lines to the user.

    Returns:
        JSON values of each image, the most suspicious first: "image", "part", "score" (spreads above the usual),
        "excess" (nats a pixel), "weight" (px), "box" (top, left, bottom, right; null for none), and in it the class of
        the mask, "given", and of the network, "answered".

    Raises:
        DataError: the data set has faults, no masks, or fewer images than two a fold.
        UsageError: an output has another ending.
        ExistsError: something else than an earlier list is in its place, or runs are in `runs`.
    """
    from ..data import open_dataset
    from ..trust.suspects import suspicion

    if json_file is not None:
        check_report(json_file, {"images": [dict.fromkeys(("score", "excess", "weight"))]})
    if csv_file is not None:
        check_table(csv_file, _COLUMNS)
    if html_file is not None:
        from ..pages.frame import check_page

        check_page(html_file)
    if runs is not None:
        _refuse_runs(Path(runs), folds)
        check_folder_writable(runs)
    dataset = open_dataset(data, changes=reading, task=SEGMENT.name)
    settings = TrainSettings.from_flat({"epochs": epochs, "filters": filters, **({"size": size} if size else {})})
    judged: list[_Judged] = []
    names: tuple[str, ...] = ()
    keep = (
        contextlib.nullcontext(make_folder(runs))
        if runs is not None
        else tempfile.TemporaryDirectory(prefix="unetres-")
    )
    with keep as folder:
        for number, fold in enumerate(_folds(dataset, folds), 1):
            say(shown(f"fold      {number} of {folds}: {counted(len(fold['val']), 'image')} left out"))
            run = Path(folder) / f"fold{number}"
            names, judgements = _judge(dataset, fold, run, settings)
            judged += judgements
    scores = suspicion([each.found for each in judged])
    order = np.argsort(-scores, kind="stable").tolist()
    rows = [_row(judged[index], float(scores[index]), names) for index in order]
    for row in rows[:10]:
        say(shown(f"suspect   {_words(row)}"))
    if json_file is not None:
        write_report(json_file, {"images": rows})
    if csv_file is not None:
        write_table(csv_file, _table(rows))
    if html_file is not None:
        from ..pages.frame import write_page
        from ..pages.suspects import SuspectFigures, suspects_page

        seen = [(_words(rows[at]), judged[index].picture) for at, index in enumerate(order[:SEEN_MOST])]
        write_page(html_file, suspects_page(SuspectFigures(os.fspath(dataset.root), len(rows), folds, seen)))
        say(shown(f"page      {html_file}"))
    return rows


def _folds(dataset: Dataset, folds: int) -> Iterator[dict[str, tuple[Sample, ...]]]:
    """Yield the images that are trained on and those that are left out, every one once; parts and order are mixed.

    Images of one group, such as a patient, are left out together.
    """
    from ..data.groups import groups_of

    samples, pattern = dataset.split("all"), dataset.reading.group_by
    groups: dict[str, list[int]] = {}
    names = [sample.name for sample in samples]
    for index, group in enumerate(names if pattern is None else groups_of(names, pattern, dataset.base)):
        groups.setdefault(group, []).append(index)
    if len(groups) < 2 * folds:
        raise DataError(
            "too few images to leave some out" if pattern is None else "too few groups to leave some out",
            file=dataset.root,
            expected=f"at least {2 * folds}",
            found=len(groups),
            fix="use fewer --folds, from 2",
        )
    order = np.random.default_rng(0).permutation(len(groups))
    members = list(groups.values())
    for number in range(folds):
        out = {index for group in order[number::folds].tolist() for index in members[group]}
        yield {
            "train": tuple(each for index, each in enumerate(samples) if index not in out),
            "val": tuple(samples[index] for index in sorted(out)),
        }


def _refuse_runs(folder: Path, folds: int) -> None:
    """Raise ExistsError if runs are where those of the folds are to be, such as those of `train --folds`."""
    there = [place for number in range(1, folds + 1) if os.path.lexists(place := folder / f"fold{number}")]
    if there:
        fix = "choose another --runs, or remove it if a stop left it"
        raise ExistsError("a run is there already", file=there[0], fix=fix)


def _judge(
    dataset: Dataset, fold: Mapping[str, tuple[Sample, ...]], run: Path, settings: TrainSettings
) -> tuple[tuple[str, ...], list[_Judged]]:
    """Train on a part of the images, and return the classes and what is said of the others."""
    from unetres_edge.results import draw

    from ..data import read_records
    from ..machine.progress_bar import with_progress
    from ..tasks.loading import open_segmenter
    from ..trust.suspects import contradict
    from .train import train

    part_of = {id(sample): part for part, samples in dataset.splits.items() for sample in samples}
    parted = replace(dataset, splits=fold)
    train(parted, run, settings, overwrite=True, say=_silent)
    judged = []
    with open_segmenter(run) as segmenter:
        card = segmenter.card
        records = read_records(parted, ["val"], class_names=card.class_names)["val"]
        for index in with_progress(range(len(records)), "judging", "image", len(records)):
            record = records[index]
            result = segmenter.segment(record.image, scores=True)
            contradiction = contradict(result.probabilities(), record.mask)
            view = to_view(record.image, card.show)
            both = [
                draw.overlay(view, each, card.class_colors, background=card.background)
                for each in (record.mask, result.class_map)
            ]
            if contradiction.box is not None:
                top, left, bottom, right = contradiction.box
                for each in both:
                    each[[max(0, top - 1), min(len(each), bottom) - 1], left:right] = 255
                    each[top:bottom, [max(0, left - 1), min(each.shape[1], right) - 1]] = 255
            step = max(1, -(-max(view.shape[:2]) // _SIDE))
            gap = np.full((view.shape[0], 2 * step, 3), 255, np.uint8)
            picture = np.concatenate([both[0], gap, both[1]], 1)[::step, ::step]
            judged.append(_Judged(record.name, part_of[id(fold["val"][index])], contradiction, picture))
    return card.class_names, judged


def _row(judged: _Judged, score: float, names: tuple[str, ...]) -> dict[str, Any]:
    contradiction = judged.found
    return {
        "image": judged.name,
        "part": judged.part,
        "score": round(score, 3),
        "excess": round(contradiction.excess, 4),
        "weight": round(contradiction.weight, 1),
        "box": None if contradiction.box is None else list(contradiction.box),
        "given": None if contradiction.box is None else names[contradiction.given],
        "answered": None if contradiction.box is None else names[contradiction.answered],
    }


def _words(row: Mapping[str, Any]) -> str:
    """Return a row in words."""
    if row["box"] is None:
        return f"{row['image']} ({row['part']}): {row['score']:.1f}"
    top, left, bottom, right = row["box"]
    where = f"{row['given']}, but {row['answered']} by the network, rows {top}-{bottom}, columns {left}-{right}"
    return f"{row['image']} ({row['part']}): {row['score']:.1f}; {where}"


def _table(rows: list[dict[str, Any]]) -> bytes:
    table = io.StringIO()
    columns = _COLUMNS[:-4]
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        box = dict(zip(("top", "left", "bottom", "right"), row["box"] or [None] * 4, strict=True))
        writer.writerow({name: table_cell(row[name] or "") if name in _NAMES else row[name] for name in columns} | box)
    return table.getvalue().encode("utf-8", "surrogateescape")


def _silent(line: str) -> None:
    pass
