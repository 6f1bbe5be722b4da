"""Arrays of NumPy: `X.npy` with `Y.npy`, `images.npy` with `masks.npy`, an `.npz` with both, or a file for each image.

    X_train.npy y_train.npy X_test.npy y_test.npy        data.npz (images, masks)        case01.npz (image, label)
    images/a.npy masks/a.npy        images/a.png masks/a.npy

Arrays are memory-mapped where they lie in an `.npy`. Masks are whole numbers, also as floats; (N, H, W, C) with 0 and
one other number are one-hot.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unetres_edge.errors import DataError, Fix, ImageError, MaskError
from unetres_edge.files import file_state
from unetres_edge.images.decode import IMAGE_SUFFIXES, MAX_PIXELS, whole_numbers

from ...machine.memory import free_bytes
from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..one_hot import class_ids, has_rest, note
from ..sources import ImageFile, MaskFile, Sample, Source, check_count, file_digest
from .layout import PART_NAMES, PARTS, UNPARTED, Layout, key_of, list_files, list_images

_IMAGES = ("x", "image", "images", "img", "imgs", "input", "inputs", "data", "pictures", "volume")
_MASKS = ("y", "mask", "masks", "label", "labels", "gt", "target", "targets", "seg", "segmentation", "annotations")
_ENDINGS = (".npy", ".npz")
_MOST_CHANNELS = 16
_MOST_BYTES = 1 << 33  # of an array in an .npz, which cannot be mapped
_LOOKED_AT = 32  # masks, to see whether pixels of some have no channel
_RENAME = Fix("name every mask like its image: a.npy for a.png; or export JSON from Label Studio, which is read")
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


@dataclass(frozen=True)
class ArrayFile(Source):
    """An image or a mask from a file of arrays.

    Args:
        file: an .npy or .npz.
        key: the array's name in an .npz, or "".
        index: its place in an array of many, or None.
        mask: whether it is a mask; else an image, (H, W) or (H, W, C).
        rest: of a one-hot mask, whether pixels of no channel are class 0.
    """

    file: Path
    key: str = ""
    index: int | None = None
    mask: bool = False
    rest: bool = False

    def read(self) -> np.ndarray:
        values = load(self.file, self.key)
        if self.index is not None:
            values = values[self.index]
        if values.ndim and values.size // max(1, values.shape[-1]) > MAX_PIXELS:
            raise ImageError("too many pixels", file=self.file, expected=f"at most {MAX_PIXELS}", kind="too-large")
        values = np.array(values)
        return self._as_mask(values) if self.mask else self._as_image(values)

    def digest(self) -> str:
        said = f"{self.key}/{self.index}/{self.mask}/{self.rest}/{file_digest(self.file)}"
        return hashlib.sha256(said.encode()).hexdigest()

    def _as_image(self, values: np.ndarray) -> np.ndarray:
        values = channels_last(values)
        right = values.ndim == 2 or (values.ndim == 3 and values.shape[-1] <= _MOST_CHANNELS)
        if not right or 0 in values.shape:
            raise ImageError(
                "array is not an image",
                file=self.file,
                expected=f"(H, W) or (H, W, C) with at most {_MOST_CHANNELS} channels",
                found=f"{values.dtype} of shape {values.shape}",
                kind="unsupported-mode",
            )
        if values.dtype == bool:
            return values.astype(np.uint8) * np.uint8(255)
        if values.dtype.kind == "f":
            wrong = values.size - int(np.isfinite(values).sum())
            if wrong:
                raise ImageError(f"image has {wrong} values that are not finite", file=self.file, kind="not-finite")
            return values.astype(np.float32)
        if values.dtype not in (np.uint8, np.uint16):
            raise ImageError(
                "which value of the array is white is not known",
                file=self.file,
                expected="uint8, uint16, or floats",
                found=f"{values.dtype} from {values.min()} to {values.max()}",
                fix="save it as array.astype('uint8') or 'uint16'",
                kind="unsupported-mode",
            )
        return values

    def _as_mask(self, values: np.ndarray) -> np.ndarray:
        values = channels_last(values)
        if values.dtype == bool:
            values = values.astype(np.uint8)
        if values.dtype.kind not in "iuf" or values.ndim not in (2, 3) or 0 in values.shape:
            raise MaskError(
                "array is not a mask",
                file=self.file,
                expected="(H, W) whole numbers",
                found=f"{values.dtype} of shape {values.shape}",
                kind="unsupported-mode",
            )
        if values.ndim == 3:
            return class_ids(values, self.rest, self.file)
        try:
            return whole_numbers(values)
        except MaskError as error:
            raise MaskError(
                error.message,
                file=self.file,
                expected=error.expected,
                found=error.found,
                fix=error.remedy,
                kind=error.kind,
            ) from error


def channels_last(values: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, C) of an array that has few channels first or last; one channel has no axis."""
    if values.ndim == 3 and values.shape[0] <= _MOST_CHANNELS < values.shape[-1]:
        values = np.moveaxis(values, 0, -1)
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def load(file: Path, key: str = "") -> np.ndarray:
    """Return an array of a file, memory-mapped where it can be.

    Raises:
        DataError: the file is damaged, holds Python objects, or no such array.
    """
    try:
        if file.suffix.lower() == ".npz":
            return _from_npz(file, key, file_state(file.stat()))
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        objects = "pickle" in str(error).lower() or "object" in str(error).lower()
        fix = "save it again as one array of numbers: numpy.save(file, numpy.stack(images))" if objects else None
        found = "Python objects, which could run code" if objects else str(error) or type(error).__name__
        raise DataError(
            "cannot read the array",
            file=file,
            expected="an array of numbers",
            found=found,
            fix=fix or "replace the file",
            kind="unreadable",
        ) from error


@functools.lru_cache(maxsize=4)
def _from_npz(file: Path, key: str, state: tuple[int, ...]) -> np.ndarray:
    with zipfile.ZipFile(file) as members:
        size = members.getinfo(f"{key}.npy").file_size
    most = min(_MOST_BYTES, free_bytes() or _MOST_BYTES)
    if size > most:
        raise DataError(
            "an array of an .npz is too large",
            file=file,
            expected=f"at most {most} bytes, which is what memory holds",
            found=size,
            fix="save it as .npy, which is mapped",
        )
    with np.load(file, allow_pickle=False) as arrays:
        return np.asarray(arrays[key])


def recognises(base: Path) -> bool:
    """Whether there are arrays of images and of masks."""
    return base.is_dir() and bool(_whole_arrays(base) or _cases(base) or _folders(base))


def read(declared: Declaration) -> Layout:
    """Pair arrays of images and masks.

    Raises:
        DataError: no such arrays, or as many images as masks are not there.
    """
    base = declared.base
    layout = Layout()
    whole_arrays = _whole_arrays(base)
    if whole_arrays:
        for part, (images, masks) in whole_arrays.items():
            of_files = len({images[0] for images, _ in whole_arrays.values()}) > 1
            layout.samples[part] = list(_of_many(images, masks, by_file=of_files))
        if list(layout.samples) == ["train"] or not {"train", UNPARTED} & set(layout.samples):
            layout.samples = {UNPARTED: [sample for part in layout.samples.values() for sample in part]}
    elif cases := _cases(base):
        layout.samples = {
            part: [Sample(image.file.name, image, mask) for image, mask in found] for part, found in cases.items()
        }
    elif folders := _folders(base):
        layout.samples[UNPARTED] = _one_a_file(layout, *folders, base)
    else:
        raise DataError(
            "no arrays of images and masks", file=base, expected="X.npy and Y.npy, or an .npz with images and masks"
        )
    return _with_rest(layout)


def _with_rest(layout: Layout) -> Layout:
    """Decide over all masks whether pixels of no channel are a class, where they have channels."""
    masks = [s.target for of_part in layout.samples.values() for s in of_part if isinstance(s.target, ArrayFile)]
    looked_at = masks[:: -(-len(masks) // _LOOKED_AT)] if masks else []
    arrays = [channels_last(np.asarray(_values(mask))) for mask in looked_at]
    if not any(values.ndim == 3 for values in arrays):
        return layout
    rest = any(has_rest(values) for values in arrays if values.ndim == 3)
    layout.notes.append(note(rest))
    for part, of_part in layout.samples.items():
        layout.samples[part] = [
            replace(s, target=replace(s.target, rest=rest)) if isinstance(s.target, ArrayFile) else s for s in of_part
        ]
    return layout


def _values(source: ArrayFile) -> np.ndarray:
    values = load(source.file, source.key)
    return values if source.index is None else values[source.index]


Array = tuple[Path, str]  # a file and the name of an array in it


def _whole_arrays(base: Path) -> dict[str, tuple[Array, Array]]:
    """Return part -> the array of images and that of masks, of those that hold many of each."""
    named: dict[tuple[str, bool], list[Array]] = {}
    for file in sorted(path for path in base.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file()):
        for key in _keys(file):
            role = _role(key or file.stem, file.stem if key else "")
            if role is not None:
                named.setdefault(role, []).append((file, key))
    for name, is_mask in ((n, m) for m, names in ((False, _IMAGES), (True, _MASKS)) for n in names):
        inside = sorted((base / name).glob("*.npy")) if (base / name).is_dir() else []
        if len(inside) == 1 and not any(key[1] == is_mask for key in named):
            named.setdefault((UNPARTED, is_mask), []).append((inside[0], ""))
    pairs = {}
    for part in (UNPARTED, *PART_NAMES):
        images, masks = named.get((part, False), []), named.get((part, True), [])
        if not len(images) == len(masks) == 1:
            continue
        if _are_labels(images[0], masks[0]):
            raise DataError(
                "the arrays hold one label for each image, not one for each pixel",
                file=masks[0][0],
                expected="masks (N, H, W)",
                found=f"shape {_shape(masks[0])}",
                fix="for a classifier, from Python: ku.train on what "
                "keras_unetres.data.class_folders_from_arrays(images, labels) returns",
            )
        if _are_many(images[0]) and _are_many(masks[0]):
            pairs[part] = (images[0], masks[0])
    return pairs


def _role(name: str, above: str = "") -> tuple[str, bool] | None:
    """Return (part, whether masks) of an array by its name, or None: `X_train` is ("train", False)."""
    words = [word.casefold() for word in _WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))]
    others = [word.casefold() for word in _WORD.findall(above)]
    part = next((PARTS[word] for word in (*words, *others) if word in PARTS), UNPARTED)
    roles = [word in _MASKS for word in words if word in (*_IMAGES, *_MASKS)]
    if "data" in words and len(roles) > 1:
        roles = [word in _MASKS for word in words if word in (*_IMAGES, *_MASKS) and word != "data"]
    rest = [word for word in words if word not in (*PARTS, *_IMAGES, *_MASKS)]
    return (part, any(roles)) if roles and len(rest) <= 1 else None


def _keys(file: Path) -> list[str]:
    """Return the names of the arrays of an .npz, or "" for the one of an .npy."""
    if file.suffix.lower() == ".npy":
        return [""]
    try:
        with zipfile.ZipFile(file) as members:
            return [name.removesuffix(".npy") for name in members.namelist() if name.endswith(".npy")]
    except (OSError, zipfile.BadZipFile):
        return []


def _shape(array: Array) -> tuple[int, ...]:
    """Return the shape of an array, from its header alone; () where it cannot be read."""
    file, key = array
    try:
        if not key:
            return tuple(np.load(file, mmap_mode="r", allow_pickle=False).shape)
        with zipfile.ZipFile(file) as members, members.open(f"{key}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return tuple(header(member)[0])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return ()


def _are_many(array: Array) -> bool:
    """Whether an array holds many images or masks, or cannot be read, which is said when it is."""
    shape = _shape(array)
    return len(shape) == 4 or (len(shape) == 3 and shape[-1] > _MOST_CHANNELS) or len(shape) <= 1


def _are_labels(images: Array, labels: Array) -> bool:
    """Whether an array has one number for each of many images."""
    of_images, of_labels = _shape(images), _shape(labels)
    return len(of_images) > 2 and of_labels in (of_images[:1], (of_images[0], 1))


def _of_many(images: Array, masks: Array, *, by_file: bool) -> Iterator[Sample]:
    """Yield a sample for each place of two arrays, named after the file if there are several, else after the array."""
    values = [load(*array) for array in (images, masks)]
    if len(values[0]) != len(values[1]):
        raise DataError(
            "arrays of images and masks differ in number",
            file=masks[0],
            expected=f"{len(values[0])}, as in {images[0].name}",
            found=len(values[1]),
        )
    check_count(len(values[0]), images[0])
    if 0 in (*values[0].shape, *values[1].shape):
        raise DataError("an array has no pixels", file=images[0], found=f"{values[0].shape} and {values[1].shape}")
    stem = images[0].stem if by_file or not images[1] else images[1]
    digits = max(4, len(str(len(values[0]) - 1)))
    for index in range(len(values[0])):
        name = f"{stem}_{index:0{digits}d}"
        yield Sample(name, ArrayFile(*images, index), ArrayFile(*masks, index, mask=True))


def _cases(base: Path) -> dict[str, list[tuple[ArrayFile, ArrayFile]]]:
    """Return part -> (image, mask) of each .npz that holds one of each."""
    from .layout import find_parts

    places = find_parts(base, lambda folder: bool(_cases_in(folder)))
    if "train" in places:
        return {part: _cases_in(folder) for part, folder in places.items()}
    cases = _cases_in(base)
    return {UNPARTED: cases} if cases else {}


def _cases_in(folder: Path) -> list[tuple[ArrayFile, ArrayFile]]:
    pairs = []
    for file in sorted(path for path in folder.glob("*.npz") if not path.name.startswith(".")):
        roles: Mapping[bool, Sequence[str]] = {
            is_mask: [key for key in _keys(file) if _role(key) is not None and _role(key)[1] == is_mask]  # type: ignore[index]
            for is_mask in (False, True)
        }
        if len(roles[False]) != 1 or len(roles[True]) != 1:
            return []
        pairs.append((ArrayFile(file, roles[False][0]), ArrayFile(file, roles[True][0], mask=True)))
    return pairs if len(pairs) > 1 else []


def _folders(base: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks of which one or both hold an .npy for each image."""
    there = {path.name.casefold(): path for path in sorted(base.iterdir()) if path.is_dir()}
    images, masks = (next((there[n] for n in names if n in there), None) for names in (_IMAGES, _MASKS))
    if images is None or masks is None:
        return None
    counts = [len(_arrays_in(folder)) for folder in (images, masks)]
    return (images, masks) if counts[1] > 1 or (counts[0] > 1 and list_images(masks)) else None


def _arrays_in(folder: Path) -> list[Path]:
    return [path for path in list_files(folder, (".npy",)) if path.is_file()]


def _one_a_file(layout: Layout, images: Path, masks: Path, base: Path) -> list[Sample]:
    pictures, others = (
        {key_of(path.stem): path for path in (*list_images(folder), *_arrays_in(folder))} for folder in (images, masks)
    )
    if not set(pictures) & set(others):
        shorter = {re.sub(r"[_-](mask|masks|label|labels|seg|gt)$", "", key): path for key, path in others.items()}
        others = shorter if set(pictures) & set(shorter) else others
    for kind, files, partners, folder in (
        ("missing-mask", pictures, others, masks),
        ("missing-image", others, pictures, images),
    ):
        for key in sorted(set(files) - set(partners)):
            figures = {"stem": files[key].stem, "folder": relative(folder, base)}
            where = Where(relative(files[key], base), files[key].name)
            fix = leave_out(files[key].name) if set(pictures) & set(others) else _RENAME
            layout.faults.append(Finding(kind, where, figures, fix))
    return [
        Sample(pictures[key].relative_to(images).as_posix(), _image(pictures[key]), _mask(others[key]))
        for key in sorted(set(pictures) & set(others))
    ]


def _image(file: Path) -> Source:
    return ImageFile(file) if file.suffix.lower() in IMAGE_SUFFIXES else ArrayFile(file)


def _mask(file: Path) -> Source:
    return MaskFile(file) if file.suffix.lower() in IMAGE_SUFFIXES else ArrayFile(file, mask=True)
