"""`unetres-edge`: predict and inspect with a model file, without TensorFlow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import __version__
from .card import Card, read_card
from .errors import FileSystemError, UnetresError
from .files import read_bytes
from .predict import find_images, predict_files
from .segmenter import Segmenter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 usage, 3 data, 4 model, 5 system."""
    parser = argparse.ArgumentParser(prog="unetres-edge", description="Segment images with a keras-unetres .tflite.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="write a class map for every image")
    predict.add_argument("model", help=".tflite file")
    add_predict_options(predict)
    predict.set_defaults(function=_predict)
    look = commands.add_parser("inspect", help="verify a model file and print its card")
    look.add_argument("model", help=".tflite file")
    look.set_defaults(function=_inspect)
    for command in (predict, look):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    return run_command(lambda: options.function(options), debug=options.debug)


def add_predict_options(parser: argparse.ArgumentParser) -> None:
    """Add what every `predict` command takes after the model."""
    parser.add_argument("images", nargs="+", help="image files or folders of images")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the class maps, <stem>.png")
    parser.add_argument("--overlay", action="store_true", help="also write <stem>_overlay.png")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    parser.add_argument("--json", metavar="F", help="write what became of each image to this file")
    parser.add_argument("--overlap", type=int, metavar="PX", help="pixels shared by neighbouring tiles")


def run_command(function: Callable[[], None], *, debug: bool = False) -> int:
    """Call `function`; print a `UnetresError` as one line on standard error and return its exit code."""
    try:
        function()
        return 0
    except UnetresError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if debug:
            raise
        named = FileSystemError(error.strerror or str(error), file=error.filename)
        print(f"error: {named}", file=sys.stderr)
        return named.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def run_predict(open_segmenter: Callable[[], Segmenter], options: argparse.Namespace) -> None:
    """Do what `add_predict_options` parsed, with the segmenter that is opened once the images are found."""
    images = find_images(options.images)
    with open_segmenter() as segmenter:
        predict_files(
            segmenter,
            images,
            options.out,
            overlay=options.overlay,
            overwrite=options.overwrite,
            progress=print_progress,
            json_file=options.json,
        )


def print_progress(done: int, total: int, image: Path, timing: dict[str, float]) -> None:
    """Print one line for an image that is done."""
    print(f"[{done}/{total}] {image.name}  {timing['total']:.0f} ms", flush=True)


def print_card(card: Card, num_bytes: int) -> None:
    """Print a card as people read it."""
    pre = card.preprocessing
    print(f"task       {card.task}, head {card.head}, recipe {card.recipe}, {num_bytes / 1000:.0f} kB")
    print(f"input      {pre.size[0]} x {pre.size[1]} x {pre.channels} ({pre.color_order}), fit {pre.fit}")
    for name, color in zip(card.class_names, card.class_colors, strict=True):
        print(f"class      {card.class_names.index(name)}  {name}  #{bytes(color).hex()}")
    print(f"halo       {card.halo} px")
    for key, value in card.scores.items():
        print(f"scores     {key}: {json.dumps(value)}")
    print("made by    " + ", ".join(f"{name} {version}" for name, version in card.versions.items()))
    print(f"sha256     {card.sha256} (verified)")


def _predict(options: argparse.Namespace) -> None:
    run_predict(lambda: Segmenter(options.model, overlap=options.overlap), options)


def inspect(model: str) -> None:
    """Verify a model file and print its card."""
    data = read_bytes(model, "model file")
    print_card(read_card(data, file=model), len(data))


def _inspect(options: argparse.Namespace) -> None:
    inspect(options.model)


if __name__ == "__main__":
    sys.exit(main())
