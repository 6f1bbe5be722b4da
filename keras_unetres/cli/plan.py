"""`unetres plan`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import PlanCommand
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Say what would be decided."""
    command = read(PlanCommand, options)
    from ..workflows.plan import plan

    plan(command.data, command.out, command.settings)


COMMAND = Command(PlanCommand, run, "unetres plan cells --minutes 25")
