"""`unetres predict`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, cast

from unetres_edge.command_line import read

from ..settings import PredictCommand
from .command import Command
from .keras_file import own_objects, preprocessing_of, refuse_incomplete
from .objects import separation_of

if TYPE_CHECKING:
    from ..objects import LabelFormat


def run(options: argparse.Namespace) -> None:
    """Write the class map of every image; of a classifier, its classes."""
    settings = read(PredictCommand, options)
    keras_file = settings.keras_file
    preprocessing = preprocessing_of(keras_file, [settings.model, *settings.others], settings.size)
    refuse_incomplete("predict", settings, keras_file, [settings.model, *settings.others], preprocessing)
    separation = separation_of(settings.separation, settings.instances is not None)
    from ..workflows.predict import predict

    predict(
        settings.model,
        settings.images,
        settings.out,
        overlay=settings.overlay,
        geojson=settings.geojson,
        instances=cast("LabelFormat | None", settings.instances),
        rois=settings.rois,
        separation=separation,
        overwrite=settings.overwrite,
        json_file=settings.json,
        preprocessing=preprocessing,
        classes=keras_file.classes,
        output=keras_file.output,
        custom_objects=own_objects(keras_file),
        overlap=settings.overlap,
        tta=settings.tta,
        others=settings.others,
        every=settings.every,
        frames=settings.frames,
        on_unfamiliar=settings.on_unfamiliar,
        abstain=settings.abstain,
        say=lambda line: print(line, flush=True),
    )


COMMAND = Command(PredictCommand, run, "unetres predict cells.tflite photos --out maps --overlay")
