"""Cross-validation, `unetres train --folds`: a run for each fold, and one report of images that each did not see.

    RUN/folds.json           how many folds, the settings that were given, and which folds are trained
    RUN/fold1 ... RUN/foldN  ordinary runs; the test part of each is its fold
    RUN/report.html, .json   every image scored by the network that neither learned from it nor was chosen by it

The first fold plans, and the others train the network that it planned, so that their mean can be taken.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card
from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.files import make_folder, parse_state, write_json, write_report
from unetres_edge.results.result import Result
from unetres_edge.terminal import counted

from ..choices.arguments import checks_kinds
from ..choices.networks import find_network
from ..pages.frame import write_page
from ..pages.report import ReportContent, Review, report_figures, report_page
from ..runs import RunFolder
from ..runs.folder import FOLDS as _FILE
from ..scores.bootstrap import Margins, find_intervals
from ..settings import TrainSettings
from ..tasks.loading import open_segmenter
from ..tasks.reading import open_for, read_for, recorded_place
from ..tasks.review import Segments, review
from .train import resume, same_settings, train

if TYPE_CHECKING:
    from ..data import Dataset, Record, Records

_SCHEMA = 1
_MOST = 100  # folds


@checks_kinds
def train_folds(
    data: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    options: TrainSettings | None = None,
    *,
    folds: int = 5,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a run for each fold of a data set, and score every image by the network that did not see it.

    Images are parted into folds by a seeded order of their names, whole groups (`group_by`) into one. The k-th run has
    the k-th fold as its test part; of the others a seeded 15 % choose its epoch. Images that the data set keeps for a
    test are in no fold. `resume_folds` goes on with what was stopped.

    Args:
        data: data set, as `open_dataset` takes it.
        out: the folder to make.
        options: settings of each run; what they leave open is decided in the first, for all.
        folds: number of folds, from 2.
        say: callback for lines to the user.

    Returns:
        The figures of the report, as in its .json, with "folds": a row of "run", "miou" and "images" for each.

    Raises:
        UsageError: a classifier, or settings that name a fold or a validation part.
        ExistsError: the folder exists.
        DataError: the data set has faults, or fewer groups than folds.
    """
    options = options or TrainSettings()
    folder = Path(out)
    if not find_network(options.network.name).task.per_pixel:
        raise UsageError("--folds is for segmenters", expected="a U-Net or an FCN", found=options.network.name)
    for word, value in (("--fold", options.data.fold), ("--val-from", options.data.val_from)):
        if value is not None:
            raise UsageError(f"--folds and {word} exclude each other", fix=f"drop {word}")
    RunFolder.check_out(out)
    make_folder(folder)
    _write(folder, folds, options, [])
    return _go_on(folder, data, {}, say, weights_named=True)


@checks_kinds
def resume_folds(
    out: str | os.PathLike[str],
    *,
    folds: int | None = None,
    data: Any = None,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Go on with folds that were stopped: with the run at hand from its last checkpoint, then with the others.

    Args:
        out: the folder that `train_folds` made.
        folds: number of folds, if that is given again.
        data: present place of the data set; None for where it was.
        settings: settings by name that must be those of the runs, as `resume` takes them.
        say: callback for lines to the user.

    Returns:
        As `train_folds`.

    Raises:
        UsageError: another number of folds, or a setting that differs.
        RunFolderError: not such a folder, or its data changed.
    """
    count, options, _ = _read(Path(out))
    if folds not in (None, count):
        raise UsageError("the folds are others", file=out, expected=count, found=folds, fix="drop --folds")
    same_settings(RunFolder(out), options, {"cache": None, **(settings or {})})
    return _go_on(Path(out), data, dict(settings or {}), say, weights_named="weights" in (settings or {}))


def is_folds(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is a folder that `train_folds` made."""
    return (Path(path) / _FILE).is_file()


def fold_runs(path: str | os.PathLike[str]) -> list[str]:
    """Return the run folders of all folds.

    Raises:
        RunFolderError: not a folder of folds.
    """
    return [os.fspath(Path(path) / f"fold{number}") for number in range(1, _read(Path(path))[0] + 1)]


def _write(folder: Path, folds: int, options: TrainSettings, done: Sequence[int]) -> None:
    write_json(folder / _FILE, {"schema": _SCHEMA, "folds": folds, "settings": options.to_dict(), "done": sorted(done)})


def _read(folder: Path) -> tuple[int, TrainSettings, list[int]]:
    """Return how many folds there are, the settings that were given, and which folds are trained."""
    path = folder / _FILE
    try:
        values = parse_state(path.read_bytes())
        if values["schema"] != _SCHEMA:
            raise ValueError(f"schema {values['schema']!r}, and {_SCHEMA} is known")
        folds, done = values["folds"], values["done"]
        numbers = type(folds) is int and isinstance(done, list) and all(type(number) is int for number in done)
        if not numbers or not 2 <= folds <= _MOST:
            raise ValueError("it has another form")
        return folds, TrainSettings.from_dict(values["settings"], file=path), done
    except (OSError, RecursionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{_FILE} is not readable: {error}", file=path, fix="train the folds anew") from error


def _go_on(
    folder: Path, data: Any, settings: dict[str, Any], say: Callable[[str], None], *, weights_named: bool
) -> dict[str, Any]:
    """Train what is not trained yet, and write the report.

    Args:
        settings: given again, for a run that goes on.
        weights_named: whether the command named the published weights, without which no new run reads them.
    """
    folds, options, done = _read(folder)
    for number in range(1, folds + 1):
        run = RunFolder(folder / f"fold{number}")
        if number in done:
            say(f"fold      {number} of {folds} is trained, in {run.path}")
            continue
        say(f"fold      {number} of {folds}, in {run.path}")
        if run.is_searching or (run.path / "run.json").is_file():
            resume(run.path, data=data, settings=settings, say=say)
        else:
            if options.network.starts_elsewhere and not weights_named:
                raise RunFolderError(  # as of a run: a file alone causes no download, and opens no file outside
                    "the folds start from published weights",
                    file=folder,
                    fix=f"name them again: --weights {options.network.weights}",
                )
            if number > 1:
                data = data if data is not None else recorded_place(RunFolder(folder / "fold1").read_info())
            if data is None:
                raise UsageError("nothing says where the data set is", file=folder, fix="name it again")
            planned = options if number == 1 else _as_planned(folder)
            train(data, run.path, replace(planned, data=replace(planned.data, fold=(number, folds))), say=say)
        done.append(number)
        _write(folder, folds, options, done)
    return _report(folder, data, say)


def _as_planned(folder: Path) -> TrainSettings:
    """Return the settings that the first run was trained with, in which nothing is left to decide."""
    settings = RunFolder(folder / "fold1").read_info().train_settings(folder / "fold1")
    return replace(settings, fit=replace(settings.fit, plan=False, search="none"))


class _OutOfFold:
    """Segments the images of each fold by the network that did not see them: whichever `images` is at."""

    def __init__(self, runs: Sequence[str], records: Sequence[Records]) -> None:
        self._runs, self._records = runs, records
        with open_segmenter(runs[0]) as first:
            self.card: Card = first.card
        self._now: Segments | None = None

    def images(self) -> Iterator[Record]:
        """Yield the images of fold after fold."""
        for run, records in zip(self._runs, self._records, strict=True):
            with ExitStack() as opened:
                self._now = opened.enter_context(open_segmenter(run))
                yield from records
        self._now = None

    def segment(self, image: np.ndarray, *, scores: bool = False) -> Result:
        """Give every pixel a class."""
        assert self._now is not None
        return self._now.segment(image, scores=scores)


def _report(folder: Path, data: Any, say: Callable[[str], None]) -> dict[str, Any]:
    """Score all folds and write the report of them together."""
    runs = fold_runs(folder)
    folds = len(runs)
    source = data if data is not None else recorded_place(RunFolder(runs[0]).read_info())
    parts = [_records_of(run, source) for run in runs]
    records = [each for each, _ in parts]
    base, pattern = parts[0][1].base, parts[0][1].reading.group_by
    segmenter = _OutOfFold(runs, records)
    total = sum(len(each) for each in records)
    scored = _by_group(review(segmenter, segmenter.images(), total=total), pattern, base)
    ends = np.cumsum([0, *(len(each) for each in records)])
    rows: list[dict[str, Any]] = []
    for run, each, start, end in zip(runs, records, ends, ends[1:], strict=False):
        miou = _part(scored.margins, slice(int(start), int(end))).total().miou
        rows.append({"run": run, "miou": None if np.isnan(miou) else float(miou), "images": len(each)})
    names = " ".join(shlex.quote(run) for run in runs[1:])
    first = shlex.quote(runs[0])
    content = ReportContent(
        title=f"Report of {os.path.basename(os.path.abspath(folder))}, {folds} folds",
        summary=f"{folds} networks, each scored on the fold that it did not see",
        split="out-of-fold",
        class_names=segmenter.card.class_names,
        class_colors=segmenter.card.class_colors,
        review=scored,
        notes=[
            "No image was learned from, nor chose an epoch, in the network that segments it here. The folds share most "
            "of their training images, so their scores differ less than those of networks of other data would."
        ],
        facts={"Folds": {os.path.basename(row["run"]): _told(row) for row in rows}},
        command=f"unetres predict {first} PICTURES --out maps --with {names}",
    )
    figures = {**report_figures(content), "folds": rows}
    write_page(folder / "report.html", report_page(content))
    write_report(folder / "report.json", figures)
    for row in rows:
        say(f"fold      {os.path.basename(row['run'])}: {_told(row)}")
    miou, around = figures["miou"], figures["miou_interval"]
    between = f" (95 %: {around[0]:.3f} to {around[1]:.3f})" if around else ""
    score = "mIoU absent" if miou is None else f"mIoU {miou:.4f}"
    over = "" if pattern is None else f" of {counted(_groups(scored.names, pattern, base).max() + 1, 'group')}"
    say(f"report    {folder / 'report.html'}: {score}{between} on {counted(total, 'image')}{over}, none seen before")
    say(f"next      all together: unetres predict {first} PICTURES --out maps --with {names}")
    say(f"next      on a device: unetres export {first} --out fold1.tflite, and so each; predict joins files, too")
    return figures


def _records_of(run: str, source: Any) -> tuple[Records, Dataset]:
    with open_segmenter(run) as segmenter:
        dataset = open_for(segmenter.card, source)
        return read_for(segmenter.card, dataset, "test"), dataset


def _told(row: Mapping[str, Any]) -> str:
    score = "mIoU absent" if row["miou"] is None else f"mIoU {row['miou']:.4f}"
    return f"{score} on {counted(row['images'], 'image')}"


def _part(margins: Margins, which: slice) -> Margins:
    return Margins(margins.hits[which], margins.truth[which], margins.predicted[which])


def _groups(names: Sequence[str], pattern: str, base: Path) -> np.ndarray:
    """Return the number of each image's group, (N,) int64."""
    from ..data.groups import groups_of

    return np.unique(groups_of(names, pattern, base), return_inverse=True)[1]


def _by_group(scored: Review, pattern: str | None, base: Path) -> Review:
    """Return a review whose intervals draw whole groups, where images belong to some."""
    if pattern is None:
        return scored
    groups = _groups(scored.names, pattern, base)
    summed = []
    for counts in (scored.margins.hits, scored.margins.truth, scored.margins.predicted):
        total = np.zeros((groups.max() + 1, counts.shape[1]), np.int64)
        np.add.at(total, groups, counts)
        summed.append(total)
    return replace(scored, intervals=find_intervals(Margins(*summed)), drawn="groups")
