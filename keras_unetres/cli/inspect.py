"""`unetres inspect`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import InspectSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Verify a model file and print what it is made of."""
    settings = read(InspectSettings, options)
    from ..workflows.inspect import inspect

    inspect(settings.model, ops=settings.ops, tools=settings.tools, json_file=settings.json)


COMMAND = Command(InspectSettings, run, "unetres inspect cells.tflite --ops")
