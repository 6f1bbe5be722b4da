"""`unetres export`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from unetres_edge.command_line import read
from unetres_edge.errors import UsageError

from ..choices.recipes import AUTO, MIXED, find_recipe
from ..settings import ExportSettings
from .command import Command
from .keras_file import own_objects, preprocessing_of, refuse_incomplete


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
    needed = find_recipe(MIXED if settings.recipe == AUTO else settings.recipe).quantized
    images = {"--calibration": "DIR"} if needed and settings.calibration is None else {}
    refuse_incomplete("export", settings, keras_file, [settings.model], preprocessing, images)
    from ..workflows.export import export

    out = settings.out or os.fspath(Path(settings.model).absolute()).removesuffix(".keras") + ".tflite"
    export(
        settings.model,
        out,
        recipe=settings.recipe,
        head=settings.head,
        size=settings.size,
        overwrite=settings.overwrite,
        allow_disagreement=settings.allow_disagreement,
        preprocessing=preprocessing,
        classes=keras_file.classes,
        output=keras_file.output,
        custom_objects=own_objects(keras_file),
        calibration=settings.calibration,
        data=scoring.data,
        split=scoring.split,
        max_drop=scoring.max_drop,
        gate=scoring.gate,
        max_ms=scoring.max_ms,
        max_kb=scoring.max_kb,
        max_arena=scoring.max_arena,
        device=scoring.device,
        calibrate=settings.calibrate,
        refine=settings.refine,
        risk=settings.risk,
    )
    if settings.web is not None:
        from ..workflows.web import write_web

        write_web(out, settings.web, overwrite=settings.overwrite)


COMMAND = Command(ExportSettings, run, "unetres export run --out cells.tflite")
