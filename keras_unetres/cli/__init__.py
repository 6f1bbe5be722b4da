"""`unetres`: parse, call one workflow, print. No logic of its own, and no TensorFlow before a workflow needs it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_unetres import __version__
from keras_unetres.settings import TrainSettings, flat_options
from unetres_edge.cli import add_predict_options, add_turns_option, run_classify, run_command, run_predict
from unetres_edge.command_line import add_options, given, read
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import FITS, Preprocessing

if TYPE_CHECKING:
    from keras_unetres.objects import Separation

__all__ = ["main"]

_AUGMENTS = ("auto", "none", "light", "microscopy", "street", "aerial")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 usage, 3 data, 4 model, 5 system."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's and oneDNN's notes are not for users
    options = _parser().parse_args(arguments)
    return run_command(lambda: options.function(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unetres", description="From a folder of images and masks to a verified int8 segmenter on a device."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add, text in (
        ("check", _add_check, "look a data set over and say what is wrong with it"),
        ("augment", _add_augment, "draw what augmentation makes of a data set"),
        ("train", _add_train, "train a segmenter on a data set"),
        ("quantize", _add_quantize, "train a run on as its int8 file computes"),
        ("export", _add_export, "write a .tflite from a run folder or a .keras file"),
        ("evaluate", _add_evaluate, "score a run, a .tflite or a .keras file on labelled images"),
        ("report", _add_report, "write what a run has learned as a page that opens without a network"),
        ("predict", _add_predict, "write a class map for every image"),
        ("inspect", _add_inspect, "verify a model file, and print its card and what it is made of"),
        ("models", _add_models, "list the networks and what they cost, or draw one"),
        ("demo", _add_demo, "do it all on pictures made here"),
        ("serve-demo", _add_serve_demo, "show a model in the browser of this machine"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


_DATA = "folder of a data set, a dataset.yaml, a COCO annotation file, or tfds:NAME"


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help=_DATA)
    parser.add_argument("--json", metavar="F", help="write the report to this file, too")
    parser.add_argument("--html", metavar="F", help="write it as a page with pictures")
    parser.add_argument(
        "--fix", action="store_true", help="write a dataset.yaml that mends what a declaration can mend"
    )
    hashes = parser.add_mutually_exclusive_group()
    hashes.add_argument(
        "--rehash",
        dest="hashes",
        action="store_const",
        const="renew",
        default="keep",
        help="take all files as they are",
    )
    hashes.add_argument(
        "--no-hashes", dest="hashes", action="store_const", const="off", help="neither compare nor write hashes"
    )
    _add_reading(parser)
    parser.set_defaults(function=_check)


def _add_augment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help=_DATA)
    parser.add_argument("--out", required=True, metavar="F", help=".png to write")
    parser.add_argument("--augment", default="auto", choices=_AUGMENTS)
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="side of the crops (256)")
    parser.add_argument("--fit", default="crop", choices=FITS)
    parser.add_argument("--per-image", type=float, nargs=2, metavar=("LOW", "HIGH"), help="percentiles to stretch")
    _add_weights(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    _add_reading(parser)
    parser.set_defaults(function=_augment)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help=_DATA)
    parser.add_argument("--out", metavar="RUN", help="run folder to make")
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="RUN", help="go on with this run (or --out) from its last epoch"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run folder")
    add_options(parser, TrainSettings)
    parser.set_defaults(function=_train)


def _add_weights(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--class-weights", choices=("balanced",), help="rare classes weigh more")
    parser.add_argument(
        "--border-weight", type=float, nargs="*", metavar="X", help="W0 and SIGMA of the U-Net border weights (10 5)"
    )


def _border_weight(options: argparse.Namespace) -> tuple[float, float] | None:
    if options.border_weight is None:
        return None
    if len(options.border_weight) not in (0, 2):
        raise UsageError("--border-weight is wrong", expected="nothing, or W0 and SIGMA", found=options.border_weight)
    w0, sigma = options.border_weight or (10.0, 5.0)
    return w0, sigma


def _add_reading(parser: argparse.ArgumentParser) -> None:
    reading = parser.add_argument_group("data set")
    reading.add_argument(
        "--masks", dest="masks_are", choices=("classes", "instances"), help="what mask values are (classes)"
    )
    reading.add_argument(
        "--target", choices=("semantic", "separated", "borders"), help="what instances become (semantic)"
    )
    reading.add_argument("--ignore", type=int, metavar="N", help="mask value that means 'not labelled'")
    reading.add_argument("--val-from", metavar="GLOB", help="image names that make the validation part")
    reading.add_argument("--test-from", metavar="GLOB", help="image names that make the test part; none for none")


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of a trained network; it is not changed")
    parser.add_argument("--out", required=True, metavar="RUN2", help="run folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run folder")
    parser.add_argument("--data", metavar="D", help=f"{_DATA} (that of the run)")
    parser.add_argument("--engine", default="native", choices=("native", "tfmot"), help="of fake quantization (native)")
    parser.add_argument(
        "--ranges", default="minmax", choices=("minmax", "percentile", "mse"), help="of activations, to begin with"
    )
    parser.add_argument("--keep-zeros", action="store_true", help="weights that are 0, as after pruning, stay 0")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--epochs", type=int, metavar="N", help="passes over the data (5)")
    budget.add_argument("--minutes", type=float, metavar="M", help="wall-clock budget instead of --epochs")
    parser.add_argument("--learning-rate", type=float, default=1e-4, metavar="R", help="peak of the schedule (0.0001)")
    parser.set_defaults(function=_quantize)


def _add_keras_file(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for .keras files: how images meet the network")
    group.add_argument("--channels", type=int, help="1 or 3, or as many as the model takes")
    group.add_argument("--color-order", choices=("rgb", "bgr"), help="of the input (rgb)")
    group.add_argument("--value-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="what 0 and 255 become")
    group.add_argument("--mean", type=float, nargs="+", help="subtracted after that (0)")
    group.add_argument("--std", type=float, nargs="+", help="divided by after that (1)")
    group.add_argument("--per-image", type=float, nargs=2, metavar=("LOW", "HIGH"), help="percentiles to stretch")
    group.add_argument("--fit", choices=FITS, help="crop unless given")
    group.add_argument("--classes", nargs="+", metavar="NAME", help="class names")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="run folder, or .keras file")
    parser.add_argument("--out", required=True, metavar="F", help=".tflite to write")
    parser.add_argument(
        "--recipe",
        default="static_wi8_ai8",
        metavar="NAME",
        help="how weights and activations are kept: float32, float16, dynamic_wi8_afp32, ..., or auto: "
        "int8, and as few layers in float32 as keep the loss within --max-drop (static_wi8_ai8)",
    )
    parser.add_argument(
        "--head",
        default="logits",
        metavar="NAME",
        help="what it takes and gives: logits, logits_int8, logits_float, argmax or mediapipe (logits)",
    )
    parser.add_argument("--size", type=int, nargs="+", metavar="PX", help="side, or height and width, of the tile")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file and its receipt")
    parser.add_argument("--web", metavar="DIR", help="also write a page with the model, for any static host")
    parser.add_argument("--calibration", metavar="DIR", help="for .keras files: a folder of training images")
    gate = parser.add_argument_group("gate: the file is scored beside Keras, and refused if it loses too much")
    gate.add_argument("--data", metavar="D", help=f"{_DATA} (that of the run)")
    gate.add_argument("--split", choices=("train", "val", "test", "all"), help="(test, or val where there is none)")
    gate.add_argument(
        "--max-drop", type=float, metavar="P", help="largest loss that is allowed, in points of mIoU or top-1 (0.3)"
    )
    gate.add_argument("--no-gate", dest="gate", action="store_false", help="write the file without scoring it")
    _add_keras_file(parser)
    parser.set_defaults(function=_export)


def _add_ensemble(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--with", dest="others", nargs="+", default=[], metavar="MODEL", help="more models, to take the mean of all"
    )


def _add_separation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("objects")
    group.add_argument(
        "--objects", nargs="+", metavar="NAME", help="classes whose pixels are objects (all but the first)"
    )
    group.add_argument("--min-size", type=int, metavar="PX", help="of an object; smaller ones are left out (16)")
    group.add_argument("--threshold", type=float, metavar="P", help="probability from which a pixel is object (0.5)")
    group.add_argument("--neck", type=float, metavar="N", help="part objects at necks narrower than this share (0.8)")
    group.add_argument("--no-split", action="store_true", help="what is connected is one object")


def _separation(options: argparse.Namespace) -> Separation | None:
    """Return how pixels become objects, or None where no objects are asked for."""
    given: dict[str, Any] = {
        "objects": None if options.objects is None else tuple(options.objects),
        "min_size": options.min_size,
        "threshold": options.threshold,
        "neck": options.neck,
        "split": False if options.no_split else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.instances:
        from keras_unetres.objects import Separation

        return Separation(**given)
    if given:
        raise UsageError(f"{', '.join(given)} given, but no objects are asked for", fix="add --instances")
    return None


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="run folder, .tflite or .keras file")
    parser.add_argument("data", help=_DATA)
    parser.add_argument("--split", default="test", choices=("train", "val", "test", "all"))
    parser.add_argument("--json", metavar="F", help="write the scores to this file, too")
    parser.add_argument("--overlap", type=int, metavar="PX", help="pixels shared by neighbouring tiles")
    parser.add_argument("--size", type=int, nargs="+", metavar="PX", help="for .keras files: side, or height and width")
    parser.add_argument("--seed", type=int, metavar="S", help="of the split (that of the training)")
    add_turns_option(parser)
    _add_ensemble(parser)
    parser.add_argument("--instances", action="store_true", help="score objects, too: AP, panoptic quality, V_rand")
    _add_separation(parser)
    _add_reading(parser)
    _add_keras_file(parser)
    parser.set_defaults(function=_evaluate)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN", help="run folder, or .tflite file")
    parser.add_argument("--data", metavar="D", help=f"{_DATA} (that of the run)")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), help="(test, or val where there is none)")
    parser.add_argument("--out", metavar="F", help=".html to write, a .json beside it (RUN/report.html)")
    parser.set_defaults(function=_report)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="run folder, .tflite or .keras file")
    add_predict_options(parser)
    _add_ensemble(parser)
    parser.add_argument(
        "--instances",
        nargs="?",
        const="tif",
        choices=("tif", "png"),
        help="also write each object: <stem>_instances.tif (or .png), a label map, and <stem>_objects.csv",
    )
    _add_separation(parser)
    parser.add_argument("--size", type=int, nargs="+", metavar="PX", help="for .keras files: side, or height and width")
    _add_keras_file(parser)
    parser.set_defaults(function=_predict)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=".tflite file")
    parser.add_argument("--ops", action="store_true", help="list every op with the Keras layers in it")
    parser.add_argument("--tools", action="store_true", help="also ask the targets' own tools that are installed")
    parser.add_argument("--json", metavar="F", help="write it all to this file, too")
    parser.set_defaults(function=_inspect)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a network's name; all without")
    parser.add_argument("--size", type=int, nargs="+", metavar="PX", help="side, or height and width, of the input")
    parser.add_argument("--plot", metavar="F", help="draw the network to this .png, .svg or .pdf file")
    parser.add_argument("--json", metavar="F", help="write the figures to this file, too")
    parser.set_defaults(function=_models)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo", metavar="DIR", help="folder to write (demo)")
    parser.add_argument("--epochs", type=int, default=8, metavar="N", help="of training (8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.set_defaults(function=_demo)


def _add_serve_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=".tflite file")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="to listen on, on this machine only (any)")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="do not open the page")
    parser.add_argument("--litert", metavar="DIR", help="folder with node_modules/@litertjs/core (fetched once)")
    parser.set_defaults(function=_serve_demo)


_READING = ("masks_are", "target", "ignore", "val_from", "test_from")


def _check(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.check import check

    check(
        options.data,
        json_file=options.json,
        html_file=options.html,
        fix=options.fix,
        hashes=options.hashes,
        reading={name: getattr(options, name) for name in _READING},
    )


def _augment(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.augment import draw_augmentation

    draw_augmentation(
        options.data,
        options.out,
        augment=options.augment,
        preprocessing={"size": (options.size, options.size), "fit": options.fit, "per_image": options.per_image},
        class_weights=options.class_weights,
        border_weight=_border_weight(options),
        seed=options.seed,
        reading={name: getattr(options, name) for name in _READING},
    )


def _train(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.train import resume, train

    settings, asked = read(TrainSettings, options), given(TrainSettings, options)
    if options.resume is not None:
        run = options.resume or options.out
        if run is None or options.overwrite or (options.out is not None and options.out != run):
            raise UsageError("--resume goes on with one run as it was started", fix="unetres train --resume RUN")
        changed = {name: asked[option.path] for name, option in flat_options().items() if option.path in asked}
        resume(run, data=options.data, settings=changed)
        return
    if options.data is None or options.out is None:
        raise UsageError("train needs a data set and --out RUN", fix="unetres train DATA --out RUN")
    train(options.data, options.out, settings, overwrite=options.overwrite)


def _export(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.export import export

    export(
        options.model,
        options.out,
        recipe=options.recipe,
        head=options.head,
        size=_size(options.size),
        overwrite=options.overwrite,
        preprocessing=_preprocessing(options),
        classes=options.classes,
        calibration=options.calibration,
        data=options.data,
        split=options.split,
        max_drop=options.max_drop,
        gate=options.gate,
    )
    if options.web is not None:
        from keras_unetres.workflows.web import write_web

        write_web(options.out, options.web, overwrite=options.overwrite)


def _serve_demo(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.web import serve_demo

    serve_demo(options.model, port=options.port, browser=options.browser, litert=options.litert)


def _evaluate(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.evaluate import evaluate

    evaluate(
        options.model,
        options.data,
        split=options.split,
        json_file=options.json,
        preprocessing=_preprocessing(options),
        classes=options.classes,
        overlap=options.overlap,
        reading={name: getattr(options, name) for name in (*_READING, "seed")},
        turns=options.turns,
        others=options.others,
        separation=_separation(options),
    )


def _report(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.report import report

    report(options.model, options.data, split=options.split, out=options.out)


def _predict(options: argparse.Namespace) -> None:
    from keras_unetres.tasks.classify import is_classifier, open_classifier
    from keras_unetres.tasks.loading import open_segmenter
    from keras_unetres.workflows.predict import InstanceFiles

    if is_classifier(options.model):
        _preprocessing(options)  # refuses what only a .keras file takes
        run_classify(lambda: open_classifier(options.model), options)
        return
    how = _separation(options)
    more = None if how is None else InstanceFiles(options.instances, how, overlay=options.overlay)
    run_predict(
        lambda: open_segmenter(
            options.model,
            preprocessing=_preprocessing(options),
            classes=options.classes,
            overlap=options.overlap,
            turns=options.turns,
            others=options.others,
        ),
        options,
        more,
    )
    if more:
        print(f"objects    {more.num_objects}")


def _inspect(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.inspect import inspect

    inspect(options.model, ops=options.ops, tools=options.tools, json_file=options.json)


def _quantize(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.quantize import quantize

    quantize(
        options.run,
        options.out,
        data=options.data,
        engine=options.engine,
        ranges=options.ranges,
        keep_zeros=options.keep_zeros,
        epochs=options.epochs,
        minutes=options.minutes,
        learning_rate=options.learning_rate,
        overwrite=options.overwrite,
    )


def _models(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.models import list_models

    list_models(options.name, size=_size(options.size), plot=options.plot, json_file=options.json)


def _demo(options: argparse.Namespace) -> None:
    from keras_unetres.workflows.demo import demo

    demo(options.out, epochs=options.epochs, seed=options.seed)


def _size(values: list[int] | None) -> tuple[int, int] | None:
    if values is None:
        return None
    if len(values) > 2:
        raise UsageError("--size is wrong", expected="one side, or height and width", found=values)
    return values[0], values[-1]


_FEEDING = ("channels", "color_order", "value_range", "mean", "std", "per_image", "fit")


def _preprocessing(options: argparse.Namespace) -> Preprocessing | None:
    """Return the preprocessing of a `.keras` file, or None where the options leave it open."""
    given: dict[str, Any] = {name: getattr(options, name) for name in _FEEDING if getattr(options, name) is not None}
    size_is_own = options.command == "export"  # there it is the tile of any model
    models = [options.model, *getattr(options, "others", [])]
    if not any(Path(model).suffix == ".keras" for model in models):
        named = [*given, *(["size"] if options.size is not None and not size_is_own else [])]
        if named:
            raise UsageError(
                "options for .keras files only: " + ", ".join("--" + name.replace("_", "-") for name in named),
                file=options.model,
                fix="drop them: this model says it itself",
            )
        return None
    size = _size(options.size)
    if size is None or "channels" not in given or "value_range" not in given:
        return None
    return Preprocessing(size=size, **given)
