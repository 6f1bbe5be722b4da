"""Parquet, Arrow and tar shards give the images and masks that they were written from; or are refused by name."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import TINY, silent
from PIL import Image

from keras_unetres.choices.augmentations import AUGMENTATIONS
from keras_unetres.cli import main
from keras_unetres.data import Dataset, open_dataset, read_records, sources
from keras_unetres.data.group_order import Groups, order_by_groups, plan_lanes
from keras_unetres.data.pipeline import Order, training_batches
from keras_unetres.data.samples import Samples
from keras_unetres.data.shards import groups as groups_of
from keras_unetres.data.shards import table, tar
from keras_unetres.data.shards.groups import Cell
from keras_unetres.data.shards.store import address_of, is_address
from keras_unetres.runs import DataInfo
from keras_unetres.settings import TrainSettings
from keras_unetres.tasks.reading import recorded_place
from keras_unetres.training import fit as fitting
from keras_unetres.workflows.train import resume, train
from unetres_edge import Preprocessing
from unetres_edge.errors import DataError

SIDE = 8
NAMES = {"0": "background", "1": "cell", "2": "border"}


def image_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def mask_of(number: int) -> np.ndarray:
    return np.random.default_rng(1000 + number).integers(0, 3, (SIDE, SIDE)).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(file: Path, numbers: range, more: dict[str, bytes] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as shard:
        for number in numbers:
            members = {"png": png(image_of(number)), "mask.png": png(mask_of(number)), **(more or {})}
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{number:06d}.{ending}")
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
    return file


@pytest.fixture(scope="module")
def pa() -> Any:
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")


def table_of(pa: Any, numbers: range, image: str = "image", mask: str = "mask", *, paths: bool = True) -> Any:
    """Return rows in the layout of `datasets`: structs of bytes and a path, features in the schema's metadata."""
    cell = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = {name: {"_type": "Image"} for name in (image, mask)}
    said = json.dumps({"info": {"features": features}})
    schema = pa.schema({image: cell, mask: cell}).with_metadata({"huggingface": said})
    columns = {
        name: [{"bytes": png(make(n)), "path": f"scan{n:03d}.png" if paths else None} for n in numbers]
        for name, make in ((image, image_of), (mask, mask_of))
    }
    return pa.table(columns, schema)


def write_parquet(pa: Any, file: Path, numbers: range, **columns: Any) -> Path:
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(pa, numbers, **columns), file, row_group_size=3)
    return file


def write_arrow(pa: Any, file: Path, numbers: range) -> Path:
    """Write a stream, as `save_to_disk` does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = table_of(pa, numbers)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return file


def held(dataset: Dataset) -> dict[bytes, bytes]:
    """Return the pixels of every image, and those of its mask."""
    found = {}
    for record in read_records(dataset, ["all"], progress=False)["all"]:
        found[record.image.tobytes()] = record.mask.tobytes()
    return found


def written(numbers: range) -> dict[bytes, bytes]:
    return {image_of(n).tobytes(): mask_of(n).tobytes() for n in numbers}


def test_tar_shards_give_what_was_written(tmp_path: Path) -> None:
    write_tar(tmp_path / "a-000.tar", range(4), {"json": b"{}", "pyd": b"\x80\x04."})
    write_tar(tmp_path / "a-001.tar", range(4, 7))
    dataset = open_dataset(tmp_path)
    assert dataset.format == "webdataset"
    assert held(dataset) == written(range(7))
    assert dataset.notes == ("members that are not read: .json, .pyd",)


def test_shards_named_after_parts_make_the_parts(tmp_path: Path) -> None:
    for part, numbers in (("train", range(5)), ("validation", range(5, 7)), ("test", range(7, 8))):
        write_tar(tmp_path / f"{part}-0.tar", numbers)
    dataset = open_dataset(tmp_path)
    assert {part: len(samples) for part, samples in dataset.splits.items()} == {"train": 5, "val": 2, "test": 1}
    assert held(dataset.only("val")) == written(range(5, 7))


def test_one_shard_alone_is_a_data_set(tmp_path: Path) -> None:
    assert held(open_dataset(write_tar(tmp_path / "one.tar", range(5)))) == written(range(5))


def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", range(3))
    whole = file.read_bytes()
    end = whole.rindex(b"000002.mask.png") + 600
    file.write_bytes(whole[:end])
    with pytest.raises(DataError, match=r"a\.tar: .*(cut off|unexpected end)"):
        open_dataset(tmp_path)


def test_a_sample_without_a_mask_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name in ("0.png", "0.mask.png", "1.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png(mask_of(0)))
            shard.addfile(info, io.BytesIO(png(mask_of(0))))
    with pytest.raises(DataError, match=r"no image or no mask.*expected 1\.png and 1\.mask\.png"):
        open_dataset(tmp_path)


def test_a_compressed_tar_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match="gunzip"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("image", "mask"), [("image", "mask"), ("pixel_values", "label"), ("image", "annotation")])
def test_parquet_gives_what_was_written(pa: Any, tmp_path: Path, image: str, mask: str) -> None:
    write_parquet(pa, tmp_path / "data" / "train-00000-of-00001.parquet", range(8), image=image, mask=mask)
    write_parquet(pa, tmp_path / "data" / "validation-00000-of-00001.parquet", range(8, 11), image=image, mask=mask)
    (tmp_path / "id2label.json").write_text(json.dumps(NAMES))
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.class_names) == ("parquet", tuple(NAMES.values()))
    assert {part: len(samples) for part, samples in dataset.splits.items()} == {"train": 8, "val": 3}
    assert held(dataset) == written(range(11))
    assert dataset.splits["val"][0].name == "data/validation-00000-of-00001/scan008.png"


def test_numbers_of_id2label_are_those_that_are_stored(pa: Any, tmp_path: Path) -> None:
    write_parquet(pa, tmp_path / "train.parquet", range(8))
    (tmp_path / "id2label.json").write_text(json.dumps({"2": "border", "0": "background", "1": "cell", "7": "debris"}))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("background", "cell", "border", "debris")
    assert held(dataset) == written(range(8))


def test_arrow_gives_what_was_written(pa: Any, tmp_path: Path) -> None:
    write_arrow(pa, tmp_path / "train" / "data-00000-of-00001.arrow", range(8))
    write_arrow(pa, tmp_path / "test" / "data-00000-of-00001.arrow", range(8, 10))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    dataset = open_dataset(tmp_path)
    assert dataset.format == "arrow"
    assert len(dataset.splits["test"]) == 2
    assert held(dataset) == written(range(10))


def test_an_arrow_file_that_is_cut_off_is_refused(pa: Any, tmp_path: Path) -> None:
    file = write_arrow(pa, tmp_path / "a.arrow", range(8))
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataError, match="cut off"):
        open_dataset(tmp_path)


def test_rows_that_no_bytes_are_behind_are_not_listed(pa: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrow(pa, tmp_path / "arrow" / "a.arrow", range(8))
    header = table._read_header
    with monkeypatch.context() as patch, pytest.raises(DataError, match=r"a\.arrow: cannot read: the header"):
        patch.setattr(table, "_read_header", lambda data: (header(data)[0], header(data)[1] << 60, header(data)[2]))
        open_dataset(tmp_path / "arrow")
    write_parquet(pa, tmp_path / "parquet" / "a.parquet", range(8))
    monkeypatch.setattr(sources, "MOST_IMAGES", 7)
    with pytest.raises(
        DataError, match=r"a\.parquet: a file of more images than are read; expected at most 7; found 8"
    ):
        open_dataset(tmp_path / "parquet")


def test_headers_before_headers_of_a_tar_are_named(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = b"L", 4
    (tmp_path / "a.tar").write_bytes((header.tobuf() + b"abc".ljust(512, b"\0")) * 5000 + bytes(1024))
    with pytest.raises(DataError, match=r"a\.tar: cannot read"):
        open_dataset(tmp_path)


def test_a_class_of_the_whole_image_is_no_mask(pa: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = table_of(pa, range(4)).drop_columns(["mask"]).append_column("label", pa.array([0, 1, 0, 1]))
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="label is a class of the whole image"):
        open_dataset(tmp_path)


def test_masks_of_lists_of_numbers_are_read(pa: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    lists = pa.array([mask_of(n).tolist() for n in range(8)], pa.list_(pa.list_(pa.uint8())))
    table = table_of(pa, range(8)).drop_columns(["mask"]).append_column("mask", lists)
    pq.write_table(table, tmp_path / "train.parquet")
    assert held(open_dataset(tmp_path)) == written(range(8))


def test_without_pyarrow_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match="fix: pip install pyarrow"):
        open_dataset(tmp_path)


def test_groups_that_are_used_last_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "_TOGETHER", 1)
    loads: list[int] = []
    load = tar.TarGroup.load
    monkeypatch.setattr(tar.TarGroup, "load", lambda self: (loads.append(self.number), load(self))[1])
    samples = open_dataset(write_tar(tmp_path / "a.tar", range(5))).split("all")
    groups = {id(cell.group): cell.group for s in samples if isinstance(cell := s.image, Cell)}
    assert len(groups) == 5  # of a byte and more, each sample is a group
    largest = max(group.nbytes for group in groups.values())
    monkeypatch.setattr(groups_of, "MEMORY", 2 * largest)
    by_name = sorted(samples, key=lambda sample: sample.name)
    for place in (0, 1, 0, 1, 2, 1, 0):
        by_name[place].image.read()
    assert loads == [0, 1, 2, 0]


def numbered(count: int, size: int, nbytes: float) -> Groups:
    return Groups(np.repeat(np.arange(count), size).astype(np.int64), nbytes)


def test_an_epoch_has_every_sample_once_and_few_groups_at_a_time() -> None:
    groups = numbered(64, 16, 8 << 20)
    lanes, mixed = plan_lanes(groups.nbytes, 16)
    assert (lanes, mixed) == (8, 1)
    order = order_by_groups(np.arange(1024), groups, 16, (3, 0))
    assert sorted(order) == list(range(1024))
    for start in range(0, 1024, 16):
        assert len(set(groups.numbers[order[start : start + 16]])) <= 2 * lanes
    whole = [groups.numbers[order[start : start + 128]] for start in range(0, 1024, 128)]
    assert all(len(set(part)) <= 2 * lanes for part in whole)  # 1024 samples of 64 groups, 128 of at most 16


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    groups, owners = numbered(8, 8, 1000.0), np.arange(64)
    first = order_by_groups(owners, groups, 8, (0, 0))
    assert (order_by_groups(owners, groups, 8, (0, 0)) == first).all()
    assert (order_by_groups(owners, groups, 8, (0, 1)) != first).any()
    assert (order_by_groups(owners, groups, 8, (1, 0)) != first).any()


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_read_shards_of_their_own(workers: int) -> None:
    groups = numbered(64, 16, 8 << 20)
    order = order_by_groups(np.arange(1024), groups, 16, (0, 0)).reshape(-1, workers, 16 // workers)
    read = [set(groups.numbers[order[:, worker]].ravel()) for worker in range(workers)]
    shared = sum(len(one & other) for n, one in enumerate(read) for other in read[:n])
    assert shared <= workers - 1  # those cut by the ends of their parts


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("s3://bucket/set", "s3://bucket/set"),
        (Path("s3://bucket/set"), "s3://bucket/set"),
        ("https://host/set", "https://host/set"),
        (Path("simplecache::s3://bucket/set"), "simplecache::s3://bucket/set"),
        (Path("file:///data/set"), "file:///data/set"),
        ("hf:someone/cells", "hf://datasets/someone/cells"),
    ],
)
def test_addresses_are_told_from_paths(source: str | Path, address: str) -> None:
    assert is_address(source)
    assert address_of(source) == address


@pytest.mark.parametrize("source", ["data/set", "C:/data", "C:\\data", "tfds:name", "/a:/b", "a", Path("x.yaml"), 3])
def test_paths_are_no_addresses(source: object) -> None:
    assert not is_address(source)


def test_no_file_has_an_address_opened(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("path: s3://bucket/set\n")
    with pytest.raises(DataError, match="fetched only where it is named on the command line") as caught:
        open_dataset(tmp_path)
    assert caught.value.kind == "address-by-name"


def test_shards_behind_an_address_are_read(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    memory = fsspec.filesystem("memory")
    for part, numbers in (("train", range(5)), ("val", range(5, 7))):
        memory.pipe(f"/cells/{part}-0.tar", write_tar(tmp_path / f"{part}.tar", numbers).read_bytes())
    dataset = open_dataset("memory://cells")
    assert (dataset.format, len(dataset.splits["val"])) == ("webdataset", 2)
    assert held(dataset) == written(range(7))
    with pytest.raises(DataError, match="no shards at the address"):
        open_dataset("memory://nothing")


def test_check_reads_shards_as_it_reads_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "set" / "a.tar", range(12))
    assert main(["check", str(tmp_path / "set"), "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["faults"], sum(report["parts"].values())) == ([], 12)


def order_of(folder: Path) -> Order:
    records = read_records(open_dataset(folder), ["train"], progress=False)["train"]
    return Order(Samples(records, Preprocessing(channels=3, size=(8, 8))), 4, 5)


def batches_of(order: Order, first: int, last: int, shard: tuple[int, int] = (0, 1)) -> list[list[np.ndarray]]:
    plain = AUGMENTATIONS["none"]
    batches = training_batches(order, plain, first_step=first, last_step=last, shard=shard)
    return [[part.numpy() for part in batch] for batch in batches]


def test_a_run_that_goes_on_sees_what_one_without_a_stop_would_have_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "_TOGETHER", 1200)  # bytes: a group of two
    write_tar(tmp_path / "a.tar", range(9))
    write_tar(tmp_path / "b.tar", range(9, 20))
    order = order_of(tmp_path)
    assert order.samples.groups is not None
    steps = order.samples.steps(4)
    whole = batches_of(order, 0, 2 * steps)
    assert len(whole) == 2 * steps
    for first in (1, steps + 1):
        for batch, again in zip(whole[first:], batches_of(order_of(tmp_path), first, 2 * steps), strict=True):
            for part, same in zip(batch, again, strict=True):
                np.testing.assert_array_equal(part, same)
    halves = [batches_of(order, 0, steps, (worker, 2)) for worker in range(2)]
    for batch, left, right in zip(whole, *halves, strict=False):
        for part, one, other in zip(batch, left, right, strict=True):
            np.testing.assert_array_equal(part, np.concatenate([one, other]))
    assert whole[0][0].shape == (4, 8, 8, 3)


@pytest.mark.slow
def test_a_stopped_run_on_shards_goes_on_bit_for_bit(
    tmp_path: Path, without_xla: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in range(3):
        write_tar(tmp_path / "set" / f"train-{shard}.tar", range(8 * shard, 8 * shard + 8))
    write_tar(tmp_path / "set" / "val-0.tar", range(24, 28))
    settings = TrainSettings.from_flat({**TINY, "size": 16, "batch": 4, "checkpoint_seconds": 0.0})
    train(tmp_path / "set", tmp_path / "whole", settings, say=silent)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            if int(np.asarray(self.model.optimizer.iterations)) == 8:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        whole = fitting.fit

        def stopped(model: Any, plan: Any, batches: Any, validation: Any, callbacks: list[Any], **named: Any) -> None:
            whole(model, plan, batches, validation, [*callbacks, Stop()], **named)

        patch.setattr(fitting, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "set", tmp_path / "run", settings, say=silent)
    resume(tmp_path / "run", say=silent)
    for name in ("weights.safetensors", "history.csv", "checkpoints/last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_json_has_no_address_opened() -> None:
    class Info:
        data = DataInfo("s3://bucket/set", "0", {})

    with pytest.raises(DataError, match="the run was trained on a data set at an address"):
        recorded_place(Info())  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- OME-Zarr


def write_zarr(zarr: Any, folder: Path, version: int, labels: tuple[str, ...] = ("cells",)) -> Path:
    """Write an image of two channels and three depths, in the layout of OME-Zarr 0.4 or 0.5."""
    image = np.stack([np.moveaxis(image_of(n)[..., :2], -1, 0) for n in range(3)], 1)
    root = zarr.open_group(str(folder), mode="w", zarr_format=version)

    def said(axes: str, more: dict[str, Any]) -> dict[str, Any]:
        named = [{"name": axis, "type": "channel" if axis == "c" else "space"} for axis in axes]
        values = {"multiscales": [{"axes": named, "datasets": [{"path": "0"}], "version": "0.4"}], **more}
        return values if version == 2 else {"ome": {**values, "version": "0.5"}}

    def write(group: Any, values: np.ndarray) -> None:
        group.create_array("0", shape=values.shape, chunks=values.shape, dtype=values.dtype)[...] = values

    root.attrs.update(said("czyx", {}))
    write(root, image)
    listed = {"labels": list(labels)}
    root.create_group("labels").attrs.update(listed if version == 2 else {"ome": listed})
    for place, name in enumerate(labels):
        group = root["labels"].create_group(name)
        group.attrs.update(said("zyx", {"image-label": {}}))
        write(group, np.stack([mask_of(n + 100 * place) for n in range(3)]))
    return folder


@pytest.fixture(scope="module")
def zarr() -> Any:
    return pytest.importorskip("zarr", reason="zarr is not installed: pip install zarr")


def test_planes_that_no_bytes_are_behind_are_not_listed(
    zarr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_IMAGES", 2)
    with pytest.raises(DataError, match=r"a file of more images than are read; expected at most 2; found 3"):
        open_dataset(write_zarr(zarr, tmp_path / "well.zarr", 3))


@pytest.mark.parametrize("version", [2, 3])
def test_planes_of_ome_zarr_are_samples(zarr: Any, tmp_path: Path, version: int) -> None:
    dataset = open_dataset(write_zarr(zarr, tmp_path / "well.zarr", version))
    assert dataset.format == "ome-zarr"
    records = {record.name: record for record in read_records(dataset, ["all"], progress=False)["all"]}
    assert sorted(records) == ["well.zarr/z0000", "well.zarr/z0001", "well.zarr/z0002"]
    for n in range(3):
        np.testing.assert_array_equal(records[f"well.zarr/z{n:04d}"].image, image_of(n)[..., :2])
        np.testing.assert_array_equal(records[f"well.zarr/z{n:04d}"].mask, mask_of(n))


def test_of_several_labels_the_declaration_says_which(zarr: Any, tmp_path: Path) -> None:
    write_zarr(zarr, tmp_path / "a.zarr", 2, ("cells", "nuclei"))
    with pytest.raises(DataError, match="not clear which labels are the masks"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("format: ome-zarr\nmasks: nuclei\n")
    masks = {record.mask.tobytes() for record in read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]}
    assert masks == {mask_of(100 + n).tobytes() for n in range(3)}


def test_codecs_that_could_run_code_are_refused(zarr: Any, tmp_path: Path) -> None:
    file = write_zarr(zarr, tmp_path / "a.zarr", 2) / "0" / ".zarray"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "filters": [{"id": "pickle", "protocol": 5}]}))
    with pytest.raises(DataError, match=r"a codec that is not read.*found pickle"):
        open_dataset(tmp_path)
    file.write_text(json.dumps({**said, "dtype": "|O"}))
    with pytest.raises(DataError, match="not an array of numbers"):
        open_dataset(tmp_path)


def test_names_in_zarr_do_not_lead_out(zarr: Any, tmp_path: Path) -> None:
    write_zarr(zarr, tmp_path / "a.zarr", 2)
    (tmp_path / "a.zarr" / "labels" / ".zattrs").write_text('{"labels": ["../../b"]}')
    with pytest.raises(DataError, match="leads out of the folder"):
        open_dataset(tmp_path)


def test_single_images_at_an_address_and_classes_in_a_tar_are_named(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    fsspec.filesystem("memory").pipe("/single/images/a.png", b"")
    with pytest.raises(DataError, match="no shards at the address") as caught:
        open_dataset("memory://single")
    assert "copy single images to this machine" in str(caught.value.fix)
    with tarfile.open(tmp_path / "train.tar", "w") as shard:
        for name, data in (("0.jpg", b"picture"), ("0.cls", b"3")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    with pytest.raises(DataError, match="no images with masks") as caught:
        open_dataset(tmp_path)
    assert "a folder for each class" in str(caught.value.fix)
