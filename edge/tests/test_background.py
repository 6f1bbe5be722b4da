"""The background by its name or as the card says: what is drawn, outlined and traced leaves out that class alone."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from models import make_card

from unetres_edge import Card, Preprocessing, Result
from unetres_edge.errors import ModelError
from unetres_edge.model.background import _NAMES, find_background
from unetres_edge.model.card import default_colors
from unetres_edge.web import web_folder

NAMES = ("cat", "background", "dog")
COLORS = ((10, 0, 0), (0, 20, 0), (0, 0, 30))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("background", "cell"), 0),
        (("cell", "Background"), 1),
        (("Cat", "_background_", "dog"), 1),
        (("a", "b", "BG"), 2),
        (("Katze", "Hintergrund"), 1),
        (("猫", "背景"), 1),
        (("road", "sky"), 0),
        (("no background", "x"), 0),
    ],
)
def test_a_name_says_which_class_is_the_background(names: tuple[str, ...], found: int) -> None:
    assert find_background(names) == found
    assert Card(names, default_colors(len(names)), Preprocessing()).background == found


def test_the_page_knows_the_same_names() -> None:
    text = (web_folder() / "background.js").read_text(encoding="utf-8")
    assert set(re.findall(r'"([^".]+)"', text.split("new Set(")[1].split(")")[0])) == _NAMES


def test_a_card_keeps_the_background_and_an_older_one_has_it_by_name() -> None:
    card = Card(NAMES, COLORS, Preprocessing(), background=2)
    assert Card.from_json(card.to_json()) == card
    values = json.loads(card.to_json())
    del values["background"]
    assert Card.from_json(json.dumps(values)).background == 1
    for wrong in (3, -2, "cat", 1.0, True):
        with pytest.raises(ModelError):
            Card.from_json(json.dumps(values | {"background": wrong}))


def test_shapes_and_drawings_leave_the_background_out() -> None:
    class_map = np.ones((6, 8), np.uint8)
    class_map[1:3, 1:3], class_map[3:5, 5:8] = 0, 2
    result = Result(class_map, None, NAMES, COLORS)
    assert result.background == 1
    assert [(polygon.class_id, polygon.area) for polygon in result.polygons()] == [(0, 4), (2, 6)]
    assert [each["properties"]["class"] for each in result.geojson()["features"]] == ["cat", "dog"]
    image = np.full((6, 8), 200, np.uint8)
    drawn = result.overlay(image)
    assert ((drawn == 200).all(-1) == (class_map == 1)).all()
    declared = Result(class_map, None, NAMES, COLORS, background=0)
    assert {polygon.class_id for polygon in declared.polygons()} == {1, 2}


def test_the_first_class_is_the_background_where_no_name_says_it() -> None:
    card = make_card()
    assert card.background == 0
