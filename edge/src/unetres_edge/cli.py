"""`unetres-edge`: the command line for devices, without TensorFlow. Each command is a module of `commands`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from . import __version__
from .command_line import shorten_usage
from .commands.inspect import print_card
from .commands.predict import print_progress, run_classify, run_predict
from .commands.running import parse, quietly_stopped, run_command

__all__ = [
    "COMMANDS",
    "main",
    "print_card",
    "print_progress",
    "run_classify",
    "run_command",
    "run_predict",
]

# By name, which is that of the module too; only the command that is called is imported.
COMMANDS = {
    "predict": "write a class map for every image",
    "stream": "segment the frames of a camera, a video or an address, and show them as they come",
    "inspect": "verify a model file and print its card",
    "bench": "time a model by stage and number of threads",
    "profile": "measure what the operations of networks cost on this device",
    "verify": "say whether this device computes the labels the file was made with",
    "web": "show a model in the browser, by a page that runs it there",
    "seal": "seal a file again that another tool has changed on purpose",
}


@quietly_stopped
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 usage, 3 data, 4 model, 5 system."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="unetres-edge", description="Segment images with a keras-unetres .tflite.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = next((word for word in arguments if word in COMMANDS), None)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if name == called:
            module = importlib.import_module(f"{__package__}.commands.{name}")
            module.add_options(command)
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
            shorten_usage(command)
            command.set_defaults(run=module.run, parser=command)
    options = parse(parser, arguments)
    return run_command(lambda: options.run(options), debug=options.debug)


if __name__ == "__main__":
    sys.exit(main())
