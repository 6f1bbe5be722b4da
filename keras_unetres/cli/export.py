"""`unetres export`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read
from unetres_edge.errors import UsageError

from ..settings import ExportSettings
from .command import Command
from .keras_file import preprocessing_of


def run(options: argparse.Namespace) -> None:
    """Write a `.tflite`, and a page with it if one is wanted."""
    settings = read(ExportSettings, options)
    scoring, keras_file = settings.scoring, settings.keras_file
    if settings.web is not None:  # before the work, which is not to end in a refusal
        from ..workflows.web import check_folder

        check_folder(settings.web, overwrite=settings.overwrite)
        if settings.head == "logits_int8":
            raise UsageError("--web takes no int8 ends", expected="--head logits or another", found=settings.head)
    preprocessing = preprocessing_of(keras_file, [settings.model], settings.size, size_is_own=True)
    from ..workflows.export import export

    export(
        settings.model,
        settings.out,
        recipe=settings.recipe,
        head=settings.head,
        size=settings.size,
        overwrite=settings.overwrite,
        allow_disagreement=not scoring.gate,
        preprocessing=preprocessing,
        classes=keras_file.classes,
        calibration=settings.calibration,
        data=scoring.data,
        split=scoring.split,
        max_drop=scoring.max_drop,
        gate=scoring.gate,
    )
    if settings.web is not None:
        from ..workflows.web import write_web

        write_web(settings.out, settings.web, overwrite=settings.overwrite)


COMMAND = Command(ExportSettings, run, "unetres export run --out cells.tflite")
