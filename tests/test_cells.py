"""Objects from scores: drawn shapes by hand, drawn cells by a matcher of its own, files read back, the commands."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.measure import regionprops

import keras_unetres as ku
from keras_unetres.cli import main
from keras_unetres.data import targets
from keras_unetres.data.synthetic import make_cells
from keras_unetres.objects import (
    Instances,
    Separation,
    describe,
    encode_label_map,
    encode_table,
    find_instances,
    object_classes,
    outline_instances,
    separate,
)
from keras_unetres.tasks.loading import open_segmenter
from keras_unetres.workflows.predict import InstanceFiles
from unetres_edge import Result
from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.decode import read_image
from unetres_edge.objects.separate import border_class

TWO = ("background", "cell")
THREE = ("background", "interior", "border")


def sure(classes: np.ndarray, count: int = 2) -> np.ndarray:
    """The probabilities of a network that has no doubt."""
    return np.eye(count)[classes.astype(int)]


def discs(shape: tuple[int, int], *discs: tuple[float, float, float]) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.logical_or.reduce([np.hypot(rows - y, columns - x) < r for y, x, r in discs])


def labels_of(mask: np.ndarray, **fields) -> np.ndarray:
    found = separate(sure(mask), TWO, Separation(**fields))
    assert found.labels.dtype == np.int32
    assert sorted(set(np.unique(found.labels)) - {0}) == list(range(1, len(found.class_ids) + 1))
    return found.labels


# --------------------------------------------------------------------------------------------------------------- shapes


def test_nothing_is_nothing() -> None:
    for shape in ((0, 0), (1, 1), (9, 7)):
        assert not labels_of(np.zeros(shape, bool)).any()
        three = separate(sure(np.zeros(shape), 3), THREE)
        assert (three.labels.shape, three.labels.any(), three.class_ids) == (shape, False, ())


def test_a_full_picture_is_one_object() -> None:
    assert (labels_of(np.ones((9, 14), bool)) == 1).all()
    assert (separate(sure(np.ones((9, 14)), 3), THREE).labels == 1).all()


def test_one_pixel() -> None:
    mask = np.zeros((5, 5), bool)
    mask[0, 4] = True
    assert not labels_of(mask).any()
    np.testing.assert_array_equal(labels_of(mask, min_size=1), mask)
    np.testing.assert_array_equal(labels_of(mask, min_size=0), mask)


@pytest.mark.parametrize("gap", [18, 17, 16])
def test_discs_that_touch_are_parted_in_the_middle(gap: int) -> None:
    mask = discs((40, 60), (20, 20, 10), (20, 20 + gap, 10))
    found = labels_of(mask)
    assert found.max() == 2
    np.testing.assert_array_equal(found > 0, mask)
    assert (found[20, 20], found[20, 20 + gap]) == (1, 2)
    left = np.nonzero(found == 1)[1]
    right = np.nonzero(found == 2)[1]
    assert abs(left.max() - (20 + gap / 2)) <= 2 and abs(right.min() - (20 + gap / 2)) <= 2
    assert labels_of(mask, split=False).max() == 1
    assert labels_of(mask, neck=0.2).max() == 1


def test_the_neck_is_a_share_whatever_the_size() -> None:
    for scale in (1, 2, 4):
        r = 8 * scale
        mask = discs((4 * r, 6 * r), (2 * r, 2 * r, r), (2 * r, 2 * r + 1.75 * r, r))  # a neck of 0.48 r
        assert labels_of(mask, neck=0.75).max() == 2
        assert labels_of(mask, neck=0.4).max() == 1


@pytest.mark.parametrize("shape", [(10, 16), (6, 30), (3, 40)])
def test_an_ellipse_is_one_object_wherever_it_lies(shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:90, :90]
    for angle in np.linspace(0, np.pi, 7):
        y, x = rows - 44.7, columns - 45.2
        a, b = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        assert labels_of((a / shape[1]) ** 2 + (b / shape[0]) ** 2 < 1).max() == 1


def test_a_ring_is_filled_but_not_a_circle_of_cells() -> None:
    ring = discs((60, 60), (30, 30, 20)) & ~discs((60, 60), (30, 30, 14))
    filled = labels_of(ring, split=False)
    np.testing.assert_array_equal(filled > 0, discs((60, 60), (30, 30, 20)))
    np.testing.assert_array_equal(labels_of(ring, split=False, fill_holes=False) > 0, ring)
    angles = np.arange(8) * np.pi / 4
    circle = discs((80, 80), *((40 + 24 * np.sin(a), 40 + 24 * np.cos(a), 10) for a in angles))
    found = labels_of(circle)
    assert found.max() == 8
    assert found[40, 40] == 0
    np.testing.assert_array_equal(found > 0, circle)


def test_a_hole_at_the_edge_of_the_picture_stays_open() -> None:
    mask = np.ones((12, 12), bool)
    mask[0:3, 4:6] = False
    mask[6:8, 6:8] = False
    found = labels_of(mask)
    assert (found[0:3, 4:6] == 0).all()
    assert (found[6:8, 6:8] == 1).all()


def test_an_object_within_a_ring_keeps_its_number() -> None:
    mask = (discs((60, 60), (30, 30, 25)) & ~discs((60, 60), (30, 30, 18))) | discs((60, 60), (30, 30, 6))
    found = labels_of(mask, split=False)
    assert found.max() == 2
    np.testing.assert_array_equal(found > 0, mask)


def test_objects_at_the_edges_of_the_picture() -> None:
    mask = discs((40, 40), (0, 0, 9), (0, 39, 9), (39, 0, 9), (39, 39, 9), (20, 0, 6), (20, 20, 6))
    assert labels_of(mask).max() == 6
    np.testing.assert_array_equal(labels_of(mask) > 0, mask)


def test_corners_connect_only_where_asked() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = mask[4:, 4:] = True
    assert labels_of(mask, split=False).max() == 1
    assert labels_of(mask, split=False, connectivity=4).max() == 2


def test_small_objects_are_left_out_and_numbers_close_up() -> None:
    mask = discs((40, 80), (20, 10, 6), (20, 30, 2), (20, 60, 8))
    assert labels_of(mask, min_size=0).max() == 3
    found = labels_of(mask, min_size=20)
    assert (found[20, 10], found[20, 30], found[20, 60]) == (2, 0, 1)  # by the first row


def test_twice_is_the_same() -> None:
    chances = make_chances(make_cells(0, size=(96, 96)).instances, targets.with_borders, 3, 1)
    first, second = (separate(chances, THREE).labels for _ in range(2))
    np.testing.assert_array_equal(first, second)


# -------------------------------------------------------------------------------------------------------- three classes


def test_borders_part_what_thickness_cannot() -> None:
    instances = np.zeros((20, 40), np.int32)
    instances[4:16, 4:20], instances[4:16, 20:36] = 1, 2  # a block without a neck
    assert labels_of(instances > 0).max() == 1
    found = separate(sure(targets.with_borders(instances), 3), THREE).labels
    np.testing.assert_array_equal(np.where(instances > 0, found, 0), instances)
    assert ((found > 0) & (instances == 0)).sum() == 4  # the border goes on for 1 px at both ends


def test_an_object_that_is_border_alone_is_an_object() -> None:
    classes = np.zeros((20, 40), np.uint8)
    classes[5:12, 5:12] = 2
    classes[5:15, 20:32] = 1
    found = separate(sure(classes, 3), THREE)
    assert found.class_ids == (1, 1)
    np.testing.assert_array_equal(found.labels > 0, classes > 0)


def test_border_without_interior_anywhere() -> None:
    classes = np.zeros((12, 12), np.uint8)
    classes[2:10, 2:10] = 2
    assert separate(sure(classes, 3), THREE).class_ids == (1,)


def test_thresholds() -> None:
    chances = np.broadcast_to([0.55, 0.25, 0.2], (10, 10, 3))
    assert not separate(chances, THREE).labels.any()
    assert separate(chances, THREE, Separation(threshold=0.4)).labels.all()


# --------------------------------------------------------------------------------------------------------- more classes


def test_objects_of_several_classes_have_numbers_of_their_own() -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[discs((40, 60), (10, 10, 6), (10, 40, 6))] = 2
    classes[discs((40, 60), (30, 25, 6))] = 1
    classes[38:] = 3
    names = ("nothing", "red", "white", "ground")
    found = separate(sure(classes, 4), names, Separation(objects=("red", "white")))
    assert found.class_ids == (1, 2, 2)
    assert found.counts(["white", "red"]) == {"white": 2, "red": 1}
    assert [row.class_name for row in describe(found)] == ["red", "white", "white"]
    np.testing.assert_array_equal(found.labels > 0, (classes == 1) | (classes == 2))
    assert separate(sure(classes, 4), names).class_ids == (1, 2, 2, 3)


@pytest.mark.parametrize("inner", [1, 2])
def test_what_fills_a_hole_replaces_no_object_of_another_class(inner: int) -> None:
    classes = np.zeros((60, 60), np.uint8)
    classes[discs((60, 60), (30, 30, 25)) & ~discs((60, 60), (30, 30, 15))] = 3 - inner
    classes[discs((60, 60), (30, 30, 6))] = inner
    found = separate(sure(classes, 3), ("b", "x", "y"), Separation(split=False))
    assert found.class_ids == (1, 2)
    np.testing.assert_array_equal(found.labels == inner, classes == inner)
    np.testing.assert_array_equal(found.labels > 0, discs((60, 60), (30, 30, 25)))


def test_a_pixel_belongs_to_one_class_even_below_a_low_threshold() -> None:
    chances = np.zeros((20, 20, 3))
    chances[..., 1], chances[..., 2] = 0.45, 0.4
    chances[..., 0] = 0.15
    found = separate(chances, ("b", "x", "y"), Separation(threshold=0.3))
    assert found.class_ids == (1,)


# -------------------------------------------------------------------------------------------------------------- refused

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "scores": (lambda: separate(np.full((4, 4, 2), 3.0), TWO), "not probabilities.*fix"),
    "negative": (lambda: separate(np.broadcast_to([2.0, -1.0], (4, 4, 2)), TWO), "not probabilities"),
    "classes": (lambda: separate(np.ones((4, 4, 3)) / 3, TWO), r"expected \(H, W, 2\)"),
    "one class": (lambda: separate(np.ones((4, 4, 1)), ("a",)), "not a map"),
    "labels": (lambda: separate(np.ones((4, 4)), TWO), "not a map"),
    "no scores": (lambda: find_instances(Result(np.zeros((4, 4), np.uint8), None, TWO, ())), "scores=True"),
    "a name": (lambda: separate(np.ones((4, 4, 2)) / 2, TWO, Separation(objects=("dog",))), "dog"),
    "background": (lambda: separate(np.ones((4, 4, 2)) / 2, TWO, Separation(objects=("background",))), "background"),
    "border": (lambda: separate(np.ones((4, 4, 2)) / 2, TWO, Separation(border="rim")), "rim"),
    "threshold": (lambda: Separation(threshold=1.5), "threshold"),
    "neck": (lambda: Separation(neck=0.0), "neck"),
    "min_size": (lambda: Separation(min_size=-1), "min_size"),
    "depth": (lambda: Separation(depth=-1.0), "depth"),
    "connectivity": (lambda: Separation(connectivity=6), "connectivity"),
    "no objects": (lambda: Separation(objects=()), "objects"),
}


@pytest.mark.parametrize(("call", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_separated_is_refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


# ------------------------------------------------------------------------------------------------------- how good it is


def make_chances(instances: np.ndarray, target: Callable, count: int, seed: int, noise: float = 0.6) -> np.ndarray:
    """Ideal probabilities, blurred over 1 px, with grains of noise added to their logarithm."""
    rng = np.random.default_rng(seed)
    logits = np.log(ndimage.gaussian_filter(sure(target(instances), count), (1.0, 1.0, 0)) + 0.02)
    grain = ndimage.gaussian_filter(rng.standard_normal(logits.shape), (1.5, 1.5, 0))
    raised = np.exp(logits + noise * grain / grain.std())
    return raised / raised.sum(-1, keepdims=True)


def matched(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """True positives, false positives and false negatives at IoU > 0.5, going object by object."""
    hits = 0
    for number in range(1, truth.max() + 1):
        own = truth == number
        for other in np.unique(found[own]):
            union = (own | (found == other)).sum()
            hits += bool(other) and (own & (found == other)).sum() > union / 2
    return hits, int(found.max()) - hits, int(truth.max()) - hits


def average_precision(target: Callable, names: tuple[str, ...], plain: bool, images: int = 3) -> float:
    total = np.zeros(3)
    for index in range(images):
        truth = make_cells(index, seed=5, size=(128, 128)).instances.astype(np.int32)
        chances = make_chances(truth, target, len(names), index)
        pieces = ndimage.label(chances.argmax(-1) == 1)[0]
        total += matched(truth, pieces if plain else separate(chances, names).labels)
    return total[0] / total.sum()


@pytest.mark.parametrize(
    ("target", "names", "least"),
    [(targets.separated, TWO, 0.93), (targets.with_borders, THREE, 0.93)],
    ids=["separated", "borders"],
)
def test_noisy_scores_of_crowded_cells_are_separated(target: Callable, names: tuple[str, ...], least: float) -> None:
    assert average_precision(target, names, plain=True) < 0.75
    assert average_precision(target, names, plain=False) > least


def test_ideal_borders_give_the_true_objects() -> None:
    for index in range(3):
        truth = make_cells(index, size=(128, 128)).instances.astype(np.int32)
        found = separate(sure(targets.with_borders(truth), 3), THREE).labels
        assert matched(truth, found) == (truth.max(), 0, 0)
        # with_borders reaches 1 px into the background between two cells, and no further
        assert not found[ndimage.distance_transform_cdt(truth == 0, "chessboard") > 1].any()
        assert (found > 0)[truth > 0].all()


# ---------------------------------------------------------------------------------------------------------------- files


def big_labels(count: int) -> np.ndarray:
    labels = np.zeros((300, 310), np.int32)
    labels.ravel()[100 : 100 + count] = np.random.default_rng(0).permutation(count) + 1
    return labels


@pytest.mark.parametrize("form", ["tif", "png"])
@pytest.mark.parametrize("count", [0, 1, 255, 256, 40000, 65535])
def test_label_maps_are_exact_in_16_bits(form: str, count: int, tmp_path: Path) -> None:
    labels = big_labels(count)
    path = tmp_path / f"a.{form}"
    path.write_bytes(encode_label_map(labels, form))
    with Image.open(path) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.array(image), labels)
    if form == "tif":
        assert tifffile.imread(path).dtype == np.uint16
        np.testing.assert_array_equal(tifffile.imread(path), labels)


def test_more_objects_need_32_bits(tmp_path: Path) -> None:
    labels = big_labels(70000)
    path = tmp_path / "a.tif"
    path.write_bytes(encode_label_map(labels, "tif"))
    assert tifffile.imread(path).dtype == np.uint32
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.array(image), labels)
    with pytest.raises(DataError, match=r"65535.*70000.*--instances tif"):
        encode_label_map(labels, "png")


def test_the_table_is_scikit_images() -> None:
    found = separate(sure(make_cells(1, size=(96, 128)).mask), TWO)
    rows = list(csv.DictReader(encode_table(describe(found)).decode().splitlines()))
    props = regionprops(found.labels)
    assert len(rows) == len(props) > 1
    for row, prop in zip(rows, props, strict=True):
        assert (int(row["id"]), row["class"], int(row["area_px"])) == (prop.label, "cell", prop.area)
        y, x = prop.centroid
        assert (float(row["centroid_x"]), float(row["centroid_y"])) == pytest.approx((x, y), abs=6e-4)
        top, left, bottom, right = prop.bbox
        assert [int(row[k]) for k in ("left", "top", "width", "height")] == [left, top, right - left, bottom - top]
    assert encode_table([]).decode().splitlines() == ["id,class,area_px,centroid_x,centroid_y,left,top,width,height"]


def test_outlines_are_the_objects_own_pixels_and_neighbours_differ() -> None:
    labels = np.zeros((12, 20), np.int32)
    labels[2:10, 2:10], labels[2:10, 10:18] = 1, 2
    grey = np.full((12, 20), 100, np.uint8)
    drawn = outline_instances(grey, labels)
    changed = (drawn != 100).any(-1)
    inside = np.zeros_like(changed)
    inside[3:9, 3:9] = inside[3:9, 11:17] = True
    np.testing.assert_array_equal(changed, (labels > 0) & ~inside)
    assert {tuple(drawn[y, x]) for y, x in ((2, 2), (9, 9))} != {tuple(drawn[y, x]) for y, x in ((2, 10), (9, 17))}
    assert len({tuple(color) for color in drawn[changed]}) == 2
    assert (grey == 100).all()
    assert not (outline_instances(grey, np.ones((12, 20), np.int32))[1:-1, 1:-1] != 100).any()


def test_too_many_objects_for_a_png_is_an_error_of_that_image() -> None:
    files = InstanceFiles("png", Separation(min_size=1, split=False))
    scores = np.zeros((520, 520, 2), np.float32)
    scores[::2, ::2, 1] = 9  # 67600 single pixels
    result = Result(scores.argmax(-1).astype(np.uint8), scores, TWO, ((0, 0, 0), (9, 9, 9)))
    with pytest.raises(DataError, match="67600"):
        files.make("a", np.zeros((520, 520, 3), np.uint8), result)


# ------------------------------------------------------------------------------------------------------------- commands


def run(*command: object) -> int:
    return main([str(part) for part in command])


@pytest.mark.parametrize("form", ["tif", "png"])
def test_predict_writes_objects(form: str, int8_file: Path, cells: Path, tmp_path: Path, capsys) -> None:
    images = sorted((cells / "images").iterdir())[:2]
    out, status = tmp_path / "out", tmp_path / "status.json"
    command = ["predict", int8_file, *images, "--out", out, "--instances", form, "--overlay", "--min-size", "5"]
    assert run(*command, "--json", status) == 0
    stems = [image.stem for image in images]
    ends = (".png", "_overlay.png", f"_instances.{form}", "_objects.csv", "_instances_overlay.png")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["counts.csv", *(stem + end for stem in stems for end in ends)]
    )
    told = json.loads(status.read_text())["images"]
    counted = 0
    with open_segmenter(int8_file) as segmenter:
        for image, row in zip(images, told, strict=True):
            found = find_instances(segmenter.segment(image, scores=True), Separation(min_size=5))
            path = out / f"{image.stem}_instances.{form}"
            np.testing.assert_array_equal(np.array(Image.open(path)), found.labels)
            rows = list(csv.DictReader((out / f"{image.stem}_objects.csv").read_text().splitlines()))
            assert row["num_objects"] == len(rows) == found.labels.max()
            assert row["objects_by_class"] == {"cell": len(rows)}
            assert row["files"] == [str(out / (image.stem + end)) for end in ends[2:]]
            drawn = read_image(out / f"{image.stem}_instances_overlay.png")
            assert drawn.shape == (*found.labels.shape, 3)
            counted += len(rows)
    assert f"objects    {counted} in 2 images; by image and class: {out / 'counts.csv'}\n" in capsys.readouterr().out
    counts = {row["image"]: row for row in csv.DictReader((out / "counts.csv").read_text().splitlines())}
    assert [counts[stem] for stem in stems] == [
        {"image": stem, "objects": str(row["num_objects"]), "cell": str(row["num_objects"])}
        for stem, row in zip(stems, told, strict=True)
    ]
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert run(*command) == 2
    assert "exist already" in capsys.readouterr().err
    assert run(*command, "--overwrite") == 0
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_collisions_are_refused_before_the_first_image(int8_file: Path, cells: Path, tmp_path: Path, capsys) -> None:
    image = (cells / "images" / "cells_0000.png").read_bytes()
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "a_instances.png"):
        (folder / name).write_bytes(image)
    assert run("predict", int8_file, folder, "--out", out, "--instances", "png") == 2
    assert "two outputs would be written to one file" in capsys.readouterr().err
    assert not out.exists()
    assert run("predict", int8_file, folder / "a.png", "--out", folder, "--instances", "png") == 2
    assert (folder / "a_instances.png").read_bytes() == image
    out.mkdir()
    (out / "a_objects.csv").write_text("mine")
    assert run("predict", int8_file, folder / "a.png", "--out", out, "--instances") == 2
    assert [path.name for path in out.iterdir()] == ["a_objects.csv"]
    assert (out / "a_objects.csv").read_text() == "mine"


REFUSED_OPTIONS = {
    "unused": (["--min-size", "9"], "--instances"),
    "class": (["--instances", "--objects", "dog"], "dog"),
    "number": (["--instances", "--threshold", "2"], "threshold"),
}


@pytest.mark.parametrize(("options", "said"), REFUSED_OPTIONS.values(), ids=REFUSED_OPTIONS)
def test_options_that_cannot_be(options: list[str], said: str, int8_file: Path, cells: Path, tmp_path, capsys) -> None:
    image = cells / "images" / "cells_0000.png"
    assert run("predict", int8_file, image, "--out", tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert run("evaluate", int8_file, cells, *options) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_an_argmax_head_has_no_scores(run_folder: Path, cells: Path, tmp_path: Path, capsys) -> None:
    from unetres_edge import Card, Preprocessing, Segmenter
    from unetres_edge.model.card import default_colors
    from unetres_edge.segment.files import predict_files

    class Labels:
        def run(self, tile: np.ndarray) -> np.ndarray:
            return np.zeros(tile.shape[:2], np.uint8)

    card = Card(TWO, default_colors(2), Preprocessing(channels=1, size=(32, 32)), head="argmax")
    with pytest.raises(UsageError, match="argmax.*--head logits"):
        predict_files(
            Segmenter(None, card=card, engine=Labels()),
            [cells / "images" / "cells_0000.png"],
            tmp_path / "out",
            more=InstanceFiles(),
        )
    assert not (tmp_path / "out").exists()


def test_evaluate_scores_objects(int8_file: Path, cells: Path, tmp_path: Path, capsys) -> None:
    scores = tmp_path / "scores.json"
    assert run("evaluate", int8_file, cells, "--split", "all", "--instances", "--json", scores) == 0
    found = json.loads(scores.read_text())["instances"]
    total = np.zeros(3)
    with open_segmenter(int8_file) as segmenter:
        for image in sorted((cells / "images").iterdir()):
            truth = np.array(Image.open(cells / "instances" / image.name)).astype(np.int32)
            total += matched(truth, find_instances(segmenter.segment(image, scores=True)).labels)
    assert found["ap50"] == pytest.approx(total[0] / total.sum())
    assert found["num_objects"] == total[0] + total[2]
    assert 0 < found["v_rand"] <= 1
    assert f"AP@0.5     {found['ap50']:.4f}" in capsys.readouterr().out


def test_objects_are_not_scored_where_none_are_told_apart(int8_file: Path, cells: Path, tmp_path: Path, capsys) -> None:
    data = tmp_path / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
        (data / name / "a.png").write_bytes((cells / name / "cells_0000.png").read_bytes())
    assert run("evaluate", int8_file, data, "--split", "all", "--instances") == 3
    assert "--masks instances" in capsys.readouterr().err


def test_instances_are_a_value() -> None:
    found = Instances(np.zeros((2, 2), np.int32), (), TWO)
    with pytest.raises(AttributeError):
        found.labels = np.ones((2, 2), np.int32)


def test_a_class_called_border_is_one_only_beside_another_class_of_objects() -> None:
    assert border_class(("background", "interior", "border"), Separation()) == 2
    assert border_class(("background", "border"), Separation()) is None
    assert object_classes(("background", "border"), Separation()) == [1]


def test_what_hangs_by_corners_is_grown_through_corners_and_by_sides_is_not() -> None:
    """A thick object with a tail of pixels that touch by their corners, which no marker lies in."""
    mask = np.zeros((24, 24), bool)
    mask[2:12, 2:12] = True
    tail = np.arange(12, 18)
    mask[tail, tail] = True
    np.testing.assert_array_equal(labels_of(mask, connectivity=8, min_size=4), mask)
    kept = labels_of(mask, connectivity=4, min_size=4)
    assert not kept[tail, tail].any()
    assert (kept[2:12, 2:12] == 1).all()


@pytest.mark.filterwarnings("ignore:keras_unetres.cells is now keras_unetres.objects:DeprecationWarning")
def test_rooms_of_objects_that_moved_are_found_and_leave_the_function_in_its_place() -> None:
    for name in ("keras_unetres.cells.separate", "keras_unetres.objects.separate"):
        with pytest.warns(DeprecationWarning, match=f"{name} is now unetres_edge.objects.separate"):
            assert importlib.import_module(name).Separation is Separation
    assert callable(ku.separate) and callable(importlib.import_module("keras_unetres.objects").separate)
