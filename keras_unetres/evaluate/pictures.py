"""Pictures of what a model does: image, truth and predictions side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from unetres_edge import draw
from unetres_edge.preprocessing import IGNORE, Preprocessing
from unetres_edge.segmenter import Segmenter


def sample_sheet(
    image: np.ndarray, mask: np.ndarray, segmenters: Mapping[str, Segmenter], *, height: int = 256
) -> np.ndarray:
    """Return image | truth | one overlay a segmenter | wrong pixels of the first, as (H, W, 3) uint8.

    Args:
        image: as `read_image` gives it.
        mask: (H, W) uint8 class ids with `IGNORE`.
        segmenters: title -> segmenter.
        height: of each panel in px.
    """
    view = Preprocessing(channels=3).prepare(image)
    colors = next(iter(segmenters.values())).card.class_colors
    pictures, titles = [view, draw.overlay(view, mask, colors)], ["image", "truth"]
    wrong = None
    for title, segmenter in segmenters.items():
        class_map = segmenter.segment(image).class_map
        if wrong is None:
            wrong = (class_map != mask) & (mask != IGNORE)
        pictures.append(draw.overlay(view, class_map, colors))
        titles.append(title)
    if wrong is not None:
        pictures.append(np.where(wrong[..., None], np.array([255, 0, 0], np.uint8), view // 2))
        titles.append(f"wrong, {titles[2]}: {100 * wrong.mean():.1f} %")
    return draw.panels(pictures, titles, height=height)


def curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Return a PNG of loss and mIoU by epoch.

    Args:
        history: one mapping an epoch, with "epoch", "loss", "miou" and, where validated, "val_loss" and "val_miou".
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key, title in zip(figure.subplots(1, 2), ("loss", "miou"), ("loss", "mIoU"), strict=True):
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
