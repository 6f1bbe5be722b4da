"""`unetres serve-demo`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import ServeDemoSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Serve the page with a model."""
    settings = read(ServeDemoSettings, options)
    from ..workflows.web import serve_demo

    serve_demo(settings.model, port=settings.port, browser=settings.browser, litert=settings.litert)


COMMAND = Command(ServeDemoSettings, run, "unetres serve-demo cells.tflite")
