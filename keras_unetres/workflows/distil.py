"""`unetres distil`: a small network taught by trained ones, planned for the milliseconds that it may take."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from unetres_edge.errors import UsageError

from ..choices.arguments import checks_kinds
from ..choices.networks import NO_ENCODER
from ..runs import RunFolder, RunInfo
from ..settings import DistilSettings, LimitSettings, TrainSettings
from ..tasks.reading import recorded_place
from ..tasks.teachers import name_teachers
from .retraining import refuse_itself
from .train import train


@checks_kinds
def distil(
    teachers: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    data: Any = None,
    filters: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    temperature: float = DistilSettings.temperature,
    share: float = DistilSettings.share,
    limits: LimitSettings | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a small U-Net on the labels and on what the mean of trained networks says of each crop.

    It sees images as the first teacher does, and learns from its data set, of the same parts. `unetres train --resume
    OUT` goes on after a stop, and needs the teachers where they were.

    Args:
        teachers: run folders of segmenters of the same classes; they are not changed.
        out: the run folder to make.
        data: present place of the data set of the first; None for where it was.
        filters: channels of the finest level; None to decide it from `limits` and the minutes.
        epochs: passes over the data.
        minutes: wall-clock budget instead of `epochs`.
        temperature: number by which scores are divided before they are compared.
        share: share of the loss that the teachers have.
        limits: limits of the int8 file on its device; None for no limit.
        overwrite: whether to replace an earlier run folder.
        say: callback for lines to the user.

    Returns:
        As `train`.

    Raises:
        UsageError: the teachers cannot teach one network; nothing was written.
        RunFolderError: not a trained run.
    """
    how = name_teachers(teachers, temperature, share)
    refuse_itself(how.teachers, out)
    info = RunFolder(how.teachers[0]).read_info()
    options = _options(info, info.train_settings(how.teachers[0]), filters, epochs, minutes, limits or LimitSettings())
    source = data if data is not None else recorded_place(info)
    if source is None:
        raise UsageError("the teacher was trained on arrays", file=how.teachers[0], fix="pass data= with the same ones")
    return train(source, out, options, overwrite=overwrite, distil=how, say=say)


def _options(
    info: RunInfo,
    first: TrainSettings,
    filters: int | None,
    epochs: int | None,
    minutes: float | None,
    limits: LimitSettings,
) -> TrainSettings:
    """Return the settings of a student: images and crops as the teacher's, the network and its training left open."""
    pre, seen = info.preprocessing, first.network
    network = replace(
        seen,
        name="unet",
        encoder=NO_ENCODER,
        weights=None,
        filters=filters,
        depth=None if seen.published_encoder or seen.name != "unet" else seen.depth,
        size=pre.size[0],
        channels=pre.channels,
        fit=pre.fit,
        per_image=pre.per_image or (0.0, 0.0),
    )
    fit = replace(
        first.fit,
        epochs=epochs,
        minutes=minutes,
        learning_rate=None,
        ema=None,
        warmup=None,
        patience=None,
        freeze_norm=0.0,
        deep_supervision=False,
        search="none",
        devices=1,
        plan=True,
    )
    return TrainSettings(network, fit, replace(first.data, cache=None, augment=info.augment), limits)
