"""What is exported: a run folder, a `.keras` file or a model in memory, with its card and its calibration images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import ModelError, UnetresError, UsageError
from unetres_edge.images.preprocessing import look_up

from ..data.calibration import collect_calibration
from ..runs import RunFolder, RunInfo
from ..tasks.loading import IN_MEMORY, load_run, name_of, open_own
from ..tasks.task import Loaded
from ..verify.proof import middle

if TYPE_CHECKING:
    import keras

_MOST_CROPS = 256


@dataclass(frozen=True)
class Source:
    """The model that is exported, with its card and its calibration images.

    Args:
        name: absolute path of the run folder or `.keras` file, or what stands for a model in memory.
        in_memory: whether it is a model in memory.
        loaded: the model and its card.
        info: content of `run.json`, or None.
        crops: calibration images (N, h, w, C) uint8, before normalisation; None without, or of a model in memory that
            has its own.
        calibration: calibration images as the model sees them, or None.
        calibration_from: words for where the calibration images come from.
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
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Source:
    """Load the model that is exported.

    Args:
        source, preprocessing, classes, calibration, size, output, custom_objects: as for `keras_unetres.export`.
        calibrates: whether the recipe needs calibration images.

    Raises:
        UsageError: something is missing, or does not fit the model.
        ModelError, RunFolderError: it cannot be loaded.
    """
    in_memory = not isinstance(source, (str, os.PathLike))
    name, info = IN_MEMORY if in_memory else os.path.abspath(source), None
    if not in_memory and RunFolder.is_run(source):
        run = RunFolder(source)
        loaded, info = load_run(source), run.read_info()
        crops, made_from = run.read_calibration() if calibrates else None, "training images kept by the run"
        loaded, crops = _at_size(loaded, crops, size)
        return Source(name, False, loaded, info, crops, _seen(loaded, crops), made_from)
    opened = open_own(source, preprocessing, classes, output=output, custom_objects=custom_objects)
    if not isinstance(opened, Loaded):
        if not in_memory and not Path(source).exists():
            raise ModelError("no such model file", file=name_of(source))
        raise UsageError(
            "only a run or a Keras model can be exported",
            file=name_of(source),
            expected="a run folder, a .keras file or a keras.Model",
            fix="name the model that the file was made of" if Path(name).suffix == ".tflite" else None,
        )
    return _of_model(name, in_memory, opened, calibration, size, calibrates)


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


def _of_model(
    name: str, in_memory: bool, loaded: Loaded, calibration: Any, size: tuple[int, int] | None, calibrates: bool
) -> Source:
    pre = loaded.card.preprocessing
    if calibration is None or isinstance(calibration, (str, os.PathLike)):
        wanted = calibrates and (calibration is not None or not in_memory)
        crops = _folder_crops(calibration, pre) if wanted else None
        loaded, crops = _at_size(loaded, crops, size)
        return Source(name, in_memory, loaded, None, crops, _seen(loaded, crops), "images of a folder")
    if calibrates and isinstance(calibration, Iterator):  # which can be read once
        calibration = collect_calibration(calibration, pre)
    if size is not None and tuple(size) != pre.size:
        raise UsageError("calibration images are of another size", expected=size, found=pre.size)
    return Source(name, in_memory, loaded, None, None, calibration, "images that the caller gave")


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
