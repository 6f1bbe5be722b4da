"""Pages are templates: what they show is escaped, and nothing of them is left behind when the package is built."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from test_receipt import figures_of
from test_report import NASTY, Page, make_content, make_pictures, make_segmenter

from keras_unetres.pages.check import CheckFigures, FaultRow, Thumbnail, check_page
from keras_unetres.pages.frame import render
from keras_unetres.pages.receipt import ChangedImage, receipt_body, receipt_page
from keras_unetres.pages.report import report_page
from keras_unetres.tasks.review import review
from unetres_edge.model.card import default_colors

ROOT = Path(__file__).resolve().parents[1]
MARKUP = NASTY[0]
COLORS = default_colors(3)


def report_of(names: tuple[str, str, str], image: str) -> bytes:
    pictures = make_pictures(2, (image,))
    found = make_content(1, class_names=names, title=image, review=review(make_segmenter(), pictures))
    return report_page(found)


def figures_with(names: tuple[str, str, str], image: str) -> dict[str, Any]:
    figures = figures_of(None)
    row = {"title": "Keras", "score": 0.5, "per_class_iou": dict.fromkeys(names, 0.5), "drop": 0.1, "ms": None}
    row |= {"drop_interval": [0.0, 0.2], "labels_equal": 0.9, "kb": 1.0}
    figures["steps"] = [row, {**row, "title": image}]
    figures["images"] = [{"name": image, "first": 0.5, "last": 0.4, "drop": 10.0, "labels_equal": 0.9}]
    figures["data"] = {"path": image, "split": "test", "num_images": 1, "fingerprint": "cd", "notes": [image]}
    figures["file"] |= {"name": image, "classes": list(names)}
    layer = {"layer": image, "noise_db": 30.0, "multiply_adds": 5, "float": True}
    tried = [{"floats": 1, "drop": 0.1, "part": image}]
    return {**figures, "mixed": {"layers": [layer], "float_multiply_adds": 1.0, "tried": tried}}


def receipt_of(names: tuple[str, str, str], image: str) -> bytes:
    layer = np.zeros((4, 4, 4), np.uint8)
    changed = ChangedImage(0, image, 10.0, 0.9, layer[..., :3], layer, layer, layer, layer)
    return receipt_page(figures_with(names, image), [changed], COLORS)


def receipt_part_of(names: tuple[str, str, str], image: str) -> bytes:
    return receipt_body(figures_with(names, image), COLORS).encode()


def check_of(names: tuple[str, str, str], image: str) -> bytes:
    classes = [
        {"id": place, "name": name, "share": 0.3, "pixels": 9, "images": 1, "parts": {"train": {"images": 1}}}
        for place, name in enumerate(names)
    ]
    report = {"data": image, "format": image, "parts": {"train": 1, image: 2}, "modes": {}, "notes": [image]}
    report |= {"sizes": [], "classes": classes, "ignored_share": 0.1, "hashes": image}
    picture = np.zeros((4, 4, 3), np.uint8)
    row = FaultRow("leak", image, image, image, image, picture)
    return check_page(CheckFigures(report, {"leak": image}, [row], [row], COLORS, [Thumbnail(picture, image)]))


@pytest.mark.parametrize("make", [report_of, receipt_of, receipt_part_of, check_of])
def test_markup_in_names_is_text(make: Callable[[tuple[str, str, str], str], bytes]) -> None:
    names = (MARKUP, NASTY[1], "<b>&amp;")
    page = Page(make(names, f"{MARKUP}\udcff\x07.png"))
    page.check()
    assert not page.tags & {"script"}
    assert page.text.count(MARKUP) >= 3
    assert f"{MARKUP}??.png" in page.text
    for name in names:
        assert name in page.text, name


def test_a_figure_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("report.html.j2", summary="")


def test_templates_and_styles_are_package_data() -> None:
    folder = importlib.resources.files("keras_unetres.pages") / "templates"
    names = {file.name for file in folder.iterdir()}
    assert {"frame.html.j2", "report.html.j2", "receipt.html.j2", "check.html.j2", "page.css"} <= names
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for ending in {Path(name).suffix for name in names}:
        assert f'"**/*{ending}"' in text, f"files *{ending} are not in package-data"


def test_no_page_is_written_in_python() -> None:
    """Elements stand in templates alone; SVG of networks and HTML of the browser's page have other homes."""
    tag = re.compile(r"""["'].*<(div|p|table|tr|td|th|span|svg|rect|figure|section|h[1-6])[ >]""")
    faults = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "keras_unetres").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if tag.search(line)
    ]
    assert faults == []
