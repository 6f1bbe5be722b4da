"""`unetres-edge predict`, and the parts that `unetres predict` shares with it.

Nothing heavy is imported until a command runs: both command lines build their parsers from here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .. import command_line
from ..errors import UsageError
from ..settings import all_options, get
from ..terminal import counted, shown
from .predict_settings import PredictSettings

if TYPE_CHECKING:
    from ..classify.classifier import Classification, Classifier
    from ..engines.loaded import LoadedModel
    from ..errors import UnetresError
    from ..objects.files import InstanceFiles
    from ..objects.separate import Separation
    from ..objects.table import LabelFormat
    from ..results.result import Result
    from ..segment.drift import Drift
    from ..segment.segmenter import Segmenter


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, what every `predict` takes, and how this device runs it."""
    from .options import add_engine, add_threads

    command_line.add_options(parser, PredictSettings)
    parser.add_argument("--dask", metavar="TCP", help="use the workers of a Dask cluster, by its scheduler's address")
    add_engine(parser)
    add_threads(parser)
    parser.add_argument("--fallback", action="store_true", help="run LiteRT where --engine cannot")


def run(options: argparse.Namespace) -> None:
    """Predict every image, with a segmenter or a classifier, as the model file says."""
    from ..classify.classifier import Classifier
    from ..engines.table import usual_engine
    from ..files import read_bytes
    from ..model.card import read_card
    from ..segment.ensemble import join_segmenters
    from ..segment.segmenter import Segmenter
    from .options import threads_of

    settings = command_line.read(PredictSettings, options)
    data = read_bytes(settings.model, "model file")
    card = read_card(data, file=settings.model)
    engine = options.engine or usual_engine(card)
    if not card.per_pixel:
        if options.dask:
            raise UsageError("--dask is for masks, and the model is a classifier", fix="drop it")

        def open_classifier() -> Classifier:
            threads = threads_of(options)
            return Classifier(data, num_threads=threads, engine=engine, fallback=options.fallback)

        run_classify(open_classifier, settings, options.engine)
        return

    if options.dask:
        _predict_on_cluster(settings, options)
        return

    def open_segmenter() -> Segmenter:
        one = Segmenter(
            settings.model,
            overlap=settings.overlap,
            num_threads=threads_of(options),
            engine=engine,
            fallback=options.fallback,
        )
        return join_segmenters([one], tta=settings.tta, files=[settings.model])

    run_predict(open_segmenter, settings, options.engine)


def separation_of(settings: PredictSettings) -> Separation | None:
    """Return how pixels become objects, or None where no objects are wanted.

    Raises:
        UsageError: settings were given that are of objects, and no objects are wanted.
    """
    values = settings.separation.given()
    if settings.instances is not None:
        from ..objects.separate import Separation

        return Separation(**values)
    words = [*values, *["rois"] * settings.rois]
    if words:
        raise UsageError(f"{', '.join(words)} given, but no objects are asked for", fix="add --instances")
    return None


def _predict_on_cluster(settings: PredictSettings, options: argparse.Namespace) -> None:
    """Predict with the workers of a Dask cluster.

    Raises:
        UsageError: an option that is for one machine.
    """
    from ..segment.dask_maps import predict_on_cluster
    from ..segment.inputs import find_inputs

    for word, differs in (
        ("on-unfamiliar", settings.on_unfamiliar != PredictSettings.on_unfamiliar),
        ("abstain", settings.abstain),
    ):
        if differs:
            raise UsageError(f"--{word} does not go with --dask", fix="drop one of the two")
    usual = {"engine": None, "fallback": False, "threads": None}
    separation_of(settings)
    refused = [name for name in ("tta", "instances") if getattr(settings, name) != getattr(PredictSettings, name)]
    refused += [name for name, value in usual.items() if getattr(options, name, value) != value]
    if refused:
        raise UsageError(f"--{refused[0]} does not go with --dask", fix="drop one of the two")
    inputs = find_inputs(settings.images, settings.out).images_alone("--dask")
    print_notes(inputs.notes)
    predict_on_cluster(
        settings.model,
        inputs.images,
        settings.out,
        options.dask,
        overlay=settings.overlay,
        geojson=settings.geojson,
        overwrite=settings.overwrite,
        overlap=settings.overlap,
        progress=print_progress,
        json_file=settings.json,
        names=inputs.names,
    )


def run_predict(
    open_segmenter: Callable[[], Segmenter], settings: PredictSettings, named_engine: str | None = None
) -> None:
    """Write the class map of every image, by the segmenter that is opened once the images are found.

    Args:
        open_segmenter: opens it, test-time augmentation and all.
        settings: images to read, and outputs to write.
        named_engine: engine that `--engine` names; None without.
    """
    from ..files import write_bytes
    from ..objects.files import COUNTS
    from ..objects.table import encode_counts
    from ..segment.files import predict_files, refuse_collisions
    from ..segment.inputs import find_inputs

    more = _instance_files(settings)
    counts = Path(settings.out) / COUNTS
    inputs = find_inputs(settings.images, settings.out)
    print_notes(inputs.notes)
    taken: dict[Path, Mapping[str, float]] = {}
    folders = {image: Path(name).parent for image, name in zip(inputs.images, inputs.names, strict=True)}

    def progress(done: int, total: int, image: Path, timing: dict[str, float]) -> None:
        taken[image] = timing
        called = os.fspath(folders.get(image, Path()) / image.name)
        print(shown(progress_line(done, total, image, timing, called=called)), flush=True)

    if more:
        refuse_collisions(inputs.images, [counts], settings.overwrite)
    with open_segmenter() as segmenter:
        try:
            predict_files(
                segmenter,
                inputs.all,
                settings.out,
                overlay=settings.overlay,
                geojson=settings.geojson,
                overwrite=settings.overwrite,
                progress=progress,
                json_file=settings.json,
                more=more,
                names=inputs.all_names,
                every=settings.every,
                count=settings.frames,
                on_unfamiliar=settings.on_unfamiliar,
                abstain=settings.abstain,
                warn=lambda image, result: print(shown(warning_line(image, result)), flush=True),
                drifted=lambda image, drift: print(shown(drift_line(image, drift)), flush=True),
                failed=print_failure,
            )
        finally:  # some images may be done, whatever ended it
            if more and more.counts:
                write_bytes(counts, encode_counts(more.counts))
                for line in more.lines(counts):
                    print(line, flush=True)
            if taken:
                print(shown(_sum_up(settings, taken.values())), flush=True)
        _print_engine(segmenter, named_engine)
    if not taken:
        print("nothing is written: no image is like the training images", flush=True)


def _instance_files(settings: PredictSettings) -> InstanceFiles | None:
    """Return what writes the objects of each image, or None where no objects are wanted."""
    from ..objects.files import InstanceFiles

    separation = separation_of(settings)
    if separation is None:
        return None
    return InstanceFiles(
        cast("LabelFormat", settings.instances),
        separation,
        overlay=settings.overlay,
        geojson=settings.geojson,
        rois=settings.rois,
    )


def _sum_up(settings: PredictSettings, taken: Collection[Mapping[str, float]]) -> str:
    """Return what was written in one line, by the milliseconds of each image and of each source of frames."""
    films = [timing["frames"] for timing in taken if "frames" in timing]
    images = len(taken) - len(films)
    count = images + int(sum(films))
    kinds = {"class map": count}
    kinds |= {"overlay": images, "overlay video": len(films)} if settings.overlay else {}
    kinds |= {"file of polygons": count} if settings.geojson else {}
    return sum_up(kinds, sum(timing["total"] for timing in taken) / count, settings.out)


def _print_engine(model: LoadedModel, wanted: str | None) -> None:
    from .options import engine_lines

    for line in engine_lines(model.engine, wanted):
        print(shown(line), flush=True)


def warning_line(image: str, result: Result) -> str:
    """Return what is said of an image unlike the training images."""
    return f"warning  {os.path.basename(image)}: {'; '.join(result.warnings)} (familiarity {result.familiarity:.3f})"


def drift_line(image: str, drift: Drift) -> str:
    """Return what is said where images, or frames of a source, became unlike the held-out images."""
    return (
        f"warning  {os.path.basename(image)}: more are unlike the held-out images than chance explains, since number "
        f"{(drift.since or 0) + 1} (drift, gain {drift.gain:.0f})"
    )


def sum_up(kinds: Mapping[str, int], ms: float, out: str) -> str:
    """Return what was written in one line, such as "10 class maps and 10 overlays in maps, 84 ms each".

    Args:
        kinds: number of files of each kind that were written, class maps first; of what there is none, nothing is said.
        ms: milliseconds of an image, in the mean.
        out: the folder.
    """
    words = [
        counted(number, kind, kind.replace("file", "files") if "file" in kind else None)
        for kind, number in kinds.items()
        if number
    ]
    listed = " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return f"{listed} in {out}, {ms:.0f} ms{' each' if next(iter(kinds.values())) > 1 else ''}"


def run_classify(
    open_classifier: Callable[[], Classifier], settings: PredictSettings, named_engine: str | None = None
) -> None:
    """Write the class of every image, by a classifier.

    Args:
        open_classifier: opens it once the images are found.
        settings: images to read, and outputs to write.
        named_engine: engine that `--engine` names; None without.

    Raises:
        UsageError: an option for masks.
    """
    from ..classify.files import predict_classes
    from ..segment.inputs import find_inputs

    for option in all_options(type(settings)):
        if "masks" in option.setting.tags and get(settings, option) != option.default:
            raise UsageError(f"{option.word} is for masks, and the model is a classifier", fix="drop it")
    inputs = find_inputs(settings.images, settings.out).images_alone("a classifier")
    print_notes(inputs.notes)

    def progress(done: int, total: int, image: Path, answer: Classification) -> None:
        best = ", ".join(f"{name} {share:.3f}" for _, name, share in answer.top[:3])
        print(f"[{done}/{total}] {image.name}  {best}  {answer.timing['total']:.0f} ms", flush=True)

    with open_classifier() as classifier:
        predict_classes(
            classifier,
            inputs.images,
            settings.out,
            overwrite=settings.overwrite,
            progress=progress,
            json_file=settings.json,
            failed=print_failure,
        )
        _print_engine(classifier, named_engine)


def print_notes(notes: Sequence[str]) -> None:
    """Print a line for each note on what is passed over."""
    for note in notes:
        print(shown(f"note  {note}"), flush=True)


def print_failure(done: int, total: int, error: UnetresError) -> None:
    """Print one line for an image of several that could not be done; of a single one, the error says it."""
    if total > 1:
        print(shown(f"[{done}/{total}] failed  {error}"), flush=True)


def print_progress(done: int, total: int, image: Path, timing: dict[str, float]) -> None:
    """Print one line for an image that is done, or for frames so far."""
    print(shown(progress_line(done, total, image, timing)), flush=True)


def progress_line(done: int, total: int, image: Path, timing: dict[str, float], *, called: str | None = None) -> str:
    """Return the line of `print_progress`; arguments as `predict_files` gives them, and how the image is called."""
    frames = int(timing.get("frames", 1))
    many = f"{frames} frames, {timing['total'] / frames:.0f} ms each" if frames > 1 else f"{timing['total']:.0f} ms"
    return f"[{done}/{total}] {called or image.name}  {many}"
