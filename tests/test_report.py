"""The report: intervals against all draws there can be, a page that is whole and says what the other commands say."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import itertools
import json
import math
import re
import shlex
import shutil
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_info, silent
from PIL import Image

from keras_unetres.cli import main
from keras_unetres.cli.table import make_parser
from keras_unetres.objects import Separation
from keras_unetres.pages.cases import MISTAKE_COLORS, Extremes, make_case, mark_errors, tint
from keras_unetres.pages.charts import Line, confusion_rows, largest_confusions, line_chart, nice_ticks
from keras_unetres.pages.pictures import Filmstrip, spread
from keras_unetres.pages.report import ReportContent, report_figures, report_page
from keras_unetres.runs import DataInfo, RunFolder
from keras_unetres.scores.bootstrap import Margins, find_intervals
from keras_unetres.scores.confusion import Confusion
from keras_unetres.settings import TrainCommand, TrainSettings
from keras_unetres.tasks.reports import command_of, make_report
from keras_unetres.tasks.review import Watched, review
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.report import report
from unetres_edge import Card, Preprocessing, Segmenter
from unetres_edge.command_line import read
from unetres_edge.errors import FileSystemError, RunFolderError, UsageError
from unetres_edge.model.card import default_colors

IGNORED = 255
NASTY = (
    "<script>alert(1)</script>",
    "\"quoted' & 'more\"",
    "\N{MICROSCOPE}\N{ZERO WIDTH JOINER} emoji.png",
    "lone\udcff surrogate",
    "bell\x07",
    "http://example.org/x",
)


# ------------------------------------------------------------------------------------------------------------ intervals


def random_confusions(seed: int, number: int, classes: int, rare: int | None = None) -> list[Confusion]:
    """Counts of images of unlike size and quality; one class is in the first image alone."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 40, (number, classes, classes)) * rng.integers(1, 9, (number, 1, 1))
    if rare is not None:
        counts[1:, rare] = 0
    return [Confusion(count.astype(np.int64)) for count in counts]


def margins_of(confusions: list[Confusion]) -> Margins:
    return Margins.joined([Margins.of(confusion) for confusion in confusions], len(confusions[0].counts))


def by_hand(count: np.ndarray) -> dict[str, float]:
    """Scores of one count, class by class in plain Python."""
    ious, dices = [], []
    for label in range(len(count)):
        hit, truth, predicted = int(count[label, label]), int(count[label].sum()), int(count[:, label].sum())
        if truth:
            ious.append(hit / (truth + predicted - hit))
            dices.append(2 * hit / (truth + predicted))
    right = sum(int(count[label, label]) for label in range(len(count)))
    return {"miou": sum(ious) / len(ious), "dice": sum(dices) / len(dices), "accuracy": right / int(count.sum())}


def test_scores_of_the_sum_are_those_of_the_confusion_count() -> None:
    confusions = random_confusions(1, 5, 3)
    total = sum(confusions, Confusion.empty(3))
    scores = margins_of(confusions).total()
    assert float(scores.miou) == total.mean_iou() == pytest.approx(by_hand(total.counts)["miou"], rel=1e-12)
    assert scores.iou.tolist() == total.iou()
    assert float(scores.accuracy) == total.pixel_accuracy()
    assert float(scores.mean_dice) == pytest.approx(by_hand(total.counts)["dice"], rel=1e-12)


def test_intervals_are_those_of_all_draws_there_can_be() -> None:
    """Every one of the 6**6 draws of six images, scored in plain Python, against 20,000 random ones."""
    confusions = random_confusions(2, 6, 2)
    every: dict[str, list[float]] = {"miou": [], "dice": [], "accuracy": []}
    weights = []
    for draw in itertools.combinations_with_replacement(range(6), 6):
        counts = [draw.count(image) for image in range(6)]
        weights.append(math.factorial(6) / math.prod(math.factorial(count) for count in counts))
        for name, value in by_hand(sum(confusions[image].counts for image in draw)).items():
            every[name].append(value)
    assert sum(weights) == 6**6
    found = find_intervals(margins_of(confusions), draws=20_000)
    for name, interval in (("miou", found.miou), ("dice", found.mean_dice), ("accuracy", found.accuracy)):
        order = np.argsort(every[name])
        reached = np.cumsum(np.array(weights)[order]) / 6**6
        width = max(every[name]) - min(every[name])
        assert interval is not None
        for share, bound in zip((0.025, 0.975), interval, strict=True):
            expected = np.array(every[name])[order][np.searchsorted(reached, share)]
            assert bound == pytest.approx(expected, abs=0.02 * width)


def test_an_interval_is_not_that_of_a_mean_over_images() -> None:
    """One large bad image among small good ones: the mean over images would never come near what the sum gives."""
    good, bad = np.diag([50, 50]), np.array([[0, 5000], [5000, 0]])
    found = find_intervals(margins_of([Confusion(good)] * 9 + [Confusion(bad)]))
    assert found.accuracy is not None
    assert found.accuracy[0] < 0.05  # with the bad image drawn at all
    assert found.accuracy[1] == 1.0  # in a third of the draws it is not


def test_a_rare_class_is_scored_where_it_is_drawn() -> None:
    confusions = random_confusions(3, 8, 3, rare=2)
    found = find_intervals(margins_of(confusions), draws=4000)
    ious = []
    rng = np.random.default_rng(99)
    for _ in range(4000):
        chosen = rng.integers(0, 8, 8)
        if 0 in chosen:
            count = sum(confusions[image].counts for image in chosen)
            ious.append(count[2, 2] / (count[2].sum() + count[:, 2].sum() - count[2, 2]))
    assert found.iou[2] == pytest.approx(np.quantile(ious, [0.025, 0.975]), rel=0.1)


def test_where_nothing_can_be_said_there_is_no_interval() -> None:
    one = find_intervals(margins_of(random_confusions(4, 1, 2)))
    assert (one.miou, one.mean_dice, one.accuracy, one.iou) == (None, None, None, (None, None))
    absent = [Confusion(np.diag([5, 0])) for _ in range(3)]
    found = find_intervals(margins_of(absent))
    assert found.iou == ((1.0, 1.0), None)
    nothing = find_intervals(margins_of([Confusion.empty(2)] * 3))
    assert (nothing.miou, nothing.accuracy) == (None, None)


def test_the_seed_decides() -> None:
    margins = margins_of(random_confusions(5, 7, 3))
    assert find_intervals(margins) == find_intervals(margins)
    assert find_intervals(margins) != find_intervals(margins, seed=1)


def test_intervals_cover_about_as_often_as_they_say() -> None:
    """Images of a known population: the interval of 40 images holds the population's accuracy about 19 times of 20."""
    rng = np.random.default_rng(0)
    right = rng.binomial(1000, rng.beta(8, 2, 4000))
    population = [Confusion(np.array([[hits, 1000 - hits], [0, 0]])) for hits in right]
    margins = margins_of(population)
    truth = right.sum() / (1000 * len(right))
    inside = 0
    for trial in range(300):
        chosen = rng.integers(0, len(right), 40)
        some = Margins(margins.hits[chosen], margins.truth[chosen], margins.predicted[chosen])
        interval = find_intervals(some, draws=400, seed=trial).accuracy
        assert interval is not None
        inside += interval[0] <= truth <= interval[1]
    assert 0.89 < inside / 300 < 0.98


# ------------------------------------------------------------------------------------------------------- charts, cases


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.62, 0.71), (3.0, 3.0), (0.0, 0.0), (1e-6, 1e-3), (-2, 900)])
def test_ticks_are_round_and_cover(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 8
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:e}"[0] in "125"


def test_a_chart_draws_what_is_finite_and_marks_the_epoch() -> None:
    lines = [Line("a<b", [(1, 0.5), (2, math.nan), (3, 0.25)]), Line("none", [])]
    chart = line_chart("Loss", lines, mark=3)
    assert chart is not None and chart.mark is not None
    (line,) = chart.lines
    first, last = line.dots
    assert [dot.tip for dot in line.dots] == ["a<b, epoch 1: 0.5", "a<b, epoch 3: 0.25"]
    assert (first.x, last.x) == (chart.left, chart.width - chart.right)
    assert first.y < last.y  # the higher value stands higher
    assert (chart.mark.at, chart.mark.text) == (last.x, "kept, epoch 3")
    assert line_chart("Loss", [Line("none", [(1, math.inf)])]) is None


def test_the_commonest_mistakes_come_first() -> None:
    counts = np.array([[90, 8, 2], [0, 50, 50], [0, 0, 0]])
    assert largest_confusions(counts, 2) == [(1, 2, 50, 0.5), (0, 1, 8, 0.08)]
    assert largest_confusions(np.diag([3, 4]), 5) == []


def test_the_table_of_confusions_is_by_row() -> None:
    (first, cells), (second, none) = confusion_rows(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert (first, second) == ("a", "b")
    assert [cell.text for cell in (*cells, *none)] == ["75.0", "25.0", "", ""]
    assert [cell.hit for cell in cells] == [True, False]
    assert cells[1].tip == "a taken for b: 1 of 4 px"


def test_errors_are_coloured_by_what_they_are() -> None:
    mask = np.array([[0, 0, 1, IGNORED]], np.uint8)
    guess = np.array([[0, 1, 0, 1]], np.uint8)
    count = Confusion.of(np.repeat(mask, 3, 0), np.repeat(guess, 3, 0), 2)
    case = make_case(
        0, "x", np.zeros((3, 4), np.uint8), np.repeat(mask, 3, 0), np.repeat(guess, 3, 0), count, [(0,) * 3] * 2
    )
    assert [(m.truth, m.predicted, m.share) for m in case.mistakes] == [(0, 1, 1 / 3), (1, 0, 1 / 3)]
    layer = mark_errors(mask, guess, case.mistakes)[0]
    assert tuple(layer[1, :3]) == MISTAKE_COLORS[0]
    assert tuple(layer[2, :3]) == MISTAKE_COLORS[1]
    assert not layer[0, :3].any() and not layer[3, :3].any()
    assert layer[3, 3] > layer[0, 3] > 0


def test_a_tint_leaves_the_first_class_clear() -> None:
    layer = tint(np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]], np.uint8), [(9, 9, 9), (200, 100, 50)])
    assert not layer[0].any()
    assert layer[1, 1].tolist() == [200, 100, 64, 255]  # an outline
    assert 0 < layer[2, 2, 3] < 255


@pytest.mark.parametrize("number", [1, 2, 5, 8, 30])
def test_the_extremes_are_the_first_and_last_of_a_sort(number: int) -> None:
    rng = np.random.default_rng(number)
    extremes = Extremes(4, [(0, 0, 0), (255, 0, 0)])
    scores = []
    for index in range(number):
        mask = rng.integers(0, 2, (6, 6)).astype(np.uint8)
        guess = np.where(rng.random((6, 6)) < rng.random(), mask, 1 - mask).astype(np.uint8)
        count = Confusion.of(mask, guess, 2)
        scores.append((count.mean_iou(), index))
        extremes.add(str(index), np.zeros((6, 6), np.uint8), mask, guess, count)
    nothing = np.full((6, 6), IGNORED, np.uint8)
    extremes.add("unlabelled", nothing, nothing, nothing * 0, Confusion.empty(2))
    order = [index for _, index in sorted(scores)]
    expected = order if number <= 8 else [*order[:4], *order[-4:]]
    assert [case.index for case in extremes.everything()] == expected


def test_a_large_image_is_kept_small() -> None:
    image = np.zeros((900, 1200, 3), np.uint8)
    mask = np.zeros((900, 1200), np.uint8)
    mask[:450] = 1
    case = make_case(0, "x", image, mask, mask, Confusion.of(mask, mask, 2), [(0, 0, 0), (255, 255, 255)])
    assert case.picture.shape == (288, 384, 3)
    assert (case.truth[:143, :, 3] > 0).all() and not case.truth[145:].any()


# ----------------------------------------------------------------------------------------------------------------- page


class Page(html.parser.HTMLParser):
    """What is in a page, and whether its tags close each other."""

    void = {"meta", "img", "br", "input"}

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.source = data.decode()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + "\n"

    def check(self) -> None:
        """Hold it against the rules for a page that needs nothing else."""
        assert self.open == []
        assert not self.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert all(re.match("data:image/png;base64,|#[a-z0-9]+$", address) for address in self.addresses)
        styles = "".join(re.findall("<style>(.*?)</style>", self.source, re.S))
        assert not re.search("url\\(|@import|//", styles)


class Threshold:
    """An engine that calls what is above the middle class 1."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        light = tile[..., 0].astype(np.float32) - 127.5
        return np.stack([-light, light, np.full_like(light, -999)], -1)


@dataclasses.dataclass(frozen=True)
class Picture:
    name: str
    image: np.ndarray
    mask: np.ndarray
    instances: np.ndarray | None = None


def make_segmenter(names: tuple[str, ...] = ("dark", "light", "never")) -> Segmenter:
    card = Card(names, default_colors(3), Preprocessing(channels=1, size=(16, 16)))
    return Segmenter(None, card=card, engine=Threshold())


def make_pictures(number: int, names: tuple[str, ...] = ()) -> list[Picture]:
    out = []
    for index in range(number):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (20, 24), np.uint8)
        mask = (image >= 128).astype(np.uint8)
        mask[rng.random(mask.shape) < 0.05 * (1 + index)] ^= 1
        mask[:2] = IGNORED
        out.append(Picture(names[index] if index < len(names) else f"{index}.png", image, mask))
    return out


def picture_of_squares(name: str, seen: int, drawn: int) -> Picture:
    """Squares of 5 px: the first are seen in the image, the first are drawn in the mask."""
    image, objects = np.zeros((16, 64), np.uint8), np.zeros((16, 64), np.int32)
    for number in range(max(seen, drawn)):
        place = np.s_[5:10, 8 * number + 1 : 8 * number + 6]
        image[place] = 255 if number < seen else 0
        objects[place] = number + 1 if number < drawn else 0
    return Picture(name, image, (objects > 0).astype(np.uint8), objects)


def test_a_report_of_objects_leads_with_them() -> None:
    pictures = [picture_of_squares("all.png", 3, 3), picture_of_squares("b<ad>.png", 4, 2)]
    found = review(make_segmenter(), pictures)
    content = make_content(1, review=found)
    objects = report_figures(content)["objects"]
    assert (objects["ap50"], objects["pq"], objects["count_error"]) == pytest.approx((5 / 7, 10 / 12, 1.0))
    assert (objects["num_objects"], objects["num_proposed"]) == (5, 7)
    assert objects["images"][1] == {"name": "b<ad>.png", "objects": 2, "found": 4}
    # of two images a draw is one of them twice, or both
    assert objects["ap50_interval"] == pytest.approx([0.5, 1.0])
    assert objects["pq_interval"] == pytest.approx([4 / 6, 1.0])
    assert objects["count_error_interval"] == pytest.approx([0.0, 2.0])
    page = report_page(content).decode()
    assert page.index("AP@0.5") < page.index("mIoU")
    assert "7 of 5" in page and "b&lt;ad&gt;.png" in page and "off by 1.0 (0.0 to 2.0)" in page


def test_a_report_without_objects_says_nothing_of_them() -> None:
    mixed = [picture_of_squares("a.png", 2, 2), *make_pictures(1)]
    assert report_figures(make_content(2, review=review(make_segmenter(), mixed)))["objects"] is None
    assert "AP@0.5" not in report_page(make_content(2)).decode()


def make_content(number: int, **changes: Any) -> ReportContent:
    names = changes.get("class_names", ("dark", "light", "never"))
    found = review(make_segmenter(), make_pictures(number))
    return ReportContent(
        **{
            "title": "t",
            "summary": "s",
            "split": "test",
            "class_names": names,
            "class_colors": default_colors(3),
            "review": found,
            **changes,
        }
    )


def test_a_page_is_whole_and_needs_no_network() -> None:
    history = [
        {"epoch": 1.0, "loss": 2.0, "miou": 0.1, "learning_rate": 1e-3},
        {"epoch": 2.0, "loss": 1.0, "miou": 0.2, "val_loss": 1.5, "val_miou": 0.3, "learning_rate": 5e-4},
    ]
    found = make_content(12, history=history, kept_epoch=2, notes=["mind"], facts={"A": {"b": 1}}, command="unetres x")
    page = Page(report_page(found))
    page.check()
    assert len([address for address in page.addresses if address.startswith("data:")]) == 8 * 4
    for address in page.addresses[:9]:
        if address.startswith("data:"):
            Image.open(io.BytesIO(b64decode(address.partition(",")[2]))).verify()
    for text in ("Worst", "Best", "Loss", "mIoU", "Learning rate", "kept, epoch 2", "mind", "unetres x", "absent"):
        assert text in page.text


def test_the_page_says_the_figures() -> None:
    found = make_content(5)
    figures, text = report_figures(found), Page(report_page(found)).text
    pictures = make_pictures(5)
    total = sum((Confusion.of(p.mask, (p.image >= 128).astype(np.uint8), 3) for p in pictures), Confusion.empty(3))
    assert figures["miou"] == total.mean_iou()
    assert [row["iou"] for row in figures["classes"]] == total.iou()
    assert figures["confusion"] == total.counts.tolist()
    assert sum(row["share"] for row in figures["classes"]) == pytest.approx(1)
    for key in ("miou", "mean_dice", "pixel_accuracy"):
        low, high = figures[f"{key}_interval"]
        assert low <= figures[key] <= high
        assert f"{figures[key]:.4f}" in text
        assert f"{low:.3f} to {high:.3f}" in text
    for row in figures["classes"][:2]:
        assert f"{row['iou']:.4f}" in text and f"{row['dice']:.4f}" in text and f"{100 * row['share']:.2f} %" in text
    assert figures["classes"][2] == {**figures["classes"][2], "iou": None, "dice": None, "pixels": 0, "images": 0}
    json.dumps(figures, allow_nan=False)


def test_the_page_says_how_right_probabilities_are() -> None:
    """A network that is nearly always sure claims 1, and is wrong as often as its pixels are: that is the error."""
    found = make_content(3)
    figures, page = report_figures(found), report_page(found).decode()
    reliable = figures["reliability"]
    assert reliable["ece"] == pytest.approx(1 - figures["pixel_accuracy"], abs=5e-3)
    assert set(reliable["ece_by_class"]) == {"dark", "light", "never"}
    assert reliable["ece_by_class"]["never"] == 0
    assert reliable["calibrated"] is False
    assert f"{reliable['ece']:.4f}" in Page(page.encode()).text
    assert "not calibrated" in Page(page.encode()).text
    assert page.count('class="chart reliability"') == 1


def test_a_report_without_scores_has_no_reliability() -> None:
    found = make_content(2)
    found = dataclasses.replace(found, review=dataclasses.replace(found.review, reliability=None))
    assert report_figures(found)["reliability"] is None
    assert 'class="chart reliability"' not in report_page(found).decode()


def test_odd_names_are_text() -> None:
    names = (NASTY[0], NASTY[1], NASTY[3])
    pictures = make_pictures(len(NASTY), NASTY)
    found = make_content(
        1,
        class_names=names,
        title=NASTY[0],
        summary=NASTY[1],
        notes=NASTY,
        facts={NASTY[0]: dict(zip(NASTY, NASTY, strict=True))},
        command=NASTY[0],
        review=review(make_segmenter(), pictures),
    )
    page = Page(report_page(found))
    page.check()
    assert page.text.count("<script>alert(1)</script>") > 5
    assert "\N{MICROSCOPE}\N{ZERO WIDTH JOINER} emoji.png" in page.text
    assert "lone? surrogate" in page.text and "bell?" in page.text
    json.dumps(report_figures(found), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("number", [0, 1, 2, 8, 9])
def test_no_picture_is_shown_twice(number: int) -> None:
    page = Page(report_page(make_content(number)))
    page.check()
    places = re.findall('<image id="(picture[0-9]+)"', page.source)
    assert len(places) == len(set(places)) == min(number, 8)
    assert ("Worst" in page.text) == (number > 8)
    assert ("no interval" in page.text) == (number < 2)


def test_many_classes_have_no_table() -> None:
    names = tuple(f"class {n}" for n in range(50))
    counts = np.diag(np.full(50, 9))
    counts[3, 4] = 1
    margins = Margins.of(Confusion(counts))
    empty = make_content(1).review
    found = dataclasses.replace(
        empty, confusion=Confusion(counts), margins=margins, cases=(), intervals=find_intervals(margins)
    )
    fifty = make_content(
        1, class_names=names, class_colors=default_colors(50), review=dataclasses.replace(found, names=("a",))
    )
    page = Page(report_page(fifty))
    page.check()
    assert "class 3" in page.text and "heat" not in re.sub("<style>.*?</style>", "", page.source, flags=re.S)


# ------------------------------------------------------------------------------------------------------------- workflow


@pytest.fixture
def run_copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_a_run_reports_what_evaluate_says(run_copy: Path, cells: Path) -> None:
    said: list[str] = []
    figures = report(run_copy, say=said.append)
    scores = evaluate(run_copy, cells, split="test", say=silent)
    assert figures["miou"] == scores["miou"]
    assert {row["name"]: row["iou"] for row in figures["classes"]} == scores["per_class_iou"]
    assert {name: figures[name] for name in ("pixel_accuracy", "mean_dice")} == {
        name: scores[name] for name in ("pixel_accuracy", "mean_dice")
    }
    assert (figures["split"], figures["num_images"], figures["notes"]) == ("test", 1, [])
    assert json.loads((run_copy / "report.json").read_text()) == figures
    page = Page((run_copy / "report.html").read_bytes())
    page.check()
    assert f"{scores['miou']:.4f}" in page.text
    assert RunFolder(run_copy).read_info().data.fingerprint in page.text
    assert [row["epoch"] for row in figures["history"]] == [1, 2, 3]
    assert figures["kept_epoch"] in (1, 2, 3)
    assert all("learning_rate" in row for row in figures["history"])
    objects = evaluate(run_copy, cells, split="test", separation=Separation(), say=silent)["instances"]
    counts = f"AP@0.5 {objects['ap50']:.4f}, {objects['num_proposed']} of {objects['num_objects']} objects"
    assert said == [f"report    {run_copy / 'report.html'}: {counts}, mIoU {scores['miou']:.4f} on 1 image (test)"]


def test_the_command_makes_the_same_settings(run_copy: Path) -> None:
    info = RunFolder(run_copy).read_info()
    words = shlex.split(command_of(info, "a run's folder"))
    assert words[0] == "unetres"
    command = read(TrainCommand, make_parser("train").parse_args(words[1:]))
    assert command.out == "a run's folder"
    assert command.settings == info.train_settings()


@pytest.mark.parametrize(
    "settings",
    [
        {"border_weight": [8.0, 4.0], "masks_are": "instances", "target": "separated"},
        {"per_image": [1.0, 99.0], "residual": True, "class_weights": "balanced", "ignore": 11, "test_from": "*a b*"},
    ],
)
def test_commands_of_other_settings(settings: dict[str, Any]) -> None:
    wanted = TrainSettings.from_flat(settings)
    info = replace(run_info(), data=DataInfo("d ata", "", {}), settings=wanted.to_dict())
    command = read(TrainCommand, make_parser("train").parse_args(shlex.split(command_of(info, "r"))[1:]))
    assert (command.data, command.settings) == ("d ata", wanted)


def test_without_a_test_part_the_validation_part_is_scored_and_said_to_be_optimistic(run_copy: Path) -> None:
    run = RunFolder(run_copy)
    info = run.read_info()
    splits = {part: names for part, names in info.data.splits.items() if part != "test"}
    reading = replace(info.reading, test_from="none")
    run.write_info(replace(info, reading=reading, data=replace(info.data, splits=splits)))
    figures = report(run_copy, say=silent)
    assert figures["split"] == "val"
    notes = " ".join(figures["notes"])
    assert "optimistic" in notes and "no test part" in notes
    assert "optimistic" in Page((run_copy / "report.html").read_bytes()).text


def test_other_parts_are_named_for_what_they_are(run_copy: Path) -> None:
    assert "trained on" in report(run_copy, split="train", say=silent)["notes"][0]
    assert "optimistic" in report(run_copy, split="val", say=silent)["notes"][0]
    assert "no test part" not in report(run_copy, split="val", say=silent)["notes"][0]


def test_a_data_set_that_moved_is_the_same_and_one_that_changed_is_not(
    run_copy: Path, cells: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(cells, tmp_path / "moved"))
    assert report(run_copy, moved, say=silent)["notes"] == []
    name = RunFolder(run_copy).read_info().data.splits["train"][0]
    path = moved / "images" / name
    Image.fromarray(255 - read_png(path)).save(path)
    notes = report(run_copy, moved, split="train", say=silent)["notes"]
    assert "another data set" in notes[0] and "6 of the 6 images" in notes[0]
    info = RunFolder(run_copy).read_info()
    RunFolder(run_copy).write_info(replace(info, data=replace(info.data, path=str(moved))))
    assert "has changed" in report(run_copy, say=silent)["notes"][0]


def test_records_in_memory(run_copy: Path) -> None:
    names = RunFolder(run_copy).read_info().classes.names
    card = Card(names, default_colors(2), Preprocessing(channels=1, size=(16, 16)))

    class Two(Threshold):
        def run(self, tile: np.ndarray) -> np.ndarray:
            return super().run(tile)[..., :2]

    segmenter = Segmenter(None, card=card, engine=Two())
    figures = make_report(RunFolder(run_copy), segmenter, make_pictures(3), "test", silent)  # type: ignore[arg-type]
    assert figures["num_images"] == 3
    assert (run_copy / "report.html").is_file()


def test_the_command_line(run_copy: Path, float32_file: Path, cells: Path, tmp_path: Path) -> None:
    (run_copy / "report.html").unlink()
    assert main(["report", str(run_copy), "--out", str(tmp_path / "r.html")]) == 0
    assert {path.name for path in tmp_path.glob("r.*")} == {"r.html", "r.json"}
    assert not (run_copy / "report.html").exists()
    assert main(["report", str(float32_file), "--data", str(cells), "--out", str(tmp_path / "f.html")]) == 0
    page = Page((tmp_path / "f.html").read_bytes())
    page.check()
    assert "Training" not in page.text
    both = [json.loads((tmp_path / name).read_text())["miou"] for name in ("r.json", "f.json")]
    assert both[0] == pytest.approx(both[1], abs=1e-3)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda run, file, tmp: report(run, out=tmp / "r.pdf", say=silent), UsageError),
        (lambda run, file, tmp: report(run, out=tmp / "no" / "r.html", say=silent), FileSystemError),
        (lambda run, file, tmp: report(tmp, say=silent), RunFolderError),
        (lambda run, file, tmp: report(file, tmp, say=silent), UsageError),
        (lambda run, file, tmp: report(file, out=tmp / "r.html", say=silent), UsageError),
    ],
)
def test_mistakes_have_names(
    make: Callable[..., Any], error: type, run_copy: Path, float32_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        make(run_copy, float32_file, tmp_path)
    assert caught.value.fix or caught.value.expected or caught.value.file


def test_a_history_that_is_no_table_is_named(run_copy: Path) -> None:
    (run_copy / "history.csv").write_text("epoch,loss\n1,abc\n")
    with pytest.raises(RunFolderError, match="history.csv"):
        report(run_copy, say=silent)


# ------------------------------------------------------------------------------------------------ pictures of training


def test_epochs_are_spread_over_their_logarithm() -> None:
    kept: list[int] = []
    for epoch in range(1, 101):
        kept = spread([*kept, epoch], 8)
        assert kept[0] == 1 and kept[-1] == epoch and len(kept) == min(epoch, 8)
    assert max(b / a for a, b in itertools.pairwise(kept)) < 4
    assert spread([5, 6], 8) == [5, 6]


def read_png(path: Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())))


def test_a_filmstrip_grows_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    truth = np.zeros((32, 40, 3), np.uint8)
    strip = Filmstrip(tmp_path, "a", truth)
    widths = []
    for epoch in (1, 2, 3, 4):
        strip.add(epoch, {"a": truth + np.uint8(epoch), "b": truth})
        widths.append(read_png(tmp_path / "progress.png").shape[1])
    assert widths == sorted(set(widths))
    (tmp_path / "epochs" / "1_of_mine.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    Filmstrip(tmp_path, "a", truth).add(3, {"a": truth + np.uint8(30)})  # resumed after epoch 2
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == [
        "000001.png",
        "000002.png",
        "000003.png",
        "1_of_mine.png",
    ]
    assert (read_png(tmp_path / "epochs" / "000003.png") == 30).all()
    assert read_png(tmp_path / "progress.png").shape[1] == widths[2]


def test_watched_samples_are_drawn_with_the_weights_of_the_moment() -> None:
    pictures = make_pictures(2)
    watched = Watched(make_segmenter(), pictures, range(2))
    drawn = watched()
    assert list(drawn) == list(watched.truths) == ["0.png", "1.png"]
    assert drawn["0.png"].shape == (20, 24, 3)
    assert not np.array_equal(drawn["0.png"], watched.truths["0.png"])
