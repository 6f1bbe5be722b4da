"""Charts as figures in pixels; the macros of `templates/charts.html.j2` draw them as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST_DOTS = 80
_BAR, _BARS = 16, 760  # px: the narrowest bar, and all of them where that leaves them wide enough


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        name: name for the legend.
        points: (epoch, value); what is not finite is left out.
        kind: class of the style: "first" or "second".
    """

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "first"

    def finite(self) -> list[tuple[float, float]]:
        """Return the points that can be drawn."""
        return [(x, y) for x, y in self.points if math.isfinite(x) and math.isfinite(y)]


@dataclass(frozen=True)
class Tick:
    """A place on an axis, px, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point of a line, px, and the text that a pointer over it shows."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class DrawnLine:
    """A line in px; `dots` is empty where they would be too many."""

    name: str
    kind: str
    path: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class LineChart:
    """Lines by epoch, in px.

    Args:
        title: title of the chart.
        values, epochs: ticks of the two axes.
        mark: a vertical line, or None.
        lines: lines that are drawn.
    """

    title: str
    values: tuple[Tick, ...]
    epochs: tuple[Tick, ...]
    mark: Tick | None
    lines: tuple[DrawnLine, ...]

    width, height = 340, 210
    left, right, top, bottom = 46, 12, 14, 28


def line_chart(title: str, lines: Sequence[Line], *, mark: float | None = None) -> LineChart | None:
    """Return a chart of lines by epoch, or None if there is no point.

    Args:
        mark: epoch at which a vertical line stands, or None.
    """
    drawn = [(line, points) for line in lines if (points := line.finite())]
    if not drawn:
        return None
    epochs = [x for _, points in drawn for x, _ in points] + ([] if mark is None else [mark])
    values = [y for _, points in drawn for _, y in points]
    ticks = nice_ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))
    first, last = min(epochs), max(epochs)
    size = LineChart

    def across(x: float) -> float:
        wide = size.width - size.left - size.right
        return size.left + wide * ((x - first) / (last - first) if last > first else 0.5)

    def up(y: float) -> float:
        return size.height - size.bottom - (size.height - size.top - size.bottom) * (y - low) / (high - low)

    return LineChart(
        title,
        tuple(Tick(up(tick), f"{tick:.6g}") for tick in ticks),
        tuple(Tick(across(epoch), f"{epoch:g}") for epoch in _epoch_ticks(first, last)),
        None if mark is None else Tick(across(mark), f"kept, epoch {mark:g}"),
        tuple(
            DrawnLine(
                line.name,
                line.kind,
                " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points),
                tuple(Dot(across(x), up(y), f"{line.name}, epoch {x:g}: {y:.5g}") for x, y in points)
                if len(points) <= _MOST_DOTS
                else (),
            )
            for line, points in drawn
        ),
    )


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers that cover low to high: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * n, 12) for n in range(first, last + 1)]


def _epoch_ticks(first: float, last: float) -> list[float]:
    if last - first < 1:
        return [first]
    inside = [tick for tick in nice_ticks(first, last, 6) if first <= tick <= last and float(tick).is_integer()]
    step = inside[1] - inside[0] if len(inside) > 1 else 0.0
    return [first, *(tick for tick in inside if tick - first > step / 2)]


@dataclass(frozen=True)
class Cell:
    """A cell of a table of confusions.

    Args:
        hit: whether the class was recognised.
        share: share of the row's pixels, 0 to 1.
        text: text in it: percent.
        tip: text that a pointer over it shows.
    """

    hit: bool
    share: float
    text: str
    tip: str


def confusion_rows(counts: np.ndarray, names: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    """Return a confusion count (truth, predicted) as rows of shares of each class's pixels."""
    rows = []
    for truth, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = int(row.sum())
        cells = []
        for label, value in enumerate(row):
            share = value / total if total else 0.0
            what = f"{name} found" if truth == label else f"{name} taken for {names[label]}"
            text = f"{100 * share:.1f}" if share else ""
            cells.append(Cell(truth == label, float(share), text, f"{what}: {int(value):,} of {total:,} px"))
        rows.append((name, cells))
    return rows


def largest_confusions(counts: np.ndarray, most: int) -> list[tuple[int, int, int, float]]:
    """Return (truth, predicted, pixels, share of the truth's pixels) of the commonest mistakes, by pixels."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(counts)) for index in order]
    return [(t, p, int(wrong[t, p]), float(wrong[t, p] / counts[t].sum())) for t, p in pairs if wrong[t, p] > 0]


@dataclass(frozen=True)
class Gauge:
    """A loss of points against the limit, with its interval: places in px, the limit and the loss in points, too."""

    zero: float
    limit: float
    low: float
    high: float
    drop: float
    limit_points: float
    drop_points: float

    width, height, margin, middle = 620, 74, 16, 34


def gauge(drop: float, interval: Sequence[float] | None, limit: float) -> Gauge:
    """Return the gauge of a loss.

    Args:
        drop: points that were lost; negative for a gain.
        interval: (low, high) of it, or None.
        limit: the largest loss that is allowed.
    """
    low, high = interval or (drop, drop)
    left, right = min(low, drop, 0.0), max(high, drop, limit)
    pad = 0.12 * (right - left or 1.0)
    left, right = left - pad, right + pad

    def x(value: float) -> float:
        return round(Gauge.margin + (Gauge.width - 2 * Gauge.margin) * (value - left) / (right - left), 1)

    return Gauge(x(0.0), x(limit), x(low), x(high), x(drop), limit, drop)


@dataclass(frozen=True)
class Bar:
    """A layer's noise: left edge and top in px, and what a pointer over it shows."""

    x: int
    y: float
    height: float
    is_float: bool
    name: str
    tip: str


@dataclass(frozen=True)
class NoiseChart:
    """The noise of each layer as a bar, the noisiest the highest."""

    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    bar_width: int

    left, right, top, tall, below = 48, 60, 10, 160, 130

    @property
    def width(self) -> int:
        """Extent of the whole chart, px."""
        return self.left + self.bar_width * len(self.bars) + self.right


def noise_chart(layers: Sequence[Mapping[str, Any]]) -> NoiseChart:
    """Return the bars of layers, each with "layer", "noise_db" (None for none) and "float"."""
    known = [layer["noise_db"] for layer in layers if layer["noise_db"] is not None]
    ticks = nice_ticks(min(known, default=0.0), max(known, default=1.0))
    low, high = ticks[0], ticks[-1]
    wide = max(_BAR, min(3 * _BAR, _BARS // max(1, len(layers))))

    def y(db: float) -> float:
        return NoiseChart.top + NoiseChart.tall * (db - low) / (high - low)

    bars = []
    for index, layer in enumerate(layers):
        db = layer["noise_db"]
        start = y(high if db is None else db)
        said = "no noise" if db is None else f"{db:.1f} dB"
        bars.append(
            Bar(
                NoiseChart.left + wide * index,
                start,
                max(1.0, NoiseChart.top + NoiseChart.tall - start),
                layer["float"],
                layer["layer"],
                f"{layer['layer']}, {'float32' if layer['float'] else 'int8'}: {said}",
            )
        )
    return NoiseChart(tuple(Tick(y(tick), f"{tick:g} dB") for tick in ticks), tuple(bars), wide)


class _UnitSquare:
    """A square in which both axes go from 0 to 1, with its diagonal."""

    side, left, top, below = 190, 44, 12, 34

    @property
    def width(self) -> int:
        """Extent of the whole chart, px."""
        return self.left + self.side + 12

    @property
    def height(self) -> int:
        """Extent of the whole chart, px."""
        return self.top + self.side + self.below


@dataclass(frozen=True)
class QualityChart(_UnitSquare):
    """What mIoU was expected of each mask, and what it has: centres of points in px, and their tips."""

    points: tuple[tuple[float, float, str], ...]


def quality_chart(images: Sequence[tuple[float, float]]) -> QualityChart:
    """Return the chart of the expected and the true mIoU of each image."""
    left, bottom, side = QualityChart.left, QualityChart.top + QualityChart.side, QualityChart.side
    return QualityChart(
        tuple(
            (left + side * expected, bottom - side * true, f"{expected:.3f} expected, {true:.3f} true")
            for expected, true in images
        )
    )


@dataclass(frozen=True)
class ReliabilityBar:
    """A bin of probabilities: left edge, top and height in px, how dark it is by its share, and its tip."""

    x: float
    y: float
    height: float
    shade: float
    tip: str


@dataclass(frozen=True)
class ReliabilityChart(_UnitSquare):
    """A reliability diagram: a bar for each bin of probability, the share of answers that are right."""

    title: str
    bars: tuple[ReliabilityBar, ...]
    bar_width: float


def reliability_chart(title: str, bins: Mapping[str, Sequence[float | None]]) -> ReliabilityChart:
    """Return the diagram of bins, each with "share" of the pixels, "claimed" and "right" (None where it is empty)."""
    count = len(bins["right"])
    side, bars = ReliabilityChart.side, []
    for index, (share, claimed, right) in enumerate(zip(bins["share"], bins["claimed"], bins["right"], strict=True)):
        if right is None or claimed is None or not share:
            continue
        tall = side * right
        tip = f"{100 * share:.1f} % of the answers: {claimed:.3f} claimed, {right:.3f} right"
        bars.append(
            ReliabilityBar(
                ReliabilityChart.left + side * index / count,
                ReliabilityChart.top + side - tall,
                tall,
                round(min(1.0, 0.25 + share), 3),
                tip,
            )
        )
    return ReliabilityChart(title, tuple(bars), side / count)
