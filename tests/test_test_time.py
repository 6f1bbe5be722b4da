"""Flips, quarter turns and ensembles: by construction, against float64 done by hand, and through both commands."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from keras_unetres.cli import main
from keras_unetres.tasks.keras_engine import KerasEngine
from keras_unetres.tasks.loading import open_segmenter
from unetres_edge import Card, Preprocessing, Segmenter
from unetres_edge.errors import ModelError, UsageError
from unetres_edge.images.decode import read_image
from unetres_edge.model.card import default_colors
from unetres_edge.segment.ensemble import (
    SYMMETRIES,
    JoinedEngine,
    TurnedEngine,
    join_segmenters,
    probabilities,
    turn,
    turn_back,
)


class Pointwise:
    """Equivariant under every turn: scores depend on the pixel's own levels."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        level = tile[..., 0].astype(np.float32) / 32
        return np.stack([level, 4 - level, np.sin(level)], -1)


class Leaning(Pointwise):
    """Not equivariant: class 1 gains towards the right and class 2 downwards."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        scores = super().run(tile)
        scores[..., 1] += np.linspace(0, 3, tile.shape[1], dtype=np.float32)[None, :]
        scores[..., 2] += np.linspace(0, 5, tile.shape[0], dtype=np.float32)[:, None]
        return scores


class Fixed:
    """Gives the same scores whatever it is asked."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def run(self, tile: np.ndarray) -> np.ndarray:
        return self.scores


class Labels:
    """An argmax head."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        return np.zeros(tile.shape[:2], np.uint8)


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def make_card(size: tuple[int, int] = (8, 8), names: tuple[str, ...] = ("a", "b", "c"), **fields) -> Card:
    head = fields.pop("head", "logits")
    pre = Preprocessing(**{"channels": 1, "size": size, **fields})
    return Card(names, default_colors(len(names)), pre, head=head)


def make_segmenter(engine, **fields) -> Segmenter:
    return Segmenter(None, card=make_card(**fields), engine=engine)


# ----------------------------------------------------------------------------------------------------------- symmetries


def test_there_are_as_many_turns_as_said_and_no_two_are_the_same() -> None:
    tile = np.arange(16).reshape(4, 4)
    for name, count in (("none", 1), ("flips", 4), ("all", 8)):
        assert len({turn(tile, *each).tobytes() for each in SYMMETRIES[name]}) == len(SYMMETRIES[name]) == count
    by_hand = {array.tobytes() for array in (tile, tile[::-1], tile[:, ::-1], tile[::-1, ::-1])}
    assert {turn(tile, *each).tobytes() for each in SYMMETRIES["flips"]} == by_hand
    by_hand |= {array.T.copy().tobytes() for array in (tile, tile[::-1], tile[:, ::-1], tile[::-1, ::-1])}
    assert {turn(tile, *each).tobytes() for each in SYMMETRIES["all"]} == by_hand


@pytest.mark.parametrize("shape", [(3, 5), (5, 3, 2), (4, 4)])
def test_every_turn_is_undone(shape: tuple[int, ...]) -> None:
    tile = np.arange(np.prod(shape)).reshape(shape)
    for each in SYMMETRIES["all"]:
        np.testing.assert_array_equal(turn_back(turn(tile, *each), *each), tile)


@pytest.mark.parametrize(("tta", "size"), [("flips", (6, 10)), ("flips", (8, 8)), ("all", (8, 8))])
def test_an_equivariant_network_answers_the_same_on_every_turn(tta: str, size: tuple[int, int]) -> None:
    tile = picture((*size, 1))
    expected = log_softmax(Pointwise().run(tile).astype(np.float64), -1)
    found = TurnedEngine(Pointwise(), tta, size).run(tile)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("tta", "size"), [("flips", (6, 10)), ("all", (8, 8))])
def test_a_network_that_leans_is_made_upright(tta: str, size: tuple[int, int]) -> None:
    tile = picture((*size, 1))
    scores = Pointwise().run(tile).astype(np.float64)
    right, down = (np.linspace(0, most, n) for most, n in ((3, size[1]), (5, size[0])))
    right, down = np.broadcast_to(right[None, :], size), np.broadcast_to(down[:, None], size)
    chances = []
    for b, c in itertools.product((right, right[:, ::-1]), (down, down[::-1])):
        chances.append(softmax(scores + np.stack([np.zeros(size), b, c], -1), -1))
        if tta == "all":  # a quarter turn, or a flip about a diagonal, lets b lean along the other axis
            chances.append(softmax(scores + np.stack([np.zeros(size), b.T, c.T], -1), -1))
    found = TurnedEngine(Leaning(), tta, size).run(tile)
    np.testing.assert_allclose(found, np.log(np.mean(chances, 0)), atol=2e-6)


def test_turned_scores_of_a_turned_tile_are_the_turned_scores() -> None:
    tile = picture((8, 8, 1))
    engine = TurnedEngine(Leaning(), "all", (8, 8))
    upright = engine.run(tile)
    for each in SYMMETRIES["all"]:
        np.testing.assert_allclose(engine.run(turn(tile, *each)), turn(upright, *each), atol=2e-6)


def test_the_probabilities_are_scipys_even_where_scores_are_far_apart() -> None:
    scores = np.random.default_rng(0).normal(0, 300, (5, 6, 4)).astype(np.float32)
    found = probabilities(scores)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax(scores.astype(np.float64), -1), atol=1e-6)
    joined = JoinedEngine([Fixed(scores)] * 3).run(scores)
    assert np.isfinite(joined).all()
    np.testing.assert_array_equal(joined.argmax(-1), scores.argmax(-1))


# ------------------------------------------------------------------------------------------------------------ ensembles


def test_identical_members_are_the_member() -> None:
    image = picture((19, 21))
    alone = make_segmenter(Leaning()).segment(image, scores=True)
    three = join_segmenters([make_segmenter(Leaning()) for _ in range(3)]).segment(image, scores=True)
    np.testing.assert_array_equal(three.class_map, alone.class_map)
    np.testing.assert_allclose(softmax(three.scores, -1), softmax(alone.scores, -1), atol=1e-6)


def test_the_mean_is_of_probabilities_not_of_scores() -> None:
    sure, unsure = (np.broadcast_to(np.float32(v), (8, 8, 3)) for v in ([20, 0, 0], [0, 1.5, 0]))
    found = join_segmenters([make_segmenter(Fixed(sure)), make_segmenter(Fixed(unsure))])
    scores = found.segment(np.zeros((8, 8), np.uint8), scores=True).scores
    expected = np.log((softmax([20.0, 0, 0]) + softmax([0, 1.5, 0])) / 2)
    np.testing.assert_allclose(scores[3, 3], expected, atol=1e-5)


def test_turns_of_an_ensemble_are_the_ensemble_of_turns() -> None:
    tile = picture((8, 8, 1))
    one = TurnedEngine(JoinedEngine([Leaning(), Pointwise()]), "all", (8, 8)).run(tile)
    other = JoinedEngine([TurnedEngine(e, "all", (8, 8)) for e in (Leaning(), Pointwise())]).run(tile)
    np.testing.assert_allclose(one, other, atol=2e-6)


def keras_engine(pre: Preprocessing, function) -> KerasEngine:
    inputs = keras.Input((*pre.size, pre.channels))
    return KerasEngine(keras.Model(inputs, function(inputs)), pre)


def test_each_member_normalises_by_itself() -> None:
    cards = [
        make_card(channels=3, value_range=(-1, 1)),
        make_card(channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        make_card(channels=3, value_range=(0, 255), color_order="bgr", mean=(103.0, 116.0, 123.0)),
    ]
    members = []
    for card in cards:
        engine = keras_engine(card.preprocessing, keras.layers.Identity())
        members.append(Segmenter(None, card=card, engine=engine))
    image = picture((8, 8, 3))
    rgb = image / 255.0
    seen = [
        rgb * 2 - 1,
        (rgb - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7],
        image[..., ::-1] - np.array([103.0, 116.0, 123.0]),
    ]
    expected = np.mean([softmax(each, -1) for each in seen], 0)
    found = join_segmenters(members).segment(image, scores=True).scores
    np.testing.assert_allclose(softmax(found, -1), expected, atol=1e-5)


def test_tiles_overlap_as_those_of_the_member_that_needs_most() -> None:
    members = [Segmenter(None, card=make_card(), engine=Pointwise(), overlap=overlap) for overlap in (1, 3)]
    assert join_segmenters(members).overlap == 3
    assert join_segmenters(members[:1]) is members[0]
    assert join_segmenters(members[:1], tta="flips").overlap == 1
    with pytest.warns(DeprecationWarning, match="argument turns of join_segmenters is now tta"):
        assert join_segmenters(members[:1], turns="flips").overlap == 1  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------------------- refusals

OTHERS = {
    "classes": ({"names": ("a", "b")}, "different classes"),
    "order of classes": ({"names": ("b", "a", "c")}, "different classes"),
    "channels": ({"channels": 3}, "channels"),
    "size": ({"size": (8, 16)}, "size"),
    "fit": ({"fit": "resize"}, "fit"),
    "percentiles": ({"per_image": (1, 99)}, "per_image"),
    "head": ({"head": "argmax"}, "argmax"),
}


@pytest.mark.parametrize(("fields", "said"), OTHERS.values(), ids=OTHERS)
def test_what_cannot_be_joined_is_named(fields: dict, said: str) -> None:
    members = [make_segmenter(Pointwise()), make_segmenter(Pointwise(), **fields)]
    with pytest.raises(UsageError, match=f"other.tflite.*{said}.*fix"):
        join_segmenters(members, files=["first.tflite", "other.tflite"])


def test_what_cannot_be_turned_is_named() -> None:
    with pytest.raises(UsageError, match=r"not square.*6 x 10.*flips"):
        join_segmenters([make_segmenter(Pointwise(), size=(6, 10))], tta="all")
    with pytest.raises(UsageError, match="none or flips or all"):
        join_segmenters([make_segmenter(Pointwise())], tta="some")
    with pytest.raises(UsageError, match="argmax.*--head logits"):
        join_segmenters([make_segmenter(Labels(), head="argmax")], tta="flips")
    with pytest.raises(UsageError, match="labels cannot be joined"):
        TurnedEngine(Labels(), "flips", (8, 8)).run(picture((8, 8, 1)))
    with pytest.raises(UsageError, match="no model"):
        join_segmenters([])
    closed = make_segmenter(Pointwise())
    closed.close()
    with pytest.raises(ModelError, match="closed"):
        join_segmenters([closed], tta="flips")


# -------------------------------------------------------------------------------------------------- models and commands


@pytest.mark.parametrize("tta", ["flips", "all"])
def test_every_form_of_a_model_can_be_turned(
    cells: Path, run_folder: Path, float32_file: Path, int8_file: Path, tta: str
) -> None:
    image = read_image(next(iter(sorted((cells / "images").iterdir()))))[:40, :50]  # of the kind it is calibrated for
    chances = {}
    for model in (run_folder, float32_file, int8_file):
        with open_segmenter(model, tta=tta) as segmenter:
            chances[model] = probabilities(segmenter.segment(image, scores=True).scores)
    np.testing.assert_allclose(chances[run_folder], chances[float32_file], atol=1e-4)
    assert np.abs(chances[run_folder] - chances[int8_file]).mean() < 0.05


def test_a_turned_file_is_by_hand_the_mean_over_turned_pictures(int8_file: Path) -> None:
    with open_segmenter(int8_file) as plain, open_segmenter(int8_file, tta="all") as turned:
        side = plain.card.preprocessing.size[0]
        image = picture((side, side))
        chances = []
        for transposed in (False, True):
            for rows, columns in itertools.product((1, -1), (1, -1)):
                view = (image.T if transposed else image)[::rows, ::columns]
                back = softmax(plain.segment(view.copy(), scores=True).scores.astype(np.float64), -1)[::rows, ::columns]
                chances.append(back.transpose(1, 0, 2) if transposed else back)
        found = turned.segment(image, scores=True).scores
    np.testing.assert_allclose(found, np.log(np.mean(chances, 0)), atol=1e-5)


def test_run_folder_keras_file_and_tflite_are_joined(run_folder: Path, int8_file: Path, tmp_path: Path) -> None:
    inputs = keras.Input((32, 32, 1))
    model = tmp_path / "mine.keras"
    keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(inputs)).save(model)
    image = picture((40, 32))
    with open_segmenter(run_folder) as opened:
        pre, names = opened.card.preprocessing, list(opened.card.class_names)
    other = Preprocessing(channels=1, value_range=(0, 1), size=pre.size)
    alone = []
    for each, fields in ((run_folder, {}), (int8_file, {}), (model, {"preprocessing": other, "classes": names})):
        with open_segmenter(each, overlap=0, **fields) as segmenter:
            alone.append(softmax(segmenter.segment(image[:32], scores=True).scores.astype(np.float64), -1))
    joined = open_segmenter(
        run_folder, others=[int8_file, model], preprocessing=other, classes=names, overlap=0, tta="none"
    )
    with joined:
        found = joined.segment(image[:32], scores=True).scores
    np.testing.assert_allclose(softmax(found, -1), np.mean(alone, 0), atol=1e-5)


@pytest.mark.slow
def test_the_commands(run_folder: Path, int8_file: Path, cells: Path, tmp_path: Path, capsys) -> None:
    scores = tmp_path / "scores.json"
    command = ["evaluate", run_folder, cells, "--split", "all", "--tta", "all", "--with", int8_file, "--json", scores]
    assert main([str(part) for part in command]) == 0
    found = json.loads(scores.read_text())
    assert (found["turns"], found["others"], found["num_images"]) == ("all", [str(int8_file)], 8)
    capsys.readouterr()
    command = [
        "predict",
        run_folder,
        cells / "images",
        "--out",
        tmp_path / "o",
        "--tta",
        "flips",
        "--with",
        int8_file,
    ]
    assert main([str(part) for part in command]) == 0
    with open_segmenter(run_folder, tta="flips", others=[int8_file]) as segmenter:
        from unetres_edge.images.decode import read_mask

        image = sorted((cells / "images").iterdir())[0]
        np.testing.assert_array_equal(read_mask(tmp_path / "o" / image.name), segmenter.segment(image).class_map)
    capsys.readouterr()
    assert main(["predict", str(run_folder), str(image), "--out", str(tmp_path / "p"), "--with", "none.tflite"]) == 5
    assert "none.tflite" in capsys.readouterr().err


def test_the_runtimes_command_turns(int8_file: Path, cells: Path, tmp_path: Path, capsys) -> None:
    from unetres_edge.cli import main as edge_main
    from unetres_edge.images.decode import read_mask

    image = sorted((cells / "images").iterdir())[0]
    command = ["predict", int8_file, image, "--out", tmp_path / "o", "--tta", "all"]
    assert edge_main([str(part) for part in command]) == 0
    with open_segmenter(int8_file, tta="all") as segmenter:
        np.testing.assert_array_equal(read_mask(tmp_path / "o" / image.name), segmenter.segment(image).class_map)
    assert "[1/1]" in capsys.readouterr().out
