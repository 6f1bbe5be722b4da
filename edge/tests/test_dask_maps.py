"""A cluster of two worker processes on this machine gives what one process gives, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import make_card, make_conv
from nets import make_net, net_card
from PIL import Image

from unetres_edge import Segmenter
from unetres_edge.errors import DataError, UsageError
from unetres_edge.segment import dask_maps
from unetres_edge.segment.files import predict_files

distributed = pytest.importorskip("distributed", reason="dask comes with the extra 'dask'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as running:
        running.wait_for_workers(2, timeout=120)
        yield running


def picture(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_two_workers_give_the_map_of_one_process(cluster) -> None:
    import dask.array as da

    data = make_net(net_card((32, 32)), seed=1)
    with distributed.Client(cluster) as client, Segmenter(data, num_threads=1) as segmenter:
        for shape in ((101, 235, 3), (100, 136, 3), (20, 70, 3), (90, 33, 3)):
            image = picture(shape)
            found = dask_maps.segment_dask(data, da.from_array(image, chunks=(40, 50, 3)))
            assert (found.shape, found.dtype) == (shape[:2], np.uint8)
            expected = segmenter.segment_large(image, mode="exact").class_map
            np.testing.assert_array_equal(found.compute(), expected)
        workers = client.run(
            lambda: (
                __import__("importlib").import_module("unetres_edge.segment.dask_maps")._segmenter.cache_info().misses
            )
        )
        assert sorted(workers.values()) == [1, 1]  # both worked, and loaded the model once


def test_percentiles_are_counted_on_the_cluster(cluster) -> None:
    import dask.array as da

    card = make_card((16, 24), 3, 4, pre={"per_image": (2, 98)}, stride=1)
    data = make_conv(card, np.arange(4)[:, None] / 3 * np.ones(3), np.array([0, -40, -120, -240]))
    image = (picture((75, 60, 3)) * np.linspace(0.2, 0.7, 75)[:, None, None]).astype(np.uint8)
    with distributed.Client(cluster), Segmenter(data) as segmenter:
        expected = segmenter.segment(image).class_map
        found = dask_maps.segment_dask(data, da.from_array(image, chunks=(20, 60, 3))).compute()
    np.testing.assert_array_equal(found, expected)


def test_files_on_a_cluster_are_those_of_one_process(cluster, tmp_path) -> None:
    data = make_net(net_card((32, 32)), seed=1)
    (tmp_path / "m.tflite").write_bytes(data)
    images = []
    for number in range(6):
        images.append(tmp_path / f"{number}.png")
        Image.fromarray(picture((40 + number, 50, 3))).save(images[-1])
    with Segmenter(data) as segmenter:
        alone = predict_files(segmenter, images, tmp_path / "alone", overlay=True)
    (tmp_path / "6.png").write_bytes(b"no image")
    told: list[str] = []
    with pytest.raises(DataError, match=r"6\.png"):
        dask_maps.predict_on_cluster(
            tmp_path / "m.tflite",
            [*images, tmp_path / "6.png"],
            tmp_path / "both",
            cluster.scheduler_address,
            overlay=True,
            progress=lambda done, total, image, timing: told.append(image.name),
            json_file=tmp_path / "status.json",
        )
    assert sorted(told) == [image.name for image in images]
    for path in alone:
        for name in (path.name, f"{path.stem}_overlay.png"):
            assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    status = json.loads((tmp_path / "status.json").read_text())["images"]
    assert [each["error"] is None for each in status] == [True] * 6 + [False]
    assert {Path(each["image"]).name for each in status} == {f"{n}.png" for n in range(7)}


def test_no_scheduler_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: client(address, timeout=timeout / 50))
    (tmp_path / "m.tflite").write_bytes(make_net(net_card((32, 32))))
    with pytest.raises(UsageError, match="no Dask scheduler answers"):
        dask_maps.predict_on_cluster(tmp_path / "m.tflite", [tmp_path / "a.png"], tmp_path / "out", "tcp://127.0.0.1:9")
