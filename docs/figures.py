"""Draws the figures of the guide, from the networks and functions themselves: `python docs/figures.py`.

`unet_2015.svg` has the shapes that the layers of the built network have, `residual_blocks.svg` the layers of the built
blocks in their order, `border_weights.png` is `border_weight_map` of a drawn picture, `tiles.svg` is `ramp` and
`exact_cores`, and `rounding.svg` is int8 rounding of a sine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DARK, BLUE, PALE, RED, GREEN, ORANGE, GREY = (
    *("#263238", "#00796b", "#b2dfdb", "#c62828", "#2e7d32", "#ef6c00", "#90a4ae"),
)
ARROW = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}


def save(figure: Any, folder: Path, name: str) -> None:
    """Write a figure; one of the same bytes if nothing changed."""
    known = {"Date": None} if name.endswith(".svg") else {"Software": None}
    figure.savefig(folder / name, metadata=known, dpi=150, bbox_inches="tight", pad_inches=0.05, facecolor="white")
    plt.close(figure)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """Draw an arrow from one point to another."""
    axes.add_patch(FancyArrowPatch(start, end, color=color, **ARROW))


def unet_2015(folder: Path) -> None:
    """Draw figure 1 of Ronneberger 2015, every size and number of channels read off the layers."""
    from keras_unetres.models import build_unet

    model = build_unet((572, 572, 1), 2, padding="valid", norm=None, dropout=0.5, head_activation="softmax")

    def shape(name: str) -> tuple[int, int]:
        """Return (side, channels) of what a layer gives."""
        _, side, _, channels = model.get_layer(name).output.shape
        return side, channels

    figure, axes = plt.subplots(figsize=(11, 7.2))
    axes.set_axis_off()
    tops = {1: 0.0, 2: -160.0, 3: -290.0, 4: -397.0, 5: -488.0}
    tall = {1: 110.0, 2: 80.0, 3: 58.0, 4: 42.0, 5: 32.0}

    def box(x: float, level: int, side: int, channels: int, *, skip: bool = False) -> tuple[float, float, float]:
        """Draw a map; returns its left and right edge and its middle height."""
        width, top = 6 + 2.2 * np.log2(channels + 1), tops[level]
        axes.add_patch(
            Rectangle((x, top - tall[level]), width, tall[level], fc="white" if skip else PALE, ec=BLUE, lw=1.2)
        )
        if not skip:
            axes.text(x + width / 2, top + 4, str(channels), ha="center", va="bottom", fontsize=8, color=DARK)
        axes.text(x + width / 2, top - tall[level] - 3, f"{side}²", ha="center", va="top", fontsize=7.5, color=GREY)
        return x, x + width, top - tall[level] / 2

    ends: dict[int, tuple[float, float, float]] = {}
    x = 0.0
    for level in range(1, 6):
        name = f"encoder{level}" if level < 5 else "bridge"
        first = "image" if level == 1 else f"encoder{level - 1}_pool"
        place = box(x, level, *shape(first))
        above = (place[0] + place[1]) / 2
        if level > 1:
            start = ends[level - 1]
            bottom = tops[level - 1] - tall[level - 1] - 14
            arrow(axes, ((start[0] + start[1]) / 2, bottom), (above, tops[level] + 16), RED)
        for part in (f"{name}_1_relu", f"{name}_out"):
            after = box(place[1] + 34, level, *shape(part))
            arrow(axes, (place[1], place[2]), (after[0], after[2]), DARK)
            place = after
        ends[level] = place
        x = place[0]
    place = ends[5]
    for level in range(4, 0, -1):
        step = f"decoder{level}"
        side, channels = shape(f"{step}_skip")
        _, kept = shape(f"{step}_crop")
        width, wide = (6 + 2.2 * np.log2(number + 1) for number in (channels - kept, kept))
        above = (place[0] + place[1]) / 2  # the up-convolution goes straight up
        left = box(above - width / 2 - wide, level, shape(f"{step}_crop")[0], kept, skip=True)
        axes.add_patch(Rectangle((left[1], tops[level] - tall[level]), width, tall[level], fc=PALE, ec=BLUE, lw=1.2))
        axes.text(left[1], tops[level] + 4, f"{kept} + {channels - kept}", ha="center", fontsize=8, color=DARK)
        arrow(
            axes,
            ((place[0] + place[1]) / 2, tops[level + 1] + 16),
            (left[1] + width / 2, tops[level] - tall[level] - 1),
            GREEN,
        )
        arrow(axes, (ends[level][1], ends[level][2]), (left[0], left[2]), GREY)
        crop = (shape(f"encoder{level}_out")[0] - side) // 2
        axes.text((ends[level][1] + left[0]) / 2, left[2] + 5, f"crop {crop} px", ha="center", fontsize=8, color=DARK)
        place = (left[0], left[1] + width, left[2])
        for part in (f"{step}_1_relu", f"{step}_out"):
            after = box(place[1] + 34, level, *shape(part))
            arrow(axes, (place[1], place[2]), (after[0], after[2]), DARK)
            place = after
    last = box(place[1] + 34, 1, *(model.output.shape[1], model.output.shape[3]))
    arrow(axes, (place[1], place[2]), (last[0], last[2]), ORANGE)
    axes.text(0, 28, "image", fontsize=9, color=DARK)
    axes.text(last[1], 28, "scores", fontsize=9, color=DARK, ha="right")
    legend = (
        (DARK, "convolution 3x3, ReLU"),
        (GREY, "copy and crop"),
        (RED, "max pooling 2x2"),
        (GREEN, "up-convolution 2x2"),
        (ORANGE, "convolution 1x1"),
    )
    for row, (color, text) in enumerate(legend):
        height = -440.0 - 18 * row
        arrow(axes, (0, height), (28, height), color)
        axes.text(36, height, text, va="center", fontsize=9, color=DARK)
    axes.set_xlim(-18, last[1] + 10)
    axes.set_ylim(-540, 45)
    save(figure, folder, "unet_2015.svg")


def residual_blocks(folder: Path) -> None:
    """Draw blocks of He 2015 figures 2 and 5 and of He 2016 figure 4, their layers in the order of the built graph."""
    from keras_unetres.models import build_resnet

    kinds = (
        ("v1, two convolutions", build_resnet(18, variant="v1"), "stage1_block1"),
        ("v1, bottleneck", build_resnet(50, variant="v1"), "stage1_block2"),
        ("v2, pre-activation", build_resnet(50, variant="v2"), "stage1_block2"),
    )
    figure, every = plt.subplots(1, 3, figsize=(11, 5.6))
    for axes, (title, model, block) in zip(every, kinds, strict=True):
        axes.set_axis_off()
        axes.set_title(title, fontsize=11, color=DARK)
        steps = [layer for layer in model.layers if layer.name.startswith(f"{block}_")]
        joint = next(layer for layer in steps if type(layer).__name__ == "Add")
        high = 0.0
        for layer in steps:
            text, color = step_text(layer)
            if layer is joint:
                axes.plot(0.5, high - 0.3, "o", ms=19, mfc="white", mec=DARK, mew=1.3)
                axes.text(0.5, high - 0.32, "+", ha="center", va="center", fontsize=14, color=DARK, zorder=5)
                sum_at = high - 0.3
            else:
                axes.add_patch(
                    FancyBboxPatch((-0.05, high - 0.5), 1.1, 0.4, boxstyle="round,pad=0.02", fc=color, ec=DARK, lw=0.8)
                )
                axes.text(0.5, high - 0.3, text, ha="center", va="center", fontsize=8, color=DARK)
            arrow(axes, (0.5, high + 0.2), (0.5, high - 0.06), DARK)
            high -= 0.75
        arrow(axes, (0.5, high + 0.2), (0.5, high - 0.1), DARK)
        axes.plot([0.5, 1.35, 1.35], [0.12, 0.12, sum_at], color=BLUE, lw=1.6)
        arrow(axes, (1.35, sum_at), (0.62, sum_at), BLUE)
        axes.text(1.4, sum_at / 2, "x, unchanged", rotation=90, va="center", fontsize=9, color=BLUE)
        axes.text(0.5, 0.24, "x", ha="center", va="bottom", fontsize=10, color=DARK)
        axes.set_xlim(-0.15, 1.6)
        axes.set_ylim(-8.1, 0.5)
        axes.set_aspect("auto")
    save(figure, folder, "residual_blocks.svg")


def step_text(layer: Any) -> tuple[str, str]:
    """Return what a layer is called in a figure, and its colour."""
    kind = type(layer).__name__
    if kind == "Conv2D":
        return f"convolution {layer.kernel_size[0]}x{layer.kernel_size[1]}, {layer.filters}", PALE
    return {"BatchNormalization": ("batch normalisation", "#fff3e0"), "ReLU": ("ReLU", "#ffebee")}.get(
        kind, (kind, "white")
    )


def border_weights(folder: Path) -> None:
    """Draw the weights of eq. 2 of a drawn picture, as figure 3 of Ronneberger 2015 does."""
    from keras_unetres.data.synthetic import make_cells
    from keras_unetres.data.targets import border_weight_map, separated

    cells = make_cells(3, size=(192, 192))
    parted = separated(cells.instances)
    weights = border_weight_map(cells.instances, w0=10.0, sigma=5.0)
    figure, every = plt.subplots(1, 4, figsize=(12, 3.4), layout="compressed")
    colors = np.vstack([[0.1, 0.13, 0.15], np.random.default_rng(4).uniform(0.35, 1, (cells.instances.max(), 3))])
    for axes, picture, title, how in zip(
        every,
        (cells.image, colors[cells.instances], parted, weights),
        ("image", "objects", "classes, objects parted", "weight of each pixel"),
        ({"cmap": "gray"}, {}, {"cmap": "gray", "interpolation": "nearest"}, {"cmap": "magma", "vmin": 1}),
        strict=True,
    ):
        shown = axes.imshow(picture, **how)
        axes.set_title(title, fontsize=11, color=DARK)
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(shown, ax=every, fraction=0.046, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    save(figure, folder, "border_weights.png")


def tiles(folder: Path) -> None:
    """Draw tiles along one axis: the weights of "blend", and what "exact" keeps of each."""
    from unetres_edge.segment.tiles import exact_cores, ramp, tile_origins

    length, tile, overlap, halo, stride = 640, 256, 64, 92, 16
    figure, (top, low) = plt.subplots(2, 1, figsize=(10, 4.6), height_ratios=(1, 1.15), sharex=True)
    for number, origin in enumerate(tile_origins(length, tile, overlap)):
        top.plot(np.arange(tile) + origin, ramp(tile, overlap), color=(BLUE, RED, ORANGE)[number % 3], lw=2)
        top.fill_between(
            np.arange(tile) + origin, ramp(tile, overlap), color=(BLUE, RED, ORANGE)[number % 3], alpha=0.1
        )
    top.set_title(f'"blend": weights of tiles of {tile} px that share {overlap} px', fontsize=11, color=DARK)
    top.set_ylim(0, 1.1)
    top.set_ylabel("weight")
    cores = exact_cores(length, tile, halo, stride)
    for number, core in enumerate(cores):
        low.add_patch(Rectangle((core.origin, number), tile, 0.8, fc="white", ec=GREY, lw=1))
        low.add_patch(Rectangle((core.first, number), core.end - core.first, 0.8, fc=PALE, ec=BLUE, lw=1))
    low.set_ylim(len(cores) + 0.2, -0.4)
    low.set_yticks([])
    low.set_title(
        f'"exact": of each tile, what lies {halo} px (the halo) from its inner borders', fontsize=11, color=DARK
    )
    low.set_xlabel("px along the image")
    low.set_xlim(0, length)
    for axes in (top, low):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(figure, folder, "tiles.svg")


def rounding(folder: Path) -> None:
    """Draw a curve, what 16 steps make of it, and the error, to show scale and zero point."""
    low, high, steps = -1.0, 3.0, 15
    scale = (high - low) / steps
    zero = round(-low / scale)
    x = np.linspace(0, 2 * np.pi, 400)
    value = 1 + 2.2 * np.sin(x)
    code = np.clip(np.round(value / scale) + zero, 0, steps)
    again = (code - zero) * scale
    figure, axes = plt.subplots(figsize=(9, 3.6))
    axes.plot(x, value, color=GREY, lw=2, label="value")
    axes.plot(x, again, color=BLUE, lw=1.6, label="scale * (code - zero point)")
    axes.axhspan(high, 3.6, color=RED, alpha=0.08, lw=0)
    axes.axhspan(-1.6, low, color=RED, alpha=0.08, lw=0)
    axes.text(0.1, 3.2, "outside of the range: clipped", fontsize=9, color=RED)
    axes.set_ylim(-1.6, 3.6)
    axes.set_xlim(0, 2 * np.pi)
    axes.set_xticks([])
    axes.set_ylabel("value")
    codes = axes.secondary_yaxis("right", functions=(lambda v: v / scale + zero, lambda c: (c - zero) * scale))
    codes.set_ylabel("code")
    codes.set_yticks(np.arange(0, steps + 1, 3))
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    axes.set_title(
        f"range {low:g} to {high:g} in 16 codes: scale {scale:.3f}, zero point {zero}", fontsize=11, color=DARK
    )
    save(figure, folder, "rounding.svg")


FIGURES = (unet_2015, residual_blocks, border_weights, tiles, rounding)


def main(folder: Path) -> None:
    """Draw all figures into a folder."""
    matplotlib.rcParams["svg.hashsalt"] = "keras-unetres"
    matplotlib.rcParams["text.color"] = matplotlib.rcParams["axes.labelcolor"] = DARK
    for draw in FIGURES:
        draw(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "concepts")
