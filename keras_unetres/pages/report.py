"""The report of a model as one HTML page: scores with intervals, what is mistaken for what, curves and pictures.

A pure function of `Findings`; who opens the run folder and the data is `keras_unetres.workflows.report`. The page
opens without a network, holds its pictures, and runs no script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.results.draw import Color

from ..scores.bootstrap import DRAWS, LEVEL, Interval
from .cases import MISTAKE_COLORS, OTHER_MISTAKES, Case
from .charts import Line, confusion_table, largest_confusions, line_chart
from .page import embed_png, escape, make_page
from .review import SHOWN, Review

_STYLE = Path(__file__).with_name("report.css")
_MOST_IN_TABLE = 40  # classes of a confusion table; beyond, the commonest mistakes are listed alone
_LISTED = 6
_LONG = 14  # rows of a table that may go on in the next column
_FEW_IMAGES = 10
_PIXELATED = 160  # px; smaller pictures are shown with their pixels
_CURVES = (("loss", "Loss"), ("miou", "mIoU"), ("learning_rate", "Learning rate"))


@dataclass(frozen=True)
class Findings:
    """All that a report says.

    Args:
        title: of the page.
        summary: one line below it.
        split: name of the part that was scored.
        class_names: one a class.
        class_colors: likewise.
        review: what scoring told.
        notes: what a reader has to know before the figures are believed.
        history: one mapping an epoch, with "epoch" and figures, such as "loss", "val_loss", "miou", "learning_rate".
        kept_epoch: the epoch of the weights that were scored, or None.
        facts: title of a table -> rows of it.
        command: that makes the model again, or "".
    """

    title: str
    summary: str
    split: str
    class_names: Sequence[str]
    class_colors: Sequence[Color]
    review: Review
    notes: Sequence[str] = ()
    history: Sequence[Mapping[str, float]] = ()
    kept_epoch: int | None = None
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    command: str = ""


def report_figures(found: Findings) -> dict[str, Any]:
    """Return the figures of the page as JSON values; None for what is not there."""
    margins, confusion, intervals = found.review.margins, found.review.confusion, found.review.intervals
    ious, dices = confusion.iou(), confusion.dice()
    single = margins.single()
    labelled = int(margins.truth.sum())
    classes = [
        {
            "name": _json_text(name),
            "iou": ious[place],
            "iou_interval": _pair(intervals.iou[place]),
            "dice": dices[place],
            "dice_interval": _pair(intervals.dice[place]),
            "pixels": int(margins.truth[:, place].sum()),
            "share": _number(margins.truth[:, place].sum() / labelled) if labelled else None,
            "images": int((margins.truth[:, place] > 0).sum()),
        }
        for place, name in enumerate(found.class_names)
    ]
    names = [_json_text(name) for name in found.class_names]
    return {
        "title": _json_text(found.title),
        "split": found.split,
        "num_images": len(margins),
        "notes": [_json_text(note) for note in found.notes],
        "miou": confusion.mean_iou(),
        "miou_interval": _pair(intervals.miou),
        "mean_dice": confusion.mean_dice(),
        "mean_dice_interval": _pair(intervals.mean_dice),
        "pixel_accuracy": confusion.pixel_accuracy(),
        "pixel_accuracy_interval": _pair(intervals.accuracy),
        "intervals": {"level": LEVEL, "draws": DRAWS, "over": "images", "method": "percentile bootstrap"},
        "classes": classes,
        "confusion": confusion.counts.tolist(),
        "confusions": [
            {"truth": names[truth], "predicted": names[label], "pixels": pixels, "share_of_truth": share}
            for truth, label, pixels, share in largest_confusions(confusion.counts, _LISTED)
        ],
        "ms_per_image": {
            stage: {"median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))}
            for stage, values in found.review.timing.items()
        },
        "images": [
            {"name": _json_text(name), "miou": _number(miou), "pixel_accuracy": _number(accuracy)}
            for name, miou, accuracy in zip(found.review.names, single.miou, single.accuracy, strict=True)
        ],
        "kept_epoch": found.kept_epoch,
        "history": [{key: _number(value) for key, value in row.items()} for row in found.history],
        "facts": {
            _json_text(title): {_json_text(key): _json_text(value) for key, value in rows.items()}
            for title, rows in found.facts.items()
        },
        "command": _json_text(found.command),
    }


def report_page(found: Findings) -> bytes:
    """Return the page as UTF-8 HTML."""
    figures = report_figures(found)
    parts = [
        f'<header><h1>{escape(found.title)}</h1><p class="muted">{escape(found.summary)}</p></header>',
        *(f'<p class="note">{escape(note)}</p>' for note in found.notes),
        _headline(figures),
        _classes(found, figures),
        _confusions(found, figures),
        _curves(found),
        _cases(found),
        _facts(found, figures),
        _command(found),
    ]
    return make_page(found.title, "\n".join(filter(None, parts)), style=_STYLE.read_text(encoding="utf-8"))


def _headline(figures: Mapping[str, Any]) -> str:
    tiles = []
    for key, title, tip in (
        ("miou", "mIoU", "intersection over union, mean over the classes"),
        ("mean_dice", "mean Dice", "F1 of each class's pixels, mean over the classes"),
        ("pixel_accuracy", "pixel accuracy", "share of the labelled pixels that are right"),
    ):
        low_high = figures[f"{key}_interval"]
        said = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else "no interval: fewer than two images"
        tiles.append(
            f'<div class="tile"><div class="label">{title}</div><div class="value">{_score(figures[key])}</div>'
            f'{_range(figures[key], low_high)}<div>{said}</div><div class="muted">{tip}</div></div>'
        )
    number = figures["num_images"]
    images = f"{number} image{'s' * (number != 1)}"
    text = (
        f"Over all labelled pixels of {images} of the {escape(figures['split'])} part. "
        f"The ranges are {100 * LEVEL:.0f} % "
        f"bootstrap intervals: {DRAWS:,} times, as many images were drawn with replacement and scored together."
    )
    if 1 < number < _FEW_IMAGES:
        text += f" With so few images ({number}) they are too narrow."
    return f'<div class="tiles">{"".join(tiles)}</div><p class="muted">{text}</p>'


def _classes(found: Findings, figures: Mapping[str, Any]) -> str:
    rows = []
    for row, color in zip(figures["classes"], found.class_colors, strict=True):
        if row["iou"] is None:
            scores = '<td colspan="4" class="absent">absent from these images</td>'
        else:
            pair = row["iou_interval"]
            said = f"{pair[0]:.3f} to {pair[1]:.3f}" if pair else ""
            scores = (
                f'<td class="n">{_score(row["iou"])}</td><td>{_range(row["iou"], pair)}</td><td class="n">{said}</td>'
                f'<td class="n">{_score(row["dice"])}</td>'
            )
        share = "" if row["share"] is None else f"{100 * row['share']:.2f} %"
        rows.append(
            f'<tr><th scope="row">{_dot(color)}{escape(row["name"])}</th>{scores}'
            f'<td class="n">{share}</td><td class="n">{row["images"]:,}</td></tr>'
        )
    head = (
        '<tr><th>class</th><th class="n">IoU</th><th></th><th class="n">95 %</th><th class="n">Dice</th>'
        '<th class="n">share of pixels</th><th class="n">images with it</th></tr>'
    )
    return (
        f'<h2>Classes</h2><div class="scroll"><table class="classes"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _confusions(found: Findings, figures: Mapping[str, Any]) -> str:
    items = [
        f"<li><b>{escape(row['truth'])}</b> taken for <b>{escape(row['predicted'])}</b>: "
        f"{100 * row['share_of_truth']:.1f} % of its pixels</li>"
        for row in figures["confusions"]
    ]
    if not figures["num_images"]:
        return ""
    said = f"<ol>{''.join(items)}</ol>" if items else "<p>No pixel is wrong.</p>"
    if len(found.class_names) <= _MOST_IN_TABLE:
        table = confusion_table(found.review.confusion.counts, found.class_names, escape)
        caption = "Each row is a class of the masks; the cells say what its pixels were taken for, in percent."
    else:
        table, caption = "", f"The count of all {len(found.class_names)} classes is in report.json."
    return f'<h2>What is taken for what</h2>{said}<p class="muted">{caption}</p>{table}'


def _curves(found: Findings) -> str:
    charts = []
    for key, title in _CURVES:
        lines = [
            Line("training", _points(found.history, key), "first"),
            Line("validation", _points(found.history, f"val_{key}"), "second"),
        ]
        charts.append(line_chart(title, lines, escape, mark=found.kept_epoch))
    drawn = "".join(charts)
    return f'<h2>Training</h2><div class="curves">{drawn}</div>' if drawn else ""


def _points(history: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    return [(float(row["epoch"]), float(row[key])) for row in history if key in row]


def _cases(found: Findings) -> str:
    cases = list(found.review.cases)
    if not cases:
        return ""
    legend = "".join(
        f"<span>{_dot(color)}{escape(name)}</span>"
        for name, color in zip(found.class_names, found.class_colors, strict=True)
    )
    out = [
        "<h2>Images</h2>",
        f'<p class="legend">{legend}</p><p class="muted">By the mIoU of the image alone. '
        "The first class is not tinted. Under errors, what is right is dark, and what is not labelled darker.</p>",
    ]
    if len(cases) < 2 * SHOWN or len(cases) == len(found.review.names):
        groups = {"All of them, the worst first": cases}
    else:
        groups = {"Worst": cases[:SHOWN], "Best": cases[SHOWN:][::-1]}
    for title, group in groups.items():
        out.append(f"<h3>{title}</h3>{''.join(_case(case, found.class_names) for case in group)}")
    return "".join(out)


def _case(case: Case, names: Sequence[str]) -> str:
    height, width = case.picture.shape[:2]
    place = f"picture{case.index}"
    box = f'viewBox="0 0 {width} {height}" role="img"'
    size = f'width="{width}" height="{height}"'
    shared = f'<image id="{place}" {size} href="{embed_png(case.picture)}"></image>'
    panels = [f'<figure><svg {box} aria-label="image">{shared}</svg><figcaption>image</figcaption></figure>']
    for title, layer in (("truth", case.truth), ("prediction", case.prediction), ("errors", case.errors)):
        over = f'<use href="#{place}"></use><image {size} href="{embed_png(layer)}"></image>'
        panels.append(f'<figure><svg {box} aria-label="{title}">{over}</svg><figcaption>{title}</figcaption></figure>')
    said = []
    for mistake, color in zip(case.mistakes, MISTAKE_COLORS, strict=False):
        pair = f"{escape(names[mistake.truth])} taken for {escape(names[mistake.predicted])}"
        said.append(f"<span>{_dot(color)}{pair} {100 * mistake.share:.1f} %</span>")
    rest = sum(mistake.share for mistake in case.mistakes[len(MISTAKE_COLORS) :])
    if rest:
        said.append(f"<span>{_dot(OTHER_MISTAKES)}others {100 * rest:.1f} %</span>")
    pixels = " pixels" if max(height, width) < _PIXELATED else ""
    return (
        f'<article class="case"><h3>{escape(case.name)} <span class="muted">mIoU {case.miou:.3f}, '
        f'{100 * case.accuracy:.1f} % of the pixels right</span></h3><p class="mistakes">{"".join(said) or "no errors"}'
        f'</p><div class="panels{pixels}">{"".join(panels)}</div></article>'
    )


def _facts(found: Findings, figures: Mapping[str, Any]) -> str:
    timing = {
        {"total": "an image", "infer": "of it, the network", "prepare": "of it, before", "post": "of it, after"}.get(
            stage, stage
        ): f"{row['median']:.1f} ms (median), {row['p90']:.1f} ms (90 %)"
        for stage, row in sorted(figures["ms_per_image"].items(), key=lambda item: item[0] != "total")
    }
    tables = {**({"Time to segment": timing} if timing else {}), **found.facts}
    out = []
    for title, rows in tables.items():
        cells = "".join(f'<tr><th scope="row">{escape(key)}</th><td>{escape(v)}</td></tr>' for key, v in rows.items())
        kind = ' class="long"' if len(rows) > _LONG else ""
        out.append(f"<section{kind}><h2>{escape(title)}</h2><table>{cells}</table></section>")
    return f'<div class="facts">{"".join(out)}</div>' if out else ""


def _command(found: Findings) -> str:
    return f"<h2>Make it again</h2><pre><code>{escape(found.command)}</code></pre>" if found.command else ""


def _range(value: float | None, pair: Sequence[float] | None) -> str:
    """Return a bar from 0 to 1 with the interval and the value in it."""
    if value is None:
        return ""
    low, high = pair or (value, value)
    inner = f'<i style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
    return f'<div class="range">{inner}<b style="left:{100 * value:.2f}%"></b></div>'


def _dot(color: Sequence[int]) -> str:
    return f'<span class="dot" style="background:rgb({",".join(str(int(c)) for c in color)})"></span>'


def _score(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _json_text(value: object) -> str:
    """Return text that every JSON reader takes: no lone surrogates of file names that are no text."""
    return str(value).encode("utf-8", "replace").decode()
