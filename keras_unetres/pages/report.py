"""The report of a model as one HTML page: scores with intervals, what is mistaken for what, curves and pictures.

A pure function of `ReportContent`; who opens the run folder and the data is `keras_unetres.workflows.report`. The page
opens without a network, holds its pictures, and runs no script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unetres_edge.results.draw import Color

from ..scores.baseline import baseline_of_miou
from ..scores.bootstrap import DRAWS, FEW_IMAGES, LEVEL, Interval, Intervals, Margins
from ..scores.confusion import Confusion
from ..scores.instances import InstanceScores
from .cases import MISTAKE_COLORS, OTHER_MISTAKES, Case
from .charts import Line, LineChart, confusion_rows, largest_confusions, line_chart, reliability_chart
from .frame import render

SHOWN = 4  # of the best images, and of the worst
_MOST_IN_TABLE = 40  # classes of a confusion table; beyond, the commonest mistakes are listed alone
_LISTED = 6
_CURVES = (("loss", "Loss"), ("miou", "mIoU"), ("learning_rate", "Learning rate"))
_STAGES = {"total": "an image", "infer": "of it, the network", "prepare": "of it, before", "post": "of it, after"}


@dataclass(frozen=True)
class Review:
    """The scores of a model on labelled images, and the cases that a report shows of them.

    Args:
        confusion: the count over all images.
        margins: margins of each image.
        intervals: intervals of the scores over all images.
        names: names of the images.
        timing: stage -> milliseconds of each image, (N,) float64.
        cases: the worst and the best images, the worst first.
        objects: scores of objects, image by image, where the data set tells them apart; else None.
        reliability: figures of how right the probabilities are, as `Reliability.to_dict` gives them, and whether they
            were "calibrated"; None where there are none.
        drawn: units that the draws of the intervals drew: "images", or "groups" of them that depend on each other.
    """

    confusion: Confusion
    margins: Margins
    intervals: Intervals
    names: tuple[str, ...]
    timing: dict[str, np.ndarray]
    cases: tuple[Case, ...]
    objects: InstanceScores | None = None
    reliability: Mapping[str, Any] | None = None
    drawn: str = "images"


@dataclass(frozen=True)
class ReportContent:
    """The figures and pictures of a report.

    Args:
        title: title of the page.
        summary: line below the title.
        split: name of the part that was scored.
        class_names: names of the classes, by id.
        class_colors: likewise.
        review: scores, and the cases that are shown.
        notes: sentences that a reader has to know before the figures are believed.
        history: one mapping an epoch, with "epoch" and figures, such as "loss", "val_loss", "miou", "learning_rate".
        kept_epoch: the epoch of the weights that were scored, or None.
        facts: title of a table -> rows of it.
        command: command line that makes the model again, or "".
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


def report_figures(content: ReportContent) -> dict[str, Any]:
    """Return the figures of the page as JSON values; None for what is not there."""
    margins, confusion, intervals = content.review.margins, content.review.confusion, content.review.intervals
    ious, dices = confusion.iou(), confusion.dice()
    single = margins.single()
    labelled = int(margins.truth.sum())
    baseline = baseline_of_miou(margins.truth.sum(0), content.class_names)
    classes = [
        {
            "name": _json_text(name),
            "iou": ious[class_id],
            "iou_interval": _pair(intervals.iou[class_id]),
            "dice": dices[class_id],
            "dice_interval": _pair(intervals.dice[class_id]),
            "pixels": int(margins.truth[:, class_id].sum()),
            "share": _number(margins.truth[:, class_id].sum() / labelled) if labelled else None,
            "images": int((margins.truth[:, class_id] > 0).sum()),
        }
        for class_id, name in enumerate(content.class_names)
    ]
    names = [_json_text(name) for name in content.class_names]
    return {
        "title": _json_text(content.title),
        "split": content.split,
        "num_images": len(margins),
        "notes": [_json_text(note) for note in content.notes],
        "baseline": None if baseline is None else {"class": _json_text(baseline.class_name), "miou": baseline.score},
        "objects": _objects(content.review),
        "reliability": _reliability(content.review),
        "miou": confusion.mean_iou(),
        "miou_interval": _pair(intervals.miou),
        "mean_dice": confusion.mean_dice(),
        "mean_dice_interval": _pair(intervals.mean_dice),
        "pixel_accuracy": confusion.pixel_accuracy(),
        "pixel_accuracy_interval": _pair(intervals.accuracy),
        "intervals": {"level": LEVEL, "draws": DRAWS, "over": content.review.drawn, "method": "percentile bootstrap"},
        "classes": classes,
        "confusion": confusion.counts.tolist(),
        "confusions": [
            {"truth": names[truth], "predicted": names[label], "pixels": pixels, "share_of_truth": share}
            for truth, label, pixels, share in largest_confusions(confusion.counts, _LISTED)
        ],
        "ms_per_image": {
            stage: {"median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))}
            for stage, values in content.review.timing.items()
        },
        "images": [
            {"name": _json_text(name), "miou": _number(miou), "pixel_accuracy": _number(accuracy)}
            for name, miou, accuracy in zip(content.review.names, single.miou, single.accuracy, strict=True)
        ],
        "kept_epoch": content.kept_epoch,
        "history": [{key: _number(value) for key, value in row.items()} for row in content.history],
        "facts": {
            _json_text(title): {_json_text(key): _json_text(value) for key, value in rows.items()}
            for title, rows in content.facts.items()
        },
        "command": _json_text(content.command),
    }


def _objects(review: Review) -> dict[str, Any] | None:
    """Return the scores of objects, their intervals, and the true and the found objects of each image."""
    if review.objects is None:
        return None
    intervals = {f"{name}_interval": _pair(interval) for name, interval in review.objects.intervals().items()}
    counts = [
        {"name": _json_text(name), "objects": image.truths, "found": image.proposed}
        for name, image in zip(review.names, review.objects.images, strict=True)
    ]
    return {**review.objects.to_dict(), **intervals, "images": counts}


def _reliability(review: Review) -> dict[str, Any] | None:
    if review.reliability is None:
        return None
    by_class = {_json_text(name): error for name, error in review.reliability["ece_by_class"].items()}
    return {**review.reliability, "ece_by_class": by_class}


def report_page(content: ReportContent) -> bytes:
    """Return the page as UTF-8 HTML."""
    figures = report_figures(content)
    few_classes = len(content.class_names) <= _MOST_IN_TABLE
    reliable = figures["reliability"]
    return render(
        "report.html.j2",
        title=content.title,
        summary=content.summary,
        figures=figures,
        few_images=FEW_IMAGES,
        class_names=content.class_names,
        class_colors=content.class_colors,
        confusions=confusion_rows(content.review.confusion.counts, content.class_names) if few_classes else None,
        curves=_curves(content),
        reliability=None if reliable is None else reliability_chart("answers", reliable["bins"]),
        cases=_groups(content),
        mistake_colors=MISTAKE_COLORS,
        other_mistakes=OTHER_MISTAKES,
        miscounted=_miscounted(figures),
        facts={**_timing(figures), **content.facts},
        command=content.command,
    ).encode()


def _miscounted(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the images whose objects are counted worst, the worst first."""
    images = figures["objects"]["images"] if figures["objects"] else []
    wrong = [image for image in images if image["found"] != image["objects"]]
    return sorted(wrong, key=lambda image: -abs(image["found"] - image["objects"]))[:_LISTED]


def _curves(content: ReportContent) -> list[LineChart]:
    charts = []
    for key, title in _CURVES:
        lines = [
            Line("training", _points(content.history, key), "first"),
            Line("validation", _points(content.history, f"val_{key}"), "second"),
        ]
        charts.append(line_chart(title, lines, mark=content.kept_epoch))
    return [chart for chart in charts if chart is not None]


def _points(history: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    return [(float(row["epoch"]), float(row[key])) for row in history if key in row]


def _groups(content: ReportContent) -> list[tuple[str, Sequence[Case]]]:
    """Return the images that are shown, by heading; those of a small part all together."""
    cases = content.review.cases
    if not cases:
        return []
    if len(cases) < 2 * SHOWN or len(cases) == len(content.review.names):
        return [("All of them, the worst first", cases)]
    return [("Worst", cases[:SHOWN]), ("Best", cases[SHOWN:][::-1])]


def _timing(figures: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the table of the time an image takes; none where nothing was timed."""
    rows = {
        _STAGES.get(stage, stage): f"{row['median']:.1f} ms (median), {row['p90']:.1f} ms (90 %)"
        for stage, row in sorted(figures["ms_per_image"].items(), key=lambda item: item[0] != "total")
    }
    return {"Time to segment": rows} if rows else {}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _json_text(value: object) -> str:
    """Return text that every JSON reader takes: no lone surrogates of file names that are no text."""
    return str(value).encode("utf-8", "replace").decode()
