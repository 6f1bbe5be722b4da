"""`unetres calibrate`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import CalibrateSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Calibrate a model file on labelled images."""
    settings = read(CalibrateSettings, options)
    from ..workflows.calibrate import calibrate

    calibrate(
        settings.model,
        settings.data,
        split=settings.split,
        risk=settings.risk,
        out=settings.out,
        overwrite=settings.overwrite,
        json_file=settings.json,
    )


COMMAND = Command(CalibrateSettings, run, "unetres calibrate cells.tflite --data cells")
