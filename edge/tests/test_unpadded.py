"""Networks without padding: every pixel has what the network gives of the whole mirrored image, in Python, C and Node.

The oracle is the same network in numpy, on the whole image at once. Weights are whole numbers, so sums are exact.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_runtime import Library, build
from models import make_card
from nets import make_unpadded
from node import need_package, run_node, script

from unetres_edge import Card, Segmenter
from unetres_edge.errors import ModelError, UsageError
from unetres_edge.segment.ensemble import join_segmenters
from unetres_edge.segment.tiles import unpadded_starts

CROP, STRIDE, SIZE = 3, 2, (22, 30)  # two convolutions of 3 x 3 around a pooling of 2 x 2
CHANNELS, FEATURES, CLASSES = 3, 4, 3
SIZES = [(1, 1), (2, 50), (16, 24), (22, 30), (17, 25), (61, 83)]


def weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(out, 3, 3, in), (out, 3, 3, in) and (classes, 1, 1, in) whole numbers."""
    rng = np.random.default_rng(5)
    shapes = ((FEATURES, 3, 3, CHANNELS), (FEATURES, 3, 3, FEATURES), (CLASSES, 1, 1, FEATURES))
    return tuple(rng.integers(-2, 3, shape) for shape in shapes)  # type: ignore[return-value]


def make_file(head: str = "logits") -> bytes:
    """Return the network of these weights as a sealed file."""
    return make_unpadded(make_card(SIZE, CHANNELS, CLASSES, head=head, stride=STRIDE, crop=CROP, halo=5), weights())


def whole_scores(image: np.ndarray) -> np.ndarray:
    """Return the scores (H, W, classes) of the network on the whole image, mirrored outwards."""

    def conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        view = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[1:3], (0, 1))  # (h, w, in, 3, 3)
        return np.einsum("hwcij,oijc->hwo", view, kernel)

    height, width = image.shape[:2]
    behind = [CROP + n % STRIDE for n in (height, width)]
    x = np.pad(image.astype(np.int64), ((CROP, behind[0]), (CROP, behind[1]), (0, 0)), mode="reflect")
    first, second, last = weights()
    x = conv(x, first)
    x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))
    x = conv(x, second).repeat(2, 0).repeat(2, 1)
    return conv(x, last)[:height, :width]


def draw(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, CHANNELS)).astype(np.uint8)


@pytest.mark.parametrize("head", ["logits", "argmax"])
def test_every_pixel_is_that_of_the_whole_image(head: str) -> None:
    seen = set()
    with Segmenter(make_file(head), num_threads=1) as segmenter:
        assert (segmenter.card.output_size, segmenter.overlap) == ((16, 24), 0)
        for number, size in enumerate(SIZES):
            image = draw(size, number)
            result = segmenter.segment(image, scores=head == "logits")
            expected = whole_scores(image)
            np.testing.assert_array_equal(result.class_map, expected.argmax(-1), err_msg=f"{size}")
            seen |= set(np.unique(result.class_map))
            if head == "logits":
                np.testing.assert_array_equal(result.scores, expected)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("head", ["logits", "argmax"])
def test_c_gives_the_same_labels(head: str, tmp_path: Path) -> None:
    library = Library(build(tmp_path / "libunetres.so", "-O1", "-shared", "-fPIC"))
    model = library.open(make_file(head))
    for number, size in enumerate(SIZES):
        image = draw(size, number)
        np.testing.assert_array_equal(model.segment(image), whole_scores(image).argmax(-1), err_msg=f"{size}")
    model.close()


def test_the_page_gives_the_same_labels(tmp_path: Path) -> None:
    need_package("@litertjs/core")
    jobs: list[dict[str, Any]] = []
    for head in ("logits", "argmax"):
        model = tmp_path / f"{head}.tflite"
        model.write_bytes(make_file(head))
        images = []
        for number, size in enumerate(SIZES):
            out = tmp_path / f"{head}{number}"
            out.with_suffix(".raw").write_bytes(draw(size, number).tobytes())
            images.append({
                "raw": f"{out}.raw", "width": size[1], "height": size[0], "channels": CHANNELS, "bits": 8,
                "out": f"{out}", "scores": head == "logits",
            })  # fmt: skip
        jobs.append({"model": f"{model}", "images": images, "error": f"{model}.error"})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run_node(script("segment_files.mjs"), tmp_path / "jobs.json")
    for head in ("logits", "argmax"):
        for number, size in enumerate(SIZES):
            expected = whole_scores(draw(size, number))
            labels = np.fromfile(tmp_path / f"{head}{number}.labels", np.uint8).reshape(size)
            np.testing.assert_array_equal(labels, expected.argmax(-1), err_msg=f"{head} {size}")
            if head == "logits":
                scores = np.fromfile(tmp_path / f"{head}{number}.scores", np.float32)
                np.testing.assert_array_equal(scores, expected.ravel())


def test_tiles_lie_on_the_grid_of_the_smallest_map() -> None:
    assert list(unpadded_starts(512, 572, 92, 16)) == [0, 384], "the network of Ronneberger 2015: 388 px, of which 384"
    assert list(unpadded_starts(384, 572, 92, 16)) == [0]


def test_flips_are_taken_of_each_tile() -> None:
    with Segmenter(make_file(), num_threads=1) as one:
        joined = join_segmenters([one], tta="flips")
        assert joined.segment(draw((40, 41))).class_map.shape == (40, 41)


def test_what_such_a_network_cannot_be_asked_is_refused() -> None:
    data = make_file()
    with pytest.raises(UsageError, match="tiles of an unpadded network meet"):
        Segmenter(data, overlap=4)
    with Segmenter(data, num_threads=1) as segmenter, pytest.raises(UsageError, match="not read strip by strip"):
        segmenter.segment_large(draw((40, 40)))


@pytest.mark.parametrize(
    "fields", [{"crop": -1}, {"crop": 11}, {"crop": 10, "stride": 4}, {"crop": 3, "stride": 0}, {"fit": "resize"}]
)
def test_crops_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="crop that its tiles do not bear"):
        make_card(SIZE, CHANNELS, CLASSES, **{"stride": STRIDE, "crop": CROP, **fields})


def test_the_card_says_the_crop_and_older_readers_see_no_key() -> None:
    card = make_card(SIZE, CHANNELS, CLASSES, stride=STRIDE, crop=CROP)
    assert Card.from_json(card.to_json()) == card
    assert "crop" not in json.loads(dataclasses.replace(card, crop=0).to_json())
