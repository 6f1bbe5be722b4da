"""`ku.export` and `unetres export`: a model becomes a sealed `.tflite` that passed the gate, with a receipt."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge import Preprocessing
from unetres_edge.errors import DataError, ExistsError, UsageError
from unetres_edge.files import check_writable, read_bytes, write_bytes
from unetres_edge.model.card import read_card

from ..choices.arguments import checks_kinds
from ..data.forms.tfds import is_asked_for
from ..data.shards.store import is_address
from ..runs import RunFolder, RunInfo
from ..settings import MAX_DROP, ExportSettings, LimitSettings
from ..tasks import TASKS
from ..tasks.loading import refuse_for_own
from ..tasks.reading import recorded_place
from ..tflite import converter_process
from ..trust.risk import read_promise
from ..verify.held_out import DATA_IN_MEMORY, HeldOut, read_held_out
from ..verify.proof import Candidate, Proof, prove, publish
from ..verify.receipt import Receipt, receipt_files
from .calibrate import calibrate_file, expected_quality, familiarise, promise, read_training
from .export_source import Source, find_origin, open_source
from .refine import Form, find_form, telling

if TYPE_CHECKING:
    import keras

    from ..tflite import Exported


@checks_kinds
def export(
    source: str | os.PathLike[str] | keras.Model,
    path: str | os.PathLike[str],
    *,
    recipe: str = ExportSettings.recipe,
    head: str = ExportSettings.head,
    size: tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    calibration: Any = None,
    data: Any = None,
    split: str | None = None,
    max_drop: float | None = None,
    gate: bool = True,
    overwrite: bool = False,
    allow_disagreement: bool = False,
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    max_ms: float | None = None,
    max_kb: float | None = None,
    max_arena: float | None = None,
    device: str | os.PathLike[str] | None = None,
    calibrate: bool = ExportSettings.calibrate,
    risk: Sequence[str] = (),
    refine: bool | None = None,
    say: Callable[[str], None] = print,
) -> Receipt:
    """Write a model as a `.tflite` that was scored beside it, and return the receipt.

    The file is scored on held-out images beside the Keras model. One that loses more than `max_drop` is refused: it
    is kept as `PATH.rejected` with a receipt that says why, and an earlier file at `path` stays as it was. Where the
    data of a run is gone, or a model names none, the file is written and its receipt says that it was not scored,
    unless `data`, `split` or `max_drop` asked for it.

    Args:
        source: run folder, `.keras` file, or a `keras.Model`, (N, h, w, C) float32 -> (N, h, w, classes), or
            (N, classes) for a classifier.
        path: the `.tflite` to write; `.receipt.json` and `.receipt.html` go beside it.
        recipe: a name of `keras_unetres.tflite.RECIPES`, or "auto": "static_wi8_ai8" if that loses no more than
            `max_drop`, else with as many layers in float32 as that takes, chosen on the validation part.
        head: a name of `keras_unetres.tflite.HEADS`.
        size: (height, width) of the exported tile in px; None for the size it was trained with.
        preprocessing: preparation of images for the network; for `.keras` files and models. Nothing is guessed.
        classes: class names, for `.keras` files and models; None for "0", "1", ...
        calibration: calibration images of `.keras` files and models: a folder of training images, an array (N, h, w, C)
            float32 as the model sees them, or batches of such. Runs have kept their own.
        data: data set, as `open_dataset` takes it, to score on, or (images, labels), `tf.data` or a generator, as for
            `evaluate`; None for the data set of the run.
        split: "train", "val", "test" or "all"; None for the test part, or where there is none the validation part.
        max_drop: the largest loss of mIoU (of a classifier: of top-1) that is allowed, in points; None for 0.3.
        gate: whether to score the file; without, neither `data` nor `split` nor `max_drop` may be given.
        overwrite: whether to replace an earlier file and its receipt.
        allow_disagreement: whether to write a file that is not scored and whose labels are not those of the Keras
            model, with a warning. One that is scored is judged by its score.
        output: name of the output that is exported, of a model of your own with several.
        custom_objects: name -> layer, model or function of your own code that a `.keras` file names.
        max_ms: milliseconds that the file may take for a tile; None for the limit of the run, if it has one. Of
            segmenters.
        max_kb: kB that the file may have, likewise.
        max_arena: kB that the tensors which it computes may take together, likewise.
        device: profile of the device that `max_ms` is about, as `unetres-edge profile` writes it; what the file takes
            there is foretold. None for the device of the run, else for this machine, on which the file is timed.
        calibrate: whether to find, on the validation part, what makes the file's probabilities right, and with the
            training part what tells pictures unlike those, and to write both into its card. Labels stay what they are.
            Without that part, or a head that gives scores, it is left, and the receipt says why.
        risk: promises about the pixels that are not given up, as `ku.calibrate` takes it, on the validation part.
        refine: whether to refine without labels, from the calibration images and in minutes: equalize channels, choose
            how ranges are found, learn how kernels are rounded, and correct biases; for the recipe "static_wi8_ai8".
            None does so where the plain file loses more than `max_drop` or, unscored, answers otherwise than the
            model; what refined loses less is what is written, and the receipt has the figures of both. False never
            does. The network has to have layers that `quantize_aware` takes.
        say: callback for lines to the user.

    Returns:
        The receipt, as it was written beside the file.

    Raises:
        GateError: the file loses, or takes, more than is allowed, refined or not.
        ExistsError: the file or its receipt is there already.
        UsageError: unknown recipe or head, or an argument that does not go with the source.
        DataError: the images that were asked for cannot be scored on.
        ConversionError: the model is no such network, calibration is bad, or the converter refused it.
    """
    from ..models.fake_quant import is_quantization_aware
    from ..tflite import AUTO, MIXED, find_recipe

    chosen = find_recipe(MIXED if recipe == AUTO else recipe)
    if recipe != AUTO and chosen.name == MIXED:
        raise UsageError("layers to keep in float are found by --recipe auto, or named to export_tflite", found=recipe)
    if recipe == AUTO and not gate:
        raise UsageError("recipe auto needs images to score on", fix="drop --no-gate")
    keras_file = {"preprocessing": preprocessing, "classes": classes, "calibration": calibration}
    refuse_for_own(source, **keras_file, output=output, custom_objects=custom_objects)
    _check_gate(
        gate,
        data=data,
        split=split,
        max_drop=max_drop,
        max_ms=max_ms,
        max_kb=max_kb,
        max_arena=max_arena,
        device=device,
    )
    if refine and recipe == AUTO or refine and (chosen.weights, chosen.activations) != ("int8", "int8"):
        raise UsageError("refinement is of int8", expected="recipe static_wi8_ai8", found=recipe)
    _check_path(path, overwrite)
    converter_process.start()  # gets ready while the model is loaded
    opened = open_source(
        source, **keras_file, size=size, calibrates=chosen.quantized, output=output, custom_objects=custom_objects
    )
    if opened.info is not None and (unfinished := RunFolder(opened.name).unfinished()):
        say(f"note       {unfinished}")
    if risk and not (gate and calibrate):
        raise UsageError("a promise needs images to be found on", fix="drop --no-gate and --no-calibrate, or --risk")
    for text in risk:
        read_promise(text, opened.loaded.card.class_names, opened.loaded.card.background)
    if recipe == AUTO:  # minutes before the converter would say it
        _check_auto(opened, head)
    held: HeldOut | str = "--no-gate was given"
    if gate:
        required = recipe == AUTO or any(value is not None for value in (data, split, max_drop))
        held = _find_images(opened, data, split, required, say)
    origin = find_origin(opened, size) if gate else opened.loaded
    options = {"recipe": recipe, "head": head, "size": size, "data": data, "split": split, "max_drop": max_drop}
    options |= {
        "refine": refine or None,
        "no_refine": refine is False or None,
        "allow_disagreement": allow_disagreement or None,
        "max_ms": max_ms,
        "max_kb": max_kb,
        "max_arena": max_arena,
        "device": device,
    }
    user_limits = LimitSettings(max_ms, max_kb, max_arena, None if device is None else os.fspath(device))
    limits = _limits(opened, recipe, user_limits) if gate else LimitSettings()
    candidate = Candidate(
        opened.name,
        opened.loaded,
        origin,
        opened.crops,
        opened.calibration_from,
        held,
        MAX_DROP if max_drop is None else max_drop,
        ""
        if opened.in_memory or not isinstance(data, (str, os.PathLike, type(None)))
        else _command(source, path, options, gate),
        limits=limits,
        profile=limits.read_profile(),
    )
    with tempfile.TemporaryDirectory(prefix="unetres-") as folder:
        converter = _Converter(opened, origin.model, Path(folder), say, allow_disagreement or not isinstance(held, str))
        if recipe == AUTO:
            reference = converter.convert_float()
            floats, described = _choose_floats(candidate, opened, reference, say)
            candidate = replace(candidate, mixed=described)
            done = converter.convert(
                "model", candidate.loaded.model, MIXED if floats else "static_wi8_ai8", head, floats
            )
            if calibrate:
                candidate = _calibrated(candidate, done, opened.info, risk, say)
            proof = prove(candidate, done, reference, Path(path), say)
            _check_path(path, overwrite)  # another may have been faster
            return publish(proof, Path(path), say)
        compared = not isinstance(held, str) and chosen.name != "float32"
        compared = compared and not is_quantization_aware(candidate.origin.model)

        def proved(form: Form) -> Proof:
            """Convert a form of the network, and score the file."""
            done, network = converter.convert("model", form.loaded.model, recipe, head), form.put_into(candidate)
            done = form.compared(done, origin, converter.allow_disagreement, say)
            if calibrate:
                network = _calibrated(network, done, opened.info, risk, say)
            reference_data = converter.convert_float() if compared else None
            return prove(network, done, reference_data, Path(path), say)

        proof = find_form(opened, proved, refine, chosen, say)
        _check_path(path, overwrite)
        return publish(proof, Path(path), say)


class _Converter:
    """Converts forms of one source into files of a folder that is thrown away."""

    def __init__(
        self, source: Source, origin: keras.Model, folder: Path, say: Callable[[str], None], allow_disagreement: bool
    ) -> None:
        self._source, self._origin, self._folder, self._say = source, origin, folder, say
        self.allow_disagreement = allow_disagreement
        self._float: bytes | None = None

    def convert(self, name: str, model: keras.Model, recipe: str, head: str, floats: tuple[str, ...] = ()) -> Exported:
        """Return a file of the folder."""
        from ..tflite import export_tflite

        card = self._source.loaded.card
        pre = card.preprocessing
        self._say(f"converting to {recipe} at {pre.size[0]} x {pre.size[1]} ...")
        with telling(self._say):
            return export_tflite(
                model,
                self._folder / f"{name}.tflite",
                recipe=recipe,
                preprocessing=pre,
                calibration=None if recipe == "float32" else self._source.calibration,
                head=head,
                card=card,
                floats=floats,
                allow_disagreement=self.allow_disagreement,
            )

    def convert_float(self) -> bytes:
        """Return the bytes of the float32 file of the original, with which others are compared; made once."""
        if self._float is None:
            self._float = read_bytes(self.convert("float32", self._origin, "float32", "logits").path)
        return self._float


def _calibrated(
    candidate: Candidate, done: Exported, info: RunInfo | None, risk: Sequence[str], say: Callable[[str], None]
) -> Candidate:
    """Calibrate a file where it lies, if there are images for it, and return the candidate that knows how it went."""
    if isinstance(candidate.held, str):
        return _unpromised(candidate, candidate.held, risk)
    held, card = candidate.held, read_card(read_bytes(done.path))
    if card.head != "logits":
        return _unpromised(candidate, f"a file with the head {card.head} gives no scores", risk)
    validation = held
    if held.about.split != "val":
        if held.about.path == DATA_IN_MEMORY:
            return _unpromised(candidate, "data in memory has no validation part", risk)
        try:
            validation = read_held_out(card, held.about.path, "val", info)
        except DataError:
            return _unpromised(candidate, "there is no validation part", risk)
    test = held if held.about.split == "test" else None
    data, figures = calibrate_file(read_bytes(done.path), validation, test, say=say)
    data = familiarise(data, read_training(card, held.about.path, info), validation, say=say)
    figures |= expected_quality(data, test or validation, say=say)
    write_bytes(done.path, promise(data, validation, risk, say=say))
    return replace(candidate, reliability=figures)


def _unpromised(candidate: Candidate, why: str, risk: Sequence[str]) -> Candidate:
    """Return a candidate that is not calibrated, unless a promise was asked for.

    Raises:
        UsageError: it was.
    """
    if risk:
        raise UsageError("nothing can be promised", found=why, fix="drop --risk")
    return candidate if isinstance(candidate.held, str) else replace(candidate, reliability={"why_not": why})


def _check_auto(source: Source, head: str) -> None:
    from ..choices.heads import check_head, find_head
    from ..choices.recipes import find_recipe
    from ..models.fake_quant import is_quantization_aware
    from ..tflite import MIXED

    card = source.loaded.card
    check_head(find_head(head), find_recipe(MIXED), card.preprocessing, card.task)
    if is_quantization_aware(source.loaded.model):
        raise UsageError(
            "the ranges of a quantization-aware run are its own, int8 throughout",
            file=source.name,
            fix="export it with --recipe static_wi8_ai8, or export the run that it was made from",
        )


def _judges(candidate: Candidate, info: RunInfo | None) -> list[tuple[str, Callable[[bytes], float]]]:
    """Return who tells how many points a file loses: the validation part, and then the images that decide."""
    assert not isinstance(candidate.held, str)
    about = candidate.held.about
    judges = [(about.split, candidate.held.judge(candidate.origin))]
    if about.split == "test":
        with contextlib.suppress(DataError):  # a data set without that part
            validation = read_held_out(candidate.loaded.card, about.path, "val", info)
            judges.insert(0, ("val", validation.judge(candidate.origin)))
    return judges


def _choose_floats(
    candidate: Candidate, source: Source, reference: bytes, say: Callable[[str], None]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the layers that `--recipe auto` keeps in float32, and what the receipt says of them.

    They are found on files that give scores, whatever head the file is to have.
    """
    from ..tflite import calibrate_model
    from ..verify.precision import search_precision

    card = candidate.loaded.card
    pre = card.preprocessing
    judges = _judges(candidate, source.info)
    say(f"calibrating at {pre.size[0]} x {pre.size[1]} ...")
    calibrated = calibrate_model(candidate.loaded.model, preprocessing=pre, calibration=source.calibration, card=card)
    chosen = search_precision(calibrated, reference, judges, candidate.max_drop, say)
    return chosen.layers(calibrated), chosen.to_dict(calibrated)


def _limits(source: Source, recipe: str, user_limits: LimitSettings) -> LimitSettings:
    """Return what the file may take: as it is given, else, of an int8 file, as the run was planned for.

    The profile of the device that a run was planned for is in its folder.

    Raises:
        UsageError: a classifier is to be timed.
    """
    from ..tflite import AUTO, find_recipe

    planned = LimitSettings()
    if source.info is not None and recipe != AUTO and find_recipe(recipe).name == ExportSettings.recipe:
        planned = source.info.train_settings().limits
        if planned.device is not None:
            planned = replace(planned, device=os.fspath(RunFolder(source.name).device))
    limits = LimitSettings(
        planned.max_ms if user_limits.max_ms is None else user_limits.max_ms,
        planned.max_kb if user_limits.max_kb is None else user_limits.max_kb,
        planned.max_arena if user_limits.max_arena is None else user_limits.max_arena,
        planned.device if user_limits.device is None else user_limits.device,
    )
    if limits.max_ms is not None and not TASKS[source.loaded.card.task].planned:
        raise UsageError("--max-ms is of segmenters", found=source.loaded.card.task, fix="drop it")
    return limits


def _check_gate(gate: bool, **options: object) -> None:
    names = [name for name, value in options.items() if value is not None]
    if not gate and names:
        raise UsageError(f"{', '.join(names)} given, but the file is not to be scored", fix="drop --no-gate")
    drop = options["max_drop"]
    if drop is not None and not (isinstance(drop, (int, float)) and 0 <= drop <= 100):
        raise UsageError("the largest loss is wrong", expected="0 to 100 points", found=drop)


def _find_images(
    source: Source,
    data: Any,
    split: str | None,
    required: bool,
    say: Callable[[str], None],
) -> HeldOut | str:
    """Return the images to score on, or why there are none, unless they were asked for."""
    info = source.info
    path = data if data is not None else None if info is None else info.data.path
    if path is None:
        nameless = "a model" if source.in_memory else "a .keras file"
        why = f"{nameless} names no data set" if info is None else "the data set of the run was never a file"
        if required:
            raise UsageError("nothing says which images to score", found=why, fix="name the data set with --data")
    elif isinstance(path, (str, os.PathLike)) and not _may_be_data(path):
        why = f"there is no data set at {path}"
        if required:
            raise DataError("there is no such data set", file=path, fix="name it with --data")
    else:
        try:
            if data is None and info is not None:
                recorded_place(info)  # refuses what a file does not open
            return read_held_out(source.loaded.card, path, split, info)
        except DataError as error:
            if required:
                raise
            why = f"the data set of the run cannot be scored on: {error}"
    say(f"not scored: {why}; name the data set with --data to have it scored")
    return why


def _command(source: object, path: object, options: Mapping[str, object], gate: bool) -> str:
    """Return the command line that exports so again."""
    words = ["unetres", "export", str(source), "--out", str(path)]
    for name, value in options.items():
        if value is not None:
            parts = () if value is True else value if isinstance(value, tuple) else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, parts)]
    return shlex.join([*words, *([] if gate else ["--no-gate"])])


def _check_path(out: str | os.PathLike[str], overwrite: bool) -> None:
    path = Path(out)
    if path.suffix != ".tflite":
        raise UsageError("the output is not a .tflite", file=out, expected="a name ending in .tflite")
    for file in (path, *receipt_files(path)):
        if file.is_dir() or (os.path.lexists(file) and not overwrite):
            raise ExistsError("the output exists already", file=file, fix="pass --overwrite, or another --out")
    check_writable(path)


def _may_be_data(path: str | os.PathLike[str]) -> bool:
    """Whether a data set may be there: a path of this machine that exists, or a place that is asked when it is read."""
    return is_asked_for(path) or is_address(path) or Path(path).exists()
