"""Image and mask files of every kind become arrays, or are refused with their name."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetres_edge.errors import ImageError, MaskError
from unetres_edge.files import read_bytes
from unetres_edge.images import decode, tiff
from unetres_edge.images.decode import count_pages, image_array, pixels_of, read_colors, read_image, read_mask

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (19, 23)).astype(np.uint8)
COLOR = RNG.integers(0, 256, (19, 23, 3)).astype(np.uint8)
ALPHA = np.dstack([COLOR, np.full((19, 23), 255, np.uint8)])
IDS = RNG.integers(0, 5, (19, 23)).astype(np.uint8)
# What the viewer sees for each EXIF orientation of the stored pixels (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def save(path: Path, image: Image.Image | np.ndarray, **options) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def palette(ids: np.ndarray) -> Image.Image:
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette([9, 0, 0, 0, 80, 0, 7, 7, 7, 1, 2, 3, 250, 251, 252] + [0] * 753)
    return image


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "pgm"])
def test_grey(tmp_path, suffix: str) -> None:
    found = read_image(save(tmp_path / f"a.{suffix}", GREY))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found if found.ndim == 2 else found[..., 0], GREY)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_colour(tmp_path, suffix: str) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / f"a.{suffix}", COLOR)), COLOR)


def test_webp_and_jpeg(tmp_path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.webp", COLOR, lossless=True)), COLOR)
    smooth = np.linspace(0, 255, 19 * 23).reshape(19, 23).astype(np.uint8)
    found = read_image(save(tmp_path / "a.jpg", smooth, quality=95))
    assert np.abs(found.astype(int) - smooth).max() < 12


def test_the_ending_of_the_name_plays_no_part(tmp_path) -> None:
    save(tmp_path / "a.tif", COLOR)
    np.testing.assert_array_equal(read_image((tmp_path / "a.tif").rename(tmp_path / "a.png")), COLOR)


def test_one_bit(tmp_path) -> None:
    found = read_image(save(tmp_path / "a.png", Image.fromarray(GREY > 99)))
    np.testing.assert_array_equal(found, np.where(GREY > 99, 255, 0))


def test_palette_images_give_their_colours(tmp_path) -> None:
    colors = np.array([[9, 0, 0], [0, 80, 0], [7, 7, 7], [1, 2, 3], [250, 251, 252]])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", palette(IDS))), colors[IDS])


def test_an_opaque_alpha_is_dropped(tmp_path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", ALPHA)), COLOR)
    grey = np.dstack([GREY, np.full_like(GREY, 255)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", grey)), GREY)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "c.png", palette(IDS), transparency=200)).shape, (19, 23, 3)
    )


def test_transparent_pixels_are_refused(tmp_path) -> None:
    clear = ALPHA.copy()
    clear[3, 4, 3] = 254
    black = np.zeros((4, 4), np.uint8)
    for number, (image, options) in enumerate(
        [
            (clear, {}),
            (np.dstack([GREY, np.where(GREY > 9, 255, 0).astype(np.uint8)]), {}),
            (palette(IDS), {"transparency": 3}),
            (black, {"transparency": 0}),
            (np.dstack([black] * 3), {"transparency": (0, 0, 0)}),
        ]
    ):
        with pytest.raises(ImageError, match="transparent pixels"):
            read_image(save(tmp_path / f"{number}.png", image, **options))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix: str) -> None:
    deep = (GREY * 257.0 - (GREY > 0)).astype(np.uint16)
    found = read_image(save(tmp_path / f"a.{suffix}", deep))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, deep)


def test_float_and_32_bit_files(tmp_path) -> None:
    real = (GREY / 255).astype(np.float32)
    found = read_image(save(tmp_path / "a.tif", real))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, real)
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.tif", GREY.astype(np.int32) * 257)), GREY * 257.0)
    with pytest.raises(ImageError, match="outside 16 bits"):
        read_image(save(tmp_path / "c.tif", GREY.astype(np.int32) - 300))


def test_other_modes_are_refused(tmp_path) -> None:
    for mode in ("CMYK", "LAB"):
        image = Image.fromarray(COLOR) if mode == "LAB" else Image.fromarray(COLOR).convert(mode)
        image = Image.new("LAB", (4, 4)) if mode == "LAB" else image
        with pytest.raises(ImageError, match=f"mode is not supported.*found {mode}"):
            read_image(save(tmp_path / f"{mode}.tif", image))


@pytest.mark.parametrize("number", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_orientation_is_applied(tmp_path, number: int, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", COLOR, exif=oriented(number), **options)
    np.testing.assert_array_equal(read_image(path), UPRIGHT[number](COLOR))


@pytest.mark.parametrize("number", UPRIGHT)
def test_a_photograph_is_upright(tmp_path, number: int) -> None:
    photo = np.zeros((32, 64), np.uint8)
    photo[:8, :8], photo[:8, -8:] = 255, 128
    found = read_image(save(tmp_path / "a.jpg", photo, exif=oriented(number), quality=98)).astype(int)
    expected = UPRIGHT[number](photo)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 20


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "a.png"
    if kind in ("png", "jpeg", "tiff", "gif", "bmp", "webp"):
        save(path, COLOR, format=kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind != "nothing":
        path.write_bytes({"empty": b"", "text": b"not an image\n" * 99, "zip": b"PK\x03\x04" * 9}[kind])
    return path


KINDS = ["png", "jpeg", "tiff", "gif", "bmp", "webp", "folder", "fifo", "nothing", "empty", "text", "zip"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("read", "error"), [(read_image, ImageError), (read_mask, MaskError)])
def test_files_that_cannot_be_read_are_refused_by_name(tmp_path, kind: str, read, error: type) -> None:
    if kind == "fifo" and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    path = broken(tmp_path, kind)
    with pytest.raises(error, match=r"a\.png") as caught:
        read(path)
    assert type(caught.value) is error
    assert caught.value.file == str(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of broken EXIF and TIFF tags before it gives up
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "gif", "bmp", "webp"])
def test_damaged_files_give_pixels_or_an_image_error(tmp_path, kind: str) -> None:
    path = save(tmp_path / "a.png", COLOR, format=kind)
    data, rng, refused = path.read_bytes(), np.random.default_rng(2), 0
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, min(300, len(data)), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_image(path)
        except ImageError:
            refused += 1
    assert refused > 0


def test_more_than_one_frame_is_refused(tmp_path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for suffix in ("gif", "tif", "png", "webp"):
        path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        for read, error in ((read_image, ImageError), (read_mask, MaskError)):
            fix = "" if suffix == "tif" else "; fix: .*, or all as the pages of a TIFF"
            with pytest.raises(error, match=f"more than one frame; expected 1; found 2{fix}"):
                read(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("unetres_edge.images.decode.MAX_PIXELS", 19 * 23 - 1)
    path = save(tmp_path / "a.png", GREY)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match="too many pixels.*found 23 x 19"):
        read_image(path)


def test_a_pillow_image_is_read_alike() -> None:
    np.testing.assert_array_equal(image_array(palette(IDS)), np.asarray(palette(IDS).convert("RGB")))
    buffer = io.BytesIO()
    Image.fromarray(COLOR).save(buffer, "PNG")
    with pytest.raises(ImageError, match="cannot decode"):
        image_array(Image.open(io.BytesIO(buffer.getvalue()[:-300])))


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif"])
def test_masks_of_a_palette_give_their_indices(tmp_path, suffix: str) -> None:
    np.testing.assert_array_equal(read_mask(save(tmp_path / f"a.{suffix}", palette(IDS))), IDS)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (IDS, IDS),
        (IDS > 2, IDS > 2),
        (IDS.astype(np.uint16) * 300, IDS * 300.0),
        (np.dstack([IDS] * 3), IDS),
        (np.dstack([IDS, IDS, IDS, IDS * 0 + 255]), IDS),
        (np.dstack([IDS, IDS * 0 + 255]), IDS),
    ],
    ids=["L", "1", "I;16", "RGB", "RGBA", "LA"],
)
def test_mask_modes(tmp_path, stored: np.ndarray, expected: np.ndarray) -> None:
    found = read_mask(save(tmp_path / "a.png", stored))
    assert found.dtype in (np.uint8, np.uint16)
    np.testing.assert_array_equal(found, expected)


def test_masks_of_32_bits_keep_their_sign(tmp_path) -> None:
    ids = IDS.astype(np.int32) - 1
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.tif", ids)), ids)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_of_whole_floats_are_their_numbers(tmp_path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IDS.astype(dtype) * 300)
    found = read_mask(tmp_path / "a.tif")
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found, IDS.astype(int) * 300)


def test_masks_that_are_not_ids_are_refused(tmp_path) -> None:
    for name, image, options, said in (
        ("a.jpg", IDS, {}, "JPEG file does not hold class ids"),
        ("a.png", COLOR, {}, "holds colours"),
        ("b.png", IDS, {"exif": oriented(6)}, "rotated by EXIF"),
        ("c.tif", IDS.astype(np.float32) / 2, {}, "mask holds fractions; expected whole numbers"),
        ("nan.tif", np.where(IDS, np.nan, 0).astype(np.float32), {}, "mask holds fractions"),
        ("d.tif", Image.fromarray(COLOR).convert("CMYK"), {}, "mode is not supported"),
    ):
        with pytest.raises(MaskError, match=said):
            read_mask(save(tmp_path / name, image, **options))
    np.testing.assert_array_equal(read_mask(save(tmp_path / "e.png", IDS, exif=oriented(1))), IDS)


def refused(path: Path, said: str, *reads) -> None:
    for read in reads or (read_image, read_mask, read_colors):
        with pytest.raises(MaskError if read in (read_mask, read_colors) else ImageError, match=said) as caught:
            read(path)
        assert caught.value.file == str(path)


def test_colours_are_packed(tmp_path) -> None:
    expected = COLOR.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    for suffix in ("png", "tif", "bmp", "ppm"):
        found = read_colors(save(tmp_path / f"a.{suffix}", COLOR))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(read_colors(save(tmp_path / "b.png", ALPHA)), expected)
    np.testing.assert_array_equal(read_colors(save(tmp_path / "c.png", GREY)), GREY.astype(np.int32) * 0x10101)
    np.testing.assert_array_equal(
        read_colors(save(tmp_path / "d.png", Image.fromarray(GREY > 9))), (GREY > 9) * 0xFFFFFF
    )
    np.testing.assert_array_equal(read_colors(save(tmp_path / "e.png", palette(IDS))).max(), 250 << 16 | 251 << 8 | 252)


def test_colours_that_are_not_exact_are_refused(tmp_path) -> None:
    clear = ALPHA.copy()
    clear[0, 0, 3] = 0
    refused(save(tmp_path / "a.jpg", COLOR), "JPEG file does not hold", read_colors, read_mask)
    refused(save(tmp_path / "b.webp", COLOR, lossless=True), "WEBP file does not hold", read_colors, read_mask)
    refused(save(tmp_path / "c.png", GREY.astype(np.uint16)), "not of 8 bits", read_colors)
    refused(save(tmp_path / "d.png", clear), "transparent pixels")
    refused(save(tmp_path / "e.png", COLOR, exif=oriented(6)), "rotated by EXIF", read_colors, read_mask)
    refused(save(tmp_path / "f.tif", COLOR, exif=oriented(6)), "rotated by EXIF", read_colors, read_mask)
    refused(save(tmp_path / "g.tif", COLOR, compression="jpeg"), "compressed by JPEG", read_colors, read_mask)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}]
)
def test_tiffs_that_pillow_does_not_give_exactly(tmp_path, options: dict) -> None:
    deep = RNG.integers(0, 65536, (19, 23, 3), dtype=np.uint16)
    many = RNG.integers(0, 65536, (19, 23, 7), dtype=np.uint16)
    for number, (values, more) in enumerate(
        [
            (deep, {"photometric": "rgb"}),
            (np.moveaxis(deep, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
            (np.moveaxis(COLOR, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
            (many, {"photometric": "minisblack", "planarconfig": "contig"}),
            (many[..., :2], {"photometric": "minisblack", "planarconfig": "contig"}),
            ((deep / 65535).astype(np.float32), {"photometric": "rgb"}),
            ((GREY / 256).astype(np.float16), {}),
            (GREY / 256, {}),
            (GREY.astype(np.uint32) * 257, {}),
        ]
    ):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, values, **more, **options)
        found = read_image(path)
        np.testing.assert_array_equal(found, np.moveaxis(values, 0, -1) if "separate" in more.values() else values)
        assert found.dtype in (np.uint8, np.uint16, np.float32)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("order", "<>")
def test_masks_of_every_whole_number(tmp_path, dtype: type, order: str) -> None:
    ids = IDS.astype(dtype) - (dtype(1) if np.dtype(dtype).kind == "i" else dtype(0))
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "a.tif", ids, byteorder=order, compression=compression)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), ids)
    tifffile.imwrite(tmp_path / "b.tif", np.full((4, 4), 2**31, np.uint32))
    refused(tmp_path / "b.tif", "outside 32 bits", read_mask)


def test_values_that_are_not_finite_are_counted(tmp_path) -> None:
    values = np.zeros((6, 6))
    values[0, :4] = np.nan, np.inf, -np.inf, np.nan
    for dtype in (np.float16, np.float32, np.float64):
        tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype))
        refused(tmp_path / "a.tif", "image has 4 values that are not finite", read_image)
    values[0, :4] = 7, -7, 1e9, 0
    tifffile.imwrite(tmp_path / "b.tif", values)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), values.astype(np.float32))


@pytest.mark.parametrize("number", UPRIGHT)
def test_orientation_of_tiffs_that_pillow_does_not_read(tmp_path, number: int) -> None:
    deep = RNG.integers(0, 65536, (19, 23, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extratags=[(274, 3, 1, number, True)])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), UPRIGHT[number](deep))


def test_pages_of_a_tiff(tmp_path) -> None:
    path, pages = tmp_path / "a.tif", RNG.integers(0, 256, (4, 19, 23), dtype=np.uint8)
    for options in ({}, {"imagej": True, "metadata": {"axes": "ZYX"}}, {"bigtiff": True}):
        tifffile.imwrite(path, pages, photometric="minisblack", **options)
        assert count_pages(path) == 4
        refused(path, "more than one frame; expected 1; found 4; fix: (pages: channels|save each frame)")
        for number, page in enumerate(pages):
            np.testing.assert_array_equal(read_image(path, page=number), page)
            np.testing.assert_array_equal(read_mask(path, number), page)
            np.testing.assert_array_equal(read_colors(path, number), page.astype(np.int32) * 0x10101)
        for number in (-1, 4):
            with pytest.raises(ImageError, match=f"no such page; expected 0..3; found {number}"):
                read_image(path, page=number)


def one_page_for_all(path: Path, stack: np.ndarray) -> Path:
    """Write a stack as ImageJ does from 4 GB on: one page, the images after its own follow without tags."""
    tifffile.imwrite(path, stack, imagej=True, byteorder=">", metadata={"axes": "ZYX"})
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from(">I", data, 4)
    (tags,) = struct.unpack_from(">H", data, at)
    struct.pack_into(">I", data, at + 2 + 12 * tags, 0)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_stack_of_imagej_is_not_taken_for_one_image(tmp_path, dtype: type) -> None:
    stack = RNG.integers(0, 256, (4, 19, 23)).astype(dtype)
    path = one_page_for_all(tmp_path / "a.tif", stack)
    with Image.open(path) as image:
        assert image.n_frames == 1
    assert count_pages(path) == 4
    refused(path, "more than one frame; expected 1; found 4")
    for number, image in enumerate(stack):
        np.testing.assert_array_equal(read_image(path, page=number), image)


def test_a_stack_of_imagej_that_is_cut_is_refused(tmp_path) -> None:
    path = one_page_for_all(tmp_path / "a.tif", RNG.integers(0, 256, (4, 19, 23), dtype=np.uint8))
    path.write_bytes(path.read_bytes().replace(b"images=4", b"images=9"))
    with pytest.raises(ImageError, match="ImageJ stack is damaged; expected 9 images; found room for [45]"):
        count_pages(path)
    refused(path, "ImageJ stack is damaged")


def test_pages_of_other_files(tmp_path) -> None:
    for suffix in ("png", "jpg", "gif", "bmp", "pgm", "webp", "tif"):
        path = save(tmp_path / f"a.{suffix}", GREY)
        assert count_pages(path) == 1
        np.testing.assert_array_equal(read_image(path, page=0), read_image(path))
        with pytest.raises(ImageError, match="no such page; expected 0..0; found 1"):
            read_image(path, page=1)
    path = save(tmp_path / "b.gif", Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(255 - GREY)])
    refused(path, "more than one frame", count_pages, read_image, read_mask)


def test_sixteen_bit_colours_of_a_png_are_refused_not_cut(tmp_path) -> None:
    for color, channels in ((2, 3), (4, 2), (6, 4)):
        rows = b"".join(b"\0" + bytes(8 * channels) for _ in range(4))
        path = tmp_path / f"{color}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        with path.open("ab") as file:
            header = struct.pack(">IIBBBBB", 4, 4, 16, color, 0, 0, 0)
            for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
                file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
        refused(path, "would be cut to 8 bits.*fix: save it as a 16-bit TIFF or an 8-bit PNG")


def test_tiffs_of_too_many_bytes_are_refused(tmp_path, monkeypatch) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((10, 10, 16), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    assert read_image(tmp_path / "a.tif").shape == (10, 10, 16)
    monkeypatch.setattr("unetres_edge.images.decode.MAX_PIXELS", 399)
    refused(tmp_path / "a.tif", "too many bytes of pixels; expected at most 3192; found 10 x 10 x 32")


def test_nothing_is_printed_of_a_damaged_tiff(tmp_path, capfd) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RNG.integers(0, 9, (19, 23, 3), dtype=np.uint16), compression="zlib")
    data = (tmp_path / "a.tif").read_bytes()
    for at in range(0, len(data), 7):
        (tmp_path / "b.tif").write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        with contextlib.suppress(ImageError):
            read_image(tmp_path / "b.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", ["grey", "deflate", "bigtiff", "big-endian", "rgb16"])
def test_a_page_of_a_stack_costs_its_own_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """No decoder sees the pages before the one that is wanted, and the file is read once."""
    dtype = np.uint16 if form == "rgb16" else np.uint8
    stack = np.random.default_rng(0).integers(0, 255, (40, 9, 7, *([3] if form == "rgb16" else []))).astype(dtype)
    file = tmp_path / "stack.tif"
    more = {"deflate": {"compression": "zlib"}, "bigtiff": {"bigtiff": True}, "big-endian": {"byteorder": ">"}}
    kind = "rgb" if form == "rgb16" else "minisblack"
    tifffile.imwrite(file, stack, photometric=kind, metadata=None, rowsperstrip=4, **more.get(form, {}))
    reads, sizes = [], []
    monkeypatch.setattr(decode, "read_bytes", lambda *given: reads.append(given) or read_bytes(*given))
    alone = tiff.page_alone

    def seen(data: bytes, page: tiff.Page) -> tuple[bytes, int]:
        cut, number = alone(data, page)
        sizes.append((len(cut), number))
        return cut, number

    monkeypatch.setattr(tiff, "page_alone", seen)
    for number, right in enumerate(stack):
        np.testing.assert_array_equal(decode.read_image(file, number), right)
    assert len(reads) == 1
    assert max(size for size, _ in sizes[1:]) < 3000
    assert {number for _, number in sizes} == {0}
    tifffile.imwrite(file, stack[::-1], photometric=kind, metadata=None)
    np.testing.assert_array_equal(decode.read_image(file, 3), stack[-4])


def test_a_film_behind_a_photo_is_not_counted(tmp_path: Path) -> None:
    photo = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(photo, "JPEG")
    (tmp_path / "a.jpg").write_bytes(photo.getvalue() + b"\xff\xda" * 300)
    assert decode.read_image(tmp_path / "a.jpg").shape == (48, 64, 3)


def test_an_array_that_hides_values_is_refused() -> None:
    levels = np.zeros((4, 4), np.uint8)
    hidden = np.ma.masked_array(levels, mask=levels == 0)
    with pytest.raises(ImageError, match="hides values; found 16 that are masked; fix: image.filled"):
        pixels_of(hidden)
    assert pixels_of(np.ma.masked_array(levels)) is not None
    assert pixels_of(hidden.filled(7)).max() == 7


def test_a_picture_that_pillow_finds_too_large_is_called_so() -> None:
    head = struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ImageError, match="too many pixels; expected at most") as caught:
        pixels_of(b"BM" + head + bytes(50))
    assert caught.value.kind == "too-large"
