"""`unetres augment`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import AugmentSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Draw what augmentation makes of a data set."""
    settings = read(AugmentSettings, options)
    from ..workflows.augment import augment

    augment(
        settings.data,
        settings.out,
        augment=settings.augment,
        preprocessing={
            "size": (settings.size, settings.size),
            "fit": settings.fit,
            "per_image": settings.per_image,
        },
        class_weights=settings.weighting.class_weights,
        border_weight=settings.weighting.border_weight,
        seed=settings.seed,
        reading=settings.reading.reading(),
    )


COMMAND = Command(AugmentSettings, run, "unetres augment cells --out sheet.png --augment microscopy")
