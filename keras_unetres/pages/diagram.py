"""A network as a picture: its feature maps as boxes, in the U of Ronneberger 2015 or in the row of He 2015.

A box is as high as the square root of its map's height and as wide as the logarithm of its channels. What it shows is
read from the layers of the built model, by their names.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import UsageError
from unetres_edge.terminal import counted

if TYPE_CHECKING:
    import keras

FORMATS = ("png", "svg", "pdf")

_COLORS = {
    "image": "#d9d9d9",
    "encoder": "#9ecae1",
    "decoder": "#a1d99b",
    "head": "#fdae6b",
    "copy": "#f0f0f0",
}
_ARROWS = {
    "convolution": "#555555",
    "down": "#cb181d",
    "up": "#238b45",
    "copy": "#999999",
    "shortcut": "#2171b5",
}
_BOX = re.compile(
    r"image|(?:encoder\d+|bridge|decoder\d+)_(?:1_relu|out|skip)|stem_out|stage\d+_(?:block\d+_(?:relu|add|project_norm)|out)"
    r"|head_(?:relu|pool|logits|resize)"
)
_HEIGHT, _GAP, _ROW_GAP = 2.6, 0.42, 0.8


@dataclass
class _Box:
    """A feature map on the page: left edge `x`, middle `y`."""

    name: str
    channels: int
    size: int
    width: float
    height: float
    color: str
    x: float = 0.0
    y: float = 0.0
    copied: float = 0.0  # share of the width that came over a skip

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def top(self) -> float:
        return self.y + self.height / 2


def draw_network(model: keras.Model, path: str = "network.png") -> bytes:
    """Return a picture of a network of this package, in the format that the path's ending names.

    Args:
        model: made by one of the builders, with a fixed input size.
        path: ends in .png, .svg or .pdf.

    Raises:
        UsageError: another ending.
    """
    from matplotlib.figure import Figure

    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise UsageError("the picture's format is unknown", file=path, expected=" or ".join(f".{f}" for f in FORMATS))
    boxes = _boxes(model)
    is_u = any(box.name.startswith("decoder") for box in boxes)
    _place(boxes, is_u)
    left, right = -0.9, max(box.right for box in boxes) + 0.9
    bottom, top = min(b.y - b.height / 2 for b in boxes) - 1.4, max(b.top for b in boxes) + 1.4
    scale = min(1.0, 15 / (right - left))  # inches
    figure = Figure(figsize=((right - left) * scale, (top - bottom) * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.axis("off")
    font = 9 * max(scale, 0.75)
    _draw_shortcuts(axes, boxes, {layer.name for layer in model.layers})
    _draw_arrows(axes, boxes, is_u)
    for box in boxes:
        _draw_box(axes, box)
    _label(axes, boxes, font, is_u)
    shown = "x".join(map(str, model.input_shape[1:]))
    title = f"{model.name}   input {shown}   {model.count_params() / 1e6:.2f} M parameters"
    axes.text((left + right) / 2, top - 0.35, title, ha="center", va="center", fontsize=font + 3, weight="bold")
    residual = any(layer.name.endswith("_add") for layer in model.layers)
    _legend(axes, boxes, (left + 0.4, bottom + 0.4), font, residual)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, dpi=130)
    return buffer.getvalue()


def _boxes(model: keras.Model) -> list[_Box]:
    """Return a box for every map worth showing, in the order of the graph."""
    names = {layer.name for layer in model.layers}
    full = max(model.input_shape[1:3])
    boxes = []
    for layer in model.layers:
        if not _BOX.fullmatch(layer.name) or not _ends_block(layer.name, names):
            continue
        shape = layer.output.shape
        size = shape[1] if len(shape) == 4 else 1
        kind = next((k for k in ("image", "decoder", "head") if layer.name.startswith(k)), "encoder")
        narrow = 0.55 if "block" in layer.name or layer.name.startswith("stage") else 1.0
        box = _Box(
            layer.name,
            shape[-1],
            size,
            width=narrow * (0.12 + 0.075 * math.log2(shape[-1])),
            height=_HEIGHT * max(0.14, math.sqrt(size / full)),
            color=_COLORS[kind],
        )
        if layer.name.endswith("_skip"):
            box.copied = layer.input[0].shape[-1] / shape[-1]
        boxes.append(box)
    return boxes


def _ends_block(name: str, names: set[str]) -> bool:
    """Return whether a layer is the last of its block, or of no block.

    A pre-activation block ends with its sum, an inverted one with that or with its last norm, any other with the ReLU
    behind the sum.
    """
    if name.endswith("_project_norm"):
        return name.replace("_project_norm", "_add") not in names
    sums = "stage1_out_norm" in names or "stage1_block1_project_norm" in names
    if name.startswith("stage") and name.endswith("_out"):
        return not sums
    return sums or not name.endswith("_add")


def _rows(boxes: list[_Box]) -> list[int]:
    """Return the row of each box in a U, 0 for the finest maps."""
    rows: list[int] = []
    for box in boxes:
        level = re.match(r"(?:encoder|decoder)(\d+)", box.name)
        if level:
            rows.append(int(level.group(1)) - 1)
        elif box.name.startswith("head"):
            rows.append(rows[-1])
        elif box.name.startswith("bridge"):
            rows.append(max(row for row, b in zip(rows, boxes, strict=False) if b.name.startswith("encoder")) + 1)
        else:
            rows.append(round(math.log2(boxes[0].size / box.size)))
    return rows


def _place(boxes: list[_Box], is_u: bool) -> None:
    """Set the positions: levels below each other for a U, else all in one row."""
    rows = _rows(boxes) if is_u else [0] * len(boxes)
    heights = [max((b.height for b, r in zip(boxes, rows, strict=True) if r == row), default=0) for row in range(9)]
    middles = [0.0]
    for above, below in zip(heights, heights[1:], strict=False):
        middles.append(middles[-1] - above / 2 - below / 2 - (_ROW_GAP if below else 0))
    x = 0.0
    for index, (box, row) in enumerate(zip(boxes, rows, strict=True)):
        if index:
            x = boxes[index - 1].right + _gap(boxes[index - 1], box)
        box.x, box.y = x, middles[row]


def _gap(before: _Box, after: _Box) -> float:
    stages = [re.match(r"stage\d+", box.name) for box in (before, after)]
    inside = stages[0] and stages[1] and stages[0].group() == stages[1].group()
    return 0.16 if inside else _GAP


def _draw_box(axes: Any, box: _Box) -> None:
    """Draw a box with a little depth, so that neighbours stay apart."""
    from matplotlib.patches import Polygon, Rectangle

    bottom, depth = box.y - box.height / 2, 0.07
    style: dict[str, Any] = {"ec": "#333333", "lw": 0.6, "joinstyle": "round", "zorder": 3}
    face = [(box.x, box.top), (box.x + depth, box.top + depth), (box.right + depth, box.top + depth)]
    axes.add_patch(Polygon([*face, (box.right, box.top)], fc=box.color, alpha=1.0, **style))
    side = [(box.right, box.top), (box.right + depth, box.top + depth), (box.right + depth, bottom + depth)]
    axes.add_patch(Polygon([*side, (box.right, bottom)], fc=_darker(box.color), **style))
    axes.add_patch(Rectangle((box.x, bottom), box.width, box.height, fc=box.color, **style))
    if box.copied:
        axes.add_patch(Rectangle((box.x, bottom), box.width * box.copied, box.height, fc=_COLORS["copy"], **style))


def _darker(color: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.82 * part for part in to_rgb(color))


def _draw_arrows(axes: Any, boxes: list[_Box], is_u: bool) -> None:
    for before, after in zip(boxes, boxes[1:], strict=False):
        finer = after.size > before.size * 1.2
        kind = "up" if finer else "down" if after.size < before.size * 0.6 else "convolution"
        start, end = (before.right + 0.07, before.y), (after.x, after.y)
        if is_u and kind == "down":
            start, end = (before.x + before.width / 2, before.y - before.height / 2), (after.x, after.y)
        elif is_u and kind == "up":
            end = (after.x + after.width / 2, after.y - after.height / 2)
        _arrow(axes, start, end, _ARROWS[kind], bend=is_u and kind != "convolution", first_down=kind == "down")
    for box in boxes:
        if box.copied:
            source = _skip_source(box, boxes)
            _arrow(axes, (source.right + 0.07, box.y), (box.x, box.y), _ARROWS["copy"], width=2.2)


def _skip_source(box: _Box, boxes: list[_Box]) -> _Box:
    """Return the map of the contracting path on the row of a concatenation."""
    before = [b for b in boxes[: boxes.index(box)] if b.y == box.y and not b.name.startswith("decoder")]
    return before[-1]


def _arrow(
    axes: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    *,
    width: float = 1.2,
    bend: bool = False,
    first_down: bool = False,
) -> None:
    style = f"angle,angleA={-90 if first_down else 0},angleB={180 if first_down else 90},rad=4" if bend else "arc3"
    arrow: dict[str, Any] = {"arrowstyle": "-|>,head_width=0.22,head_length=0.4", "color": color, "lw": width}
    arrow |= {"connectionstyle": style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=2)


def _draw_shortcuts(axes: Any, boxes: list[_Box], names: set[str]) -> None:
    """Draw an arc over every residual block: dashed where the shortcut changes size or channels."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    for before, after in zip(boxes, boxes[1:], strict=False):
        block = _block_of(after, names)
        if block is None or f"{block}_add" not in names:
            continue
        changed = any(f"{block}_shortcut_{part}" in names for part in ("conv", "pool", "widen"))
        lift = 0.09
        if "block" not in block:  # two convolutions that are both drawn, with their channels above them
            lift = 0.38
            before, first = boxes[boxes.index(after) - 2], boxes[boxes.index(after) - 1]
        else:
            first = after
        end = (after.x + after.width / 2, after.top + lift)
        start = (before.x + before.width / 2, before.top + lift)
        if before.y != after.y:  # from the row above, along the arrow
            start = (first.x - 0.3, first.y)
        over = max(start[1], end[1]) + min(0.75, 0.3 + 0.35 * (end[0] - start[0]))
        curve = Curve([start, (start[0], over), (end[0], over), end], [Curve.MOVETO, *[Curve.CURVE4] * 3])
        style: Any = (0, (2.5, 1.5)) if changed else "-"
        axes.add_patch(PathPatch(curve, fc="none", ec=_ARROWS["shortcut"], lw=1.2, ls=style, zorder=4))


def _block_of(box: _Box, names: set[str]) -> str | None:
    """Return the name of the residual block that a map ends, if it can be one."""
    block = re.fullmatch(r"(stage\d+_block\d+)_(?:relu|add)", box.name)
    if block:
        return block.group(1)
    stage = re.fullmatch(r"(stage\d+)_out", box.name)
    if stage:
        numbers = [int(m.group(1)) for n in names if (m := re.match(rf"{stage.group(1)}_block(\d+)_", n))]
        return f"{stage.group(1)}_block{max(numbers)}"
    match = re.fullmatch(r"((?:encoder|decoder)\d+|bridge)_out", box.name)
    return match.group(1) if match else None


def _label(axes: Any, boxes: list[_Box], font: float, is_u: bool) -> None:
    """Write the channels above each box, where they change, and the size at its foot, where it does."""
    arcs = any(box.name.startswith("stage") for box in boxes)
    for index, box in enumerate(boxes):
        before = boxes[index - 1] if index else None
        stage = re.match(r"stage\d+", box.name)
        fresh = before is None or not stage or not before.name.startswith(stage.group())
        middle, foot = box.x + box.width / 2, box.y - box.height / 2
        if fresh:
            lift = 0.66 if arcs and (stage or box.name == "stem_out") else 0.13
            axes.text(middle + 0.05, box.top + lift, str(box.channels), ha="center", va="bottom", fontsize=font)
        if before is None or before.size != box.size:
            size = f"{box.size}²" if box.size > 1 else "pooled"
            if is_u:
                axes.text(box.x - 0.05, foot, size, ha="right", va="bottom", rotation=90, fontsize=font - 1)
            else:
                axes.text(middle, foot - 0.1, size, ha="center", va="top", fontsize=font - 1)
        if stage and fresh:
            inside = [b for b in boxes if b.name.startswith(stage.group())]
            text = f"{stage.group().replace('stage', 'stage ')}: {counted(len(inside), 'block')}"
            low = foot - (0.1 if is_u else 0.5)
            axes.text((box.x + inside[-1].right) / 2, low, text, ha="center", va="top", fontsize=font - 1)


def _legend(axes: Any, boxes: list[_Box], corner: tuple[float, float], font: float, residual: bool) -> None:
    x, y = corner
    entries = [("convolution", "convolutions"), ("down", "half size")]
    entries += [("up", "up-sampling")] if any(b.name.startswith(("decoder", "head_resize")) for b in boxes) else []
    entries += [("copy", "copied features")] if any(b.copied for b in boxes) else []
    entries += [("shortcut", "shortcut (dashed: projected or widened)")] if residual else []
    for kind, text in entries:
        if kind == "shortcut":
            axes.plot([x, x + 0.4], [y, y], color=_ARROWS[kind], lw=1.2)
        else:
            _arrow(axes, (x, y), (x + 0.45, y), _ARROWS[kind], width=2.2 if kind == "copy" else 1.2)
        axes.text(x + 0.55, y, text, va="center", fontsize=font)
        x += 1.1 + 0.013 * len(text) * font
