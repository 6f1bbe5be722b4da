"""Single objects without SciPy: numpy computes what SciPy and scikit-image do, and the files are read by others."""

from __future__ import annotations

import csv
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from models import make_card, make_conv
from PIL import Image

from unetres_edge.cli import main
from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.decode import read_image
from unetres_edge.objects import morphology
from unetres_edge.objects.imagej import encode_roi, encode_rois
from unetres_edge.objects.separate import Instances, Separation, find_instances, separate
from unetres_edge.objects.table import describe, geojson_of_objects, object_polygons
from unetres_edge.results.result import Result

NAMES = ("background", "cell", "border")


@pytest.fixture
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morphology, "is_compiled", lambda: False)


def discs(seed: int, size: tuple[int, int] = (70, 90), count: int = 14) -> np.ndarray:
    """(H, W) float in [0, 1]: discs that touch and overlap, with soft rims."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    values = np.zeros(size)
    for _ in range(count):
        middle, radius = rng.uniform(0, size), rng.uniform(3, 12)
        values = np.maximum(values, np.clip((radius - np.hypot(y - middle[0], x - middle[1])) / 3 + 0.5, 0, 1))
    return np.clip(values + rng.normal(0, 0.03, size), 0, 1)


def chances(seed: int, *, border: bool = False, saturated: bool = False) -> np.ndarray:
    """(H, W, 2 or 3) probabilities of objects; saturated ones are 0 or 1 but at few pixels, as of a sure network."""
    cell = discs(seed)
    if saturated:
        cell = np.where(np.abs(cell - 0.5) > 0.2, np.rint(cell), cell)
    if not border:
        return np.stack([1 - cell, cell], -1)
    rim = cell * np.clip(1.5 - np.abs(discs(seed + 100) - 0.5) * 6, 0, 1)
    return np.stack([1 - cell, cell - rim, rim], -1)


def sure(mask: np.ndarray) -> np.ndarray:
    """(H, W, 2) probabilities of a network that is sure of a mask."""
    return np.stack([1 - mask, mask], -1).astype(np.float32)


def test_a_ring_through_corners_is_one_object_with_its_hole_or_many() -> None:
    y, x = np.mgrid[-6:7, -6:7]
    mask = np.abs(y) + np.abs(x) == 4
    for connectivity, number in ((8, 1), (4, 16)):
        how = Separation(split=False, connectivity=connectivity, min_size=0, fill_holes=True)
        found = separate(sure(mask), ("background", "cell"), how)
        assert len(found.class_ids) == number
        filled = np.abs(y) + np.abs(x) <= 4
        np.testing.assert_array_equal(found.labels > 0, filled if number == 1 else mask)


def test_a_bay_at_the_border_is_no_hole() -> None:
    mask = np.zeros((9, 9), bool)
    mask[:5, 2:7] = True
    mask[:3, 4] = False
    closed = mask.copy()
    closed[0, 4] = True
    how = Separation(split=False, min_size=0)
    for shape, number in ((mask, int(mask.sum())), (closed, int(closed.sum()) + 2)):
        assert (separate(sure(shape), ("background", "cell"), how).labels > 0).sum() == number


@pytest.mark.parametrize("seed", range(4))
def test_numpy_computes_what_scipy_and_scikit_image_do(seed: int) -> None:
    pytest.importorskip("skimage", reason="compares with scikit-image: pip install scikit-image")
    rng = np.random.default_rng(seed)
    mask = discs(seed) > 0.5
    noise = rng.random((40, 57)) < 0.55
    for each in (mask, noise, np.ones((5, 7), bool), np.zeros((5, 7), bool), noise[:1], noise[:, :1]):
        for ways in (4, 8):
            found = morphology.connected_by_numpy(each, ways)
            np.testing.assert_array_equal(found, morphology.connected(each, ways))
        np.testing.assert_array_equal(morphology.distance_by_numpy(each), morphology.distance_inside(each))
    depth = morphology.distance_inside(mask)
    lowered = np.minimum(depth - 1, 0.8 * depth).clip(0)
    flooded = morphology.reconstruct(lowered, depth)
    np.testing.assert_array_equal(morphology.reconstruct_by_numpy(lowered, depth), flooded)
    peaks = morphology.local_maxima(flooded)
    np.testing.assert_array_equal(morphology.maxima_by_numpy(flooded), peaks)
    levels = rng.integers(0, 3, mask.shape).astype(float)  # full of ties
    for height in (depth, depth + discs(seed), levels):
        for ways in (4, 8):
            markers = morphology.connected(peaks, 8)
            found = morphology.watershed_by_numpy(-height, markers, mask, ways)
            np.testing.assert_array_equal(found, morphology.watershed(height, markers, mask, ways))


CASES = [
    pytest.param(number, fields, id=f"{number}")
    if number < 2
    else pytest.param(number, fields, id=f"{number}", marks=pytest.mark.slow)
    for number, fields in enumerate(
        {"border": border, "saturated": saturated, "how": how}
        for how in (Separation(), Separation(connectivity=4, min_size=3), Separation(fill_holes=False, neck=0.95))
        for border in (False, True)
        for saturated in (False, True)
    )
]


@pytest.mark.parametrize(("seed", "fields"), CASES)
def test_objects_are_the_same_without_scipy(seed: int, fields: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage", reason="compares with scikit-image: pip install scikit-image")
    how = fields.pop("how")
    values = chances(seed, **fields)
    names = NAMES[: values.shape[-1]]
    expected = separate(values, names, how)
    monkeypatch.setattr(morphology, "is_compiled", lambda: False)
    found = separate(values, names, how)
    assert expected.labels.max() > 3
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.class_ids == expected.class_ids


def test_touching_discs_are_parted_by_numpy_alone(by_numpy: None) -> None:
    y, x = np.mgrid[:40, :60]
    cell = ((np.hypot(y - 20, x - 20) < 10) | (np.hypot(y - 20, x - 37) < 10)).astype(float)
    found = separate(np.stack([1 - cell, cell], -1), NAMES[:2])
    assert found.labels.max() == 2
    np.testing.assert_array_equal(found.labels > 0, cell > 0)
    assert found.labels[20, 20] != found.labels[20, 37]
    whole = separate(np.stack([1 - cell, cell], -1), NAMES[:2], Separation(split=False))
    assert whole.labels.max() == 1


def drawn() -> Instances:
    """Three objects: a block, a ring, and two pixels that touch by a corner."""
    labels = np.zeros((12, 14), np.int32)
    labels[1:4, 2:7] = 1
    labels[5:10, 1:6] = 2
    labels[7, 3] = 0
    labels[6, 8] = labels[7, 9] = 3
    return Instances(labels, (1, 2, 1), NAMES)


def test_geojson_has_a_feature_an_object() -> None:
    features = geojson_of_objects(drawn(), [(0, 0, 0), (255, 0, 0), (0, 255, 0)])["features"]
    assert [each["geometry"]["type"] for each in features] == ["Polygon", "Polygon", "MultiPolygon"]
    assert [each["properties"]["area_px"] for each in features] == [15, 24, 2]
    assert features[1]["properties"]["classification"] == {"name": "border", "color": [0, 255, 0]}
    assert [len(each) for each in (features[1]["geometry"]["coordinates"])] == [5, 5], "an outline and a hole, closed"


def zip_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def read_roi(data: bytes) -> np.ndarray:
    """Fill a region of ImageJ, by RoiDecoder.java: (H, W) bool of a 12 x 14 image."""
    magic, version, kind, top, left, bottom, right, corners = struct.unpack(">4shBx4hH", data[:18])
    (path,) = struct.unpack(">i", data[36:40])
    assert (magic, version) == (b"Iout", 227)
    rings: list[list[tuple[float, float]]] = []
    if path:
        numbers = list(struct.unpack(f">{path}f", data[64:]))
        while numbers:
            kind_of = numbers.pop(0)
            if kind_of == 0:
                rings.append([])
            if kind_of != 4:
                rings[-1].append((numbers.pop(0), numbers.pop(0)))
    else:
        xs = struct.unpack(f">{corners}h", data[64 : 64 + 2 * corners])
        ys = struct.unpack(f">{corners}h", data[64 + 2 * corners :])
        rings = [[(x + left, y + top) for x, y in zip(xs, ys, strict=True)]]
    assert kind == (1 if path else 0)
    inside = np.zeros((12, 14), bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if x0 == x1:
                inside[int(min(y0, y1)) : int(max(y0, y1)), int(x0) :] ^= True
    ys, xs = np.nonzero(inside)
    assert (top, left, bottom, right) == (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
    return inside


def test_regions_of_imagej_fill_the_objects() -> None:
    instances = drawn()
    with zipfile.ZipFile(io.BytesIO(encode_rois(instances))) as archive:
        assert archive.namelist() == ["0001-cell.roi", "0002-border.roi", "0003-cell.roi"]
        for number, name in enumerate(archive.namelist(), 1):
            np.testing.assert_array_equal(read_roi(archive.read(name)), instances.labels == number)
    assert encode_rois(instances) == encode_rois(instances)
    with pytest.raises(DataError, match="too large for regions of ImageJ"):
        encode_rois(Instances(np.zeros((1, 40000), np.int32), (), NAMES))


def test_roifile_reads_them() -> None:
    roifile = pytest.importorskip("roifile", reason="reads ImageJ's regions: pip install roifile")
    instances = drawn()
    for number, polygons in object_polygons(instances.labels):
        roi = roifile.ImagejRoi.frombytes(encode_roi(polygons))
        ys, xs = np.nonzero(instances.labels == number)
        assert (roi.top, roi.left, roi.bottom, roi.right) == (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
        if number == 1:
            assert sorted(map(tuple, roi.coordinates().tolist())) == [(2, 1), (2, 4), (7, 1), (7, 4)]
        else:
            rings = roi.coordinates(multi=True)
            assert len(rings) == 2
            assert {tuple(point) for ring in rings for point in ring.tolist()} == {
                tuple(point) for each in polygons for ring in (each.exterior, *each.holes) for point in ring.tolist()
            }


def test_shapely_takes_the_geojson() -> None:
    shapely = pytest.importorskip("shapely.geometry", reason="reads GeoJSON: pip install shapely")
    for feature in geojson_of_objects(drawn(), [(0, 0, 0)] * 3)["features"]:
        shape = shapely.shape(feature["geometry"])
        assert shape.is_valid and shape.area == feature["properties"]["area_px"]


def test_the_command_writes_what_there_is_of_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_numpy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    card = make_card((32, 32), classes=2)
    (tmp_path / "m.tflite").write_bytes(make_conv(card, np.array([[-0.1], [0.1]]), np.array([12.0, -12.0])))
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, seed in (("a", 1), ("deep/b", 2)):
        Image.fromarray((discs(seed) * 255).astype(np.uint8)).save(f"in/{name}.png")
    usual = ["predict", "m.tflite", "in", "--out", "out"]
    for words in (["--rois"], ["--min-size", "3"]):
        assert main([*usual, *words]) == 2
        assert "no objects are asked for" in capsys.readouterr().err
    assert main([*usual, "--instances", "--geojson", "--rois", "--overlay", "--min-size", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = list(csv.DictReader(Path("out/counts.csv").read_text().splitlines()))
    for name in ("a", "deep/b"):
        labels = read_image(Path(f"out/{name}_instances.tif"))
        count = int(labels.max())
        assert count > 2 and np.bincount(labels.ravel())[1:].min() >= 30
        table = list(csv.DictReader(Path(f"out/{name}_objects.csv").read_text().splitlines()))
        assert [int(row["area_px"]) for row in table] == np.bincount(labels.ravel())[1:].tolist()
        assert len(json.loads(Path(f"out/{name}_objects.geojson").read_text())["features"]) == count
        assert len(zip_names(Path(f"out/{name}_rois.zip"))) == count
        assert Path(f"out/{name}_instances_overlay.png").is_file() and Path(f"out/{name}.geojson").is_file()
        assert [int(row["objects"]) for row in rows if row["image"] == name] == [count]
    assert lines[-1].startswith("2 class maps, 2 overlays and 2 files of polygons in out, ")
    assert sum(int(row["objects"]) for row in rows) == int(lines[-2].split()[1])
    assert main([*usual, "--instances", "--overwrite"]) == 0
    assert main([*usual, "--instances"]) == 2, "counts.csv exists"


def test_what_has_no_scores_has_no_objects() -> None:
    result = Result(np.zeros((4, 4), np.uint8), None, NAMES, ((0, 0, 0),) * 3)
    with pytest.raises(UsageError, match="objects are found from scores"):
        find_instances(result)
    assert describe(Instances(np.zeros((4, 4), np.int32), (), NAMES)) == []
