"""What other engines cost a file: its score on held-out images beside that of LiteRT, in the receipt and the card."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from models import make_card, make_conv, make_dense

from keras_unetres.verify import engine_costs
from keras_unetres.verify.engine_costs import other_engines
from keras_unetres.verify.held_out import Scored, _score_classes, _score_masks
from keras_unetres.verify.rows import KERAS, engine_title, file_row
from unetres_edge import Classifier, Engine, Segmenter
from unetres_edge.engines import table
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import EngineError, ModelError
from unetres_edge.model.card import Card
from unetres_edge.model.engine_cost import EngineCost

SIZE = (8, 8)
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (*SIZE, 1)).astype(np.uint8) for _ in range(4)]
CARD = make_card(SIZE, 1, 2)
DATA = make_conv(CARD, np.array([[0], [1]], np.float32), np.array([127.5, 0], np.float32))  # bright is class 1
FLAT = make_card(SIZE, 1, 2, fit="resize", task="classify")
DENSE = make_dense(FLAT, np.stack([np.zeros(64), np.full(64, 1 / 64)]).astype(np.float32), np.float32([127.5, 0]))


class Wrong(Engine):
    """LiteRT's answers, the upper half of each tile with the classes exchanged."""

    def __init__(self, litert: LiteRTEngine) -> None:
        self._litert, self.name = litert, "openvino"

    def run(self, tile: np.ndarray) -> np.ndarray:
        scores = self._litert.run(tile)
        half = len(scores) // 2 if scores.ndim == 3 else len(scores)
        scores[:half] = scores[:half, ..., ::-1] if scores.ndim == 3 else scores[::-1]
        return scores

    def close(self) -> None:
        """Leave it open, as the test opened it."""


def segmented() -> Scored:
    """The file as its own truth, so that LiteRT is right everywhere."""
    with Segmenter(DATA) as segmenter:
        masks = [segmenter.segment(image).class_map for image in IMAGES]
        records = [
            SimpleNamespace(name=str(place), image=image, mask=mask)
            for place, (image, mask) in enumerate(zip(IMAGES, masks, strict=True))
        ]
        return _score_masks({KERAS: segmenter, "file": segmenter}, records, CARD.class_names)


def classified() -> Scored:
    with Classifier(DENSE) as classifier:
        records = [SimpleNamespace(image=image, class_id=classifier.classify(image).class_id) for image in IMAGES]
        return _score_classes({KERAS: classifier, "file": classifier}, records, FLAT.class_names)


@pytest.fixture
def installed(monkeypatch):
    """An OpenVINO that is wrong in the upper half."""
    monkeypatch.setattr(engine_costs, "version", lambda name: "9.9")
    monkeypatch.setitem(table.ENGINES, "openvino", table.EngineEntry(lambda _, litert, __: Wrong(litert), "nothing"))


def test_masks_are_scored_on_the_other_engine(installed) -> None:
    scored = segmented()
    (row,), (cost,) = other_engines(scored, len(IMAGES), DATA, CARD)
    assert (row.title, row.labels_as_file) == (engine_title("openvino"), pytest.approx(0.5))
    assert file_row((*scored.rows, row)).title == "file"
    assert (cost.engine, cost.version, cost.images) == ("openvino", "9.9", 4)
    assert cost.points == pytest.approx(100 * (1 - row.score), abs=1e-5)
    assert (cost.equal, cost.least_equal, cost.selftest_equal) == tuple(pytest.approx(0.5) for _ in range(3))
    assert not cost.is_free
    kept = Card.from_json(replace(CARD, engines=(cost,)).to_json())
    assert kept.engines == (cost,)


def test_classes_are_scored_on_the_other_engine(installed) -> None:
    (row,), (cost,) = other_engines(classified(), len(IMAGES), DENSE, FLAT)
    assert (row.score, row.labels_as_file) == (0.0, 0.0)
    assert (cost.points, cost.least_equal, cost.selftest_equal) == (100.0, 0.0, 0.0)


def test_an_engine_that_is_not_there_or_cannot_is_left_out(installed, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("OpenVINO refuses the model")

    monkeypatch.setitem(table.ENGINES, "openvino", table.EngineEntry(refuse, "nothing"))
    assert other_engines(segmented(), len(IMAGES), DATA, CARD) == ((), ())
    monkeypatch.undo()
    monkeypatch.setattr(engine_costs, "ENGINES", ("an-engine-that-nobody-wrote",))
    assert other_engines(segmented(), len(IMAGES), DATA, CARD) == ((), ())


@pytest.mark.parametrize(
    "change",
    [{"points": float("inf")}, {"points": "0"}, {"equal": 1.5}, {"equal": True}, {"images": 0}, {"images": 2.0},
     {"engine": 3}, {"selftest_equal": None}],
    ids=str,
)  # fmt: skip
def test_a_card_with_other_numbers_is_refused(change) -> None:
    right = EngineCost("openvino", "1", 3, 0.01, 0.99, 0.98, 0.97).to_dict()
    assert EngineCost.from_dict({**right, "later": 1}).points == 0.01
    text = make_card(SIZE).to_json().replace('"recipe"', f'"engines": [{json.dumps({**right, **change})}], "recipe"')
    with pytest.raises(ModelError, match="card is not readable"):
        Card.from_json(text)
