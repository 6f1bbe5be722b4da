"""`unetres export`: from a run folder or a `.keras` file to a sealed `.tflite` that passed the gate, with a receipt."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import DataError, ExistsError, FileSystemError, UnetresError, UsageError
from unetres_edge.files import read_bytes
from unetres_edge.images.preprocessing import look_up

from ..runs import RunFolder, RunInfo
from ..settings import MAX_DROP, ExportSettings
from ..tasks.loading import Loaded, load_keras, load_run, refuse_for_own
from ..tflite import converter_process
from ..verify.finish import Job, finish, middle, receipt_files
from ..verify.gate import HeldOut, read_held_out

if TYPE_CHECKING:
    import keras

    from ..tflite import Exported


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str = ExportSettings.recipe,
    head: str = ExportSettings.head,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    preprocessing: Preprocessing | None = None,
    classes: list[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    max_drop: float | None = None,
    gate: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write a `.tflite` from a run folder, or from a `.keras` file with its preprocessing, and its receipt.

    The file is scored on held-out images beside the Keras model. One that loses more than `max_drop` is refused: it
    is kept as `OUT.rejected` with a receipt that says why, and an earlier file at `out` stays as it was. Where the
    data of the run is gone, the file is written and its receipt says that it was not scored, unless `data` or
    `max_drop` asked for it.

    Args:
        source: run folder or `.keras` file.
        out: the `.tflite` to write; `.receipt.json` and `.receipt.html` go beside it.
        recipe: a name of `keras_unetres.tflite.RECIPES`, or "auto": "static_wi8_ai8" if that loses no more than
            `max_drop`, else with as many layers in float32 as that takes, chosen on the validation part.
        head: a name of `keras_unetres.tflite.HEADS`.
        size: (height, width) of the exported tile in px; None for the size it was trained with.
        overwrite: replace an earlier file and its receipt.
        preprocessing: for `.keras` files: how images meet the network.
        classes: for `.keras` files: class names.
        calibration: for `.keras` files: a folder of images.
        data: what `open_dataset` takes, to score on; None for the data set of the run.
        split: "train", "val", "test" or "all"; None for the test part, or where there is none the validation part.
        max_drop: the largest loss of mIoU (of a classifier: of top-1) that is allowed, in points; None for 0.3.
        gate: score the file; without, neither `data` nor `split` nor `max_drop` may be given.
        say: called with lines for the user.

    Returns:
        "path", "kb", "recipe", "agreement" (share of labels equal to Keras on calibration images), "ops", "passed"
        (None if it was not scored), "drop" (points, or None), "scores" (as in the card) and "receipt" (the .json).

    Raises:
        GateError: the file loses more than is allowed.
        UnetresError: as `export_tflite`, and ExistsError for a file that is there already.
    """
    from ..choices.heads import check_head
    from ..models.fake_quant import is_quantization_aware
    from ..tflite import AUTO, MIXED, export_tflite, find_head, find_recipe

    chosen = find_recipe(MIXED if recipe == AUTO else recipe)
    if recipe != AUTO and chosen.name == MIXED:
        raise UsageError("layers to keep in float are found by --recipe auto, or named to export_tflite", found=recipe)
    if recipe == AUTO and not gate:
        raise UsageError("recipe auto needs images to score on", fix="drop --no-gate")
    refuse_for_own(source, preprocessing=preprocessing, classes=classes, calibration=calibration)
    _check_gate(gate, data=data, split=split, max_drop=max_drop)
    _check_out(out, overwrite)
    converter_process.start()  # gets ready while the model is loaded
    loaded, info, crops = _open(source, preprocessing, classes, calibration, chosen.quantized)
    if size is not None and size != loaded.card.preprocessing.size:
        loaded, crops = _resize(loaded, crops, size)
    pre = loaded.card.preprocessing
    if recipe == AUTO:  # minutes before the converter would say it
        check_head(find_head(head), chosen, pre, loaded.card.task)
        if is_quantization_aware(loaded.model):
            raise UsageError(
                "the ranges of a quantization-aware run are its own, int8 throughout",
                file=source,
                fix="export it with --recipe static_wi8_ai8, or export the run that it was made from",
            )
    held: HeldOut | str = "--no-gate was given"
    if gate:
        asked = recipe == AUTO or any(value is not None for value in (data, split, max_drop))
        held = _find_images(loaded, info, data, split, asked, say)
    options = {"recipe": recipe, "head": head, "size": size, "data": data, "split": split, "max_drop": max_drop}
    command = _command(source, out, options, gate)
    allowed = MAX_DROP if max_drop is None else max_drop
    origin = _origin(loaded, info, size) if gate else loaded
    job = Job(os.fspath(source), loaded, origin, crops, held, allowed, command)
    with tempfile.TemporaryDirectory(prefix="unetres-") as folder:

        def convert(name: str, model: keras.Model, recipe: str, head: str, floats: tuple[str, ...] = ()) -> Exported:
            say(f"converting to {recipe} at {pre.size[0]} x {pre.size[1]} ...")
            return export_tflite(
                model,
                Path(folder) / name,
                recipe=recipe,
                preprocessing=pre,
                calibration=None if crops is None or recipe == "float32" else look_up(pre.table(), crops),
                head=head,
                card=loaded.card,
                floats=floats,
            )

        def convert_float() -> bytes:
            return read_bytes(convert("float32.tflite", origin.model, "float32", "logits").path)

        if recipe == AUTO:
            reference = convert_float()
            floats, described = _mixed(job, _judges(job, info), reference, say)
            job = replace(job, mixed=described)
            done = convert("model.tflite", loaded.model, MIXED if floats else "static_wi8_ai8", head, floats)
            return finish(job, done, reference, Path(out), say)
        done = convert("model.tflite", loaded.model, recipe, head)
        scored = not isinstance(held, str) and chosen.name != "float32" and not is_quantization_aware(origin.model)
        return finish(job, done, convert_float() if scored else None, Path(out), say)


def _judges(job: Job, info: RunInfo | None) -> list[tuple[str, Callable[[bytes], float]]]:
    """Return who tells how many points a file loses: the validation part, and then the images that decide."""
    assert not isinstance(job.held, str)
    judges = [(job.held.about["split"], job.held.judge(job.origin))]
    if job.held.about["split"] == "test":
        with contextlib.suppress(DataError):  # a data set without that part
            validation = read_held_out(job.loaded, job.held.about["path"], "val", info)
            judges.insert(0, ("val", validation.judge(job.origin)))
    return judges


def _mixed(
    job: Job,
    judges: list[tuple[str, Callable[[bytes], float]]],
    reference: bytes,
    say: Callable[[str], None],
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the layers that `--recipe auto` keeps in float32, and what the receipt says of them.

    They are found on files that give scores, whatever head the file is to have.
    """
    from ..tflite import calibrate_model
    from ..verify.mixed import mix

    pre = job.loaded.card.preprocessing
    say(f"calibrating at {pre.size[0]} x {pre.size[1]} ...")
    assert job.crops is not None
    crops = look_up(pre.table(), job.crops)
    calibrated = calibrate_model(job.loaded.model, preprocessing=pre, calibration=crops, card=job.loaded.card)
    found = mix(calibrated, reference, judges, job.max_drop, say)
    return found.layers(calibrated), found.to_dict(calibrated)


def _check_gate(gate: bool, **given: object) -> None:
    names = [name for name, value in given.items() if value is not None]
    if not gate and names:
        raise UsageError(f"{', '.join(names)} given, but the file is not to be scored", fix="drop --no-gate")
    drop = given["max_drop"]
    if drop is not None and not (isinstance(drop, (int, float)) and 0 <= drop <= 100):
        raise UsageError("the largest loss is wrong", expected="0 to 100 points", found=drop)


def _open(
    source: str | os.PathLike[str],
    preprocessing: Preprocessing | None,
    classes: list[str] | None,
    calibration: str | os.PathLike[str] | None,
    calibrates: bool,
) -> tuple[Loaded, RunInfo | None, np.ndarray | None]:
    """Return the model, what `run.json` says of it, and its calibration images."""
    if RunFolder.is_run(source):
        run = RunFolder(source)
        loaded = load_run(source)
        return loaded, run.read_info(), run.read_calibration() if calibrates else None
    loaded = load_keras(source, preprocessing, classes)
    return loaded, None, _image_crops(calibration, loaded.card.preprocessing) if calibrates else None


def _origin(loaded: Loaded, info: RunInfo | None, size: tuple[int, int] | None) -> Loaded:
    """Return the float model of the run that a quantization-aware one was made from, if it is still what it was."""
    source = None if info is None or not info.compress else info.source
    if source is None or not RunFolder.is_run(source):
        return loaded
    try:
        origin = load_run(source)
        same = origin.card.class_names == loaded.card.class_names and not RunFolder(source).read_info().compress
    except UnetresError:
        return loaded
    if size is not None and size != origin.card.preprocessing.size:
        origin, _ = _resize(origin, None, size)
    return origin if same else loaded


def _find_images(
    loaded: Loaded,
    info: RunInfo | None,
    data: str | os.PathLike[str] | None,
    split: str | None,
    asked: bool,
    say: Callable[[str], None],
) -> HeldOut | str:
    """Return the images to score on, or why there are none, unless they were asked for."""
    place = data if data is not None else None if info is None else info.data.path
    if place is None:
        why = "a .keras file names no data set" if info is None else "the data set of the run was never a file"
        if asked:
            raise UsageError("nothing says which images to score", found=why, fix="name the data set with --data")
    elif not os.fspath(place).startswith("tfds:") and not Path(place).exists():
        why = f"there is no data set at {place}"
        if asked:
            raise DataError("there is no such data set", file=place, fix="name it with --data")
    else:
        try:
            return read_held_out(loaded, place, split, info)
        except DataError as error:
            if asked:
                raise
            why = f"the data set of the run cannot be scored on: {error}"
    say(f"not scored: {why}; name the data set with --data to have it scored")
    return why


def _command(source: object, out: object, options: Mapping[str, object], gate: bool) -> str:
    """Return the command line that exports so again."""
    words = ["unetres", "export", str(source), "--out", str(out)]
    for name, value in options.items():
        if value is not None:
            parts = value if isinstance(value, tuple) else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, parts)]
    return shlex.join([*words, *([] if gate else ["--no-gate"])])


def _check_out(out: str | os.PathLike[str], overwrite: bool) -> None:
    path = Path(out)
    if path.suffix != ".tflite":
        raise UsageError("the output is not a .tflite", file=out, expected="a name ending in .tflite")
    for file in (path, *receipt_files(path)):
        if file.is_dir() or (file.exists() and not overwrite):
            raise ExistsError("the output exists already", file=file, fix="pass --overwrite, or another --out")
    if not path.parent.is_dir():
        raise FileSystemError("the folder does not exist", file=path.parent)


def _image_crops(folder: str | os.PathLike[str] | None, pre: Preprocessing) -> np.ndarray:
    """Return middle crops (N, h, w, C) uint8 of the images in a folder."""
    from unetres_edge.images.decode import read_image
    from unetres_edge.segment.files import find_images

    if folder is None:
        raise UsageError("the recipe needs calibration images", fix="pass --calibration FOLDER of training images")
    crops = []
    for path in find_images([folder])[:256]:
        image = pre.prepare(read_image(path))
        if pre.fit != "crop":
            crops.append(pre.place(*image.shape[:2]).image(image))
            continue
        crops.append(middle(image, pre.size))
    return np.stack(crops)


def _resize(loaded: Loaded, crops: np.ndarray | None, size: tuple[int, int]) -> tuple[Loaded, np.ndarray | None]:
    """Return the model's weights in a network of another input size, and crops of that size."""
    import keras

    from ..models import check_size

    pre = loaded.card.preprocessing
    check_size(loaded.model, size)
    inputs = keras.Input((*size, pre.channels), name="image")
    model = keras.models.clone_model(loaded.model, input_tensors=inputs)
    model.set_weights(loaded.model.get_weights())
    card = replace(loaded.card, preprocessing=replace(pre, size=size))
    if crops is None:
        return Loaded(model, card), None
    scaled = replace(pre, fit="resize", size=size)
    cut = (middle(crop, size) if pre.fit == "crop" else scaled.place(*pre.size).image(crop) for crop in crops)
    return Loaded(model, card), np.stack(list(cut))
