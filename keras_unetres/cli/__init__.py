"""`unetres`: parse, call one workflow, print. Nothing heavy is imported before a workflow needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from keras_unetres.machine.backend import check_installed
from keras_unetres.machine.tensorflow_log import quiet_tensorflow
from unetres_edge.commands.running import parse, quietly_stopped, run_command

from .table import COMMANDS, make_parser

__all__ = ["main"]


@quietly_stopped
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 usage, 3 data, 4 model, 5 system."""
    quiet_tensorflow()
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # a command takes what it needs of a GPU, not all
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser(next((word for word in arguments if word in COMMANDS), None))
    options = parse(parser, arguments)

    def run() -> None:
        check_installed()
        options.function(options)

    return run_command(run, debug=options.debug)
