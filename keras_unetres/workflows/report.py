"""`unetres report`: what a run has learned, as one page that opens without a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import UsageError

from ..choices.arguments import checks_kinds
from ..runs import RunFolder
from ..tasks.loading import open_segmenter
from ..tasks.reading import open_for, read_for, recorded_place
from ..tasks.reports import changes_since, make_report, page_file

if TYPE_CHECKING:
    from ..data import Dataset


@checks_kinds
def report(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset | None = None,
    *,
    split: str | None = None,
    out: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score a run on images it was not trained on, and write the report.

    Args:
        model: run folder; or a `.tflite`, whose report has no curves and which needs `data` and `out`.
        data: data set, as `open_dataset` takes it; None for where the run's data set was.
        split: "train", "val", "test" or "all"; None for the test part, or where there is none the validation part.
        out: the .html to write, a .json with the same figures beside it; None for `report.html` in the run folder.
        say: callback for lines to the user.

    Returns:
        The figures, as in the .json; see `keras_unetres.pages.report.report_figures`.

    Raises:
        RunFolderError: not a run folder, or one that is not trained yet.
        DataError: the data set has faults, or does not have this part.
        UsageError: `data` or `out` is missing or wrong.
    """
    run = RunFolder(model) if RunFolder.is_run(model) else None
    info = None if run is None else run.read_info()
    page = page_file(run, model, out)
    if data is None:
        data = None if info is None else recorded_place(info)
    if data is None:
        raise UsageError("nothing says which images to score", file=model, fix="name the data set with --data")
    with open_segmenter(model) as segmenter:
        dataset = open_for(segmenter.card, data)
        chosen = split or ("test" if dataset.splits.get("test") else "val")
        records = read_for(segmenter.card, dataset, chosen)
        notes = [] if info is None else changes_since(info, dataset, records)
        return make_report(run, segmenter, records, chosen, say, out=page, notes=notes, model=model)
