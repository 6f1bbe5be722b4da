"""`unetres-edge predict`, and the parts that `unetres predict` shares with it.

Nothing heavy is imported until a command runs: both command lines build their parsers from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..segment.symmetries import TURNS

if TYPE_CHECKING:
    from ..classify.classifier import Classification, Classifier
    from ..segment.files import MoreFiles
    from ..segment.segmenter import Segmenter


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, what every `predict` takes, and how this device runs it."""
    from .options import add_engine, add_model, add_threads

    add_model(parser)
    add_predict_options(parser)
    parser.add_argument("--dask", metavar="TCP", help="use the workers of a Dask cluster, by its scheduler's address")
    add_engine(parser)
    add_threads(parser)
    parser.add_argument("--fallback", action="store_true", help="run LiteRT where --engine cannot")


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


def run(options: argparse.Namespace) -> None:
    """Predict every image, with a segmenter or a classifier, as the model file says."""
    from ..classify.classifier import Classifier
    from ..files import read_bytes
    from ..model.card import read_card
    from ..segment.ensemble import join_segmenters
    from ..segment.segmenter import Segmenter
    from .options import threads_of

    data = read_bytes(options.model, "model file")
    if read_card(data, file=options.model).task == "classify":

        def open_classifier() -> Classifier:
            threads = threads_of(options)
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
            num_threads=threads_of(options),
            engine=options.engine,
            fallback=options.fallback,
        )
        return join_segmenters([one], turns=options.turns, files=[options.model])

    run_predict(open_segmenter, options)


def _predict_on_cluster(options: argparse.Namespace) -> None:
    """Predict with the workers of a Dask cluster.

    Raises:
        UsageError: an option that is for one machine.
    """
    from ..segment.dask_maps import predict_on_cluster
    from ..segment.files import find_images

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


def run_predict(
    open_segmenter: Callable[[], Segmenter], options: argparse.Namespace, more: MoreFiles | None = None
) -> None:
    """Do what `add_predict_options` parsed, with the segmenter that is opened once the images are found.

    Args:
        open_segmenter: opens it, turns and all.
        more: makes more files of each image.
    """
    from ..segment.files import find_images, predict_files

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
    from ..classify.files import predict_classes
    from ..segment.files import find_images

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
