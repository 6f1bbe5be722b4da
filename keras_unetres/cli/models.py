"""`unetres models`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import ModelsSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Print what networks cost, or draw one."""
    settings = read(ModelsSettings, options)
    from ..workflows.models import list_models

    list_models(settings.name, size=settings.size, plot=settings.plot, json_file=settings.json)


COMMAND = Command(ModelsSettings, run, "unetres models resnet50 --size 224 --plot resnet50.svg")
