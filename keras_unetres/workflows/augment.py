"""`ku.augment` and `unetres augment`: a sheet of what augmentation makes of a data set, to be judged by eye."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import ExistsError, UsageError
from unetres_edge.files import check_output, write_bytes
from unetres_edge.results import draw
from unetres_edge.terminal import counted

from ..choices.arguments import checks_kinds
from ..settings import AugmentSettings

_ROWS = 5  # images
_CROPS = 5  # of each
_TIMED = 256  # crops
_TITLE = 20  # characters over a panel


@checks_kinds
def augment(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    augment: str = AugmentSettings.augment,
    preprocessing: Mapping[str, Any] | None = None,
    class_weights: str | None = None,
    border_weight: tuple[float, float] | None = None,
    seed: int = AugmentSettings.seed,
    reading: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Draw a contact sheet: training images with their masks, and random crops of each as training would see them.

    Args:
        data: data set, as `open_dataset` takes it.
        out: the .png to write.
        augment: a name of `AUGMENTATIONS`, or "auto": microscopy for grey images, street for colour.
        preprocessing: fields of `Preprocessing` that are not the defaults.
        class_weights: weights of the classes, as in `DataSettings`; with this or `border_weight`, the weights are
            drawn, too.
        border_weight: weight of the borders between objects, as in `DataSettings`.
        seed: seed of the random draws.
        reading: fields of `Reading` that differ from what the data set says.
        say: callback for lines to the user.

    Returns:
        "augment", "crops" drawn, and "crops_per_second" of the whole pipeline.

    Raises:
        DataError: the data set has faults.
        UsageError: the output is no .png.
    """
    check_output(out, ".png")
    from ..data import open_dataset, read_records

    dataset = open_dataset(data, changes=reading)
    if os.path.realpath(out) in {os.path.realpath(file) for sample in dataset.split("all") for file in sample.files}:
        raise ExistsError("an image or a mask of the data set is not replaced", file=out, fix="choose another --out")
    records = read_records(dataset, ["train"])["train"]
    from ..choices.augmentations import AUGMENTATIONS
    from ..choices.fitting import CLASS_WEIGHTS
    from ..data.pipeline import Order, draw_crop, training_batches
    from ..data.samples import Samples
    from ..data.weighting import Weighting

    channels = records.usual_channels
    name = ("microscopy" if channels == 1 else "street") if augment == "auto" else augment
    if name not in AUGMENTATIONS:
        raise UsageError("the augmentation is unknown", expected=", ".join(AUGMENTATIONS), found=name)
    pre = Preprocessing(**{"channels": channels, **(preprocessing or {})})
    samples = Samples(records, pre, weighting=Weighting(CLASS_WEIGHTS[class_weights or "equal"], border_weight))
    colors, background = samples.classes.colors, samples.classes.background
    rows = []
    shown = np.linspace(0, len(samples) - 1, min(_ROWS, len(samples))).astype(int).tolist()
    weights = [samples[index].weight for index in shown]
    heaviest = max((float(weight.max()) for weight in weights if weight is not None), default=1.0)
    for index in shown:
        prepared = samples[index]
        pictures = [_view(prepared.image)]
        pictures.append(draw.overlay(pictures[0], prepared.mask, colors, background=background))
        titles = [_short(samples.samples[index].name), "mask"]
        if prepared.weight is not None:
            pictures.append(_heat(prepared.weight / heaviest))
            titles.append(f"weights {prepared.weight.min():.3g} to {prepared.weight.max():.3g}")
        for crop in range(_CROPS):
            pixels, labels = draw_crop(samples, index, AUGMENTATIONS[name], (seed, index * _CROPS + crop))
            view = _view(_levels(pixels, pre))
            pictures.append(draw.overlay(view, labels, colors, background=background))
        rows.append(draw.panels(pictures, [*titles, *(f"crop {crop + 1}" for crop in range(_CROPS))], height=192))
    write_bytes(out, draw.encode_png(draw.stack(rows)))
    say(f"wrote     {out}: {counted(len(rows), 'image')}, {_CROPS} crops each, {name}")
    batches = training_batches(Order(samples, 8, seed), AUGMENTATIONS[name], last_step=1 << 40)
    stream = iter(batches)
    next(stream)
    start = time.perf_counter()
    for _ in range(_TIMED // 8):
        next(stream)
    speed = _TIMED / (time.perf_counter() - start)
    say(f"speed     {speed:.0f} crops of {pre.size[0]} x {pre.size[1]} a second, on {os.cpu_count()} processors")
    return {"augment": name, "crops": len(rows) * _CROPS, "crops_per_second": round(speed, 1)}


def _levels(pixels: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """Return network input (h, w, C) as uint8 levels."""
    low, high = pre.value_range
    values = (pixels * np.asarray(pre.std) + np.asarray(pre.mean) - low) / (high - low)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _heat(weight: np.ndarray) -> np.ndarray:
    """Return weights (H, W) from 0 to 1 as colours from dark to bright."""
    from matplotlib import colormaps

    return colormaps["inferno"](weight, bytes=True)[..., :3]


def _short(name: str) -> str:
    return name if len(name) <= _TITLE else name[: _TITLE - 3] + "..."


def _view(image: np.ndarray) -> np.ndarray:
    """Return (h, w, C) uint8 as RGB."""
    return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., :3]
