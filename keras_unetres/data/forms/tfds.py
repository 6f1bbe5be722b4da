"""Data sets of TensorFlow Datasets by name, `tfds:oxford_iiit_pet`, or a folder that it wrote, `tfds:FOLDER`.

TensorFlow Datasets downloads, and imports the Python module that a folder's `features.json` names. So such a data set
is opened only when it is asked for in these words by a person: never by what a folder looks like, nor by a file.

Needs `pip install tensorflow-datasets`. Examples stay in memory as they are encoded, and are decoded when read.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, MaskError
from unetres_edge.images.preprocessing import IGNORE

from ..declaration import Declaration, read_declaration
from ..sources import Sample, Source
from .layout import PART_NAMES, Layout

_MASKS = ("segmentation_mask", "segmentation_label", "segmentation", "mask", "label_map", "annotation")
# What the stored values mean where the data set says so only in its paper (Parkhi 2012: a trimap).
_KNOWN = {"oxford_iiit_pet": (("background", "pet"), {1: 1, 2: 0, 3: IGNORE})}


@dataclass(frozen=True, eq=False)
class TfdsSource(Source):
    """One image or mask of an example, encoded as TensorFlow Datasets stores it."""

    file: Path
    feature: Any
    encoded: Any
    is_mask: bool

    def read(self) -> np.ndarray:
        try:
            values = np.asarray(self.feature.decode_example(self.encoded))
        except Exception as error:  # of TensorFlow: any kind
            raise DataError(f"cannot decode: {error}", file=self.file) from error
        values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
        if self.is_mask and (values.ndim != 2 or values.dtype.kind not in "bui"):
            raise MaskError(
                "not a mask", file=self.file, expected="(H, W) integers", found=f"{values.dtype} of {values.shape}"
            )
        return values.astype(np.uint8) if values.dtype.kind == "b" else values

    def digest(self) -> str:
        encoded = self.encoded if isinstance(self.encoded, bytes) else np.ascontiguousarray(self.encoded).tobytes()
        return hashlib.sha256(encoded).hexdigest()


PREFIX = "tfds:"


def recognises(base: Path) -> bool:
    """Whether the folder is one that TensorFlow Datasets wrote; it is not opened for that."""
    return (base / "dataset_info.json").is_file() and (base / "features.json").is_file()


def is_asked_for(source: object) -> bool:
    """Whether these are the words that open a data set of TensorFlow Datasets."""
    return isinstance(source, (str, os.PathLike)) and os.fspath(source).startswith(PREFIX)


def refuse_unasked(source: object, file: str | os.PathLike[str], says: str) -> None:
    """Raise DataError: what is in a file or a folder opens no data set of TensorFlow Datasets.

    Args:
        source: name that a person would have to ask for.
        file: the file or folder concerned.
        says: words for what it is or says, as the start of a sentence.
    """
    name = source if is_asked_for(source) else f"{PREFIX}{source}"
    raise DataError(
        f"{says}, which can download and run code: it is opened only when it is named on the command line",
        file=file,
        fix=f"if you trust it, name it as the data: {name}",
        kind="tfds-by-name",
    )


def declaration(name: str) -> Declaration:
    """Return what is declared about a data set that was asked for by a name, a folder, or a `dataset.yaml`."""
    file = Path(name.removeprefix(PREFIX))
    if file.suffix.lower() in (".yaml", ".yml"):
        return replace(read_declaration(file), file=Path(name))
    return Declaration(Path(name), Path(name), {})


def read(declared: Declaration) -> Layout:
    """Read the examples of every split.

    Raises:
        DataError: TensorFlow Datasets is not installed, does not know the name or cannot get it, or there are no masks.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            "TensorFlow Datasets is not installed", file=declared.file, fix="pip install tensorflow-datasets"
        ) from error
    name = str(declared.given.get("path", declared.file))
    name = name.removeprefix(PREFIX) if name.startswith(PREFIX) else str(declared.base)
    try:
        if os.path.isdir(name):
            builder = tfds.builder_from_directory(name)
        else:
            builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
            builder.download_and_prepare()
    except Exception as error:  # any kind: unknown names, the network, checksums
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"TensorFlow Datasets cannot give it: {first}", file=declared.file) from error
    features = builder.info.features or {}
    mask_name = next((key for key in _MASKS if key in features), None)
    if "image" not in features or mask_name is None:
        raise DataError("no images with masks", file=declared.file, found=", ".join(features))
    layout = Layout()
    if builder.name in _KNOWN:
        names, values = _KNOWN[builder.name]
        layout.names, layout.values = names, dict(values)
    skip = {key: tfds.decode.SkipDecoding() for key in ("image", mask_name)}
    for split in builder.info.splits:
        part = next((p for p, known in PART_NAMES.items() if split in known), None)
        if part is None:
            layout.notes.append(f"the part {split} is left out")
            continue
        examples = tfds.as_numpy(builder.as_dataset(split=split, decoders=skip, shuffle_files=False))
        layout.samples[part] = [
            Sample(
                _name(example, split, index),
                TfdsSource(Path(f"{name}/{split}/{index}"), features["image"], example["image"], False),
                TfdsSource(Path(f"{name}/{split}/{index}"), features[mask_name], example[mask_name], True),
            )
            for index, example in enumerate(examples)
        ]
    return layout


def _name(example: dict[str, Any], split: str, index: int) -> str:
    file_name = example.get("file_name")
    return file_name.decode("utf-8", "replace") if isinstance(file_name, bytes) else f"{split}_{index:06d}"
