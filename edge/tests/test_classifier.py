"""A class for the whole image: the answer, what is refused, and the table that `predict` writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from models import make_card, make_conv, make_dense
from PIL import Image

from unetres_edge import Classifier, Segmenter
from unetres_edge.classify.files import predict_classes
from unetres_edge.cli import main
from unetres_edge.errors import (
    DataError,
    EngineError,
    ExistsError,
    ImageError,
    ModelDamagedError,
    ModelError,
    UnetresError,
    UsageError,
)
from unetres_edge.model.card import Card
from unetres_edge.terminal import table_cell

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0, 0.01, (6, 64)).astype(np.float32)
BIAS = RNG.normal(0, 0.1, 6).astype(np.float32)


def card_of(**fields: object) -> Card:
    return make_card(classes=6, task="classify", **{"fit": "resize", **fields})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(make_dense(card_of(), WEIGHTS, BIAS))
    return path


def test_the_answer_is_that_of_the_layer(file: Path) -> None:
    image = RNG.integers(0, 256, (8, 8), np.uint8)
    expected = WEIGHTS.astype(np.float64) @ image.ravel() + BIAS
    shares = np.exp(expected - expected.max()) / np.exp(expected - expected.max()).sum()
    with Classifier(file) as classifier:
        answer = classifier.classify(image, top=3)
    np.testing.assert_allclose(answer.scores, expected, rtol=1e-5, atol=1e-5)
    order = sorted(range(6), key=lambda place: -expected[place])[:3]
    assert [place for place, _, _ in answer.top] == order
    assert [name for _, name, _ in answer.top] == [f"class {place}" for place in order]
    np.testing.assert_allclose([share for _, _, share in answer.top], shares[order], rtol=1e-4)
    assert (answer.class_id, answer.name) == answer.top[0][:2]
    assert set(answer.timing) == {"prepare", "infer", "post", "total"}


@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_the_whole_image_is_seen(fit: str) -> None:
    """The left half of a wide image decides: it is bright, and the right half is dark."""
    image = np.zeros((20, 40), np.uint8)
    image[:, :20] = 200
    left = np.zeros((6, 8, 8), np.float32)
    left[4, :, :4] = 1
    classifier = Classifier(make_dense(card_of(fit=fit), left.reshape(6, 64), np.zeros(6, np.float32)))
    answer = classifier.classify(image)
    assert answer.class_id == 4
    # The middle column but one is mixed by the area filter; the rows of a letterbox repeat the image's last.
    assert answer.scores[4] == pytest.approx(32 * 200, rel=0.05)


def test_of_equal_scores_the_lower_id_is_first() -> None:
    classifier = Classifier(make_dense(card_of(), np.zeros((6, 64), np.float32), np.zeros(6, np.float32)))
    answer = classifier.classify(np.zeros((8, 8), np.uint8), top=99)
    assert [place for place, _, _ in answer.top] == list(range(6))
    assert [share for _, _, share in answer.top] == pytest.approx([1 / 6] * 6)


def test_scores_are_the_callers_own(file: Path) -> None:
    classifier = Classifier(file)
    first = classifier.classify(np.full((8, 8), 10, np.uint8))
    kept = first.scores.copy()
    classifier.classify(np.full((8, 8), 200, np.uint8))
    np.testing.assert_array_equal(first.scores, kept)


class Engine:
    """Gives the same scores for any tile."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        return BIAS


@pytest.mark.parametrize(
    ("card", "what"),
    [
        (make_card(classes=6, fit="resize"), "not a classifier"),
        (card_of(fit="crop"), "sees the whole image"),
        (card_of(head="argmax"), "gives scores"),
    ],
)
def test_cards_of_other_models_are_refused(card: Card, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        Classifier(None, card=card, engine=Engine())


def test_an_engine_is_chosen_by_name(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image = RNG.integers(0, 256, (8, 8), np.uint8)
    with Classifier(file) as classifier:
        expected = classifier.classify(image)
    assert (expected.engine, expected.agreement) == ("litert", None)
    with Classifier(file, engine="auto") as classifier:
        found = classifier.classify(image)
    assert found.class_id == expected.class_id
    assert (found.engine, found.agreement) in (("litert", None), ("openvino", 1.0))
    with pytest.raises(UsageError, match="engine is unknown"):
        Classifier(file, engine="tensorrt")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineError, match="openvino"):
        Classifier(file, engine="openvino")
    with Classifier(file, engine="openvino", fallback=True) as classifier:
        assert classifier.classify(image).engine == "litert"


def test_any_engine_will_do() -> None:
    answer = Classifier(None, card=card_of(), engine=Engine()).classify(np.zeros((3, 5), np.uint8))
    assert answer.class_id == int(BIAS.argmax())
    with pytest.raises(UsageError, match="needs a card"):
        Classifier(None, engine=Engine())


def test_a_file_that_is_not_what_its_card_says_is_refused() -> None:
    with pytest.raises(ModelError, match="output is not what the card says"):
        Classifier(make_dense(make_card(classes=5, task="classify", fit="resize"), WEIGHTS, BIAS))


def test_a_classifier_is_no_segmenter(file: Path) -> None:
    with pytest.raises(ModelError, match="not a segmenter"):
        Segmenter(file)
    weights = np.zeros((6, 1), np.float32)
    with pytest.raises(ModelError, match="output is not what the card says"):
        Classifier(make_conv(card_of(), weights, BIAS))


def test_misuse_is_refused(file: Path) -> None:
    classifier = Classifier(file)
    with pytest.raises(UsageError, match="top is wrong"):
        classifier.classify(np.zeros((8, 8), np.uint8), top=0)
    with pytest.raises(ImageError, match="dtype"):
        classifier.classify(np.zeros((8, 8), np.int64))
    classifier.close()
    with pytest.raises(ModelError, match="closed"):
        classifier.classify(np.zeros((8, 8), np.uint8))
    with pytest.raises(UsageError, match="a model or an engine"):
        Classifier(None)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(ModelDamagedError):
        Classifier(bytes(data))


def test_scores_that_are_not_finite_are_refused() -> None:
    bias = BIAS.copy()
    bias[2] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        Classifier(make_dense(card_of(), WEIGHTS, bias)).classify(np.zeros((8, 8), np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b, c"):
        Image.fromarray(RNG.integers(0, 256, (11, 9), np.uint8)).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def test_predict_writes_a_table(file: Path, pictures: list[Path], tmp_path: Path) -> None:
    with Classifier(file) as classifier:
        answers = predict_classes(classifier, pictures, tmp_path / "out", top=2, json_file=tmp_path / "out.json")
    with (tmp_path / "out" / "classes.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows[0] == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    status = json.loads((tmp_path / "out.json").read_text())["images"]
    for row, said, answer, picture in zip(rows[1:], status, answers, pictures, strict=True):
        assert answer is not None
        assert row[0] == str(picture) == said["image"]
        assert [row[1], row[3]] == [name for _, name, _ in answer.top] == [best["name"] for best in said["top"]]
        assert float(row[2]) == pytest.approx(answer.top[0][2], abs=1e-6)
    with Classifier(file) as classifier, pytest.raises(ExistsError, match="exist already"):
        predict_classes(classifier, pictures, tmp_path / "out")


def test_no_cell_of_the_table_is_a_formula(
    file: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = pictures[0].rename(tmp_path / "in" / "=1+1.png")
    monkeypatch.chdir(renamed.parent)
    with Classifier(file) as classifier:
        predict_classes(classifier, [Path(renamed.name)], tmp_path / "out")
    rows = list(csv.reader((tmp_path / "out" / "classes.csv").read_text().splitlines()))
    assert rows[1][0] == "'=1+1.png"
    assert [table_cell(text) for text in ("-a", "@a", "+a", "a=", "5")] == ["'-a", "'@a", "'+a", "a=", "5"]


def test_an_image_that_cannot_be_read_does_not_stop_the_others(
    file: Path, pictures: list[Path], tmp_path: Path
) -> None:
    broken = pictures[0].with_name("broken.png")
    broken.write_bytes(b"\x89PNG")
    with Classifier(file) as classifier, pytest.raises(DataError) as error:
        predict_classes(classifier, [broken, *pictures], tmp_path / "out", json_file=tmp_path / "out.json")
    assert error.value.file == str(broken)
    assert len((tmp_path / "out" / "classes.csv").read_text().splitlines()) == 3
    status = json.loads((tmp_path / "out.json").read_text())["images"]
    assert [row["error"] is None for row in status] == [False, True, True]


def test_the_command_knows_a_classifier(
    file: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", str(file), str(pictures[0]), "--out", str(tmp_path / "out")]
    assert main(given) == 0
    assert "class " in capsys.readouterr().out
    assert (tmp_path / "out" / "classes.csv").is_file()
    for option in (["--overlay"], ["--overlap", "2"], ["--tta", "flips"]):
        assert main([*given, "--overwrite", *option]) == 2
        assert f"{option[0]} is for masks" in capsys.readouterr().err


def test_errors_are_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(UnetresError):
        Classifier(tmp_path / "nothing.tflite")
