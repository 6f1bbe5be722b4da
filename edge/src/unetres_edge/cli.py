"""`unetres-edge`: predict and inspect with a model file, without TensorFlow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import __version__
from .card import Card, read_card
from .classifier import Classification, Classifier
from .ensemble import TURNS, join_segmenters
from .errors import FileSystemError, UnetresError, UsageError
from .files import read_bytes
from .predict import MoreFiles, find_images, predict_files
from .predict_classes import predict_classes
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
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the class maps, <stem>.png; of a classifier, classes.csv",
    )
    parser.add_argument("--overlay", action="store_true", help="also write <stem>_overlay.png")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    parser.add_argument("--json", metavar="F", help="write what became of each image to this file")
    parser.add_argument("--overlap", type=int, metavar="PX", help="pixels shared by neighbouring tiles")
    add_turns_option(parser)


def add_turns_option(parser: argparse.ArgumentParser) -> None:
    """Add `--turns`."""
    parser.add_argument(
        "--turns", default="none", choices=tuple(TURNS), help="ask on 4 flips, or all 8 turns and flips, of each tile"
    )


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
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr)
        return int(getattr(stop, "exit_code", 130))


def run_predict(
    open_segmenter: Callable[[], Segmenter], options: argparse.Namespace, more: MoreFiles | None = None
) -> None:
    """Do what `add_predict_options` parsed, with the segmenter that is opened once the images are found.

    Args:
        open_segmenter: opens it, turns and all.
        more: makes more files of each image.
    """
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
            more=more,
        )


def run_classify(open_classifier: Callable[[], Classifier], options: argparse.Namespace) -> None:
    """Do what `add_predict_options` parsed with a classifier, which gives one class for the whole image.

    Raises:
        UsageError: an option for masks.
    """
    for_masks = {"overlay": False, "overlap": None, "turns": "none", "others": None, "instances": None}
    given = [name for name, usual in for_masks.items() if getattr(options, name, usual) not in (usual, [], ())]
    if given:
        raise UsageError(f"--{given[0]} is for masks, and the model is a classifier", fix="drop it")
    images = find_images(options.images)

    def progress(done: int, total: int, image: Path, answer: Classification) -> None:
        best = ", ".join(f"{name} {share:.3f}" for _, name, share in answer.top[:3])
        print(f"[{done}/{total}] {image.name}  {best}  {answer.timing['total']:.0f} ms", flush=True)

    with open_classifier() as classifier:
        predict_classes(
            classifier, images, options.out, overwrite=options.overwrite, progress=progress, json_file=options.json
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
    data = read_bytes(options.model, "model file")
    if read_card(data, file=options.model).task == "classify":
        run_classify(lambda: Classifier(data), options)
        return

    def open_segmenter() -> Segmenter:
        one = Segmenter(options.model, overlap=options.overlap)
        return join_segmenters([one], turns=options.turns, files=[options.model])

    run_predict(open_segmenter, options)


def inspect(model: str) -> None:
    """Verify a model file and print its card."""
    data = read_bytes(model, "model file")
    print_card(read_card(data, file=model), len(data))


def _inspect(options: argparse.Namespace) -> None:
    inspect(options.model)


if __name__ == "__main__":
    sys.exit(main())
