"""Large pictures are predicted block by block, those in sight first; the next image is that of `unetres next`."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_unetres.painting.blocks as blocks
import keras_unetres.painting.predictions as predictions
from keras_unetres.painting.folder import find_pictures, make_project
from keras_unetres.painting.order import Order
from keras_unetres.painting.predictions import Opinion, Predictions
from keras_unetres.painting.project import Project
from keras_unetres.trust.choosing import choose
from unetres_edge import Segmenter
from unetres_edge.errors import UsageError

MODEL = Path(__file__).resolve().parents[1] / "edge" / "tests" / "golden" / "web_cells.tflite"
HEIGHT, WIDTH = 150, 230


def silent(line: str) -> None:
    pass


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Project, Predictions]]:
    """A picture that counts as large, of 3 x 4 blocks."""
    monkeypatch.setattr(predictions, "MOST_PIXELS", 1000)
    monkeypatch.setattr(blocks, "BLOCK", 64)
    monkeypatch.setattr(blocks, "_PAUSE", 0.0)
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = 90 + 60 * np.sin(x / 9) * np.sin(y / 11) + rng.normal(0, 9, (HEIGHT, WIDTH))
    with Segmenter(MODEL) as opened:
        channels = opened.card.preprocessing.channels
    values = np.clip(picture, 0, 255).astype(np.uint8)
    Image.fromarray(values if channels == 1 else np.stack([values] * 3, -1)).save(tmp_path / "pictures" / "p.png")
    folder = tmp_path / "project"
    names = ("background", "cell")
    make_project(folder, tmp_path / "pictures", names, None, find_pictures(tmp_path / "pictures", silent), silent)
    with Project(folder, silent) as project:
        own = Predictions(project)
        yield project, own
        own.close()


def wait_for_boxes(project: Project, count: int) -> threading.Event:
    """Return what is set once so many blocks were told of."""
    done, boxes = threading.Event(), []

    def hear(event: dict[str, object]) -> None:
        if event.get("box"):
            boxes.append(event["box"])
            if len(boxes) == count:
                done.set()

    project.listen(hear)
    return done


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_what_is_in_sight_is_predicted_as_the_whole_would_be(large: tuple[Project, Predictions]) -> None:
    project, own = large
    with pytest.raises(UsageError, match="no network"):
        own.tile(0, "network", 0, (0, 0))
    own.use(MODEL)
    done = wait_for_boxes(project, 12)
    first = decoded(own.tile(0, "network", 0, (0, 0))[0])
    assert (first == 255).all() and first.shape == (HEIGHT, WIDTH)
    assert done.wait(60)
    found = decoded(own.tile(0, "network", 0, (0, 0))[0])
    with Segmenter(MODEL) as opened:
        whole = opened.segment(project.picture_file(0))
        rim = max(opened.card.halo or 0, opened.overlap)
        y0, x0 = max(0, 64 - rim), max(0, 128 - rim)
        picture = np.asarray(Image.open(project.picture_file(0)))
        alone = opened.segment(picture[y0 : 128 + rim, x0 : 192 + rim], confidence=True)
    block, inner = np.s_[64:128, 128:192], np.s_[64 - y0 : 128 - y0, 128 - x0 : 192 - x0]
    np.testing.assert_array_equal(found[block], alone.class_map[inner])
    assert (found == whole.class_map).mean() > 0.9, "blocks are tiled from other corners"
    assert 0.02 < (found == 1).mean() < 0.98
    coarse = decoded(own.tile(0, "network", 3, (0, 0))[0])
    np.testing.assert_array_equal(coarse, found[::8, ::8])
    assert alone.confidence is not None
    sure = decoded(own.tile(0, "confidence", 0, (0, 0))[0])
    np.testing.assert_allclose(sure[block] / 255, alone.confidence[inner], atol=0.5 / 255 + 1e-6)


def test_what_is_not_predicted_is_not_accepted(large: tuple[Project, Predictions]) -> None:
    project, own = large
    own.use(MODEL)
    with pytest.raises(UsageError, match="not all of it is predicted"):
        own.accepted(0, {"box": [0, 0, WIDTH, HEIGHT]})
    done = wait_for_boxes(project, 12)
    own.tile(0, "network", 0, (0, 0))
    assert done.wait(60)
    found = decoded(own.tile(0, "network", 0, (0, 0))[0])
    classes, none, box = own.accepted(0, {"box": [30, 20, 200, 140]})
    assert none is None and box == (30, 20, 200, 140)
    np.testing.assert_array_equal(classes, found[20:140, 30:200])
    y, x = np.argwhere(found == 1)[40]
    classes, objects, (x0, y0, x1, y1) = own.accepted(0, {"point": [int(x), int(y)], "objects": True})
    assert objects is not None and classes[y - y0, x - x0] == 1 and objects[y - y0, x - x0] == 1
    assert (found[y0:y1, x0:x1][classes == 1] == 1).all()


def test_a_large_picture_is_judged_by_some_of_its_blocks(large: tuple[Project, Predictions]) -> None:
    project, own = large
    judged = threading.Event()
    project.listen(lambda event: judged.set() if event.get("network") == 0 else None)
    own.use(MODEL)
    own.want(0)
    assert judged.wait(60)
    opinion = own.opinions[0]
    assert 0 < opinion.expected_iou < 1 and len(opinion.look) > 10
    (row,) = Order(project, own)()
    assert f"IoU of {opinion.expected_iou:.2f}" in row["why"]


class Opinions:
    """The place of `Predictions`, with opinions that a test knows."""

    def __init__(self, opinions: dict[int, Opinion]) -> None:
        self.opinions = opinions


def test_the_order_is_that_of_next(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        Image.fromarray(np.full((20, 20), 40 * number, np.uint8)).save(tmp_path / "pictures" / f"p{number}.png")
    folder = tmp_path / "project"
    names = ("background", "cell")
    make_project(folder, tmp_path / "pictures", names, None, find_pictures(tmp_path / "pictures", silent), silent)
    rng = np.random.default_rng(1)
    known = {
        number: Opinion(expected, rng.normal(size=4), ("texture unknown",) * (number == 3), (0, 0, 9, 9))
        for number, expected in enumerate((0.9, 0.5, 0.8, 0.4, 0.7))
    }
    with Project(folder, silent) as project:
        project.stroke(0, {"id": "a", "tool": "brush", "class": 1, "object": 0, "size": 3, "points": [[5, 5]]})
        rows = Order(project, Opinions(known))()  # type: ignore[arg-type]
    free = (1, 2, 3, 4)
    values, looks = np.array([known[n].expected_iou for n in free]), np.array([known[n].look for n in free])
    expected = [free[pick.place] for pick in choose(values, looks, known[0].look[None], 10)]
    assert [row["index"] for row in rows] == [*expected, 0, 5]
    by_index = {row["index"]: row["why"] for row in rows}
    assert by_index[3] == "the network expects an IoU of 0.40; texture unknown"
    assert by_index[0].startswith("begun") and "not looked at" in by_index[5]
