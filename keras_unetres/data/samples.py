"""Prepared samples: image, mask and weights as the pipeline cuts them, in memory, on disk, or in a folder of files.

What does not fit in memory lies in a temporary file without a name, from which the pipeline reads the window of a
crop alone; where the disk has no room either, a sample is decoded again whenever it is needed.

A cache file is named by a digest of everything that decides its content: the bytes of the sample's files, how its
masks are read, the preprocessing and the weighting. It is written whole or not at all, so processes may share a folder;
what was changed since, or has another form, is made anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image
from safetensors import SafetensorError

from unetres_edge.errors import DataError, ImageError, UnetresError, UsageError
from unetres_edge.files import make_folder, write_bytes
from unetres_edge.images.bands import bands
from unetres_edge.images.preprocessing import IGNORE, Placement, Preprocessing

from .augment import pack, unpack, word_form
from .group_order import find_groups
from .overflow import Overflow
from .records import Records, in_parallel
from .sources import Sample
from .weighting import Weighting, class_weights, weight_map

_CACHE_VERSION = 2
_DIGEST = "sha256"  # in the metadata of a cache file, over its tensors
_MOST_POINTS = 64  # of one class in one image, for class-balanced crops
_ALL_POINTS = 1 << 21  # about so many of one class in all images


@dataclass(frozen=True)
class Prepared:
    """An image with its mask and weights, in the form that crops are cut from.

    Args:
        words: image and mask as `augment.pack` gives them.
        image: (H, W, C) uint8.
        mask: (H, W) uint8 class ids with `IGNORE`; all 0 where the image has one class.
        weight: (H, W) float32, or None if all weigh 1.
    """

    words: np.ndarray
    image: np.ndarray
    mask: np.ndarray
    weight: np.ndarray | None


class Samples:
    """The prepared samples of a split, and how many crops of each make an epoch.

    Args:
        records: decoded samples.
        pre: preparation of images for the network. For "resize" and "letterbox" a sample is scaled to the network's
            size here.
        weighting: weights of pixels in the loss.
        cache: a folder for prepared samples, or None. Those that fit in memory are kept there, too.
        margin: px of every side that a network without padding leaves out. A sample is mirrored outwards by as many
            here, so that the output of its crops reaches its borders (Ronneberger 2015, figure 2).

    Attributes:
        owners: (crops of an epoch,) int64, the sample each is cut from; as many of a sample as its area holds.
        class_ids: (N,) int64 of images that have one class each, or None where there are masks.
        weighted: whether pixels have weights.
        fault: error that kept a sample from being read again, or None; TensorFlow wraps what is raised in a pipeline.
        class_weights: weights of `weighting.by_class`, or None.
        groups: groups of samples in shards, which are read together, see `group_order`; or None.

    Raises:
        DataError: images that cannot be prepared, or border weights without instances.
        UsageError: a margin of images that are scaled.
    """

    def __init__(
        self,
        records: Records,
        pre: Preprocessing,
        *,
        weighting: Weighting | None = None,
        cache: str | os.PathLike[str] | None = None,
        margin: int = 0,
    ) -> None:
        if margin and pre.fit != "crop":
            raise UsageError(
                "a network without padding sees crops", expected="fit crop", found=pre.fit, fix="pass --fit crop"
            )
        self.pre = pre
        self.margin = margin
        self.samples = records.samples
        self.classes = records.classes
        self.weighting = weighting or Weighting()
        self._records = records
        self._cache = None if cache is None else make_folder(cache)
        self.class_ids = _class_ids(records)
        masks = (record.mask for record in records) if self.class_ids is None else iter([self.class_ids])
        power = self.weighting.by_class
        self.class_weights = class_weights(masks, len(self.classes.names), power) if power else None
        has_weights = any(sample.weight is not None for sample in self.samples)
        self.weighted = has_weights or self.weighting != Weighting()
        self._kept: list[Prepared | None] = [None] * len(records)
        self.fault: UnetresError | None = None
        # The records of images that have one class hold them at the network's size already.
        sizes = records.sizes if pre.fit == "crop" and self.class_ids is None else [pre.size] * len(records)
        self._sizes = [(height + 2 * margin, width + 2 * margin) for height, width in sizes]
        if self.class_ids is None:
            self._keep_all()
        self._overflow = self._make_overflow()
        self._put_large_away()
        self.groups = find_groups(self.samples)
        area = self.output[0] * self.output[1]
        crops = [max(1, round(h * w / area)) if pre.fit == "crop" else 1 for h, w in records.sizes]
        self.owners = np.repeat(np.arange(len(records)), crops).astype(np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Prepared:
        kept = self._kept[index]
        if kept is not None:
            return kept
        with self._overflow.alone(index):
            parts = self._overflow.read(index)
            if parts is not None:
                return _prepared(parts[0], self.pre.channels, parts[1][..., 0] if self.weighted else None)
            return self._put_away(index)

    def _put_away(self, index: int) -> Prepared:
        """Prepare a sample and write it to the temporary file."""
        prepared = self._read(index)
        self._overflow.write(index, _planes(prepared))
        return prepared

    @property
    def output(self) -> tuple[int, int]:
        """(height, width) of what the network gives of a crop."""
        height, width = self.pre.size
        return height - 2 * self.margin, width - 2 * self.margin

    def _put_large_away(self) -> None:
        """Prepare the large samples one by one, before a network takes memory, as each takes several times its size."""
        for index in range(len(self)):
            if self._overflow.is_large(index):
                self._put_away(index)

    def shape(self, index: int) -> tuple[int, int]:
        """Return (height, width) of a prepared sample in px, with its margin; it is not read for that."""
        height, width = self._sizes[index]
        return height, width

    def window(self, index: int, begin: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
        """Return a window of the words of a sample (h, w, n), and where there are weights, of these (h, w, 1).

        Args:
            begin: (2,) first row and column.
            size: (2,) rows and columns.
        """
        index, (y, x), (height, width) = int(index), begin.tolist(), size.tolist()
        if self._kept[index] is None:
            planes = self._overflow.read(index, (y, x), (height, width))
            if planes is not None:
                return planes
        return [np.ascontiguousarray(plane[y : y + height, x : x + width]) for plane in _planes(self[index])]

    def _make_overflow(self) -> Overflow:
        """Return a file for the samples that are not in memory."""
        word, depth = word_form(self.pre.channels)
        forms: list[tuple[np.dtype, int]] = [(np.dtype(word.as_numpy_dtype), depth)]
        forms += [(np.dtype(np.float32), 1)] * self.weighted
        wanted = [index for index, is_kept in enumerate(self._records.in_memory) if not is_kept]
        return Overflow({index: self.shape(index) for index in wanted}, forms, self._cache)

    def _read(self, index: int) -> Prepared:
        """Return a sample from its file in the cache, or decoded and prepared."""
        file = None if self._cache is None else self._cache / f"{self._key(self.samples[index])}.safetensors"
        cached = None if file is None else _load(file, self.pre.channels)
        if cached is not None and self._fits(index, cached):
            return cached
        try:
            prepared = self._prepare(index)
        except UnetresError as error:
            self.fault = error
            raise
        if file is not None:
            tensors = {"words": prepared.words} | ({} if prepared.weight is None else {"weight": prepared.weight})
            write_bytes(file, safetensors.numpy.save(tensors, {_DIGEST: _digest(tensors)}))
        return prepared

    def _fits(self, index: int, prepared: Prepared) -> bool:
        """Whether a sample from a cache file has the form that it is prepared in."""
        known = (prepared.mask < len(self.classes.names)) | (prepared.mask == IGNORE)
        return (
            prepared.mask.shape == self.shape(index)
            and bool(known.all())
            and (prepared.weight is not None) == self.weighted
            and (
                prepared.weight is None
                or (prepared.weight.shape == prepared.mask.shape and prepared.weight.dtype == np.float32)
            )
        )

    def steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch, the last filled up from the epoch's start."""
        return math.ceil(len(self.owners) / batch_size)

    def points(self) -> list[np.ndarray]:
        """Return for each class with pixels (M, 3) int64 places of it: sample, row, column.

        They are at most 64 of a sample, and fewer of each where there are many samples.
        """
        by_class: list[list[np.ndarray]] = [[] for _ in self.classes.names]
        most = min(_MOST_POINTS, max(1, _ALL_POINTS // max(1, len(self))))
        for index in range(len(self)):
            mask = self[index].mask
            for class_id, places in enumerate(by_class):
                pixels = _spread_over(mask, class_id, most)
                places += [np.insert(pixels, 0, index, 1)] if len(pixels) else []
        return [np.concatenate(places).astype(np.int64) for places in by_class if places]

    def _prepare(self, index: int) -> Prepared:
        record = self._records[index]
        if self.class_ids is not None:
            image = replace(self.pre, per_image=None).prepare(record.image)
            return _prepared(pack(image, np.zeros(self.pre.size, np.uint8)), self.pre.channels, None)
        image, mask = self.pre.prepare(record.image), record.mask
        weight = weight_map(record, self.weighting, self.class_weights, self.classes.target, self.classes.background)
        if self.weighted and weight is None:
            weight = np.ones(mask.shape, np.float32)
        if self.pre.fit != "crop":
            placement = self.pre.place(*mask.shape)
            image, mask = placement.image(image), placement.mask(mask)
            weight = None if weight is None else _place_weight(placement, weight)
        if self.margin:
            around = (self.margin, self.margin)
            image = np.pad(image, (around, around, (0, 0)), mode="reflect")
            mask = np.pad(mask, around, constant_values=IGNORE)
            weight = None if weight is None else np.pad(weight, around)
        return _prepared(pack(image, mask), self.pre.channels, weight)

    def _keep_all(self) -> None:
        """Prepare the samples that stay in memory now, so that faults are named before training, all at once."""
        faults = []
        wanted = [index for index in range(len(self)) if self._records.in_memory[index]]

        def prepare(index: int) -> UnetresError | None:
            try:
                self._kept[index] = self._read(index)
            except ImageError as error:
                return error
            return None

        slow = self.weighting.border is not None
        for index, error in zip(wanted, in_parallel(prepare, wanted, progress=slow, title="weighing"), strict=True):
            if error:
                seen = f" ({error.found})" if error.found else ""
                faults.append(f"{self.samples[index].name}: {error.message}{seen}")
        if faults:
            raise DataError(f"{len(faults)} of {len(self)} images cannot be prepared: " + " | ".join(faults))

    def _key(self, sample: Sample) -> str:
        classes = self.classes
        said: dict[str, object] = {
            "version": _CACHE_VERSION,
            "digests": sample.digests(),
            "values": None if classes.values is None else sorted(classes.values.items()),
            "ignore": classes.ignore,
            "target": classes.target,
            "preprocessing": self.pre.to_dict(),
            "weighting": self.weighting.to_dict(),
            "class_weights": self.class_weights,
            "weighted": self.weighted,
        }
        if self.margin:
            said["margin"] = self.margin
        if classes.background:
            said["background"] = classes.background
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _spread_over(mask: np.ndarray, class_id: int, most: int) -> np.ndarray:
    """Return (n, 2) int64, row and column of at most so many pixels of a class in a mask (H, W), spread evenly."""
    slices = list(bands(mask.shape))
    counts = [int(np.count_nonzero(mask[rows] == class_id)) for rows in slices]
    total, before = sum(counts), 0
    wanted = np.linspace(0, total - 1, min(total, most)).astype(int)
    pixels = []
    for rows, count in zip(slices, counts, strict=True):
        inside = wanted[(wanted >= before) & (wanted < before + count)] - before
        before += count
        if len(inside):
            flat = np.flatnonzero(mask[rows] == class_id)[inside]
            pixels.append(np.stack(np.divmod(flat + rows.start * mask.shape[1], mask.shape[1]), 1))
    return np.concatenate(pixels) if pixels else np.zeros((0, 2), np.int64)


def _class_ids(records: Records) -> np.ndarray | None:
    """Return the class of each image, or None where there are masks."""
    values = records.classes.values or {}
    ids = [values[sample.class_id] for sample in records.samples if sample.class_id is not None]
    return np.array(ids, np.int64) if ids else None


def _planes(prepared: Prepared) -> list[np.ndarray]:
    """Return what is read of a sample, each (H, W, n)."""
    return [prepared.words] if prepared.weight is None else [prepared.words, prepared.weight[..., None]]


def _prepared(words: np.ndarray, channels: int, weight: np.ndarray | None) -> Prepared:
    return Prepared(words, *unpack(words, channels), weight)


def _load(file: Path, channels: int) -> Prepared | None:
    """Return what a cache file holds, or None if it is not there, or not what was written."""
    try:
        data = file.read_bytes()
        tensors = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        words = tensors["words"]
        dtype, depth = word_form(channels)
        if header["__metadata__"][_DIGEST] != _digest(tensors) or words.dtype != dtype.as_numpy_dtype:
            return None
        return (
            _prepared(words, channels, tensors.get("weight")) if words.ndim == 3 and words.shape[2] == depth else None
        )
    except (OSError, RecursionError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _place_weight(placement: Placement, weight: np.ndarray) -> np.ndarray:
    """Scale weights (H, W) by nearest neighbour as `Placement.mask` does; what is padded weighs 0."""
    height, width = placement.scaled
    scaled = np.asarray(Image.fromarray(weight).resize((width, height), Image.Resampling.NEAREST))
    below, right = placement.canvas[0] - height, placement.canvas[1] - width
    return np.pad(scaled, ((0, below), (0, right)))
