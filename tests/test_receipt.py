"""What a receipt says: paired drops, step by step, the images that lost most, and the page of it."""

from __future__ import annotations

import html.parser
import json
from dataclasses import FrozenInstanceError, asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_unetres.pages.receipt import CHANGE_COLORS, receipt_page, speed_line
from keras_unetres.scores.bootstrap import Margins, find_intervals
from keras_unetres.scores.confusion import Confusion
from keras_unetres.scores.paired import Drop, drop_of_miou, drop_of_share
from keras_unetres.verify.changes import mark_changes
from keras_unetres.verify.compare import compare_classifiers, compare_segmenters, count_maps, pack, unpack
from keras_unetres.verify.gate import decide
from keras_unetres.verify.receipt import Receipt, read_receipt
from keras_unetres.verify.rows import DEVICE, MIOU, classify_rows, image_rows, segment_rows
from keras_unetres.workflows.demo import summarise, table
from unetres_edge import Card, Preprocessing
from unetres_edge.errors import FileSystemError, ReceiptError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.card import default_colors
from unetres_edge.results.result import Result

NAMES = ("sky", "sea", "land")
CARD = Card(NAMES, default_colors(3), Preprocessing(channels=1, size=(8, 8)))


@dataclass(frozen=True)
class Sample:
    name: str
    image: np.ndarray
    mask: np.ndarray


class Noisy:
    """Takes the label out of the image, and gets some pixels wrong: each with a chance that depends on the image."""

    card = CARD

    def __init__(self, seed: int, chance: float) -> None:
        self._random, self._chance = np.random.default_rng(seed), chance

    def segment(self, image: np.ndarray) -> Result:
        truth = image // 80
        wrong = self._random.random(truth.shape) < self._chance * image.mean() / 100
        return Result(np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8), None, NAMES, (), {"total": 2.0})


def make_samples(count: int, *, ignored: bool = True) -> list[Sample]:
    random = np.random.default_rng(5)
    samples = []
    for index in range(count):
        labels = np.clip(random.integers(0, 3, (12, 10)) - (index % 3 == 0), 0, 2)
        mask = labels.astype(np.uint8)
        if ignored:
            mask[0, :index] = IGNORE
        samples.append(Sample(f"{index}.png", (labels * 80).astype(np.uint8), mask))
    return samples


def miou(samples: list[Sample], maps: list[np.ndarray], chosen: np.ndarray) -> float:
    """mIoU over some images, drawn with repeats: counted pixel by pixel, class by class."""
    scores = []
    for label in range(3):
        hit = union = truth = 0
        for index in chosen:
            mask, found = samples[index].mask, maps[index]
            valid = mask != IGNORE
            a, b = (mask == label) & valid, (found == label) & valid
            hit, union, truth = hit + (a & b).sum(), union + (a | b).sum(), truth + a.sum()
        if truth:
            scores.append(hit / union)
    return float(np.mean(scores))


@pytest.fixture(scope="module")
def scored() -> tuple[list[Sample], dict[str, list[np.ndarray]], Any]:
    samples = make_samples(14)
    maps: dict[str, list[np.ndarray]] = {"Keras": [], "file": []}

    class Watched(Noisy):
        def __init__(self, title: str, seed: int, chance: float) -> None:
            super().__init__(seed, chance)
            self._title = title

        def segment(self, image: np.ndarray) -> Result:
            result = super().segment(image)
            maps[self._title].append(result.class_map)
            return result

    steps = compare_segmenters({"Keras": Watched("Keras", 1, 0.05), "file": Watched("file", 2, 0.2)}, samples, shown=3)
    return samples, maps, steps


# ------------------------------------------------------------------------------------------------------------ the drop


def test_the_drop_is_the_difference_of_two_scores_of_the_same_images(scored: Any) -> None:
    samples, maps, steps = scored
    drop = drop_of_miou(steps.forms["Keras"].margins, steps.forms["file"].margins)
    every = np.arange(len(samples))
    assert drop is not None
    assert drop.points == pytest.approx(
        100 * (miou(samples, maps["Keras"], every) - miou(samples, maps["file"], every))
    )
    assert drop.points > 1


def test_the_interval_is_over_draws_of_the_same_images_for_both(scored: Any) -> None:
    samples, maps, steps = scored
    random = np.random.default_rng(77)
    drawn = []
    for _ in range(600):
        chosen = random.integers(0, len(samples), len(samples))
        drawn.append(100 * (miou(samples, maps["Keras"], chosen) - miou(samples, maps["file"], chosen)))
    first, last = steps.forms["Keras"].margins, steps.forms["file"].margins
    drop = drop_of_miou(first, last, draws=4000)
    assert drop is not None
    assert drop.interval is not None
    np.testing.assert_allclose(drop.interval, np.quantile(drawn, [0.025, 0.975]), atol=0.6)
    apart = [find_intervals(margins).miou for margins in (first, last)]
    assert all(apart)
    widest = 100 * max(high - low for low, high in apart if low is not None)
    assert 0 < drop.interval[1] - drop.interval[0] < 1.5 * widest


def test_a_form_that_is_the_same_drops_by_nothing_in_every_draw(scored: Any) -> None:
    margins = scored[2].forms["Keras"].margins
    drop = drop_of_miou(margins, margins)
    assert drop is not None
    assert (drop.points, drop.interval) == (0.0, (0.0, 0.0))


def test_one_image_has_no_interval_and_none_has_no_drop() -> None:
    one = Margins.of(Confusion.of(np.array([[0, 1]], np.uint8), np.array([[0, 0]], np.uint8), 3))
    drop = drop_of_miou(one, one)
    assert drop is not None
    assert drop.interval is None
    nothing = Margins.of(Confusion.of(np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8), 3))
    assert drop_of_miou(nothing, nothing) is None
    assert drop_of_miou(Margins.joined([], 3), Margins.joined([], 3)) is None
    assert drop_of_share(np.zeros(0, bool), np.zeros(0, bool)) is None


def test_the_drop_of_a_share_of_images() -> None:
    before = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], bool)
    after = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 1], bool)
    drop = drop_of_share(before, after)
    assert drop is not None
    assert drop.points == 0
    assert drop.interval is not None
    # Two of ten images change, one each way: a draw's sum of them has the variance of ten steps of 1, 0 or -1.
    deviation = 10 * np.sqrt(10 * 0.2)
    assert drop.interval[1] == pytest.approx(1.96 * deviation, abs=5)
    assert drop.interval[0] == pytest.approx(-1.96 * deviation, abs=5)


@pytest.mark.parametrize(
    ("points", "allowed", "passed", "words"),
    [
        (
            0.25,
            0.3,
            True,
            "Passed. The file loses 0.25 points of mIoU (95 %: a change of −0.40 to −0.10) on 9 images; a loss of 0.3",
        ),
        (0.3, 0.3, True, "loses 0.30"),
        (0.31, 0.3, False, "Rejected. The file loses 0.31 points of mIoU"),
        (-0.2, 0.0, True, "Passed. The file gains 0.20 points of mIoU (95 %: a change of −0.40 to −0.10)"),
        (0.001, 0.3, True, "Passed. The file keeps its mIoU (95 %: a change of −0.40 to −0.10)"),
    ],
)
def test_the_ruling_says_what_was_lost_and_what_is_allowed(
    points: float, allowed: float, passed: bool, words: str
) -> None:
    ruling = decide(Drop(points, (0.1, 0.4)), allowed, score="mIoU", images="9 images")
    assert ruling.passed is passed
    assert words in ruling.line


def test_what_was_not_scored_has_neither_passed_nor_failed() -> None:
    ruling = decide(None, 0.3, score="", images="", why_not="there is no data set at /x")
    assert (ruling.passed, ruling.line) == (None, "Not scored: there is no data set at /x.")


@pytest.mark.parametrize(
    ("ms", "file", "said"),
    [
        ((9.0, 6.0, 2.0, 2.1), "int8 .tflite", "computes 3.0 times as fast as float32, on the machine that scored it"),
        ((9.0, 6.0, 9.0, 9.1), "int8 .tflite", "takes 1.5 times as long as float32, on the machine that scored it"),
        ((9.0, None, 9.0, 9.1), "int8 .tflite", ""),
        ((9.0, 6.0, None, None), "int8 .tflite", ""),
        ((9.0, 6.0, 9.0, 9.1), "float32 .tflite", ""),
    ],
)
def test_the_receipt_says_how_fast_a_file_is_here(ms: tuple[float | None, ...], file: str, said: str) -> None:
    assert speed_line(("Keras", "float32 .tflite", "int8 .tflite", "device"), ms, file) == said


# ------------------------------------------------------------------------------------------------------- step by step


def test_rows_of_a_segmenter(scored: Any) -> None:
    samples, maps, steps = scored
    first, last = segment_rows(steps.forms, NAMES)
    every = np.arange(len(samples))
    assert (first.title, last.title) == ("Keras", "file")
    assert (first.drop, first.labels_equal) == (Drop(0, (0, 0)), 1)
    assert last.score == pytest.approx(miou(samples, maps["file"], every))
    equal = np.mean([a == b for a, b in zip(maps["Keras"], maps["file"], strict=True)])
    assert last.labels_equal == pytest.approx(equal)
    assert last.ms == 2.0
    assert list(last.per_class) == list(NAMES)
    assert np.mean(list(last.per_class.values())) == pytest.approx(last.score)


def test_rows_of_images_and_the_worst_of_them(scored: Any) -> None:
    samples, maps, steps = scored
    rows = image_rows(steps)
    alone = [
        100 * (miou(samples, maps["Keras"], np.array([i])) - miou(samples, maps["file"], np.array([i])))
        for i in range(len(samples))
    ]
    assert [row.drop for row in rows] == pytest.approx(alone)
    worst = np.argsort(alone)[::-1][:3]
    assert [loss.index for loss in steps.changed] == worst.tolist()
    assert [loss.points for loss in steps.changed] == pytest.approx([alone[index] for index in worst])
    assert [loss.name for loss in steps.changed] == [samples[index].name for index in worst]


def test_class_maps_of_another_process_are_compared_with_those_of_the_file(scored: Any) -> None:
    samples, maps, steps = scored
    same = count_maps(maps["file"], samples, steps.maps, [1.0] * len(samples), 3)
    assert (same.equal == 1).all()
    np.testing.assert_array_equal(same.margins.hits, steps.forms["file"].margins.hits)
    changed = [class_map.copy() for class_map in maps["file"]]
    changed[4][0, 0] = (changed[4][0, 0] + 1) % 3
    other = count_maps(changed, samples, steps.maps, [1.0] * len(samples), 3)
    assert np.flatnonzero(other.equal < 1).tolist() == [4]
    np.testing.assert_array_equal(unpack(pack(maps["file"][2]), (12, 10)), maps["file"][2])


def test_pixels_that_changed_are_marked_by_who_was_right() -> None:
    mask = np.array([[0, 0, 0, 0], [IGNORE, 1, 1, 1]], np.uint8)
    first = np.array([[0, 1, 1, 0], [0, 1, 1, 1]], np.uint8)
    last = np.array([[1, 0, 2, 0], [1, 1, 1, 1]], np.uint8)
    layer = mark_changes(first, last, mask, (2, 4))
    lost, gained, neither = (CHANGE_COLORS[name] for name in ("lost", "gained", "both wrong"))
    assert [tuple(pixel[:3]) for pixel in layer[0, :3]] == [lost, gained, neither]
    assert tuple(layer[1, 0]) == (*neither, 255)  # nothing says who is right
    assert layer[0, 3, 3] == layer[1, 1, 3] < 255
    small = mark_changes(first, last, mask, (1, 2))  # a lost pixel shows, however small the picture
    assert tuple(small[0, 0]) == (*lost, 255)


def test_rows_of_a_classifier() -> None:
    truth = np.array([0, 0, 1, 1])
    forms = {
        "Keras": (np.array([0, 0, 1, 0]), np.array([1.0, 3.0, 2.0, 2.0])),
        "file": (np.array([0, 1, 1, 0]), np.zeros(0)),
    }
    first, last = classify_rows(forms, truth, NAMES)
    assert (first.score, last.score, last.drop and last.drop.points) == (0.75, 0.5, 25)
    assert (first.ms, last.ms, last.labels_equal) == (2.0, None, 0.75)
    assert last.per_class == {"sky": 0.5, "sea": 0.5, "land": None}


def test_answers_of_forms_that_classify() -> None:
    class Fixed:
        def __init__(self, answer: int) -> None:
            self._answer = answer

        def classify(self, image: np.ndarray) -> Any:
            return type("Answer", (), {"class_id": self._answer + int(image.max()), "timing": {"total": 1.5}})()

    found = compare_classifiers({"a": Fixed(0), "b": Fixed(1)}, [np.zeros((2, 2)), np.ones((2, 2))])  # type: ignore[dict-item]
    assert found["a"][0].tolist() == [0, 1]
    assert found["b"][0].tolist() == [1, 2]
    assert found["b"][1].tolist() == [1.5, 1.5]


# ------------------------------------------------------------------------------------------------------------- the page


class Parsed(html.parser.HTMLParser):
    """Opening and closing tags must match; texts and addresses are kept."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def figures_of(steps: Any, *, passed: bool | None = False) -> dict[str, Any]:
    """A receipt as `keras_unetres.verify.receipt` writes it, of forms that were scored above."""
    ops = [
        {"op": "CONV_2D", "layers": ["conv", "<relu>"], "inputs": ["INT8"], "kernel": "INT8", "output": "INT8",
         "shape": [1, 8, 8, 3], "multiply_adds": 1500, "xnnpack": True},
        {"op": "ARG_MAX", "layers": [], "inputs": ["INT8"], "kernel": None, "output": "INT32", "shape": [1, 8, 8],
         "multiply_adds": 0, "xnnpack": False},
    ]  # fmt: skip
    end = {"type": "UINT8", "shape": [1, 8, 8, 1], "scale": 0.5, "zero_point": 3}
    rows = [] if steps is None else [{**row.to_dict(MIOU), "kb": 12.0} for row in segment_rows(steps.forms, NAMES)]
    verdict = {"target": "T & co", "fits": "partly", "reason": "1 op stays", "by": "Tool 1"}
    return {
        "verdict": {"passed": passed, "line": "Rejected. The file loses <much>."},
        "gate": {"score": "mIoU", "max_drop": 0.3, "drop": rows[-1]["drop"] if rows else None,
                 "drop_interval": rows[-1]["drop_interval"] if rows else None},
        "file": {"name": "m<1>.tflite", "bytes": 12000, "sha256": "ab" * 32, "recipe": "static_wi8_ai8",
                 "head": "logits", "size": [8, 8], "classes": list(NAMES)},
        "source": "/runs/a&b",
        "data": {"path": "/d", "split": "test", "num_images": 14, "fingerprint": "cd", "notes": ["few & far"]}
        if rows else {"why_not": "there is none"},
        "calibration": {"images": 24, "from": "training images", "ranges": "smallest to largest"},
        "steps": rows,
        "images": [] if steps is None else [asdict(row) for row in image_rows(steps)],
        "noise_db": {"<relu>": 31.4},
        "mixed": None,
        "contents": {"ops": ops, "float_islands": [], "outside_xnnpack": ["ARG_MAX"], "xnnpack_partitions": 1,
                     "constant_bytes": 900, "arena_bytes": 2_500_000, "arena_by": "computed", "multiply_adds": 1500,
                     "inputs": [end], "outputs": [end], "metadata": ["CARD"]},
        "targets": [{**verdict, "rules": {**verdict, "fits": "yes"}, "note": None}],
        "versions": {"numpy": "2"},
        "command": "unetres export 'a b' --out m.tflite",
    }  # fmt: skip


def test_the_page_is_whole_and_needs_no_network(scored: Any) -> None:
    figures = figures_of(scored[2])
    json.dumps(figures, allow_nan=False)
    page = Parsed(receipt_page(figures, scored[2].changed, default_colors(3)))
    assert page.open == []
    assert "script" not in page.tags
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    text = " ".join(page.texts)
    names = ("Rejected", "The file loses <much>.", "m<1>.tflite", "few & far", "conv +", "<relu>", "31.4", "T & co")
    for words in (*names, "by rules yes", "1.5 k", "2.5 MB", "outside", "unetres export 'a b'", "ab" * 32):
        assert words in text
    assert [row["title"] for row in figures["steps"]] == ["Keras", "file"]
    assert f"{figures['steps'][1]['score']:.4f}" in text
    for loss in scored[2].changed:
        assert loss.name in text
    assert sum(address.startswith("data:") for address in page.addresses) == 5 * len(scored[2].changed)


def test_the_page_of_a_file_that_was_not_scored() -> None:
    page = Parsed(receipt_page(figures_of(None, passed=None), (), default_colors(3)))
    text = " ".join(page.texts)
    assert page.open == []
    assert "Not scored" in text
    assert "there is none" in text
    assert "Step by step" not in text


# ----------------------------------------------------------------------------------------------------------- the object

# Written by `unetres export run --recipe static_wi8_ai8 --split all --max-drop 5` of version 0.1.0, for a run of three
# epochs on 24 drawn pictures; paths were shortened.
GOLDEN = Path(__file__).parent / "golden" / "receipt_0_1_0.json"


def test_a_receipt_of_an_earlier_version_is_read_whole() -> None:
    values = json.loads(GOLDEN.read_text(encoding="utf-8"))
    receipt = Receipt.from_dict(values)
    assert receipt.passed is True
    assert receipt.drop == Drop(values["gate"]["drop"], tuple(values["gate"]["drop_interval"]))
    assert [row.title for row in receipt.rows] == ["Keras", "float32 .tflite", "static_wi8_ai8 .tflite", DEVICE]
    assert (receipt.file.agreement, receipt.scored_on and receipt.scored_on.num_images) == (None, 24)
    again = receipt.to_dict()
    added = {"colors": [list(color) for color in default_colors(2)], "agreement": None}
    assert again == {**values, "file": {**values["file"], **added}, "reliability": None, "refinement": None}
    assert receipt.scores["miou"] == values["steps"][2]["score"]
    assert str(receipt) == f"m.tflite, static_wi8_ai8, 22 kB: {values['verdict']['line']}"
    assert "<html" not in receipt._repr_html_()
    assert receipt.file.sha256 in receipt._repr_html_()


def test_a_receipt_shows_what_a_file_expects_of_its_masks() -> None:
    values = json.loads(GOLDEN.read_text(encoding="utf-8"))
    quality = {
        "measured_on": "2 test images",
        "images": [[0.5, 0.25], [1, 1]],
        "mean_error": 0.125,
        "correlation": None,
    }
    for values["reliability"] in ({"why_not": "parts differ", "quality": quality}, {"why_not": "parts differ"}):
        receipt = Receipt.from_dict(values)
        page = receipt._repr_html_()
        assert ("off by 0.125 in the mean, on 2 test images" in page) == ("quality" in values["reliability"])
        for tip in ("0.500 expected, 0.250 true", "1.000 expected, 1.000 true"):
            assert (tip in page) == ("quality" in values["reliability"])
        assert receipt.to_dict()["reliability"] == values["reliability"]
    values["reliability"] = {"why_not": "", "quality": {**quality, "images": "all"}}
    with pytest.raises(ReceiptError, match="quality"):
        Receipt.from_dict(values)


def test_a_receipt_goes_through_json_and_back() -> None:
    values = json.loads(GOLDEN.read_text(encoding="utf-8"))
    values["data"] = {"why_not": "there is no data set at /x"}
    values |= {"steps": [], "images": [], "noise_db": {}, "added later": 1}
    values["gate"] |= {"score": None, "drop": None, "drop_interval": None}
    values["verdict"] = {"passed": None, "line": "Not scored: there is no data set at /x.", "added later": 1}
    receipt = Receipt.from_dict(values)
    assert Receipt.from_dict(json.loads(json.dumps(receipt.to_dict()))) == receipt
    assert (receipt.passed, receipt.drop, receipt.rows, receipt.scores) == (None, None, (), {})
    assert receipt.table() == []
    with pytest.raises(FrozenInstanceError):
        receipt.source = "other"  # type: ignore[misc]


def test_names_that_are_no_text_do_not_break_the_json() -> None:
    receipt = replace(Receipt.from_dict(json.loads(GOLDEN.read_text())), source="/runs/caf\udcff")
    assert receipt.to_dict()["source"] == "/runs/caf?"
    json.dumps(receipt.to_dict(), ensure_ascii=False).encode()


def broken(*path: str | int, value: Any = None, drop: bool = False) -> Any:
    """The golden receipt with one value changed or left out."""
    values = json.loads(GOLDEN.read_text(encoding="utf-8"))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "the file is wrong; expected dict; found list"),
        ({}, "the file has no schema"),
        (broken("schema", value=2), "another version; expected 1; found 2"),
        (broken("verdict", "line", drop=True), "verdict has no line"),
        (broken("verdict", "passed", value="yes"), "verdict.passed is wrong; expected bool or null; found str"),
        (broken("steps", 1, "score", value="0.5"), r"steps\[1\].score is wrong; expected int or float or null"),
        (broken("images", 0, "name", drop=True), r"images\[0\] has no name"),
        (broken("data", "split", drop=True), "data has no split"),
        (broken("file", "colors", value=[[0, 0, 0], True]), r"file.colors is wrong; expected \[red, green, blue\] for"),
        (broken("file", "colors", value="red"), "file.colors is wrong"),
        (broken("contents", "ops", value={}), "contents.ops is wrong; expected list; found dict"),
    ],
)
def test_what_is_no_receipt_is_named(values: Any, words: str) -> None:
    with pytest.raises(ReceiptError, match=f"^receipt: m.receipt.json: .*{words}"):
        Receipt.from_dict(values, file="m.receipt.json")


def test_the_demo_reads_the_receipt(tmp_path: Path) -> None:
    receipt = Receipt.from_dict(json.loads(GOLDEN.read_text(encoding="utf-8")))
    sizes = {"weights": 4000, "float32": 3000, "int8": 1000}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    files = {name: tmp_path / name for name in ("float32", "int8")}
    summary = summarise(receipt, tmp_path / "weights", files)
    assert list(summary) == ["keras", "float32", "int8", "edge"]
    assert [row["miou"] for row in summary.values()] == [row.score for row in receipt.rows]
    assert [row["kb"] for row in summary.values()] == [4.0, 3.0, 1.0, 1.0]
    assert summary["edge"]["labels_as_predict"] == 1
    assert [line.split()[0] for line in table(summary)[1:]] == list(summary)


def test_a_receipt_is_found_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "m.receipt.json").write_bytes(GOLDEN.read_bytes())
    receipt = read_receipt(tmp_path / "m.tflite")
    assert receipt.path is None
    (tmp_path / "m.tflite").write_bytes(b"")
    assert read_receipt(tmp_path / "m.receipt.json").path == tmp_path / "m.tflite"
    assert read_receipt(tmp_path / "m.tflite") == receipt
    (tmp_path / "m.receipt.json").write_text("{")
    with pytest.raises(ReceiptError, match="not JSON"):
        read_receipt(tmp_path / "m.tflite")
    with pytest.raises(FileSystemError):
        read_receipt(tmp_path / "n.tflite")
