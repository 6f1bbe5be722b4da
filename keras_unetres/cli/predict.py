"""`unetres predict`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, cast

from unetres_edge.command_line import read
from unetres_edge.commands.predict import run_classify, run_predict

from ..settings import PredictCommand
from .command import Command
from .keras_file import preprocessing_of
from .objects import separation_of

if TYPE_CHECKING:
    from ..objects import LabelFormat


def run(options: argparse.Namespace) -> None:
    """Write the class map of every image; of a classifier, its classes."""
    settings = read(PredictCommand, options)
    own = settings.keras_file
    preprocessing = preprocessing_of(own, [settings.model, *settings.others], settings.size)
    separation = separation_of(settings.separation, settings.instances is not None)
    from ..tasks.classify import is_classifier, open_classifier
    from ..tasks.loading import open_segmenter
    from ..workflows.predict import InstanceFiles

    if is_classifier(settings.model):
        run_classify(lambda: open_classifier(settings.model), settings)
        return
    files = None
    if separation is not None:
        files = InstanceFiles(cast("LabelFormat", settings.instances), separation, overlay=settings.overlay)
    run_predict(
        lambda: open_segmenter(
            settings.model,
            preprocessing=preprocessing,
            classes=None if own.classes is None else list(own.classes),
            overlap=settings.overlap,
            turns=settings.turns,
            others=settings.others,
        ),
        settings,
        files,
    )
    if files:
        print(f"objects    {files.num_objects}")


COMMAND = Command(PredictCommand, run, "unetres predict cells.tflite photos --out maps --overlay")
