"""`unetres export`: from a run folder or a `.keras` file to a sealed `.tflite`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import ExistsError, FileSystemError, UsageError
from unetres_edge.preprocessing import look_up
from unetres_edge.tiles import pad_to_tile

from ..runs import RunFolder
from .loading import Loaded, load_keras, load_run, refuse_for_own


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str = "float32",
    head: str = "logits",
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    preprocessing: Preprocessing | None = None,
    classes: list[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, object]:
    """Write a `.tflite` from a run folder, or from a `.keras` file with its preprocessing.

    Args:
        source: run folder or `.keras` file.
        out: the `.tflite` to write.
        recipe: "float32" or "static_wi8_ai8".
        head: "logits" or "argmax".
        size: (height, width) of the exported tile in px; None for the size it was trained with.
        overwrite: replace an earlier file.
        preprocessing: for `.keras` files: how images meet the network.
        classes: for `.keras` files: class names.
        calibration: for `.keras` files: a folder of images.

    Returns:
        "path", "kb", "recipe", "agreement" (share of labels equal to Keras on calibration images), "ops".

    Raises:
        UnetresError: as `export_tflite`, and ExistsError for a file that is there already.
    """
    from ..export import export_tflite, find_recipe

    chosen = find_recipe(recipe)
    refuse_for_own(source, preprocessing=preprocessing, classes=classes, calibration=calibration)
    _check_out(out, overwrite)
    if RunFolder.is_run(source):
        loaded = load_run(source)
        crops: np.ndarray | None = RunFolder(source).read_calibration() if chosen.quantized else None
    else:
        loaded = load_keras(source, preprocessing, classes)
        crops = _image_crops(calibration, loaded.card.preprocessing) if chosen.quantized else None
    if size is not None and size != loaded.card.preprocessing.size:
        loaded, crops = _resize(loaded, crops, size)
    pre = loaded.card.preprocessing
    say(f"converting to {recipe} at {pre.size[0]} x {pre.size[1]} ...")
    done = export_tflite(
        loaded.model,
        out,
        recipe=recipe,
        preprocessing=pre,
        calibration=None if crops is None else look_up(pre.table(), crops),
        head=head,
        card=loaded.card,
    )
    shown = "noise" if crops is None else "calibration images"
    say(
        f"wrote {done.path}: {done.num_bytes / 1000:.0f} kB, {len(done.ops)} ops, "
        f"{100 * done.agreement:.3f} % of labels as Keras on {shown}"
    )
    return {
        "path": done.path,
        "kb": round(done.num_bytes / 1000, 1),
        "recipe": recipe,
        "agreement": done.agreement,
        "ops": len(done.ops),
    }


def _check_out(out: str | os.PathLike[str], overwrite: bool) -> None:
    path = Path(out)
    if path.suffix != ".tflite":
        raise UsageError("the output is not a .tflite", file=out, expected="a name ending in .tflite")
    if path.is_dir() or (path.exists() and not overwrite):
        raise ExistsError("the output exists already", file=out, fix="pass --overwrite, or another --out")
    if not path.parent.is_dir():
        raise FileSystemError("the folder does not exist", file=path.parent)


def _image_crops(folder: str | os.PathLike[str] | None, pre: Preprocessing) -> np.ndarray:
    """Return middle crops (N, h, w, C) uint8 of the images in a folder."""
    from unetres_edge.image import read_image
    from unetres_edge.predict import find_images

    if folder is None:
        raise UsageError("the recipe needs calibration images", fix="pass --calibration FOLDER of training images")
    crops = []
    for path in find_images([folder])[:256]:
        image = pre.prepare(read_image(path))
        if pre.fit != "crop":
            crops.append(pre.place(*image.shape[:2]).image(image))
            continue
        crops.append(_recut(image, pre.size))
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
    cut = (_recut(crop, size) if pre.fit == "crop" else scaled.place(*pre.size).image(crop) for crop in crops)
    return Loaded(model, card), np.stack(list(cut))


def _recut(crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle of a crop (h, w, C) at another size, mirrored outwards where it is too small."""
    crop = pad_to_tile(crop, size)
    y, x = ((n - t) // 2 for n, t in zip(crop.shape[:2], size, strict=True))
    return crop[y : y + size[0], x : x + size[1]]
