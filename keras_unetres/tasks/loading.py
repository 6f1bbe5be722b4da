"""From the name of a model (run folder, `.keras`, `.tflite`) to something that segments images."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unetres_edge import Card, Preprocessing, Segmenter
from unetres_edge.errors import ModelError, RunFolderError, UsageError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.card import default_colors
from unetres_edge.segment.ensemble import join_segmenters

from ..runs import QUANTIZE_AWARE, STEPS, RunFolder, RunInfo
from .task import Loaded

if TYPE_CHECKING:
    import keras

PACKAGES = ("keras-unetres", "keras-unetres-edge", "tensorflow", "keras", "numpy", "ai-edge-litert", "pillow")


def package_versions() -> dict[str, str]:
    """Return package name -> installed version, for what decides a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def card_of_run(info: RunInfo, *, halo: int, stride: int = 0) -> Card:
    """Return the card that describes the model of a run."""
    return Card(
        class_names=info.classes.names,
        class_colors=info.classes.colors,
        preprocessing=info.preprocessing,
        task=info.task,
        ignore_index=IGNORE if info.classes.ignored else None,
        background=_background(info),
        halo=halo,
        stride=stride,
        dataset=info.reading.to_dict(),
        versions=package_versions(),
    )


def _background(info: RunInfo) -> int:
    """Return the class that is declared as the background, or -1 where its name says it."""
    declared = info.reading.background
    return info.classes.names.index(declared) if declared in info.classes.names else -1


def build_network(info: RunInfo) -> keras.Model:
    """Return the network of a run, by what `run.json` says: its builder, then the steps of compression applied.

    Its weights are still to be set, all of them.

    Raises:
        RunFolderError: a builder or a step that this version does not know.
    """
    from ..models import build

    model = build(info.model.builder, dict(info.model.arguments))
    for step in info.compress:
        if step.step not in STEPS:
            raise RunFolderError("a step of compression is not known", expected=" or ".join(STEPS), found=step.step)
        if step.step == QUANTIZE_AWARE:  # the others change weights alone
            from ..quantization import build_native, fold

            model = build_native(fold(model), keep_zeros=step.keep_zeros)
    return model


def load_run(path: str | os.PathLike[str]) -> Loaded:
    """Rebuild the model of a run folder with its best weights.

    Raises:
        RunFolderError: not a run folder, damaged, or of another version.
    """
    from ..models import assign, deepest_stride, receptive_halo

    run = RunFolder(path)
    info = run.read_info()
    tensors = run.read_weights()
    model = build_network(info)
    assign({v.path: v for v in model.weights}, tensors, file=run.path / "weights.safetensors")
    gives_map = len(model.output_shape) == 4  # else it sees the whole image, and is never asked by tiles
    halo, stride = (receptive_halo(model), deepest_stride(model)) if gives_map else (0, 0)
    return Loaded(model, card_of_run(info, halo=halo, stride=stride))


def load_keras(path: str | os.PathLike[str], preprocessing: Preprocessing | None, classes: list[str] | None) -> Loaded:
    """Load a `.keras` file in Keras's safe mode.

    Raises:
        UsageError: no preprocessing given.
        ModelError: the file cannot be loaded, or is no segmenter of such images.
    """
    import keras

    from ..models.inference import inference_form

    _refuse_h5(path)
    if preprocessing is None:
        raise UsageError(
            "a .keras file does not say how images are fed to it",
            file=path,
            fix="pass --size, --channels, --value-range and, where they apply, --mean and --std",
        )
    if not Path(path).is_file():
        raise ModelError("no such model file", file=path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        own = re.search(r"Could not locate (?:class|function) '([^']+)'", str(error))
        if own:
            raise ModelError(
                f"the model holds {own.group(1)!r}, of your own code, which a file cannot bring along",
                file=path,
                fix="load it in Python, where that is registered, and pass the model itself to ku.export",
            ) from error
        raise ModelError(f"Keras cannot load it: {first}", file=path, expected="a sound .keras file") from error
    form = inference_form(model, shape=(*preprocessing.size, preprocessing.channels))
    model = form.model
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ModelError("the model gives no map of scores", file=path, expected="(N, H, W, classes)", found=shape)
    _check_input(model, preprocessing, path)
    names = tuple(classes or map(str, range(shape[-1])))
    names = ("background", *names) if form.binary and len(names) == 1 else names
    if len(names) != shape[-1]:
        raise UsageError("number of class names differs from the model", expected=shape[-1], found=len(names))
    card = Card(names, default_colors(len(names)), preprocessing, versions=package_versions())
    return Loaded(model, replace(card, activation=form.activation))


def _refuse_h5(path: str | os.PathLike[str]) -> None:
    if Path(path).suffix in (".h5", ".hdf5"):
        raise ModelError(
            "a model in Keras's old format is not read",
            file=path,
            expected="a .keras file",
            fix=f'once, in Python: keras.models.load_model("{path}").save("{Path(path).with_suffix(".keras")}")',
        )


def _check_input(model: keras.Model, pre: Preprocessing, file: str | os.PathLike[str]) -> None:
    """Refuse a size or a number of channels that the model does not take."""
    from ..models import check_size

    given = (*pre.size, pre.channels)
    if not isinstance(model.input_shape, tuple) or len(model.input_shape) != 4:
        raise ModelError("the model does not take images", file=file, expected="(N, H, W, C)", found=model.input_shape)
    if any(own not in (None, value) for own, value in zip(model.input_shape[1:], given, strict=True)):
        raise UsageError("the model takes another input", file=file, expected=model.input_shape[1:], found=given)
    with contextlib.suppress(ModelError):  # not functional, so its graph does not tell
        check_size(model, pre.size)


def refuse_for_own(model: str | os.PathLike[str], **given: object) -> None:
    """Raise UsageError if anything is given that only a `.keras` file needs, and the model is none."""
    _refuse_h5(model)
    names = [name for name, value in given.items() if value is not None]
    if names and Path(model).exists() and Path(model).suffix != ".keras":
        raise UsageError(
            f"{', '.join(names)} can be given for .keras files only",
            file=model,
            fix="drop it: this model says it itself",
        )


def open_segmenter(
    model: str | os.PathLike[str],
    *,
    preprocessing: Preprocessing | None = None,
    classes: list[str] | None = None,
    overlap: int | None = None,
    tta: str = "none",
    others: Sequence[str | os.PathLike[str]] = (),
) -> Segmenter:
    """Return a segmenter for a run folder, a `.keras` file or a `.tflite` file, or for several of them together.

    Args:
        preprocessing: how images meet the network; for `.keras` files.
        classes: class names; for `.keras` files.
        overlap: px shared by neighbouring tiles.
        tta: test-time augmentation: "none", or the mean over the "flips" of each tile or "all" its flips and turns.
        others: more models; the answer is the mean of all (`join_segmenters` says what they must share).

    Raises:
        UsageError: `preprocessing` or `classes` given for models that know them themselves, or the models cannot be
            joined.
    """
    models = [model, *others]
    if not any(Path(each).suffix == ".keras" for each in models):
        refuse_for_own(model, preprocessing=preprocessing, classes=classes)
    opened = [_open_one(each, preprocessing, classes, overlap) for each in models]
    return join_segmenters(opened, tta=tta, files=models)


def _open_one(
    model: str | os.PathLike[str], preprocessing: Preprocessing | None, classes: list[str] | None, overlap: int | None
) -> Segmenter:
    if RunFolder.is_run(model):
        return keras_segmenter(load_run(model), overlap=overlap)
    if Path(model).suffix == ".keras":
        return keras_segmenter(load_keras(model, preprocessing, classes), overlap=overlap)
    return Segmenter(model, overlap=overlap)


def keras_segmenter(loaded: Loaded, *, overlap: int | None = None) -> Segmenter:
    """Return a segmenter that runs the Keras model itself."""
    from .keras_engine import KerasEngine

    engine = KerasEngine(loaded.model, loaded.card.preprocessing)
    return Segmenter(None, card=loaded.card, engine=engine, overlap=overlap)
