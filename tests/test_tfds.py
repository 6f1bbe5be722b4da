"""Data sets of TensorFlow Datasets, written here by its own tools, come back pixel by pixel. Nothing is downloaded."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.cli import main
from keras_unetres.data import open_dataset, read_records
from keras_unetres.data.forms import tfds as reader
from unetres_edge.errors import DataError, UsageError

SIZE = (6, 5)


@pytest.fixture(scope="module")
def tfds() -> Any:
    return pytest.importorskip(
        "tensorflow_datasets", reason="TensorFlow Datasets is not installed: pip install tensorflow-datasets"
    )


def image_of(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def trimap_of(index: int) -> np.ndarray:
    """Values 1, 2 and 3."""
    return (np.random.default_rng(100 + index).integers(1, 4, SIZE)).astype(np.uint8)


def make_builder(tfds: Any, name: str, mask: Any, parts: dict[str, range], folder: Path, key: str) -> Any:
    """Write a data set whose builder is called `name`, with a feature `key` for its masks; return the builder."""
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(None, None, 3)), key: mask, "file_name": tfds.features.Text()}
    )
    by_image = isinstance(mask, tfds.features.Image)

    def info(self: Any) -> Any:
        return tfds.core.DatasetInfo(builder=self, features=features)

    def split_generators(self: Any, manager: Any) -> Any:
        return {part: self._generate_examples(places) for part, places in parts.items()}

    def generate_examples(self: Any, places: range) -> Any:
        for place in places:
            values = trimap_of(place)[..., None] if by_image else trimap_of(place)
            yield place, {"image": image_of(place), key: values, "file_name": f"cat_{place}.jpg"}

    members = {
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": generate_examples,
        "__module__": __name__,
        "name": name,
    }
    builder = type("Builder", (tfds.core.GeneratorBasedBuilder,), members)(data_dir=folder)  # known by name from now on
    builder.download_and_prepare()
    return builder


def masks_of(place: str) -> dict[str, np.ndarray]:
    records = read_records(open_dataset(place), ["all"], progress=False)["all"]
    for record in records:
        np.testing.assert_array_equal(record.image, image_of(int(record.name.removeprefix("cat_")[:-4])))
    return {record.name: record.mask for record in records}


def test_oxford_pets_trimap(tfds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 is the pet, 2 the background, 3 the border that is not labelled (Parkhi 2012)."""
    mask = tfds.features.Image(shape=(None, None, 1), use_colormap=True)
    parts = {"train": range(4), "test": range(4, 6)}
    builder = make_builder(tfds, "oxford_iiit_pet", mask, parts, tmp_path, "segmentation_mask")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for place in (f"tfds:{builder.data_dir}", "tfds:oxford_iiit_pet"):
        dataset = open_dataset(place)
        assert (dataset.format, dataset.class_names) == ("tfds", ("background", "pet"))
        assert {part: len(found) for part, found in dataset.splits.items()} == {"train": 3, "val": 1, "test": 2}
        masks = masks_of(place)
        assert sorted(masks) == [f"cat_{i}.jpg" for i in range(6)]
        for index in range(6):
            right = np.array([0, 1, 0, 255])[trimap_of(index)]
            np.testing.assert_array_equal(masks[f"cat_{index}.jpg"], right)


def test_a_data_set_by_name(tfds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = tfds.features.Tensor(shape=SIZE, dtype=np.uint8)
    parts = {"train": range(3), "validation": range(3, 5), "unlabeled": range(5, 6)}
    make_builder(tfds, "tiny_drawn_cats", mask, parts, tmp_path, "label_map")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    dataset = open_dataset("tfds:tiny_drawn_cats")
    assert {part: len(found) for part, found in dataset.splits.items()} == {"train": 3, "val": 2}
    assert dataset.notes == ("the part unlabeled is left out",)
    assert len({digest for sample in dataset.split("all") for digest in sample.digests()}) == 10
    with pytest.raises(DataError, match=r"not class ids 0, 1, 2.*values: \{1: 0, 2: 1, 3: 2\}"):
        masks_of("tfds:tiny_drawn_cats")
    declared = tmp_path / "cats.yaml"
    declared.write_text("format: tfds\npath: tfds:tiny_drawn_cats\nvalues: {1: 0, 2: 1, 3: 2}")
    for name, found in masks_of(f"tfds:{declared}").items():
        np.testing.assert_array_equal(found, trimap_of(int(name.removeprefix("cat_")[:-4])) - 1)


def test_a_data_set_without_masks_is_refused(tfds: Any, tmp_path: Path) -> None:
    mask = tfds.features.Tensor(shape=SIZE, dtype=np.uint8)
    builder = make_builder(tfds, "tiny_named_cats", mask, {"train": range(2)}, tmp_path, "depth")
    with pytest.raises(DataError, match="no images with masks; found .*depth"):
        open_dataset(f"tfds:{builder.data_dir}")


def test_a_name_that_is_not_known(tfds: Any) -> None:
    with pytest.raises(DataError, match="TensorFlow Datasets cannot give it"):
        open_dataset("tfds:no_such_data_set_of_cats")


def test_no_folder_and_no_file_opens_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow Datasets imports what features.json names: only the words `tfds:...` of a person lead to it."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # an import of it would be another error
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "dataset_info.json").write_text('{"name": "stranger"}')
    (stranger / "features.json").write_text('{"pythonClassName": "evil.Feature"}')
    for text in (
        "format: tfds\npath: stranger",
        "path: tfds:mnist",
        "format: tfds\npath: tfds:mnist",
        "path: stranger",
        "format: tfds",
    ):
        (tmp_path / "dataset.yaml").write_text(text)
        for task in (None, "segment"):
            with pytest.raises(DataError, match="opened only when it is named on the command line") as caught:
                open_dataset(tmp_path, task=task)
            assert caught.value.kind == "tfds-by-name"
    (tmp_path / "dataset.yaml").unlink()
    for place in (stranger, tmp_path):
        for task in (None, "segment", "classify"):
            with pytest.raises((DataError, UsageError), match="opened only when|pass --network unet"):
                open_dataset(place, task=task)


@pytest.mark.slow
def test_a_run_names_none(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_copy = Path(shutil.copytree(run_folder, tmp_path / "copy"))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    info = json.loads((run_copy / "run.json").read_text())
    info["data"]["path"] = "tfds:mnist"
    (run_copy / "run.json").write_text(json.dumps(info))
    for command in (["report", str(run_copy)], ["train", "--resume", str(run_copy)]):
        assert main(command) == DataError.exit_code
    for asked, right in (([], 0), (["--max-drop", "100"], DataError.exit_code)):
        out = tmp_path / f"{right}.tflite"
        assert main(["export", str(run_copy), "--out", str(out), "--recipe", "float32", *asked]) == right


def test_without_tensorflow_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r"not installed; fix: pip install tensorflow-datasets"):
        open_dataset("tfds:oxford_iiit_pet")


class Decoder:
    """Stands for a feature: decodes PNG."""

    def decode_example(self, encoded: bytes) -> np.ndarray:
        return np.array(Image.open(io.BytesIO(encoded)))


@pytest.mark.parametrize("mode", ["RGB", "F"])
def test_what_is_no_mask_is_refused(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, SIZE).save(file, "TIFF")
    with pytest.raises(DataError, match="not a mask"):
        reader.TfdsSource(Path("cats/train/0"), Decoder(), file.getvalue(), True).read()
    with pytest.raises(DataError, match="cats/train/0: cannot decode"):
        reader.TfdsSource(Path("cats/train/0"), Decoder(), b"nothing", True).read()
