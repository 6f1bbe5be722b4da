"""`unetres evaluate`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import EvaluateSettings
from .command import Command
from .keras_file import own_objects, preprocessing_of, refuse_incomplete
from .objects import separation_of


def run(options: argparse.Namespace) -> None:
    """Score a model on labelled images."""
    settings = read(EvaluateSettings, options)
    keras_file = settings.keras_file
    preprocessing = preprocessing_of(keras_file, [settings.model, *settings.others], settings.size)
    refuse_incomplete("evaluate", settings, keras_file, [settings.model, *settings.others], preprocessing)
    separation = separation_of(settings.separation, settings.instances)
    from ..workflows.evaluate import evaluate

    evaluate(
        settings.model,
        settings.data,
        split=settings.split,
        json_file=settings.json,
        preprocessing=preprocessing,
        classes=keras_file.classes,
        output=keras_file.output,
        custom_objects=own_objects(keras_file),
        overlap=settings.overlap,
        reading={**settings.reading.reading(), "seed": settings.seed},
        tta=settings.tta,
        others=settings.others,
        separation=separation,
    )


COMMAND = Command(EvaluateSettings, run, "unetres evaluate cells.tflite cells --split test --json scores.json")
