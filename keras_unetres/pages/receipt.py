"""The receipt of an exported file as one HTML page: a pure function of its figures and of pictures that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.results.draw import Color

from ..scores.bootstrap import FEW_IMAGES
from .charts import QualityChart, ReliabilityChart, gauge, noise_chart, quality_chart, reliability_chart
from .frame import render

CHANGE_COLORS = {"both wrong": (235, 235, 235), "gained": (250, 204, 21), "lost": (239, 68, 68)}  # the last is on top
FLOAT32 = "float32 .tflite"  # title of the row of that form
_WEAK = 20.0  # dB; a hundredth of the signal's power is noise
_MOST_CLASSES = 40
_VERDICTS = {True: ("good", "Passed"), False: ("bad", "Rejected"), None: ("none", "Not scored")}


@dataclass(frozen=True)
class ChangedImage:
    """An image on which the last form of a model differs from the first.

    Args:
        index: place among the images.
        name: name of the image.
        points: points by which its own mIoU fell.
        equal: share of its pixels with the same label.
        picture: (h, w, 3) uint8.
        truth, first, last, changed: (h, w, 4) uint8 to be laid over the picture.
    """

    index: int
    name: str
    points: float
    equal: float
    picture: np.ndarray
    truth: np.ndarray
    first: np.ndarray
    last: np.ndarray
    changed: np.ndarray


def receipt_page(figures: Mapping[str, Any], images: Sequence[ChangedImage], class_colors: Sequence[Color]) -> bytes:
    """Return the page as UTF-8 HTML.

    Args:
        figures: figures of the receipt, as in its .json.
        images: those that lost most, the worst first.
        class_colors: colours of the classes, by id.
    """
    return render("receipt.html.j2", **_values(figures, images, class_colors)).encode()


def receipt_body(figures: Mapping[str, Any], class_colors: Sequence[Color]) -> str:
    """Return the page without its frame and without pictures of images, as a notebook shows it."""
    return render("receipt_part.html.j2", **_values(figures, (), class_colors))


def speed_line(titles: Sequence[str], ms: Sequence[float | None], file: str) -> str:
    """Return how long a file takes beside its float32 form, on the machine that scored both; "" where one was not.

    Args:
        titles: titles of the forms.
        ms: milliseconds an image of each, or None.
        file: title of the file.
    """
    took = dict(zip(titles, ms, strict=True))
    before, after = took.get(FLOAT32), took.get(file)
    if file == FLOAT32 or not before or not after:
        return ""
    if after <= before:
        return f"computes {before / after:.1f} times as fast as float32, on the machine that scored it"
    return f"takes {after / before:.1f} times as long as float32, on the machine that scored it"


def diagrams(reliability: Mapping[str, Any] | None) -> list[ReliabilityChart]:
    """Return the diagrams of probabilities before and after they were calibrated; none where they were not."""
    if not reliability or "before" not in reliability:
        return []
    return [reliability_chart(f"{when} calibration", reliability[when]["bins"]) for when in ("before", "after")]


def _quality(reliability: Mapping[str, Any] | None) -> QualityChart | None:
    """Return the chart of the scores that are expected of masks; None where a file expects none."""
    return quality_chart(reliability["quality"]["images"]) if reliability and "quality" in reliability else None


def _values(
    figures: Mapping[str, Any], images: Sequence[ChangedImage], class_colors: Sequence[Color]
) -> dict[str, Any]:
    gate, mixed, rows = figures["gate"], figures["mixed"], figures["steps"]
    kind, word = _VERDICTS[figures["verdict"]["passed"]]
    line = figures["verdict"]["line"].removeprefix(f"{word}. ").removeprefix(f"{word}: ")
    return {
        "title": f"Receipt of {figures['file']['name']}",
        "figures": figures,
        "verdict_kind": kind,
        "verdict_word": word,
        "verdict_line": line[:1].upper() + line[1:],
        "counted": next((row for row in reversed(rows) if row.get("labels_as_file") is None), None),
        "speed": _speed(rows),
        "each": "per_class_iou" if rows and "per_class_iou" in rows[0] else "per_class_accuracy",
        "gauge": None if gate["drop"] is None else gauge(gate["drop"], gate["drop_interval"], gate["max_drop"]),
        "noise": None if mixed is None else noise_chart(mixed["layers"]),
        "diagrams": diagrams(figures.get("reliability")),
        "quality": _quality(figures.get("reliability")),
        "images": images,
        "class_colors": class_colors,
        "change_colors": CHANGE_COLORS,
        "most_classes": _MOST_CLASSES,
        "few_images": FEW_IMAGES,
        "weak": _WEAK,
        "facts": _facts(figures),
    }


def _speed(rows: Sequence[Mapping[str, Any]]) -> str:
    files = [row["title"] for row in rows if row.get("labels_as_file") is None]
    return speed_line([row["title"] for row in rows], [row["ms"] for row in rows], files[-1]) if files else ""


def _facts(figures: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Return the tables at the end of the page."""
    file, data, contents = figures["file"], figures["data"], figures["contents"]
    ends = [
        f"{end['type']} {' x '.join(map(str, end['shape']))}"
        + (f", scale {end['scale']:.6g}, zero point {end['zero_point']}" if end["scale"] else "")
        for end in (*contents["inputs"], *contents["outputs"])
    ]
    scored = {
        "path": data.get("path"),
        "part": data.get("split"),
        "images": f"{data.get('num_images', 0):,}",
        "fingerprint": data.get("fingerprint"),
    }
    tables: dict[str, dict[str, object]] = {
        "File": {
            "SHA-256": file["sha256"],
            "made from": figures["source"],
            "input": ends[0],
            "output": ends[-1],
            "metadata": ", ".join(contents["metadata"]),
        },
        "Images it was scored on": {"not scored": data["why_not"]} if "why_not" in data else scored,
        "Calibration": dict(figures["calibration"]),
        "Versions": dict(figures["versions"]),
    }
    return {
        title: {key: value for key, value in rows.items() if value is not None and value != ""}
        for title, rows in tables.items()
    }
