"""What is written of objects, opened by other programs: ImageJ's regions, GeoJSON, label maps in napari."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from models import make_card, make_conv
from PIL import Image

from unetres_edge.cli import main
from unetres_edge.images.decode import read_image


def needs(module: str, package: str) -> ModuleType:
    """Return a module of another program, whose own warnings are not ours, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module, reason=f"needs {package}: pip install {package}", exc_type=ImportError)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a prediction: discs, of which one has a class of its own."""
    root = tmp_path_factory.mktemp("viewers")
    rows, columns = np.mgrid[:60, :80]
    image = np.zeros((60, 80), np.uint8)
    for y, x, level in ((15, 15, 90), (15, 55, 90), (42, 30, 200)):
        image[(rows - y) ** 2 + (columns - x) ** 2 < 100] = level
    Image.fromarray(image).save(root / "a.png")
    card = make_card((32, 32), classes=3)
    slopes, offsets = (
        np.array([[0], [1], [2]], np.float32),
        np.array([0, -50, -200], np.float32),
    )  # class 1 from 50 on, class 2 from 150
    (root / "m.tflite").write_bytes(make_conv(card, slopes, offsets))
    options = ["--instances", "--geojson", "--rois", "--min-size", "20"]
    assert main(["predict", str(root / "m.tflite"), str(root / "a.png"), "--out", str(root / "out"), *options]) == 0
    return root / "out"


@pytest.fixture
def areas(written: Path) -> dict[int, int]:
    """Object -> its pixels."""
    counts = np.bincount(read_image(written / "a_instances.tif").ravel())
    assert len(counts) == 4
    return {number: int(count) for number, count in enumerate(counts) if number}


def test_roifile_opens_the_archive(written: Path, areas: dict[int, int]) -> None:
    roifile = needs("roifile", "roifile")
    rois = roifile.roiread(written / "a_rois.zip")
    labels = read_image(written / "a_instances.tif")
    assert len(rois) == len(areas)
    for number, roi in enumerate(rois, 1):
        ys, xs = np.nonzero(labels == number)
        assert (roi.top, roi.left, roi.bottom, roi.right) == (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
        rings = roi.coordinates(multi=True)
        rings = rings if isinstance(rings, list) else [rings]
        inside = np.zeros(labels.shape, bool)
        for ring in rings:  # even and odd, by rows of pixel centres
            inside ^= _inside(ring, labels.shape)
        np.testing.assert_array_equal(inside, labels == number)


def _inside(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which centres of pixels lie inside a ring (n, 2) of (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 <= y) != (y2 <= y)
            inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def test_geopandas_opens_the_outlines(written: Path, areas: dict[int, int]) -> None:
    geopandas = needs("geopandas", "geopandas")
    frame = geopandas.read_file(written / "a_objects.geojson").set_crs(None, allow_override=True)  # px, not degrees
    assert frame.geometry.is_valid.all()
    assert dict(zip(frame["name"].astype(int), frame.geometry.area.astype(int), strict=True)) == areas
    (row,) = csv.DictReader((written / "counts.csv").read_text().splitlines())
    assert row == {"image": "a", "objects": "3", "class 1": "2", "class 2": "1"}
    assert frame["class_id"].tolist() == [1, 1, 2]


def test_napari_opens_the_label_map(written: Path, areas: dict[int, int]) -> None:
    reader = needs("napari_builtins.io", "napari").napari_get_reader(str(written / "a_instances.tif"))
    ((data, *_),) = reader(str(written / "a_instances.tif"))
    layer = needs("napari.layers", "napari").Labels(data)
    counts = np.bincount(np.asarray(layer.data).ravel())
    assert dict(enumerate(counts[1:].tolist(), 1)) == areas


def test_napari_geojson_opens_the_outlines(written: Path, areas: dict[int, int]) -> None:
    path = str(written / "a_objects.geojson")
    reader = needs("napari_geojson", "napari-geojson").napari_get_reader(path)
    ((shapes, options, kind),) = reader(path)
    assert kind == "shapes" and len(shapes) == len(areas)
    needs("napari.layers", "napari").Shapes(shapes, **options)
    features = json.loads((written / "a_objects.geojson").read_text())["features"]
    for corners, feature in zip(shapes, features, strict=True):
        outline = np.array(feature["geometry"]["coordinates"][0])[:, ::-1]
        assert set(map(tuple, corners)) == set(map(tuple, outline.tolist()))
