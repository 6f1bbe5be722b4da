"""Files in the page: TIFF has Python's pixels, and what Python refuses is refused, in Node."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from node import need_package, run_node, script
from PIL import Image

from unetres_edge.errors import UnetresError
from unetres_edge.images.decode import count_pages, pages_are_channels, read_image

RNG = np.random.default_rng(3)
SMOOTH = (np.add.outer(np.arange(37), np.arange(53)) * 7 % 251).astype(np.uint8)


def noise(*shape: int, dtype: str = "u1") -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def write_tiffs(folder: Path) -> None:
    """TIFFs that both read."""
    grey, deep = noise(37, 53), noise(37, 53, dtype="u2")
    colors, deep_colors = noise(37, 53, 3), noise(37, 53, 3, dtype="u2")
    write = tifffile.imwrite
    for order in "<>":
        write(folder / f"deep{order == '<'}.tif", deep, byteorder=order)
        write(folder / f"deep_colors{order == '<'}.tif", deep_colors, byteorder=order, photometric="rgb")
    write(folder / "strips.tif", grey, rowsperstrip=10, compression="zlib")
    write(folder / "tiles.tif", colors, tile=(16, 32), compression="zlib", photometric="rgb")
    write(folder / "tiles_deep.tif", deep, tile=(16, 16), compression="zlib", predictor=True)
    write(folder / "differences.tif", deep_colors, compression="zlib", predictor=True, photometric="rgb")
    write(folder / "planes.tif", np.moveaxis(colors, -1, 0), planarconfig="separate", photometric="rgb")
    write(folder / "five.tif", noise(37, 53, 5, dtype="u2"), photometric="minisblack", planarconfig="contig")
    write(folder / "white.tif", deep, photometric="miniswhite")
    write(folder / "opaque.tif", np.dstack([colors, np.full((37, 53), 255, "u1")]), photometric="rgb", extrasamples=[2])
    write(folder / "stack.tif", noise(4, 37, 53, dtype="u2"), photometric="minisblack")
    write(folder / "imagej.tif", noise(3, 37, 53, dtype="u2"), imagej=True, metadata={"axes": "ZYX"})
    write(folder / "imagej_channels.tif", noise(3, 37, 53, dtype="u2"), imagej=True, metadata={"axes": "CYX"})
    write(folder / "ome.ome.tif", noise(2, 37, 53), metadata={"axes": "CYX"}, photometric="minisblack")
    for number in range(2, 9):
        write(folder / f"turned{number}.tif", colors, photometric="rgb", extratags=[(274, 3, 1, number, True)])
    for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate"):
        Image.fromarray(grey).save(folder / f"noise_{name}.tif", compression=name)
        Image.fromarray(SMOOTH).save(folder / f"smooth_{name}.tif", compression=name)
        Image.fromarray(np.tile(SMOOTH, (20, 20))).save(folder / f"large_{name}.tif", compression=name)
        Image.fromarray(colors).save(folder / f"colors_{name}.tif", compression=name)


def write_refused(folder: Path) -> None:
    """Files that Python refuses; those in `refused_here` it reads."""
    frames = [Image.fromarray(noise(20, 30)) for _ in range(3)]
    for ending in ("gif", "png", "webp"):
        frames[0].save(folder / f"animated.{ending}", save_all=True, append_images=frames[1:], loop=0)
    Image.new("CMYK", (20, 30)).save(folder / "cmyk.jpg")
    Image.new("CMYK", (20, 30)).save(folder / "cmyk.tif")
    if "AVIF" in Image.registered_extensions().values():
        Image.fromarray(noise(20, 30, 3)).save(folder / "photo.avif")
    (folder / "empty.png").touch()
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    tifffile.imwrite(folder / "clear.tif", noise(20, 30, 4) // 2, photometric="rgb", extrasamples=[2])
    tifffile.imwrite(folder / "complex.tif", noise(20, 30).astype("c8"))
    tifffile.imwrite(folder / "short.tif", noise(200, 300), compression="zlib")
    (folder / "short.tif").write_bytes((folder / "short.tif").read_bytes()[:9000])
    tifffile.imwrite(folder / "sizes.tif", noise(20, 30))
    tifffile.imwrite(folder / "sizes.tif", noise(20, 31), append=True)
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)


def write_refused_here(folder: Path) -> None:
    """Files that Python reads and a page refuses by name, for a browser or this page would change their pixels."""
    Image.fromarray(noise(20, 30, dtype="u2")).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("webp", "png"):
        Image.fromarray(noise(20, 30, 3)).save(folder / f"turned.{ending}", exif=exif, lossless=True)
    tifffile.imwrite(folder / "float.tif", noise(20, 30).astype("f4") / 255)
    tifffile.imwrite(folder / "big.tif", noise(20, 30), bigtiff=True)


def write_plain(folder: Path) -> None:
    """Files that both read."""
    picture = Image.fromarray(noise(20, 30, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("png", "jpg", "webp", "gif", "bmp"):
        picture.save(folder / f"plain.{ending}")
    picture.save(folder / "turned.jpg", exif=exif)
    picture.save(folder / "progressive.jpg", progressive=True)
    picture.convert("L").save(folder / "grey.jpg")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of all files, and what the page's modules say of each."""
    need_package("@litertjs/core")
    root = tmp_path_factory.mktemp("files")
    for name, write in (
        ("tiffs", write_tiffs),
        ("refused", write_refused),
        ("refused_here", write_refused_here),
        ("plain", write_plain),
    ):
        (root / name).mkdir()
        write(root / name)
    (root / "stacked").mkdir()
    tifffile.imwrite(root / "stacked" / "pages.tif", noise(3, 20, 30, dtype="u2"), photometric="minisblack")
    files = sorted(path for path in root.rglob("*.*") if path.is_file())
    hashed = []
    for length in (0, 1, 55, 56, 63, 64, 65, 4097):
        hashed.append(root / f"{length}.bytes")
        hashed[-1].write_bytes(RNG.bytes(length))
    labels = RNG.integers(0, 3, (40, 60)).astype(np.uint8) * (RNG.random((40, 60)) < 0.6)
    labels[5:20, 5:30] = 2
    (root / "labels.raw").write_bytes(labels.astype(np.uint8).tobytes())
    job = {
        "files": [[f"{path}", path.parent.name == "stacked"] for path in files],
        "hash": [f"{path}" for path in hashed],
        "regions": {"raw": f"{root / 'labels.raw'}", "width": 60, "height": 40, "classes": 3},
        "out": f"{root / 'report.json'}",
    }
    (root / "job.json").write_text(json.dumps(job))
    run_node(script("decode_files.mjs"), root / "job.json")
    report = json.loads((root / "report.json").read_text())
    report["files"] = dict(zip(files, report["files"], strict=True))
    return root, report


def of(told: tuple[Path, dict[str, Any]], folder: str) -> list[tuple[Path, dict[str, Any]]]:
    found = [(path, each) for path, each in told[1]["files"].items() if path.parent.name == folder]
    assert found
    return found


def test_tiffs_have_the_pixels_of_python(told: tuple[Path, dict[str, Any]]) -> None:
    for path, said in [*of(told, "tiffs"), *of(told, "stacked")]:
        assert "error" not in said, (path.name, said)
        stacked = path.parent.name == "stacked"
        alone = stacked or pages_are_channels(path)
        assert len(said["pages"]) == (1 if alone else count_pages(path)), path.name
        for number, page in enumerate(said["pages"]):
            expected = read_image(path, None if len(said["pages"]) == 1 else number, stacked=stacked)
            raw = np.fromfile(f"{path}.{number}.raw", f"u{page['bits'] // 8}")
            found = raw.reshape(page["height"], page["width"], page["channels"])
            np.testing.assert_array_equal(found, np.atleast_3d(expected), err_msg=path.name)


def test_what_python_refuses_is_refused(told: tuple[Path, dict[str, Any]]) -> None:
    for path, said in of(told, "refused"):
        if path.name == "sizes.tif":
            assert len(said["pages"]) == 2, "each page is read for itself"
            continue
        with pytest.raises(UnetresError) as caught:
            read_image(path)
        assert said["error"]["code"] == "image", (path.name, said)
        same = ("animated.gif", "animated.webp", "cmyk.jpg", "cmyk.tif", "huge.png", "clear.tif", "empty.png")
        if path.name in same:
            assert said["error"]["message"] == caught.value.message, path.name


def test_what_a_browser_would_change_is_refused_by_name(told: tuple[Path, dict[str, Any]]) -> None:
    for path, said in of(told, "refused_here"):
        read_image(path)
        assert said["error"]["code"] == "image" and said["error"]["fix"], (path.name, said)


def test_usual_files_go_on_to_the_browser(told: tuple[Path, dict[str, Any]]) -> None:
    for path, said in of(told, "plain"):
        read_image(path)
        assert said == {"pages": []}, path.name


def test_the_digest_of_pages_without_a_secure_context_is_sha256(told: tuple[Path, dict[str, Any]]) -> None:
    root, report = told
    lengths = (0, 1, 55, 56, 63, 64, 65, 4097)
    assert report["hashes"] == [hashlib.sha256((root / f"{n}.bytes").read_bytes()).hexdigest() for n in lengths]


def test_regions_are_counted(told: tuple[Path, dict[str, Any]]) -> None:
    root, report = told
    labels = np.fromfile(root / "labels.raw", np.uint8).reshape(40, 60)
    left = {(int(y), int(x)) for y, x in np.ndindex(labels.shape)}
    counts = [0, 0, 0]
    while left:  # flood fill, through sides and corners
        start = left.pop()
        waiting, size = [start], 0
        while waiting:
            y, x = waiting.pop()
            size += 1
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            same = {place for place in around if labels[place] == labels[start]}
            left -= same
            waiting += same
        counts[labels[start]] += size >= 16
    assert report["regions"] == counts
    assert max(counts) > 1
