"""What lies among folders of images and says that these are no classes: tables of classes, annotations, masks."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from unetres_edge.errors import DataError, Fix
from unetres_edge.images.unread import is_unread

from ..colortables import CSV_TABLES
from ..findings import relative
from ..fixes import declare
from .class_folders import EXPECTED
from .layout import OF_BOXES, PARTS, key_of, list_files, list_images
from .looks import is_mask_alone, look_like_masks
from .parallel import find_parallel, is_called_masks

_TABLES = (*CSV_TABLES, "_classes.csv", "labelmap.txt", "label_colors.txt")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
_READERS = {
    ".h5": "h5py.File(FILE)[KEY][()]",
    ".hdf5": "h5py.File(FILE)[KEY][()]",
    ".mat": "scipy.io.loadmat(FILE)[KEY]",
    ".nii": "nibabel.load(FILE).dataobj[..., SLICE]",
    ".gz": "nibabel.load(FILE).dataobj[..., SLICE]",  # .nii.gz
    ".dcm": "pydicom.dcmread(FILE).pixel_array",
    ".fits": "astropy.io.fits.getdata(FILE)",
}  # of files that hold arrays, by other libraries
_ANNOTATIONS = (".txt", ".json", ".xml", ".geojson")
_OF_PARTS = (".json", ".jsonl", ".csv", ".tfrecord")  # of boxes and texts, as Roboflow writes one for each part
_YOLO = re.compile(r"\d+(?:\s+[\d.eE+-]+){4,}\s*")
_YOLO_BOXES = "YOLO's boxes (.txt)"
_LOOKED_AT = 400  # images
_OF_MASKS = ("annot", "gt", "label", "mask", "seg", "truth")  # in names of folders
_FEWEST, _SHARE = 3, 0.2  # of the images, so that those named after others are masks


def refuse_annotated(root: Path) -> None:
    """Raise DataError if folders of images have something beside them that says more than a class.

    Raises:
        DataError: a table of classes, annotation files named like the images, or a folder of masks.
    """
    below = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    fix = "name the folders in a dataset.yaml: images: NAME and masks: NAME"
    images = [image for folder in below for image in list_images(folder)]
    _refuse_unread(below, {image.stem for image in images}, fix)
    _refuse_annotations(root, below, images)
    without_images = [folder for folder in below if folder.name == "SegmentationClass"]
    for table in (parent / name for parent in (root, *below) for name in _TABLES):
        if table.is_file() and without_images:
            raise DataError(
                "masks without their images",
                file=without_images[0],
                expected="the images in JPEGImages/ beside it",
                fix="export again with the images (CVAT: Save images), or copy them to JPEGImages/",
            )
        if table.is_file():
            raise DataError(
                "a table of the classes of masks lies among the images, but no masks that belong to them",
                file=table,
                expected="masks named like the images in masks/, or a.png with a_mask.png",
                fix=fix,
            )
    _refuse_masks(root, images, fix)
    _refuse_called(root, below)
    _refuse_bands(root, images)
    sides = find_parallel(root, called=False)
    if sides:
        raise DataError(
            "one of the folders seems to hold masks of the images in another",
            file=root,
            expected=EXPECTED,
            found=", ".join(f"{each.masks}/, whose files have few values, beside {each.images}/" for each in sides),
            fix=sides[0].fix,
            kind="mask-like",
        )
    _refuse_strangers(root, below)
    _refuse_parts(root, below)


def _refuse_parts(root: Path, below: list[Path]) -> None:
    """Raise DataError if all folders of images are called after parts, so that nothing says what the images show."""
    called = [folder for folder in below if any(image.parent == folder for image in list_images(folder))]
    if not called or not all(key_of(folder.name) in PARTS for folder in called):
        return
    tables = [file for folder in called for file in list_files(folder, _OF_PARTS)]
    raise DataError(
        f"{tables[0].name} is of no form of masks that is read" if tables else "the folders are parts without masks",
        file=tables[0].parent if tables else root,
        expected="a mask beside each image, as a.png with a_mask.png, or in masks/",
        found=", ".join(f"{folder.name}/" for folder in called),
        fix="export as COCO Segmentation, YOLO polygons or semantic masks; boxes teach no pixel"
        if tables
        else "put train/masks/ beside train/images/; for a classifier, a folder for each class in train/",
    )


def _refuse_called(root: Path, below: list[Path]) -> None:
    """Raise DataError if a folder is called masks and has the names of the files of one that is not, as mattes have."""
    names = {folder.name: {key_of(image.stem) for image in list_images(folder)} for folder in below}
    for masks, stems in names.items():
        for images, others in names.items():
            if is_called_masks(masks) and not is_called_masks(images) and len(stems) > 1 and stems <= others:
                raise DataError(
                    "a folder of masks lies among those of a classifier",
                    file=root / masks,
                    expected=EXPECTED,
                    found=f"{len(stems)} files named like those in {images}/, but of many values, as mattes have",
                    fix=f"save class ids there, and name both: {declare({'images': images, 'masks': masks}).text}",
                    kind="mask-like",
                )


def _refuse_bands(root: Path, images: list[Path]) -> None:
    """Raise DataError if most folders hold a file called mask beside several others, as bands of one image."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        by_folder[image.parent].append(image)
    masks = {folder: [file for file in files if is_mask_alone(file.stem)] for folder, files in by_folder.items()}
    several = [folder for folder, in_folder in masks.items() if len(in_folder) == 1 and len(by_folder[folder]) > 2]
    if len(several) > 1 and 2 * len(several) > len(by_folder):
        mask, folder = masks[several[0]][0], relative(several[0], root)
        raise DataError(
            "a mask lies beside several images of its folder",
            file=mask,
            expected="one image and one mask in a folder",
            found=f"{len(by_folder[several[0]]) - 1} images and {mask.name} in {folder}/",
            fix="if they are bands of one image, save them as one TIFF of so many channels",
            kind="mask-like",
        )


def _refuse_strangers(root: Path, below: list[Path]) -> None:
    """Raise DataError if a folder is called masks and looks like it, unlike the others; names pair none of them."""
    looks = {folder.name: look_like_masks(files) for folder in below if (files := list_images(folder))}
    masks = [name for name, looks_so in looks.items() if looks_so and is_called_masks(name)]
    if masks and not all(looks.values()):
        raise DataError(
            "a folder of masks lies among those of a classifier, but its files are not named like the images",
            file=root / masks[0],
            expected=EXPECTED,
            found=", ".join(f"{path.name}" for path in list_images(root / masks[0])[:3]),
            fix="name every mask like its image: a.png for a.jpg, or a_mask.png; or list image,mask in a train.csv",
            kind="mask-like",
        )


def _refuse_annotations(root: Path, below: list[Path], images: list[Path]) -> None:
    """Raise DataError if most images have an annotation file beside them, or in a folder that holds no images."""
    shown = images[:: -(-len(images) // _LOOKED_AT)] if images else []
    apart = [file for folder in below if not list_images(folder) for file in list_files(folder, _ANNOTATIONS)]
    by_stem = {file.stem: file for file in reversed(apart)}
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for image in shown:
        beside = [file for ending in _ANNOTATIONS if (file := image.with_suffix(ending)).is_file()]
        beside = beside or [by_stem[stem] for stem in (image.stem,) if stem in by_stem]
        for file in beside:
            by_suffix[file.suffix].append(file)
    if any(file.suffix == ".xml" for file in apart) and not by_suffix:
        raise boxes_alone(root)  # their images lie elsewhere
    files = max(by_suffix.values(), key=len, default=[])
    without_names = [file for file in apart if file.suffix != ".txt"]
    if not files and 2 * len(without_names) > len(shown) > 0:  # one for each image, of other names
        files = without_names
    if 2 * len(files) < len(shown) or not files:
        return
    if files[0].suffix == ".xml" or _form(files[0]) == _YOLO_BOXES:
        raise boxes_alone(root, _form(files[0]))
    raise DataError(
        "annotations lie beside the images, which a classifier would pass over",
        file=files[0],
        expected=EXPECTED,
        found=f"{_form(files[0])} for {len(files)} of {len(shown)} images",
        fix="export them as masks, COCO or labelme; for a classifier, move them away",
    )


def _refuse_unread(below: list[Path], stems: set[str], fix: str) -> None:
    """Raise DataError if a folder without images holds files named like the images, of a format that is not read."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in (file for folder in below for file in list_files(folder, None) if is_unread(file)):
        by_folder[file.parent].append(file)
    for folder, files in by_folder.items():
        named = [file for file in files if file.stem in stems]
        if len(named) > _SHARE * len(stems) > 0 and not list_images(folder):
            raise DataError(
                "files named like the images are of a format that is not read",
                file=folder,
                expected="masks as PNG or TIFF, or as .npy in masks/",
                found=f"{len(named)} files *{named[0].suffix}, such as {named[0].name}",
                fix=f"save them as PNG of class ids, in a folder of their own; {fix}; or {save_arrays(named[0])}",
                kind="mask-like",
            )


def boxes_alone(root: Path, form: str = ".xml files") -> DataError:
    """Return the error for annotations of a form that hold no masks."""
    return DataError(
        "the annotations are boxes, not masks",
        file=root,
        expected="a mask for every image",
        found=f"{form} and no masks",
        fix=OF_BOXES,
    )


def refuse_packed(base: Path) -> None:
    """Raise DataError if a folder has no images, but files that hold a data set.

    Raises:
        DataError: archives, or arrays and volumes of a form that is not read.
    """
    if not base.is_dir() or list_images(base):
        return
    files = [path for path in sorted(base.iterdir()) if path.is_file() and not path.name.startswith(".")]
    packed = [path.name for path in files if path.name.lower().endswith(_ARCHIVES) and not _is_volume(path)]
    others = [path for path in list_files(base, None) if path.is_file() and (is_unread(path) or _is_volume(path))]
    if packed or others:
        raise DataError(
            "the data set is packed" if packed else "no images, but files that are not read",
            file=base,
            expected="a folder with images/ and masks/",
            found=", ".join((packed or [relative(path, base) for path in others])[:4]),
            fix=f"unpack {packed[0]}" if packed else save_arrays(others[0]),
        )


def _is_volume(file: Path) -> bool:
    return file.name.lower().endswith(".nii.gz")


def save_arrays(file: Path) -> str:
    """Return how files that other libraries read become some that are read here."""
    way = _READERS.get(file.suffix.lower())
    if way is None:
        return "save them as X.npy and Y.npy, or as PNG or TIFF"
    return f"save them as X.npy and Y.npy, or one by one in images/ and masks/: numpy.save('images/NAME.npy', {way})"


def save_arrays_one_by_one(file: Path, folder: str) -> str | None:
    """Return how files of an array each become arrays that are read here, or None where it is not known."""
    way = _READERS.get(file.suffix.lower())
    return way and f"save each as an array: numpy.save('{folder}/NAME.npy', {way})"


def save_one_by_one(file: Path, folder: str) -> str | None:
    """Return how files of an array each become some that are read here, or None where it is not known."""
    way = _READERS.get(file.suffix.lower())
    return way and f"save each as PNG of whole numbers: PIL.Image.fromarray({way}).save('{folder}/NAME.png')"


def _refuse_masks(root: Path, images: list[Path], fix: str | Fix) -> None:
    """Raise DataError if images of few values are named after others, or lie in a folder that is called masks."""
    pictures: dict[str, Path] = {}
    masks = []
    for image in images:
        parts = image.relative_to(root).parts[:-1]
        called = any(word in name.casefold() for name in parts for word in _OF_MASKS)
        if not called:
            pictures.setdefault(image.stem, image)
        words = re.split(r"[_-]", image.stem)
        masks += [(image, "_".join(words[:end])) for end in range(max(1, len(words) - 2), len(words))]
        masks += [(image, image.stem)] if called else []
    named = {mask: pictures[name] for mask, name in masks if name in pictures and pictures[name] != mask}
    if len(named) < max(_FEWEST, _SHARE * len(images)) or not look_like_masks(list(named)):
        return
    if look_like_masks(list(dict.fromkeys(named.values()))):
        return  # drawings, or text
    first = next(iter(named))
    above = [Path(os.path.commonpath([file.parent for file in files])) for files in (named.values(), named)]
    if above[0] == above[1] or root in above:
        above = _folders_of_one(named)
    if above:
        images_in, masks_in = (relative(root / folder, root) for folder in above)
        fix = declare({"images": images_in, "masks": masks_in}, root)
    raise DataError(
        "masks lie among the images of a classifier",
        file=root,
        expected="pictures in a folder for each class, or images/ and masks/ with files of the same names",
        found=f"{len(named)} of {len(images)} have few values and the name of another, such as {first.name}",
        fix=fix,
        kind="mask-like",
    )


def _folders_of_one(named: Mapping[Path, Path]) -> list[Path]:
    """Return the folder of the first picture and that of its masks, from where they part; empty where they do not."""
    picture = next(iter(named.values()))
    shared = {mask: os.path.commonpath([mask, picture]) for mask, of in named.items() if of == picture}
    near = [mask.parent for mask, path in shared.items() if path == max(shared.values(), key=len)]
    masks = Path(os.path.commonpath(near))
    top = Path(os.path.commonpath([masks, picture.parent]))
    if top in (masks, picture.parent):
        return []
    return [Path(folder.relative_to(top)) for folder in (picture.parent, masks)]


def _form(file: Path) -> str:
    """Return what an annotation file is, in words."""
    try:
        head = file.read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        return f"{file.suffix} files"
    if file.suffix == ".txt":
        lines = [line for line in head.splitlines() if _YOLO.fullmatch(line)]
        boxes = bool(lines) and all(len(line.split()) == len("cxywh") for line in lines)
        return _YOLO_BOXES if boxes else "YOLO lines (.txt)" if lines else ".txt files"
    return f"{file.suffix} files"
