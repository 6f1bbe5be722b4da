"""Class ids come back exactly from every encoding a mask may have, or the file is refused by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from malformed import bmp, colormap, gif, imagej, packed, png, pnm, saved, table, tiff
from PIL import Image

from unetres_edge.errors import DataError, MaskError
from unetres_edge.images.decode import count_pages, read_colors, read_image, read_mask

EXAMPLES = 2000
Encoder = Callable[[np.ndarray, np.random.Generator], bytes]


def opaque(values: np.ndarray) -> np.ndarray:
    return np.dstack([values, np.full(values.shape[:2], np.iinfo(values.dtype).max, values.dtype)])


def lossless(image: Image.Image | np.ndarray, compression: str) -> bytes:
    return saved(image, "TIFF", compression=compression)


def paletted(ids: np.ndarray, colors: np.ndarray) -> Image.Image:
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette(colors.astype(np.uint8).tobytes())
    return image


def signed(values: np.ndarray, bits: int) -> np.ndarray:
    return (values.astype(np.int64) - 2 ** (bits - 1)).astype(f"i{bits // 8}")


# By name: the bits an id has, and the file made of the ids.
NUMBERS: dict[str, tuple[int, Encoder]] = {
    **{f"png palette {n}": (n, lambda v, r, n=n: png(v, n, 3, table=table(r, 2**n))) for n in (1, 2, 4, 8)},
    **{f"png palette {n} interlaced": (n, lambda v, r, n=n: png(v, n, 3, table=table(r, 2**n), interlaced=True))
       for n in (1, 2, 4, 8)},
    **{f"png grey {n}": (n, lambda v, r, n=n: png(v, n)) for n in (1, 2, 4, 8, 16)},
    **{f"png grey {n} interlaced": (n, lambda v, r, n=n: png(v, n, interlaced=True)) for n in (1, 2, 4, 8, 16)},
    "png grey and alpha": (8, lambda v, r: png(opaque(v), 8, 4)),
    "png rgb": (8, lambda v, r: png(np.dstack([v] * 3), 8, 2)),
    "png rgba": (8, lambda v, r: png(opaque(np.dstack([v] * 3)), 8, 6)),
    **{
        f"tiff {n} {name}{order}": (n, lambda v, r, n=n, o=order, code=code: tiff(v, n, order=o, compression=code))
        for n, order, (name, code) in itertools.product(
            (1, 2, 4, 8, 16), "<>", {"plain": 1, "deflate": 8, "packbits": 32773}.items()
        )
    },
    "tiff 32 packbits": (32, lambda v, r: tiff(v, compression=32773)),
    **{f"tiff 32 {order}{code}": (32, lambda v, r, order=order, code=code: tiff(v, order=order, compression=code))
       for order, code in itertools.product("<>", (1, 8))},
    **{f"tiff {n} big{order}": (n, lambda v, r, n=n, order=order: tiff(v, order=order, big=True))
       for n, order in itertools.product((8, 16, 32), "<>")},
    **{f"tiff {n} tiled{code}": (n, lambda v, r, n=n, code=code: tiff(v, n, tile=16, compression=code))
       for n, code in itertools.product((1, 4, 8, 16, 32), (1, 8))},
    **{f"tiff {n} in strips": (n, lambda v, r, n=n: tiff(v, n, rows=3)) for n in (1, 4, 8, 16)},
    **{f"tiff {n} differences": (n, lambda v, r: tiff(v, compression=8, predictor=2)) for n in (8, 16, 32)},
    **{f"tiff {n} lzw": (n, lambda v, r: lossless(v, "tiff_lzw")) for n in (8, 16)},
    "tiff 1 lzw": (1, lambda v, r: lossless(Image.fromarray(v.astype(bool)), "tiff_lzw")),
    "tiff 1 group4": (1, lambda v, r: lossless(Image.fromarray(v.astype(bool)), "group4")),
    "tiff 32 lzw": (31, lambda v, r: lossless(v.astype(np.int32), "tiff_lzw")),
    **{f"tiff palette {n}": (n, lambda v, r, n=n: tiff(v, n, photometric=3, tags={320: colormap(table(r, 2**n))}))
       for n in (1, 2, 4, 8)},
    "tiff palette lzw": (8, lambda v, r: lossless(paletted(v, table(r, 256)), "tiff_lzw")),
    **{f"tiff white is zero {n}{order}": (n, lambda v, r, n=n, order=order: tiff(v, n, photometric=0, order=order))
       for n, order in itertools.product((2, 4, 8, 16), "<>")},
    **{f"tiff reversed {n}{order}": (n, lambda v, r, n=n, o=order: tiff(v, n, order=o, tags={266: (3, 2)}))
       for n, order in itertools.product((1, 2, 4, 8), "<>")},
    "tiff rgb": (8, lambda v, r: tiff(np.dstack([v] * 3))),
    "tiff rgb 16": (16, lambda v, r: tiff(np.dstack([v] * 3), planar=bool(r.integers(2)))),
    "tiff rgba": (8, lambda v, r: tiff(opaque(np.dstack([v] * 3)), tags={338: (3, 2)})),
    "tiff grey and alpha": (8, lambda v, r: tiff(opaque(v), photometric=1, tags={338: (3, 2)})),
    "bmp 1": (1, lambda v, r: bmp(v, 1, table(r, 2))),
    "bmp 1 black and white": (1, lambda v, r: bmp(v, 1, np.array([[0] * 3, [255] * 3]))),
    "bmp 4": (4, lambda v, r: bmp(v, 4, table(r, 16))),
    "bmp 8": (8, lambda v, r: bmp(v, 8, table(r, 256))),
    "bmp 8 grey": (8, lambda v, r: bmp(v, 8, np.repeat(np.arange(256), 3).reshape(256, 3))),
    "bmp rgb": (8, lambda v, r: bmp(np.dstack([v] * 3), 24)),
    **{f"gif {n}": (n, lambda v, r, n=n: gif(v, table=table(r, 2**n), bits=n)) for n in range(2, 9)},
    "gif grey": (8, lambda v, r: gif(v, table=np.repeat(np.arange(256), 3).reshape(256, 3))),
    **{f"pgm {n}{' plain' if plain else ''}": (n, lambda v, r, n=n, plain=plain: pnm(v, 2**n - 1, plain=plain))
       for n, plain in itertools.product((1, 2, 7, 8, 12, 16), (False, True))},
}  # fmt: skip
SIGNED: dict[str, tuple[int, Encoder]] = {
    f"tiff int{n} {code}{order}": (n, lambda v, r, n=n, order=order, code=code: tiff(v, order=order, compression=code))
    for n, order, code in itertools.product((8, 16, 32), "<>", (1, 8))
}
COLORS: dict[str, Encoder] = {
    "png rgb": lambda v, r: png(v, 8, 2),
    "png rgb interlaced": lambda v, r: png(v, 8, 2, interlaced=True),
    "png rgba": lambda v, r: png(opaque(v), 8, 6),
    **{f"tiff {order}{code}": lambda v, r, order=order, code=code: tiff(v, order=order, compression=code, rows=5)
       for order, code in itertools.product("<>", (1, 8, 32773))},
    "tiff planar": lambda v, r: tiff(v, planar=True),
    "tiff tiled": lambda v, r: tiff(v, tile=16),
    "tiff lzw": lambda v, r: lossless(v, "tiff_lzw"),
    "bmp": lambda v, r: bmp(v, 24),
    "ppm": lambda v, r: pnm(v, 255, plain=bool(r.integers(2))),
}  # fmt: skip
TABLED: dict[str, tuple[int, Callable[[np.ndarray, np.ndarray], bytes]]] = {
    **{f"png {n}": (n, lambda v, t, n=n: png(v, n, 3, table=t)) for n in (1, 2, 4, 8)},
    **{f"tiff {n}": (n, lambda v, t, n=n: tiff(v, n, photometric=3, tags={320: colormap(t)})) for n in (1, 2, 4, 8)},
    **{f"bmp {n}": (n, lambda v, t, n=n: bmp(v, n, t)) for n in (1, 4, 8)},
    **{f"gif {n}": (n, lambda v, t, n=n: gif(v, table=t, bits=n)) for n in (2, 4, 8)},
}
KINDS = len(NUMBERS) + len(SIGNED) + len(COLORS) + len(TABLED) + 9  # with grey, the pages and COCO below
EACH = settings(max_examples=-(-EXAMPLES // KINDS), derandomize=True, deadline=None, database=None)


def maps(bits: int, channels: tuple[int, ...] = ()) -> st.SearchStrategy[np.ndarray]:
    """Class maps of 1 x 1 to 40 x 40 with ids of that many bits."""
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    shapes = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda size: (*size, *channels))
    largest = min(2**bits, 2**31) - 1
    few = arrays.arrays(dtype, shapes, elements=st.integers(0, largest))
    many = st.tuples(shapes, st.integers(0, 2**32)).map(
        lambda drawn: np.random.default_rng(drawn[1]).integers(0, largest, drawn[0], dtype=dtype, endpoint=True)
    )
    return few | many


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("masks") / "mask"


def check(read: Callable[[Any], np.ndarray], path: Any, data: bytes, expected: np.ndarray) -> None:
    path.write_bytes(data)
    found = read(path)
    assert found.dtype in (np.uint8, np.uint16, np.int32)
    np.testing.assert_array_equal(found.astype(np.int64), expected.astype(np.int64), strict=True)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str, path) -> None:
    bits, encode = NUMBERS[name]

    @EACH
    @given(maps(bits), st.integers(0, 99))
    def run(ids: np.ndarray, seed: int) -> None:
        check(read_mask, path, encode(ids, np.random.default_rng(seed)), ids)

    run()


@pytest.mark.parametrize("name", SIGNED)
def test_signed_numbers(name: str, path) -> None:
    bits, encode = SIGNED[name]

    @EACH
    @given(maps(bits))
    def run(ids: np.ndarray) -> None:
        values = signed(ids, bits)
        check(read_mask, path, encode(values, np.random.default_rng(0)), values)

    run()


@pytest.mark.parametrize("name", COLORS)
def test_colours(name: str, path) -> None:
    @EACH
    @given(maps(8, (3,)), st.integers(0, 99))
    def run(colors: np.ndarray, seed: int) -> None:
        data = COLORS[name](colors, np.random.default_rng(seed))
        check(read_colors, path, data, packed(colors))
        np.testing.assert_array_equal(read_image(path), colors, strict=True)
        if (colors != colors[..., :1]).any():
            with pytest.raises(MaskError, match="colours, not class ids"):
                read_mask(path)

    run()


@pytest.mark.parametrize("name", TABLED)
def test_colours_of_a_table(name: str, path) -> None:
    bits, encode = TABLED[name]

    @EACH
    @given(maps(bits), st.integers(0, 99))
    def run(ids: np.ndarray, seed: int) -> None:
        colors = table(np.random.default_rng(seed), 2**bits)
        check(read_colors, path, encode(ids, colors), packed(colors[ids]))

    run()


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_colours_of_grey(bits: int, path) -> None:
    @EACH
    @given(maps(bits))
    def run(ids: np.ndarray) -> None:
        check(read_colors, path, png(ids, bits), packed(ids * (255 // (2**bits - 1))))

    run()


@pytest.mark.parametrize("order", "<>")
def test_pages(order: str, path) -> None:
    @EACH
    @given(st.lists(maps(16), min_size=2, max_size=5))
    def run(pages: list[np.ndarray]) -> None:
        path.write_bytes(tiff(pages[0], order=order, more=tuple(pages[1:]), compression=8))
        assert count_pages(path) == len(pages)
        with pytest.raises(
            MaskError, match=f"more than one frame; expected 1; found {len(pages)}; fix: .*dataset.yaml"
        ):
            read_mask(path)
        with pytest.raises(MaskError, match="no such page"):
            read_mask(path, page=len(pages))
        for number, page in enumerate(pages):
            np.testing.assert_array_equal(read_mask(path, page=number), page)

    run()


@pytest.mark.parametrize("order", "<>")
def test_images_of_an_imagej_stack(order: str, path) -> None:
    @EACH
    @given(st.sampled_from([8, 16]).flatmap(maps), st.integers(2, 5))
    def run(first: np.ndarray, images: int) -> None:
        stack = [first + number for number in range(images)]
        path.write_bytes(tiff(stack[0], order=order, stack=tuple(stack[1:]), tags=imagej(images)))
        assert count_pages(path) == images
        for read in (read_image, read_mask):
            with pytest.raises(DataError, match=f"more than one frame; expected 1; found {images}"):
                read(path)
            for number, page in enumerate(stack):
                np.testing.assert_array_equal(read(path, page=number), page, strict=True)

    run()
