"""The table of commands: name and one line of help. Only the module of the command that is called is imported."""

from __future__ import annotations

import argparse
import importlib

from keras_unetres import __version__

from .command import Command

COMMANDS = {
    "annotate": "paint masks in the browser, while a network learns from them",
    "check": "look a data set over and say what is wrong with it",
    "augment": "draw what augmentation makes of a data set",
    "plan": "say how a segmenter would be trained on a data set, and why",
    "train": "train a segmenter or a classifier on a data set",
    "distil": "train a small segmenter that learns from trained ones",
    "quantize": "train a run on as its int8 file computes",
    "prune": "train a run on while its smallest weights become 0",
    "cluster": "train a run on with few different values in each kernel",
    "export": "write a .tflite from a run folder or a .keras file",
    "calibrate": "make the probabilities of a .tflite right, on labelled images",
    "next": "choose the unlabelled images that are worth labelling",
    "suspects": "list the masks of a data set that are probably wrong",
    "evaluate": "score a run, a .tflite or a .keras file on labelled images",
    "report": "write what a run has learned as a page that opens without a network",
    "predict": "write a class map for every image",
    "inspect": "verify a model file, and print its card and what it is made of",
    "models": "list the networks and what they cost, or draw one",
    "demo": "do it all on pictures made here",
    "serve-demo": "show a model in the browser of this machine",
}

_MODULES = {"next": "next_images"}  # a module of this name would hide the built-in function in the package


def find_command(name: str) -> Command:
    """Return a command by its name."""
    module = _MODULES.get(name, name.replace("-", "_"))
    command: Command = importlib.import_module(f"{__package__}.{module}").COMMAND
    return command


def make_parser(called: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, of which the called one knows its options."""
    parser = argparse.ArgumentParser(
        prog="unetres", description="From a folder of images and masks to a verified int8 segmenter on a device."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == called:
            find_command(name).fill(command)
    return parser
