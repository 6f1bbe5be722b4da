"""Large images: what is read and written strip by strip is what the whole image gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import make_card, make_conv
from nets import HALO, STRIDE, make_net, net_card

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.errors import CancelledError, ImageError, ModelError, UsageError
from unetres_edge.segment.large import WindowSource, level_counts, percentiles_of
from unetres_edge.segment.tiles import exact_cores

SHAPES = [(100, 136), (101, 135), (33, 90), (90, 33), (32, 32), (20, 70), (7, 9), (61, 32)]


def picture(shape: tuple[int, ...], seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def whole_map(image: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Return what the network of the tile's weights gives of the whole image, mirrored to a size that it takes."""
    size = tuple(max(t, -(-n // STRIDE) * STRIDE) for n, t in zip(image.shape, tile, strict=False))
    padded = np.pad(image, [(0, n - m) for n, m in zip(size, image.shape, strict=False)] + [(0, 0)], mode="reflect")
    with Segmenter(make_net(net_card(size), seed=1)) as segmenter:
        return segmenter.segment(padded).class_map[: image.shape[0], : image.shape[1]]


class Rows:
    """An image of which only rows can be had; keeps how many were asked for at a time."""

    def __init__(self, image: np.ndarray) -> None:
        self.image, self.shape, self.asked = image, image.shape, []

    def __getitem__(self, rows: slice) -> np.ndarray:
        assert isinstance(rows, slice)
        part = self.image[rows]
        self.asked.append(len(part))
        return part


@pytest.mark.parametrize("tile", [(32, 32), (48, 64)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_tiles_give_the_map_of_the_whole_image(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    image = picture((*shape, 3))
    expected = whole_map(image, tile)
    with Segmenter(make_net(net_card(tile), seed=1)) as segmenter:
        source = Rows(image)
        found = segmenter.segment_large(source, mode="exact")
    np.testing.assert_array_equal(found.class_map, expected)
    assert found.class_map.dtype == np.uint8
    assert max(source.asked) <= tile[0]
    assert sum(source.asked) == shape[0]  # no row is read twice


@pytest.mark.parametrize(("halo", "stride"), [(4, 4), (HALO, 2), (HALO, 1)], ids=["halo", "stride 2", "stride 1"])
def test_a_card_that_understates_halo_or_stride_would_not_be_exact(halo: int, stride: int) -> None:
    image = picture((101, 135, 3))
    with Segmenter(make_net(net_card((36, 36), halo=halo, stride=stride), seed=1)) as segmenter:
        found = segmenter.segment_large(image, mode="exact").class_map
    assert (found != whole_map(image, (36, 36))).any()


@pytest.mark.parametrize("head", ["logits", "argmax"])
def test_blending_is_that_of_segment(head: str) -> None:
    card = make_card((16, 24), 3, 4, head=head)
    weights, bias = np.random.default_rng(0).normal(size=(4, 3)), np.zeros(4)
    with Segmenter(make_conv(card, weights, bias), overlap=5) as segmenter:
        for shape in ((40, 70, 3), (5, 90, 3), (50, 7, 3), (16, 24, 3), (33, 49, 1), (33, 49)):
            image = picture(shape)
            found = segmenter.segment_large(Rows(image))
            np.testing.assert_array_equal(found.class_map, segmenter.segment(image).class_map)
            assert found.scores is None


def test_blending_of_a_network_with_reach_is_that_of_segment() -> None:
    with Segmenter(make_net(net_card((32, 48)), seed=1)) as segmenter:
        for overlap in (0, 8, 12):
            segmenter.overlap = overlap
            image = picture((90, 133, 3), overlap)
            expected = segmenter.segment(image).class_map
            np.testing.assert_array_equal(segmenter.segment_large(Rows(image), overlap=overlap).class_map, expected)


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3)]
)
@pytest.mark.parametrize("per_image", [None, (2.0, 98.5), (0.0, 100.0)])
def test_percentiles_are_those_of_the_whole_image(dtype: type, channels: int, per_image) -> None:
    card = make_card((16, 24), 3, 4, pre={"per_image": per_image})
    image = picture((75, 60, channels), dtype=dtype) // 3 + 20
    image[..., :3] = (image[..., :3] * np.linspace(0.2, 1, 75)[:, None, None]).astype(dtype)
    if channels == 4:
        image[..., 3] = 255
    weights = np.arange(4)[:, None] / 3 * np.ones(3)  # classes change at the levels 40, 80 and 120
    with Segmenter(make_conv(card, weights, np.array([0, -40, -120, -240]))) as segmenter:
        expected = segmenter.segment(image).class_map
        np.testing.assert_array_equal(segmenter.segment_large(Rows(image)).class_map, expected)
    assert len(np.unique(expected)) > 1


def test_percentiles_of_floats_are_refused() -> None:
    card = make_card((16, 24), 1, 2, pre={"per_image": (1, 99)})
    segmenter = Segmenter(make_conv(card, np.ones((2, 1)), np.zeros(2)))
    with segmenter, pytest.raises(ImageError, match="counted for whole numbers only.*use segment"):
        segmenter.segment_large(np.zeros((40, 40), np.float32))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=60), st.floats(0, 99), st.floats(0.1, 1))
def test_counted_percentiles_are_numpys(levels: list[int], low: float, more: float) -> None:
    values = np.array(levels, np.uint8)
    found = percentiles_of(level_counts(values[:, None], 1), (low, low + more))
    np.testing.assert_allclose(found, np.percentile(values, (low, low + more)), rtol=0, atol=1e-12)


def test_floats_and_a_memmap_and_out(tmp_path) -> None:
    image = picture((75, 60, 3)) / np.float32(255)
    np.save(tmp_path / "image.npy", image)
    source = np.load(tmp_path / "image.npy", mmap_mode="r")
    out = np.memmap(tmp_path / "map", np.uint8, "w+", shape=(75, 60))
    with Segmenter(make_net(net_card((32, 32)), seed=1)) as segmenter:
        result = segmenter.segment_large(source, out=out, mode="exact")
        assert result.class_map is out
        assert sum(result.areas().values()) == 75 * 60
        expected = segmenter.segment_large(np.rint(image * 255).astype(np.uint8), mode="exact").class_map
    np.testing.assert_array_equal(np.fromfile(tmp_path / "map", np.uint8).reshape(75, 60), expected)


def test_windows_with_bands_first() -> None:
    image = picture((75, 60, 3))

    class Dataset:
        height, width, count = 75, 60, 3

        def read(self, window):
            (top, bottom), (left, right) = window
            return image[top:bottom, left:right].transpose(2, 0, 1)

    with Segmenter(make_net(net_card((32, 32)), seed=1)) as segmenter:
        expected = segmenter.segment_large(image).class_map
        np.testing.assert_array_equal(segmenter.segment_large(WindowSource(Dataset())).class_map, expected)


def test_progress_and_cancel() -> None:
    image, seen, out = picture((75, 60, 3)), [], np.full((75, 60), 99, np.uint8)
    with Segmenter(make_net(net_card((32, 32)), seed=1)) as segmenter:
        full = segmenter.segment_large(image, mode="exact", progress=lambda *each: seen.append(each)).class_map
        total = seen[-1][1]
        assert seen == [(n + 1, total) for n in range(total)]
        asked = iter(range(1000))
        with pytest.raises(CancelledError, match=f"8 of {total} tiles done"):
            segmenter.segment_large(image, mode="exact", out=out, cancel=lambda: next(asked) == 8)
    done = (out != 99).all(1)
    np.testing.assert_array_equal(out[done], full[done])
    assert 0 < done.sum() < 75
    assert (out[~done] == 99).all()


@pytest.mark.parametrize(
    ("card", "arguments", "said"),
    [
        (net_card((20, 32)), {"mode": "exact"}, "tiles of 24 px or more, a multiple of 4; found tiles of 20 px"),
        (net_card((32, 32), stride=0), {"mode": "exact"}, "does not say how its tiles must lie.*export it again"),
        (net_card((32, 32)), {"mode": "exact", "overlap": 3}, "takes its overlap from the card"),
        (net_card((32, 32)), {"mode": "whole"}, "blend or exact; found 'whole'"),
        (net_card((32, 32)), {"overlap": 32}, "expected 0 to 31 px; found 32"),
        (net_card((32, 32), fit="resize"), {}, "sees the whole image.*use segment"),
        (net_card((32, 32)), {"out": np.zeros((75, 61), np.uint8)}, "out does not suit"),
        (net_card((32, 32)), {"out": np.zeros((75, 60), np.int32)}, "out does not suit.*int32"),
    ],
    ids=["no core", "no stride", "overlap of exact", "mode", "overlap", "fit", "shape", "dtype"],
)
def test_what_cannot_be_is_refused(card, arguments, said: str) -> None:
    with Segmenter(make_net(card)) as segmenter, pytest.raises(UsageError, match=said):
        segmenter.segment_large(picture((75, 60, 3)), **arguments)


def test_what_is_no_source_is_refused() -> None:
    with Segmenter(make_net(net_card((32, 32)))) as segmenter:
        for source in ("image.png", 3, np.zeros(4), np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(UsageError, match="not an image that can be read in parts"):
                segmenter.segment_large(source)
        with pytest.raises(ImageError, match="number of channels"):
            segmenter.segment_large(np.zeros((40, 40, 2), np.uint8))
        with pytest.raises(ImageError, match="outside"):
            segmenter.segment_large(np.full((40, 40, 3), 7.0))

        class Short(Rows):
            def __getitem__(self, rows: slice) -> np.ndarray:
                return super().__getitem__(rows)[:-1]

        with pytest.raises(ImageError, match="other rows than were asked for"):
            segmenter.segment_large(Short(picture((75, 60, 3))))
    with pytest.raises(ModelError, match="closed"):
        segmenter.segment_large(picture((75, 60, 3)))


@given(st.integers(1, 40), st.integers(0, 20), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 60))
def test_cores_are_out_of_reach_and_without_gaps(sides: int, halo: int, stride: int, more: int) -> None:
    tile = sides * stride
    length = tile + more * stride
    try:
        cores = exact_cores(length, tile, halo, stride)
    except UsageError:
        assert more
        assert tile < 2 * halo + stride
        return
    assert cores[0].first == 0
    assert cores[-1].end == length
    assert all(a.end == b.first for a, b in zip(cores, cores[1:], strict=False))
    for origin, first, end in cores:
        assert origin % stride == 0
        assert first < end
        assert first == 0 or first - origin >= halo
        assert end == length or origin + tile - end >= halo
    assert {0, length - tile} <= {core.origin for core in cores}


MEASURE = """
import sys
import numpy as np
from unetres_edge import Segmenter

def anonymous():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

model, image, height, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
source = np.memmap(image, np.uint8, "r", shape=(height, 600, 3))
with Segmenter(model, num_threads=1) as segmenter:
    segmenter.segment_large(source[:200, :200], mode=mode)
    before, most = anonymous(), [0]
    out = np.memmap(image + ".map", np.uint8, "w+", shape=source.shape[:2])
    segmenter.segment_large(source, out=out, mode=mode, progress=lambda *_: most.append(anonymous()))
    print(max(most) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which Linux has")
@pytest.mark.parametrize("mode", ["blend", "exact"])
def test_memory_does_not_grow_with_the_height(tmp_path, mode: str) -> None:
    (tmp_path / "m.tflite").write_bytes(make_net(net_card((64, 64)), seed=1))
    grown = []
    for height in (300, 2400):
        np.memmap(tmp_path / "image", np.uint8, "w+", shape=(height, 600, 3)).flush()
        arguments = [tmp_path / "m.tflite", tmp_path / "image", height, mode]
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        grown.append(int(run.stdout.split()[-1]))
    assert grown[1] < grown[0] + 1000  # kB, where the image is 3.8 MB larger
    assert grown[1] < 4000


def test_preprocessing_takes_limits_of_the_whole() -> None:
    image = picture((10, 12, 1), dtype=np.uint16)
    pre = Preprocessing(channels=1, per_image=(5, 95))
    limits = tuple(np.percentile(image, (5, 95)))
    np.testing.assert_array_equal(pre.prepare(image[3:6], limits), pre.prepare(image)[3:6])
