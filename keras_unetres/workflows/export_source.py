"""What is exported: a run folder, a `.keras` file or a model in memory, with its card and its calibration images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card, Preprocessing
from unetres_edge.errors import UnetresError, UsageError
from unetres_edge.images.preprocessing import look_up
from unetres_edge.model.card import default_colors

from ..runs import RunFolder, RunInfo
from ..tasks.loading import load_keras, load_run, package_versions
from ..tasks.task import Loaded
from ..verify.proof import middle

if TYPE_CHECKING:
    import keras

_MOST_CROPS = 256


@dataclass(frozen=True)
class Source:
    """What is exported.

    Args:
        name: absolute path of the run folder or `.keras` file, or what stands for a model in memory.
        in_memory: whether it is a model in memory.
        loaded: the model and its card.
        info: what `run.json` says, or None.
        crops: calibration images (N, h, w, C) uint8, before normalisation; None without, or of a model in memory that
            has its own.
        calibration: calibration images as the model sees them, or None.
        calibration_from: where they come from.
    """

    name: str
    in_memory: bool
    loaded: Loaded
    info: RunInfo | None
    crops: np.ndarray | None
    calibration: Any
    calibration_from: str


def open_source(
    source: str | os.PathLike[str] | keras.Model,
    *,
    preprocessing: Preprocessing | None,
    classes: Sequence[str] | None,
    calibration: Any,
    size: tuple[int, int] | None,
    calibrates: bool,
) -> Source:
    """Load what is exported.

    Args:
        source, preprocessing, classes, calibration, size: as for `keras_unetres.export`.
        calibrates: whether the recipe needs calibration images.

    Raises:
        UsageError: something is missing, or does not fit the model.
        ModelError, RunFolderError: it cannot be loaded.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _open_model(source, preprocessing, classes, calibration, size, calibrates)
    name, info = os.path.abspath(source), None
    if RunFolder.is_run(source):
        run = RunFolder(source)
        loaded, info = load_run(source), run.read_info()
        crops, made_from = run.read_calibration() if calibrates else None, "training images kept by the run"
    else:
        loaded = load_keras(source, preprocessing, None if classes is None else list(classes))
        crops = _folder_crops(calibration, loaded.card.preprocessing) if calibrates else None
        made_from = "images of a folder"
    loaded, crops = _at_size(loaded, crops, size)
    return Source(name, False, loaded, info, crops, _seen(loaded, crops), made_from)


def find_origin(source: Source, size: tuple[int, int] | None) -> Loaded:
    """Return the float model that a quantization-aware run was made from, if it is still what it was; else its own."""
    loaded, info = source.loaded, source.info
    run = None if info is None or not info.quantized else info.source
    if run is None or not RunFolder.is_run(run):
        return loaded
    try:
        origin = load_run(run)
        same = origin.card.class_names == loaded.card.class_names and not RunFolder(run).read_info().quantized
    except UnetresError:
        return loaded
    return _at_size(origin, None, size)[0] if same else loaded


def _open_model(
    model: keras.Model,
    preprocessing: Preprocessing | None,
    classes: Sequence[str] | None,
    calibration: Any,
    size: tuple[int, int] | None,
    calibrates: bool,
) -> Source:
    if preprocessing is None:
        raise UsageError(
            "a model does not say how images are fed to it", fix="pass preprocessing=ku.Preprocessing(...)"
        )
    from ..models.inference import inference_form

    form = inference_form(model, shape=(*preprocessing.size, preprocessing.channels))
    names = ("background", *classes) if classes and form.binary and len(classes) == 1 else classes
    loaded = Loaded(form.model, replace(_card_of(form.model, preprocessing, names), activation=form.activation))
    crops = None
    if isinstance(calibration, (str, os.PathLike)):
        crops = _folder_crops(calibration, preprocessing) if calibrates else None
        calibration = None
    elif calibration is not None and size is not None and tuple(size) != preprocessing.size:
        raise UsageError("calibration images are of another size", expected=size, found=preprocessing.size)
    loaded, crops = _at_size(loaded, crops, size)
    seen = _seen(loaded, crops) if calibration is None else calibration
    made_from = "images that the caller gave" if crops is None else "images of a folder"
    return Source("a model in memory", True, loaded, None, crops, seen, made_from)


def _card_of(model: keras.Model, pre: Preprocessing, classes: Sequence[str] | None) -> Card:
    """Return the card that describes a model, as `export_tflite` writes it."""
    from ..tflite.export import find_reach
    from ..tflite.model_checks import check_model

    count, task = check_model(model, (*pre.size, pre.channels))
    names = tuple(classes or map(str, range(count)))
    if len(names) != count:
        raise UsageError("number of class names differs from the model", expected=count, found=len(names))
    halo, stride = find_reach(model)
    return Card(names, default_colors(count), pre, task, halo=halo, stride=stride, versions=package_versions())


def _seen(loaded: Loaded, crops: np.ndarray | None) -> np.ndarray | None:
    """Return calibration images as the model sees them."""
    return None if crops is None else look_up(loaded.card.preprocessing.table(), crops)


def _folder_crops(folder: str | os.PathLike[str] | None, pre: Preprocessing) -> np.ndarray:
    """Return middle crops (N, h, w, C) uint8 of the images in a folder."""
    from unetres_edge.images.decode import read_image
    from unetres_edge.segment.files import find_images

    if folder is None:
        raise UsageError("the recipe needs calibration images", fix="pass --calibration FOLDER of training images")
    crops = []
    for path in find_images([folder])[:_MOST_CROPS]:
        image = pre.prepare(read_image(path))
        whole = pre.fit != "crop"
        crops.append(pre.place(*image.shape[:2]).image(image) if whole else middle(image, pre.size))
    return np.stack(crops)


def _at_size(
    loaded: Loaded, crops: np.ndarray | None, size: tuple[int, int] | None
) -> tuple[Loaded, np.ndarray | None]:
    """Return the model's weights in a network of another input size, and crops of that size."""
    pre = loaded.card.preprocessing
    if size is None or size == pre.size:
        return loaded, crops
    import keras

    from ..models import check_size

    check_size(loaded.model, size)
    inputs = keras.Input((*size, pre.channels), name="image")
    model = keras.models.clone_model(loaded.model, input_tensors=inputs)
    model.set_weights(loaded.model.get_weights())
    resized = Loaded(model, replace(loaded.card, preprocessing=replace(pre, size=size)))
    if crops is None:
        return resized, None
    scaled = replace(pre, fit="resize", size=size)
    cut = (middle(crop, size) if pre.fit == "crop" else scaled.place(*pre.size).image(crop) for crop in crops)
    return resized, np.stack(list(cut))
