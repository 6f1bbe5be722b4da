"""From an image of any size to a class for every pixel, held against engines whose answer is known."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from models import Graph, finish, make_card, make_conv, make_identity
from PIL import Image

from unetres_edge import Card, Segmenter
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import CardMissingError, FileSystemError, ImageError, ModelError, UsageError
from unetres_edge.segment.tiles import blended_rows, joined_rows, pad_to_tile, ramp, resize_scores, tile_origins

SIZE = (16, 24)
SHAPES = [(16, 24), (1, 1), (5, 7), (15, 24), (16, 25), (40, 70), (17, 23), (100, 24), (3, 90), (31, 49)]
WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0]], np.float32)
BIAS = np.array([0, 3, -2, 40], np.float32)


def pointwise(pixels: np.ndarray) -> np.ndarray:
    """Scores (..., 4) of pixels (..., 3); whole numbers, so exact in float32."""
    return pixels.astype(np.float32) @ WEIGHTS.T + BIAS


class Pointwise:
    """An engine that looks at one pixel at a time and keeps the tiles it was given."""

    def __init__(self, head: str = "logits") -> None:
        self.head, self.tiles = head, []

    def run(self, tile: np.ndarray) -> np.ndarray:
        self.tiles.append(tile.copy())
        scores = pointwise(tile)
        return scores if self.head == "logits" else scores.argmax(-1).astype(np.uint8)


def card(fit: str = "crop", head: str = "logits", **fields) -> Card:
    return make_card(SIZE, 3, 4, head=head, fit=fit, **fields)


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("overlap", [0, 1, 5, 11, 15, None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_of_a_pointwise_network_make_the_whole(shape: tuple[int, int], overlap: int | None) -> None:
    image = picture(shape)
    for head in ("logits", "argmax"):
        engine = Pointwise(head)
        with Segmenter(None, card=card(head=head), engine=engine, overlap=overlap) as segmenter:
            result = segmenter.segment(image, scores=head == "logits")
        assert (result.class_map.dtype, result.class_map.shape) == (np.uint8, shape)
        np.testing.assert_array_equal(result.class_map, pointwise(image).argmax(-1))
        assert {tile.shape for tile in engine.tiles} == {(*SIZE, 3)}
        if head == "logits":
            assert result.scores.dtype == np.float32
            np.testing.assert_allclose(result.scores, pointwise(image), rtol=1e-6, atol=1e-4)
        else:
            assert result.scores is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_a_scaled_image_gets_scores_at_its_own_size(shape: tuple[int, int], fit: str) -> None:
    image, described = picture(shape), card(fit)
    engine = Pointwise()
    result = Segmenter(None, card=described, engine=engine).segment(image, scores=True)
    (tile,) = engine.tiles
    place = described.preprocessing.place(*shape)
    height, width = place.scaled
    np.testing.assert_array_equal(tile, place.image(image))
    expected = half_pixel(pointwise(tile)[:height, :width], *shape)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(result.class_map, result.scores.argmax(-1))
    labels = Segmenter(None, card=card(fit, "argmax"), engine=Pointwise("argmax")).segment(image).class_map
    rows, columns = ((np.arange(n) * 2 + 1) * m // (2 * n) for n, m in zip(shape, place.scaled, strict=True))
    np.testing.assert_array_equal(labels, pointwise(tile).argmax(-1)[rows[:, None], columns])


@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_an_image_of_the_networks_size_is_not_scaled(fit: str) -> None:
    image = picture(SIZE)
    for head in ("logits", "argmax"):
        found = Segmenter(None, card=card(fit, head), engine=Pointwise(head)).segment(image)
        np.testing.assert_array_equal(found.class_map, pointwise(image).argmax(-1))


def half_pixel(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with half-pixel centres, one output pixel at a time."""
    rows, columns = values.shape[:2]
    out = np.empty((height, width, values.shape[2]))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = min(int(v), max(rows - 2, 0)), min(int(u), max(columns - 2, 0))
            low, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            b, a = v - top, u - left
            upper = values[top, left] * (1 - a) + values[top, right] * a
            lower = values[low, left] * (1 - a) + values[low, right] * a
            out[y, x] = upper * (1 - b) + lower * b
    return out


@pytest.mark.parametrize("source", [(1, 1), (2, 3), (7, 5), (20, 9)])
@pytest.mark.parametrize("target", [(1, 1), (4, 6), (7, 5), (19, 31), (3, 40)])
def test_resize_has_half_pixel_centres(source: tuple[int, int], target: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal((*source, 3)).astype(np.float32)
    found = resize_scores(values, *target)
    assert (found.dtype, found.shape) == (np.float32, (*target, 3))
    np.testing.assert_allclose(found, half_pixel(values, *target), atol=2e-6)


@pytest.mark.parametrize("overlap", [0, 1, 3, 7])
@pytest.mark.parametrize("length", [1, 8, 9, 13, 16, 31, 64])
def test_tiles_cover_an_axis(length: int, overlap: int) -> None:
    origins = tile_origins(length, 8, overlap)
    assert origins[0] == 0
    assert origins[-1] == max(0, length - 8)
    assert all(0 < b - a <= 8 - overlap for a, b in zip(origins, origins[1:], strict=False))
    assert set().union(*(range(o, o + 8) for o in origins)) >= set(range(length))


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 1), (8, 3), (16, 5)])
def test_weights_of_two_neighbours_sum_to_one(tile: int, overlap: int) -> None:
    weights = ramp(tile, overlap)
    assert (weights.dtype, weights.min() > 0, weights.max()) == (np.float32, True, 1)
    np.testing.assert_array_equal(weights, weights[::-1])
    np.testing.assert_allclose(weights[tile - overlap :] + weights[:overlap], 1, rtol=1e-6)


def numbered() -> tuple[list, object]:
    """An engine that answers with the number of the call."""
    calls = []

    def run(tile: np.ndarray) -> np.ndarray:
        calls.append(tile)
        return np.full((*tile.shape[:2], 1), float(len(calls) - 1), np.float32)

    return calls, run


def test_blending_falls_linearly_from_tile_to_tile() -> None:
    _, run = numbered()
    (first,) = [part.copy() for _, part in blended_rows(np.zeros((8, 13, 1), np.uint8), (8, 8), 3, 1, run)]
    np.testing.assert_allclose(first[0, :, 0], [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1], atol=1e-6)
    _, run = numbered()
    rows = np.concatenate([part.copy() for _, part in blended_rows(np.zeros((13, 8, 1), np.uint8), (8, 8), 3, 1, run)])
    np.testing.assert_allclose(rows[:, 3, 0], [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("overlap", [0, 3, 6])
def test_labels_are_cut_in_the_middle_of_each_overlap(overlap: int) -> None:
    calls, run = numbered()
    image = np.zeros((8, 30, 1), np.uint8)
    ((_, labels),) = joined_rows(image, (8, 8), overlap, lambda tile: run(tile)[..., 0].astype(np.uint8))
    origins = tile_origins(30, 8, overlap)
    assert len(calls) == len(origins)
    distance = np.abs(np.arange(30)[:, None] + 0.5 - (np.array(origins) + 4.0))
    chosen = distance[np.arange(30), labels[0]]
    assert (chosen <= distance.min(1) + 1).all()
    assert (np.diff(labels[0].astype(int)) >= 0).all()


def test_the_last_tile_is_shifted_back_and_nothing_is_scaled() -> None:
    image, engine = picture((20, 50)), Pointwise()
    Segmenter(None, card=card(), engine=engine, overlap=4).segment(image)
    places = [(y, x) for y in (0, 4) for x in (0, 20, 26)]
    assert len(engine.tiles) == len(places)
    for tile, (y, x) in zip(engine.tiles, places, strict=True):
        np.testing.assert_array_equal(tile, image[y : y + 16, x : x + 24])


def test_a_small_image_is_mirrored_outwards() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    np.testing.assert_array_equal(
        pad_to_tile(image, (3, 5))[..., 0], [[0, 1, 2, 1, 0], [3, 4, 5, 4, 3], [0, 1, 2, 1, 0]]
    )
    assert pad_to_tile(image, (2, 2)) is image


@pytest.mark.parametrize(("halo", "overlap"), [(0, 4), (3, 3), (4, 4), (100, 4)])
def test_the_overlap_is_the_halo_up_to_a_quarter(halo: int, overlap: int) -> None:
    assert Segmenter(None, card=card(halo=halo), engine=Pointwise()).overlap == overlap


@pytest.mark.parametrize("overlap", [-1, 16, 99, 1.5, "2"])
def test_other_overlaps_are_refused(overlap) -> None:
    with pytest.raises(UsageError, match="overlap is wrong; expected 0 to 15 px"):
        Segmenter(None, card=card(), engine=Pointwise(), overlap=overlap)


def test_scores_come_from_logits_alone() -> None:
    segmenter = Segmenter(None, card=card(head="argmax"), engine=Pointwise("argmax"))
    with pytest.raises(UsageError, match="no scores"):
        segmenter.segment(picture(SIZE), scores=True)
    assert Segmenter(None, card=card(), engine=Pointwise()).segment(picture(SIZE)).scores is None


def test_a_closed_segmenter_says_so() -> None:
    with Segmenter(None, card=card(), engine=Pointwise()) as segmenter:
        segmenter.segment(picture(SIZE))
    with pytest.raises(ModelError, match="closed"):
        segmenter.segment(picture(SIZE))


def test_what_a_segmenter_needs() -> None:
    for arguments in ({"model": None}, {"model": b"", "engine": Pointwise()}, {"model": None, "engine": Pointwise()}):
        with pytest.raises(UsageError):
            Segmenter(**arguments)
    with pytest.raises(ModelError, match="not a segmenter"):
        Segmenter(None, card=card(task="classify"), engine=Pointwise())
    with pytest.raises(FileSystemError, match="no such model file"):
        Segmenter("nothing.tflite")


@pytest.mark.parametrize("image", [None, 3, [[1, 2]], object()])
def test_what_is_no_image_is_refused(image) -> None:
    with pytest.raises(UsageError, match="not an image"):
        Segmenter(None, card=card(), engine=Pointwise()).segment(image)


def test_a_path_a_pillow_image_and_an_array_are_one(tmp_path) -> None:
    image = picture((20, 30))
    Image.fromarray(image).save(tmp_path / "a.png")
    segmenter = Segmenter(None, card=card(), engine=Pointwise())
    expected = pointwise(image).argmax(-1)
    for given in (image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(segmenter.segment(given).class_map, expected)
    with pytest.raises(ImageError):
        segmenter.segment(tmp_path / "b.png")


def test_a_result_tells_areas_and_times() -> None:
    result = Segmenter(None, card=card(), engine=Pointwise()).segment(picture((20, 30)))
    assert list(result.areas()) == list(result.class_names) == ["class 0", "class 1", "class 2", "class 3"]
    assert list(result.areas().values()) == np.bincount(result.class_map.ravel(), minlength=4).tolist()
    assert set(result.timing) == {"prepare", "infer", "post", "total"}
    assert sum(result.timing.values()) == pytest.approx(2 * result.timing["total"])
    assert result.overlay(picture((20, 30))).shape == (20, 30, 3)


@pytest.mark.parametrize("head", ["logits", "argmax"])
def test_litert_gives_what_numpy_gives(tmp_path, head: str) -> None:
    image = picture((40, 70))
    data = make_conv(card(head=head), WEIGHTS, BIAS)
    (tmp_path / "m.tflite").write_bytes(data)
    for model in (data, tmp_path / "m.tflite"):
        with Segmenter(model, num_threads=1) as segmenter:
            np.testing.assert_array_equal(segmenter.segment(image).class_map, pointwise(image).argmax(-1))


def test_a_file_without_a_card_runs_with_one_given() -> None:
    data = make_conv(None, WEIGHTS, BIAS, SIZE)
    with pytest.raises(CardMissingError):
        Segmenter(data)
    found = Segmenter(data, card=card()).segment(picture(SIZE)).class_map
    np.testing.assert_array_equal(found, pointwise(picture(SIZE)).argmax(-1))


def test_eight_threads_share_a_segmenter() -> None:
    segmenter = Segmenter(make_conv(card(), WEIGHTS, BIAS), num_threads=1)
    images = [picture((20 + n, 30), n) for n in range(20)]
    expected = [pointwise(image).argmax(-1) for image in images]
    start = threading.Barrier(8)

    def work(worker: int) -> list[bool]:
        start.wait()
        order = [(worker * 7 + n) % 20 for n in range(25)]
        return [bool((segmenter.segment(images[n]).class_map == expected[n]).all()) for n in order]

    with ThreadPoolExecutor(8) as pool:
        right = [answer for answers in pool.map(work, range(8)) for answer in answers]
    assert right == [True] * 200


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (make_identity(None, (1, 8, 8, 4)), "input is not what the card says"),
        (make_identity(None, (1, 16, 24, 3)), "output is not what the card says"),
        (make_identity(None, (1, 16, 24, 3), outputs=2), "one input and one output; found 1 and 2"),
        (make_conv(None, np.full((4, 3), np.nan), BIAS, SIZE), "not finite"),
    ],
    ids=["input", "output", "two outputs", "nan"],
)
def test_a_model_that_is_not_what_its_card_says_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Segmenter(data, card=card()).segment(picture(SIZE))


def test_dtypes_that_do_not_fit_are_refused() -> None:
    three = make_card(SIZE, 3, 3)
    for dtype, quantization, said in (
        ("float64", None, "dtype is not supported"),
        ("int32", None, "dtype is not supported"),
        ("int8", None, "no quantization"),
        ("uint8", (0.0, 0), "no quantization"),
    ):
        with pytest.raises(ModelError, match=said):
            LiteRTEngine(make_identity(None, (1, *SIZE, 3), dtype, quantization), three)


@pytest.mark.parametrize(
    "lie", ["an output that nothing computes", "an output that is not there", "an input that is not there"]
)
def test_a_sealed_graph_that_lies_about_its_ends_is_named(lie: str) -> None:
    """What the runtime raises of its own does not come out: a model file that cannot run is a ModelError."""
    graph, three = Graph(), make_card(SIZE, 3, 3)
    source = graph.tensor("image", (1, *SIZE, 3), "float32")
    lone = graph.tensor("scores", (1, *SIZE, 3), "float32")
    inputs, outputs = {
        "an output that nothing computes": ([source], [lone]),
        "an output that is not there": ([source], [77]),
        "an input that is not there": ([77], [lone]),
    }[lie]
    with pytest.raises(ModelError):
        Segmenter(finish(graph, three, inputs, outputs), num_threads=1).segment(picture(SIZE))


def test_what_litert_refuses_is_named() -> None:
    broken = make_conv(None, WEIGHTS, BIAS, SIZE).replace(b"TFL3", b"TFL3", 1)[:-40]
    with pytest.raises(ModelError):
        Segmenter(broken, card=card())
