"""Charts as SVG that takes its colours from the page around it: lines by epoch, and a confusion count as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Escape = Callable[[object], str]

_WIDTH, _HEIGHT = 340, 210  # px
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 28
_MOST_DOTS = 80


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        name: for the legend.
        points: (epoch, value); what is not finite is left out.
        kind: class of the style: "first" or "second".
    """

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "first"

    def finite(self) -> list[tuple[float, float]]:
        """Return the points that can be drawn."""
        return [(x, y) for x, y in self.points if math.isfinite(x) and math.isfinite(y)]


def line_chart(title: str, lines: Sequence[Line], escape: Escape, *, mark: float | None = None) -> str:
    """Return a chart of lines by epoch as one `<figure>`, or "" if there is no point.

    Args:
        escape: makes text fit for HTML.
        mark: epoch at which a vertical line stands, or None.
    """
    drawn = [(line, line.finite()) for line in lines]
    drawn = [(line, points) for line, points in drawn if points]
    if not drawn:
        return ""
    epochs = [x for _, points in drawn for x, _ in points] + ([] if mark is None else [mark])
    values = [y for _, points in drawn for _, y in points]
    ticks = nice_ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))
    first, last = min(epochs), max(epochs)

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((x - first) / (last - first) if last > first else 0.5)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)

    out = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)} by epoch">']
    for tick in ticks:
        y = up(tick)
        out.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"></line>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for epoch in _epoch_ticks(first, last):
        out.append(f'<text x="{across(epoch):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{epoch:g}</text>')
    if mark is not None:
        x = across(mark)
        out.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{_HEIGHT - _BOTTOM}"></line>')
        anchor = "end" if x > _WIDTH / 2 else "start"
        shift = -5 if anchor == "end" else 5
        out.append(f'<text x="{x + shift:.1f}" y="{_TOP + 4}" text-anchor="{anchor}">kept, epoch {mark:g}</text>')
    for line, points in drawn:
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        out.append(f'<polyline class="{line.kind}" points="{path}"></polyline>')
        if len(points) <= _MOST_DOTS:
            for x, y in points:
                tip = f"<title>{escape(line.name)}, epoch {x:g}: {y:.5g}</title>"
                out.append(f'<circle class="{line.kind}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.4">{tip}</circle>')
    out.append("</svg>")
    legend = "".join(f'<span class="key {line.kind}">{escape(line.name)}</span>' for line, _ in drawn)
    caption = f"<figcaption><b>{escape(title)}</b>{legend if len(drawn) > 1 else ''}</figcaption>"
    return f'<figure class="curve">{caption}{"".join(out)}</figure>'


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


def confusion_table(counts: np.ndarray, names: Sequence[str], escape: Escape) -> str:
    """Return a confusion count (truth, predicted) as a table of shares of each row's pixels, tinted by the share."""
    head = "".join(f'<th class="turned" scope="col"><span>{escape(name)}</span></th>' for name in names)
    out = [f'<div class="scroll"><table class="heat"><thead><tr><th>truth \\ predicted</th>{head}</tr></thead><tbody>']
    for truth, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = int(row.sum())
        cells = []
        for label, value in enumerate(row):
            share = value / total if total else 0.0
            kind = "hit" if truth == label else "miss"
            tip = f"{name} taken for {names[label]}" if truth != label else f"{name} found"
            strong = " strong" if share > 0.55 else ""
            style = f' style="--share:{share:.3f}"' if share >= 0.0005 else ""
            text = _percent(share) if total else ""
            cells.append(
                f'<td class="{kind}{strong}"{style} title="{escape(tip)}: {int(value):,} of {total:,} px">{text}</td>'
            )
        out.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return "".join(out) + "</tbody></table></div>"


def _percent(share: float) -> str:
    """Return a share in percent, short enough for a cell; nothing for none."""
    if share == 0:
        return ""
    return f"{100 * share:.1f}"


def largest_confusions(counts: np.ndarray, most: int) -> list[tuple[int, int, int, float]]:
    """Return (truth, predicted, pixels, share of the truth's pixels) of the commonest mistakes, by pixels."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [(t, p, int(wrong[t, p]), float(wrong[t, p] / counts[t].sum())) for t, p in pairs if wrong[t, p] > 0]
