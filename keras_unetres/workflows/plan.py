"""`unetres plan`: what `unetres train` would decide, without training."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import UsageError
from unetres_edge.files import check_report, write_report

from ..planning import plan_training
from ..planning.candidates import find_candidates
from ..settings import TrainSettings
from ..tasks import TASKS
from ..tasks.reading import open_records, prepare_data

if TYPE_CHECKING:
    from ..data import Dataset


def plan(
    data: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str] | None = None,
    options: TrainSettings | None = None,
    *,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Decide how a segmenter is trained on a data set.

    Args:
        data: data set, as `keras_unetres.train` takes it.
        out: a .json to write, or None.
        options: settings that are decided already; `train` with the same would do what this says.
        say: callback for lines to the user.

    Returns:
        The plan as JSON values: "decisions", each with "setting", "value", "reason" and "option"; "fingerprint", what
        the training part looks like; "budget", "measured_step_seconds" and "warnings".

    Raises:
        DataError: the data set has faults.
        UsageError: it is of class folders, or a setting does not fit; or `out` is no .json.
        ExistsError: something else than a plan is at `out`.
    """
    from ..training.devices import find_devices

    if out is not None:
        check_report(out, dict.fromkeys(("decisions", "fingerprint", "budget")))
    options = options or TrainSettings()
    options.limits.read_profile()  # refused before the data is read
    task = TASKS[options.network.task]
    if not task.planned:
        raise UsageError("only segmenters are planned", found=options.network.name, fix="train it as it is")
    devices = find_devices(options.fit.devices, say)
    dataset, records, options = open_records(task, data, options)
    decided = plan_training(
        records, options, lambda chosen: prepare_data(task, dataset, records, chosen, None), devices, say
    )
    for line in decided.lines():
        say(line)
    if options.fit.search != "none":
        candidates = find_candidates(options, decided.apply(options), options.fit.search)
        say(f"search    {', '.join(candidates)}")
    if out is not None:
        write_report(out, decided.to_dict())
    return decided.to_dict()
