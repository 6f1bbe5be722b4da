"""`unetres train`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import given, read
from unetres_edge.errors import UsageError

from ..settings import TrainCommand, flat_options
from .command import Command, say_next


def run(options: argparse.Namespace) -> None:
    """Train on a data set, or go on with a run."""
    command = read(TrainCommand, options)
    if command.resume is not None:
        _resume(command, options)
        return
    if command.data is None or command.out is None:
        raise UsageError("train needs a data set and --out RUN", fix="unetres train DATA --out RUN")
    if command.folds is not None:
        from ..workflows.folds import train_folds

        if command.overwrite:
            raise UsageError("--folds replaces nothing", fix="drop --overwrite, and choose another --out")
        if command.start is not None:
            raise UsageError("--folds and --start exclude each other: that run may have seen any image")
        train_folds(command.data, command.out, command.settings, folds=command.folds)
        return
    from ..workflows.train import train

    train(command.data, command.out, command.settings, start=command.start, overwrite=command.overwrite)
    say_next(command.out)


def _resume(command: TrainCommand, options: argparse.Namespace) -> None:
    run = command.resume or command.out
    if run is None or command.overwrite or command.start or (command.out is not None and command.out != run):
        raise UsageError("--resume goes on with one run as it was started", fix="unetres train --resume RUN")
    from ..workflows.train import resume

    named = given(TrainCommand, options)
    settings = {
        name: named["settings", *option.path]
        for name, option in flat_options().items()
        if ("settings", *option.path) in named
    }
    from ..workflows.folds import is_folds, resume_folds

    if is_folds(run):
        resume_folds(run, folds=command.folds, data=command.data, settings=settings)
        return
    if command.folds is not None:
        raise UsageError("the run has no folds", fix="drop --folds, or start anew in another --out")
    resume(run, data=command.data, settings=settings)
    say_next(run)


COMMAND = Command(TrainCommand, run, "unetres train cells --out run --size 256 --epochs 40")
