"""Pictures of what a model does: image, truth and predictions side by side, and how they come about."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unetres_edge.files import make_folder, write_bytes
from unetres_edge.images.bands import bands
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.images.view import to_view
from unetres_edge.results import draw
from unetres_edge.results.draw import Color

from ..runs.search import Tried

_FRAMES = 8
_FRAME = 256  # px; height of a frame


def overlay(
    image: np.ndarray, class_map: np.ndarray, colors: Sequence[Color], background: int, show: Sequence[int] = ()
) -> np.ndarray:
    """Return an image with all classes but the background laid over it, (h, w, 3) uint8, at most 256 px high."""
    height, width = class_map.shape
    thin = thinned(height, _FRAME)
    picture = draw.overlay(to_view(image[thin], show), class_map[thin], colors, background=background)
    size = (max(1, round(width * _FRAME / height)), _FRAME)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX)) if height > _FRAME else picture


def thinned(side: int, shown: int) -> tuple[slice, slice]:
    """Return the rows and columns to take of an image, so that one of many pixels is drawn from a part of them.

    Args:
        side: side of the image, px.
        shown: the same side of the picture, px; twice as many are left at least, for whoever makes it small.
    """
    every = slice(None, None, max(1, side // (2 * shown)))
    return every, every


class Filmstrip:
    """One sample's prediction at up to eight epochs, side by side: `progress.png` in a folder.

    The epochs are spread so that each is about the same factor later than the one before, as a network learns most at
    first. The frames are kept in `epochs/`, from which a resumed run goes on; those of epochs that it goes through
    once more are replaced.

    Args:
        folder: folder that the pictures go to.
        name: name of the sample.
        truth: (h, w, 3) uint8, the first picture of the strip.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, truth: np.ndarray) -> None:
        self._folder, self._name, self._truth = Path(folder), name, truth

    def add(self, epoch: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Add the frame of an epoch, counted from 1, out of the pictures of all samples."""
        frames = make_folder(self._folder / "epochs")
        write_bytes(frames / f"{epoch:06}.png", draw.encode_png(pictures[self._name]))
        epochs = sorted(int(path.stem) for path in frames.glob("*.png") if re.fullmatch("[0-9]{1,12}", path.stem))
        kept = spread([e for e in epochs if e <= epoch], _FRAMES)
        for gone in set(epochs) - set(kept):
            (frames / f"{gone:06}.png").unlink(missing_ok=True)
        shown = {"truth": self._truth}
        for e in kept:
            with contextlib.suppress(OSError), Image.open(frames / f"{e:06}.png", formats=("PNG",)) as image:
                shown[f"epoch {e}"] = np.asarray(image.convert("RGB"))
        strip = draw.panels(list(shown.values()), list(shown), height=len(self._truth))
        write_bytes(self._folder / "progress.png", draw.encode_png(strip))


def spread(epochs: Sequence[int], most: int) -> list[int]:
    """Return at most so many of some epochs, the first and the last among them, spread evenly over their logarithm."""
    kept = sorted(epochs)
    while len(kept) > most:
        gaps = [math.log(after / before) for before, after in zip(kept, kept[2:], strict=False)]
        del kept[1 + gaps.index(min(gaps))]
    return kept


def sample_sheet(
    image: np.ndarray,
    mask: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    colors: Sequence[Color],
    *,
    background: int = 0,
    show: Sequence[int] = (),
    height: int = 256,
) -> np.ndarray:
    """Return image | truth | one overlay a prediction | wrong pixels of the first, as (H, W, 3) uint8.

    Args:
        image: as `read_image` gives it.
        mask: (H, W) uint8 class ids with `IGNORE`.
        predictions: title -> class map, (H, W) uint8; one or more.
        colors: colours of the classes.
        background: the class that is not drawn.
        show: the channels that are shown, see `to_view`.
        height: height of each panel in px.
    """
    thin = thinned(len(mask), height)
    view = to_view(image[thin], show)
    maps = (mask, *predictions.values())
    pictures = [view, *(draw.overlay(view, ids[thin], colors, background=background) for ids in maps)]
    title, first = next(iter(predictions.items()))
    pictures.append(np.where(_wrong(first[thin], mask[thin])[..., None], np.array([255, 0, 0], np.uint8), view // 2))
    share = sum(np.count_nonzero(_wrong(first[rows], mask[rows])) for rows in bands(mask.shape)) / mask.size
    titles = ["image", "truth", *predictions, f"wrong, {title}: {100 * share:.1f} %"]
    return draw.panels(pictures, titles, height=height)


def _wrong(class_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return where a class map is wrong, (H, W) bool; where nothing is labelled it is not."""
    return (class_map != mask) & (mask != IGNORE)


def search_picture(candidates: Sequence[Tried], best: str) -> bytes:
    """Return a PNG of the networks that were compared: their score over the milliseconds of their files.

    Args:
        candidates: the networks; one that was not trained is left out.
        best: name of the one that was chosen.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = [(tried, tried.cost.ms or 0.0, tried.rungs[-1]) for tried in candidates if tried.rungs]
    middle = sum(ms for _, ms, _ in places) / max(1, len(places))
    for tried, ms, last in places:
        chosen = tried.name == best
        axes.plot(ms, last.score, "*" if chosen else "o", markersize=14 if chosen else 7)
        side, away = ("left", 7) if ms <= middle else ("right", -7)
        label = f"{tried.words}, after {last.share:.0%}"
        axes.annotate(label, (ms, last.score), xytext=(away, 5), textcoords="offset points", fontsize=8, ha=side)
    axes.set(title="networks compared", xlabel="ms of the int8 file, for a tile", ylabel="validation mIoU")
    axes.margins(x=0.3, y=0.15)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def curves(history: Sequence[Mapping[str, float]], score: str = "miou") -> bytes:
    """Return a PNG of loss and score by epoch.

    Args:
        history: one mapping an epoch, with "epoch", "loss", the score and, where validated, "val_loss" and the score
            with "val_" before it.
        score: name of the score in the history.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key, title in zip(
        figure.subplots(1, 2), ("loss", score), ("loss", {"miou": "mIoU"}.get(score, score)), strict=True
    ):
        for name, label in ((key, "training"), (f"val_{key}", "validation")):
            points = [(row["epoch"], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else "", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
