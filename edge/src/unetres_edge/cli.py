"""`unetres-edge`: predict, inspect, bench, verify and seal model files, without TensorFlow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import __version__
from .classifier import Classification, Classifier
from .commands.predict import MoreFiles, find_images, predict_files
from .commands.predict_classes import predict_classes
from .engines.table import NAMES
from .errors import ExistsError, FileSystemError, ModelError, UnetresError, UsageError
from .files import read_bytes, write_bytes, write_json
from .model.card import Card, read_card, reseal
from .segment.ensemble import TURNS, join_segmenters
from .segment.segmenter import Segmenter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 usage, 3 data, 4 model, 5 system."""
    parser = argparse.ArgumentParser(prog="unetres-edge", description="Segment images with a keras-unetres .tflite.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="write a class map for every image")
    predict.add_argument("model", help=".tflite file")
    add_predict_options(predict)
    predict.add_argument("--dask", metavar="TCP", help="use the workers of a Dask cluster, by its scheduler's address")
    predict.set_defaults(function=_predict)
    look = commands.add_parser("inspect", help="verify a model file and print its card")
    look.add_argument("model", help=".tflite file")
    look.set_defaults(function=_inspect)
    measure = commands.add_parser("bench", help="time a model by stage and number of threads")
    measure.add_argument("model", help=".tflite file")
    measure.add_argument("--count", type=int, default=50, help="timed calls for each number of threads (default 50)")
    measure.add_argument("--threads", type=int, nargs="+", metavar="N", help="numbers of threads to try")
    measure.add_argument("--json", metavar="F", help="also write the figures to this file")
    measure.set_defaults(function=_bench)
    check = commands.add_parser("verify", help="say whether this device computes the labels the file was made with")
    check.add_argument("model", help=".tflite file")
    check.add_argument("--threads", type=int, metavar="N", help="threads of one inference")
    check.set_defaults(function=_verify)
    again = commands.add_parser("seal", help="seal a file again that another tool has changed on purpose")
    again.add_argument("model", help=".tflite file with a card; replaced, unless --out is given")
    again.add_argument("--out", metavar="F", help="write the sealed file here; must not exist")
    again.set_defaults(function=_seal)
    for command in (predict, measure, check):
        command.add_argument("--engine", default="litert", choices=NAMES, help="what runs the network (default litert)")
    predict.add_argument("--threads", type=int, metavar="N", help="threads of one inference")
    predict.add_argument("--fallback", action="store_true", help="run LiteRT where --engine cannot")
    for command in (predict, look, measure, check, again):
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
    parser.add_argument("--geojson", action="store_true", help="also write <stem>.geojson, polygons with holes in px")
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
            geojson=options.geojson,
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
    for_masks = {
        "overlay": False,
        "geojson": False,
        "overlap": None,
        "turns": "none",
        "others": None,
        "dask": None,
        "instances": None,
    }
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
    if card.resealed:
        print(f"resealed   {card.resealed} times: other tools changed the file after its export")
    print(f"sha256     {card.sha256} (verified)")


def _predict_on_cluster(options: argparse.Namespace) -> None:
    """Predict with the workers of a Dask cluster.

    Raises:
        UsageError: an option that is for one machine.
    """
    from .segment.dask_maps import predict_on_cluster

    usual = {"turns": "none", "engine": "litert", "fallback": False, "threads": None}
    given = [name for name, value in usual.items() if getattr(options, name, value) != value]
    if given:
        raise UsageError(f"--{given[0]} does not go with --dask", fix="drop one of the two")
    predict_on_cluster(
        options.model,
        find_images(options.images),
        options.out,
        options.dask,
        overlay=options.overlay,
        geojson=options.geojson,
        overwrite=options.overwrite,
        overlap=options.overlap,
        progress=print_progress,
        json_file=options.json,
    )


def _predict(options: argparse.Namespace) -> None:
    data = read_bytes(options.model, "model file")
    if read_card(data, file=options.model).task == "classify":

        def open_classifier() -> Classifier:
            threads = _threads(options)
            return Classifier(data, num_threads=threads, engine=options.engine, fallback=options.fallback)

        run_classify(open_classifier, options)
        return

    if options.dask:
        _predict_on_cluster(options)
        return

    def open_segmenter() -> Segmenter:
        one = Segmenter(
            options.model,
            overlap=options.overlap,
            num_threads=_threads(options),
            engine=options.engine,
            fallback=options.fallback,
        )
        return join_segmenters([one], turns=options.turns, files=[options.model])

    run_predict(open_segmenter, options)


def _threads(options: argparse.Namespace) -> int | None:
    if options.threads is not None and options.threads < 1:
        raise UsageError("--threads is wrong", expected="at least 1", found=options.threads)
    number: int | None = options.threads
    return number


def _bench(options: argparse.Namespace) -> None:
    from .commands.bench import STAGES, bench

    found = bench(options.model, count=options.count, threads=options.threads, engine=options.engine)
    print(f"engine     {found['engine']}, {found['count']} calls each, ms as p50 / p95")
    print("threads    " + "".join(f"{stage:>20}" for stage in STAGES) + f"{'load':>12}")
    for run in found["runs"]:
        cells = (f"{run[stage]['p50']:.2f} / {run[stage]['p95']:.2f}" for stage in STAGES)
        print(f"{run['threads']:<11}" + "".join(f"{cell:>20}" for cell in cells) + f"{run['load_ms']:>12.1f}")
    if found["peak_memory_bytes"] is not None:
        print(f"memory     {found['peak_memory_bytes'] / 1e6:.0f} MB resident at most, Python and all")
    for row in found["ops"]:
        work = f"{row['multiply_adds'] / 1e6:>12.1f} M multiply-adds {100 * row['share']:>6.1f} %"
        print(f"op         {row['op']:24}{row['count']:>4}{work}")
    print("           how long one op takes is not told: LiteRT's Python has no profiler, and XNNPACK joins ops")
    if options.json:
        write_json(options.json, found)


def _verify(options: argparse.Namespace) -> None:
    from .commands.bench import verify

    found = verify(options.model, engine=options.engine, num_threads=_threads(options))
    share = f"{100 * found['equal']:.4f} % of the labels of {found['images']} images"
    if not found["same"]:
        raise ModelError(
            "this device computes other labels than the file was made with",
            file=options.model,
            expected=f"at least {100 * found['least_equal']:.2f} % equal",
            found=f"{share} on {found['engine']}",
            fix="update the runtime, or choose another --engine",
        )
    print(f"same       {share} are those the file was made with ({found['engine']})")


def _seal(options: argparse.Namespace) -> None:
    from .engines.litert import LiteRTEngine

    if options.out and Path(options.out).exists():
        raise ExistsError("the output exists already", file=options.out, fix="choose another --out")
    sealed = reseal(read_bytes(options.model, "model file"), file=options.model)
    card = read_card(sealed, file=options.model)
    LiteRTEngine(sealed, card).close()  # what does not run is not sealed
    write_bytes(options.out or options.model, sealed)
    print(f"sealed     {options.out or options.model}: SHA-256 {card.sha256}, sealed again {card.resealed} times")


def inspect(model: str) -> None:
    """Verify a model file and print its card."""
    data = read_bytes(model, "model file")
    print_card(read_card(data, file=model), len(data))


def _inspect(options: argparse.Namespace) -> None:
    inspect(options.model)


if __name__ == "__main__":
    sys.exit(main())
