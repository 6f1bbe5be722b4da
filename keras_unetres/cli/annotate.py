"""`unetres annotate`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import AnnotateSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Serve the page that paints masks, until Ctrl-C."""
    settings = read(AnnotateSettings, options)
    from ..workflows.annotate import annotate

    annotate(
        settings.pictures,
        settings.out,
        classes=settings.classes,
        host=settings.host,
        port=settings.port,
        browser=settings.browser,
        learn=settings.learn,
        minutes=settings.minutes,
        review=settings.review,
    )


COMMAND = Command(AnnotateSettings, run, "unetres annotate pictures --out project --classes background cell")
