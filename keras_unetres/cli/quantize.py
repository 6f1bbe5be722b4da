"""`unetres quantize`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import QuantizeSettings
from .command import Command, say_next
from .keras_file import own_objects, preprocessing_of, refuse_incomplete


def run(options: argparse.Namespace) -> None:
    """Train a run on as its int8 file computes."""
    settings = read(QuantizeSettings, options)
    keras_file = settings.keras_file
    preprocessing = preprocessing_of(keras_file, [settings.run], settings.size)
    data = {"--data": "DIR"} if settings.data is None else {}
    refuse_incomplete("quantize", settings, keras_file, [settings.run], preprocessing, data)
    from ..workflows.quantize import quantize

    quantize(
        settings.run,
        settings.out,
        **settings.how,
        preprocessing=preprocessing,
        classes=keras_file.classes,
        output=keras_file.output,
        custom_objects=own_objects(keras_file),
    )
    say_next(settings.out)


COMMAND = Command(QuantizeSettings, run, "unetres quantize run --out run-int8 --epochs 5")
