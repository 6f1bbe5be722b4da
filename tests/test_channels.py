"""Images of any number of channels, from the folder to the device: check, train, report, export, predict."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import keras_unetres as ku
from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.records import read_records
from keras_unetres.doctor.check import check
from keras_unetres.settings import TrainSettings
from unetres_edge import Segmenter
from unetres_edge.cli import main as edge
from unetres_edge.images.decode import read_image
from unetres_edge.images.view import to_view

SIZE = 32
DEPTHS = {"uint8": 255, "uint16": 65535, "float32": 1.0}


def silent(line: str) -> None:
    """Say nothing."""


def draw(folder: Path, channels: int, dtype: str, *, paged: bool = False, ome: bool = False, count: int = 10) -> Path:
    """Write images whose last channel alone shows the class."""
    rng = np.random.default_rng(channels)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for place in range(count):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        y, x = rng.integers(2, 16, 2)
        mask[y : y + 12, x : x + 12] = 1
        bands = rng.random((channels, SIZE, SIZE)) * 0.3 + 0.3
        bands[-1] = np.where(mask, 0.9, 0.1) + rng.random(mask.shape) * 0.05
        values = (bands * DEPTHS[dtype]).astype(dtype)
        file = folder / "images" / f"t{place}.tif"
        if ome:
            tifffile.imwrite(file.with_suffix(".ome.tif"), values, metadata={"axes": "CYX"}, photometric="minisblack")
        elif paged:
            tifffile.imwrite(file, values, photometric="minisblack")
        else:
            stored = values[0] if channels == 1 else np.moveaxis(values, 0, -1)
            kind = "rgb" if channels == 3 else "minisblack"
            tifffile.imwrite(file, stored, photometric=kind, planarconfig=None if channels == 1 else "contig")
        Image.fromarray(mask).save(folder / "masks" / f"t{place}{'.ome' * ome}.png")
    return folder


def go_through(folder: Path, channels: int, **settings: object) -> None:
    """Check, train for an epoch, export and predict; the file gives what the network gives."""
    report = ku.check(folder / "data", hashes="off", say=silent)
    assert report["faults"] == []
    run = folder / "run"
    tiny = {"size": SIZE, "filters": 2, "depth": 1, "batch": 4, "epochs": 1, "seed": 0, "plan": False}
    ku.train(folder / "data", run, TrainSettings.from_flat(tiny | settings), say=silent)
    assert (run / "report.html").is_file()
    assert ku.export(run, folder / "m.tflite", recipe="float32", gate=False, say=silent)
    with Segmenter(folder / "m.tflite") as segmenter:
        assert segmenter.card.preprocessing.channels == channels
    ku.predict(run, folder / "data" / "images", folder / "keras", overlay=True, say=silent)
    edge(
        [
            "predict",
            str(folder / "m.tflite"),
            str(folder / "data" / "images"),
            "--out",
            str(folder / "edge"),
            "--overlay",
        ]
    )
    maps = sorted(path.relative_to(folder / "keras") for path in (folder / "keras").glob("*.png"))
    assert len(maps) == 20
    for name in maps:
        pixels = [np.asarray(Image.open(folder / form / name)).astype(int) for form in ("keras", "edge")]
        assert (pixels[0] != pixels[1]).mean() < 0.01


# Every number of channels and every depth; the other pairs are left to the long tests.
PUSHED = {(1, "uint8"), (1, "float32"), (2, "uint16"), (3, "float32"), (4, "uint8"), (5, "uint16"), (13, "float32")}
PAIRS = [
    pytest.param(*pair, marks=pytest.mark.slow if pair in PUSHED else pytest.mark.long)
    for pair in itertools.product([1, 2, 3, 4, 5, 13], DEPTHS)
]


@pytest.mark.parametrize(("channels", "dtype"), PAIRS)
def test_from_the_folder_to_the_device(channels: int, dtype: str, tmp_path: Path) -> None:
    draw(tmp_path / "data", channels, dtype)
    go_through(tmp_path, channels)


@pytest.mark.slow
def test_pages_as_channels_from_the_folder_to_the_device(tmp_path: Path) -> None:
    draw(tmp_path / "data", 6, "uint16", paged=True)
    (tmp_path / "data" / "dataset.yaml").write_text("pages: channels\n")
    go_through(tmp_path, 6, show=(3, 2, 1))
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        assert (segmenter.card.show, segmenter.card.stacked) == ((3, 2, 1), True)


def test_pages_that_are_channels_are_read_where_the_file_or_a_declaration_says_so(tmp_path: Path) -> None:
    for form in ({"paged": True}, {"ome": True}):
        folder = draw(tmp_path / next(iter(form)), 5, "uint16", **form, count=3)
        if "paged" in form:
            faults = check(folder, hashes="off", progress=False).faults
            assert {(fault.kind, fault.fix.text) for fault in faults} == {("frames", "pages: channels")}
            (folder / "dataset.yaml").write_text("pages: channels\n")
            assert check(folder, hashes="off", progress=False).faults == []
        records = read_records(open_dataset(folder), ["all"], progress=False)["all"]
        assert (records[0].image.shape, records[0].image.dtype) == ((SIZE, SIZE, 5), np.uint16)
        assert records.usual_channels == 5
        np.testing.assert_array_equal(records[0].image[..., 4] > 30000, records[0].mask == 1)


def test_slices_and_times_are_no_channels(tmp_path: Path) -> None:
    values = np.zeros((3, 8, 8), np.uint8)
    for axes in ("ZYX", "TYX"):
        tifffile.imwrite(tmp_path / f"{axes}.ome.tif", values, metadata={"axes": axes})
        with pytest.raises(ku.UnetresError, match="more than one frame"):
            read_image(tmp_path / f"{axes}.ome.tif")
    tifffile.imwrite(tmp_path / "ij.tif", values, imagej=True, metadata={"axes": "CYX"})
    assert read_image(tmp_path / "ij.tif").shape == (8, 8, 3)
    tifffile.imwrite(tmp_path / "ijz.tif", values, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ku.UnetresError, match="more than one frame"):
        read_image(tmp_path / "ijz.tif")


def test_a_view_of_any_number_of_channels() -> None:
    bands = np.stack([np.full((4, 4), 10 * place, np.uint8) for place in range(5)], -1)
    assert to_view(bands)[0, 0].tolist() == [0, 10, 20]
    assert to_view(bands, (5, 4, 1))[0, 0].tolist() == [40, 30, 0]
    assert to_view(bands[..., :2])[0, 0].tolist() == [5, 5, 5]
    assert to_view(bands[..., :3], (9, 9, 9))[0, 0].tolist() == [0, 10, 20]
    assert to_view(bands[..., 1])[0, 0].tolist() == [10, 10, 10]
    deep = np.linspace(100, 900, 16).reshape(4, 4).astype(np.uint16)
    assert (to_view(deep).min(), to_view(deep).max()) == (0, 255)
