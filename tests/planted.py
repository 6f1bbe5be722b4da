"""Data sets without a fault, faults planted into them, and what a check has to say of each.

    python tests/planted.py        plant all of them into 20 sets and print a table: kind, planted, found, false alarms

A set is written by `make_clean`; `plant` hides one fault in it and tells the kinds and the files that a report must
name. What a plant needs (parts in folders, palette masks, ...) is said where it is registered in `PLANTS`.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

MASKS = ("binary", "binary255", "classes", "palette", "colors", "grey16", "instances", "ignored")
COLORS = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)], np.uint8)
NAMES = ("background", "cell", "nucleus", "debris")
PARTS = ("train", "val", "test")
_TURN = 0x0112  # EXIF orientation


class Pair(NamedTuple):
    """An image and its mask."""

    part: str
    image: Path
    mask: Path


@dataclass
class Site:
    """A set without faults, and what was planted in it.

    Args:
        folder: of the set.
        masks: one of `MASKS`.
        parts: whether the parts have folders of their own.
        ending: of the images.
        colored: whether the images have colour.
        pairs: those in which nothing is planted yet.
    """

    folder: Path
    masks: str
    parts: bool
    ending: str
    colored: bool
    pairs: list[Pair] = field(default_factory=list)

    @property
    def ids(self) -> int:
        """The number of classes, as stored."""
        return 2 if self.masks in ("binary", "binary255", "instances") else 4

    def take(self, rng: np.random.Generator, *parts: str) -> Pair:
        """Return a pair, of some parts, that nothing else is planted in."""
        open_to = [i for i, pair in enumerate(self.pairs) if not parts or pair.part in parts]
        return self.pairs.pop(int(rng.choice(open_to)))

    def name(self, path: Path) -> str:
        """Return how a report calls a file."""
        return path.relative_to(self.folder).as_posix()


# Sets without a fault


def make_clean(folder: Path, seed: int, pairs: int = 200, kind: str | None = None) -> Site:
    """Write a set that nothing is wrong with: small textured pictures, their layout and format by `seed`.

    Args:
        kind: one of `MASKS`; by `seed` if None.
    """
    rng = np.random.default_rng(seed)
    masks = kind or MASKS[seed % len(MASKS)]
    parts, layout = seed % 3 != 2, seed % 2
    ending = rng.choice([".png", ".tif"] if masks == "grey16" else [".png", ".jpg", ".jpg"])
    site = Site(folder, masks, parts, str(ending), masks != "grey16" and bool(rng.integers(2)))
    mask_ending, suffix = str(rng.choice([".png", ".png", ".tif"])), str(rng.choice(["", "", "_mask"]))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pairs):
        part = PARTS[0 if number % 10 < 7 else 1 if number % 10 < 8 else 2] if parts else ""
        images, labels = (
            (folder / part / "images", folder / part / "masks")
            if layout
            else (folder / "images" / part, folder / "masks" / part)
        )
        for place in (images, labels):
            place.mkdir(parents=True, exist_ok=True)
        stem = f"Slide {number:03d}" if seed % 4 == 1 else f"cell_{number:03d}"
        pair = Pair(part, images / (stem + site.ending), labels / (stem + suffix + mask_ending))
        height, width = rng.choice(np.arange(64, 97), 2, replace=False)
        ids = draw_ids(rng, int(height), int(width), 12 if masks == "instances" else site.ids)
        save_image(draw_image(rng, ids, site), pair.image, turned=rng.random() < 0.1)
        if masks == "ignored":
            ids[: int(rng.integers(3, 9))] = 255
        save_mask(ids, pair.mask, site)
        site.pairs.append(pair)
    if masks in ("classes", "grey16", "ignored", "palette"):
        (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    if masks in ("instances", "ignored"):
        (folder / "dataset.yaml").write_text("masks_are: instances\n" if masks == "instances" else "ignore: 255\n")
    if masks == "colors":
        rows = (f"{red} {green} {blue} {name}" for (red, green, blue), name in zip(COLORS, NAMES, strict=True))
        (folder / "label_colors.txt").write_text("\n".join(rows) + "\n")
    return site


def draw_ids(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """Return (height, width) uint8 with a disc of each of 1..count - 1, as far as they do not hide each other."""
    rows, columns = np.mgrid[:height, :width]
    while True:
        ids = np.zeros((height, width), np.uint8)
        for value in range(1, count):
            radius = rng.uniform(7, 14 if count < 5 else 9)
            y, x = rng.uniform(radius, height - radius), rng.uniform(radius, width - radius)
            ids[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = value
        if np.bincount(ids.ravel(), minlength=count)[:4].min() > 40:
            return ids


def draw_image(rng: np.random.Generator, ids: np.ndarray, site: Site) -> np.ndarray:
    """Return a textured picture of the discs."""
    noise = ndimage.gaussian_filter(rng.standard_normal(ids.shape), rng.uniform(0.8, 4))
    values = 110 + 25 * noise / noise.std() + 30 * (ids > 0) * rng.uniform(-1, 1)
    if site.masks == "grey16":
        return (np.clip(values, 0, 255) * 200).astype(np.uint16)
    if site.colored:
        values = values[..., None] + rng.uniform(-30, 30, 3)
    return np.clip(values, 0, 255).astype(np.uint8)


def save_image(values: np.ndarray, file: Path, *, turned: bool = False, **options: object) -> None:
    """Write a picture; `turned` stores it on its side with the EXIF that says so, where it is a JPEG."""
    if turned and file.suffix == ".jpg":
        image = Image.fromarray(np.rot90(values))  # stored a quarter turn to the left; EXIF 6 turns it to the right
        exif = Image.Exif()
        exif[_TURN] = 6
        options["exif"] = exif
    else:
        image = Image.fromarray(values)
    if file.suffix == ".jpg":
        options.setdefault("quality", 92)
    image.save(file, **options)


def save_mask(ids: np.ndarray, file: Path, site: Site) -> None:
    """Write class ids as the set stores them."""
    if site.masks == "binary255":
        ids = np.where(ids == 1, 255, ids).astype(np.uint8)
    if site.masks == "colors":
        Image.fromarray(COLORS[ids]).save(file)
        return
    image = Image.fromarray(ids)
    if site.masks == "palette":
        image.putpalette(COLORS.ravel().tolist())
    image.save(file)


def load(file: Path) -> np.ndarray:
    """Return a mask as it is stored; colours as the ids of `COLORS`."""
    values = np.asarray(Image.open(file))
    return values if values.ndim == 2 else (values[:, :, None] == COLORS).all(-1).argmax(-1).astype(np.uint8)


def upright(file: Path) -> np.ndarray:
    """Return a picture as it is meant to be seen."""
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(Image.open(file)))


# Faults


class Plant(NamedTuple):
    """How a fault is planted.

    Args:
        sow: plants it and returns the files of which a report must name one.
        kinds: what a report may call it.
        fits: the sets it can be planted in.
        later: whether it shows only against the hashes of an earlier check.
    """

    sow: Callable[[Site, np.random.Generator], list[str]]
    kinds: tuple[str, ...]
    fits: Callable[[Site], bool]
    later: bool


class Planted(NamedTuple):
    """A fault that lies in a set: its name here, what a report may call it, and the files one of which it must name."""

    name: str
    kinds: tuple[str, ...]
    files: tuple[str, ...]


PLANTS: dict[str, Plant] = {}


def sows(*kinds: str, fits: Callable[[Site], bool] = lambda site: True, later: bool = False) -> Callable:
    def register(sow: Callable) -> Callable:
        PLANTS[sow.__name__] = Plant(sow, kinds, fits, later)
        return sow

    return register


def plant(site: Site, name: str, rng: np.random.Generator) -> Planted:
    """Plant one fault."""
    return Planted(name, PLANTS[name].kinds, tuple(PLANTS[name].sow(site, rng)))


def with_parts(site: Site) -> bool:
    return site.parts


def with_ids(site: Site) -> bool:
    return site.masks not in ("colors", "instances")


def is_flat(site: Site) -> bool:
    return site.masks in ("classes", "grey16", "palette", "binary")


def replaced(file: Path, ending: str) -> Path:
    """Remove a file and return its name with another ending."""
    file.unlink()
    return file.with_suffix(ending)


@sows("missing-mask")
def missing_mask(site, rng):
    pair = site.take(rng)
    pair.mask.unlink()
    return [site.name(pair.image)]


@sows("missing-image")
def missing_image(site, rng):
    pair = site.take(rng)
    pair.image.unlink()
    return [site.name(pair.mask)]


@sows("ambiguous-names")
def twin_of_another_ending(site, rng):
    image = site.take(rng).image
    Image.open(image).convert("RGB" if site.colored else "L").save(image.with_suffix(".bmp"))
    return [site.name(image), site.name(image.with_suffix(".bmp"))]


def twins(site: Site, rng: np.random.Generator, first: Callable[[str], str], second: Callable[[str], str]) -> list[str]:
    pair = site.take(rng)
    out = []
    for file in (pair.image, pair.mask):
        data = file.read_bytes()
        file.unlink()
        for rename in (first, second):
            twin = file.with_name(rename(file.name))
            twin.write_bytes(data)
            out.append(site.name(twin))
    return out


@sows("ambiguous-names")
def twin_in_capitals(site, rng):
    return twins(site, rng, str, lambda name: name[0].swapcase() + name[1:])


@sows("ambiguous-names")
def twin_in_unicode(site, rng):
    forms = (lambda name, form=form: unicodedata.normalize(form, "café " + name) for form in ("NFC", "NFD"))
    return twins(site, rng, *forms)


@sows("size-differs")
def mask_a_row_short(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    image.crop((0, 0, image.width, image.height - 1)).save(mask)
    return [site.name(mask)]


@sows("size-differs")
def image_turned(site, rng):
    pair = site.take(rng)
    Image.fromarray(np.rot90(upright(pair.image), int(rng.choice([1, 3]))).copy()).save(pair.image)
    return [site.name(pair.mask)]


@sows("rotated-mask")
def mask_turned(site, rng):
    mask = site.take(rng).mask
    exif = Image.Exif()
    exif[_TURN] = int(rng.choice([2, 3, 6, 8]))
    image = Image.open(mask)
    image.load()
    image.save(mask, exif=exif)
    return [site.name(mask)]


def stray(site: Site, rng: np.random.Generator, value: int, dtype: type = np.uint8) -> list[str]:
    mask = site.take(rng).mask
    ids = load(mask).astype(dtype)
    ids[5:12, 5:15] = value
    image = Image.fromarray(ids)
    if site.masks == "palette" and dtype is np.uint8:
        image.putpalette([*COLORS.ravel().tolist(), *rng.integers(0, 255, 756).tolist()])
    image.save(mask)
    return [site.name(mask)]


@sows("unknown-values", fits=with_ids)
def value_of_no_class(site, rng):
    return stray(site, rng, int(rng.integers(7, 200)))


@sows("unknown-values", fits=with_ids)
def value_of_sixteen_bits(site, rng):
    return stray(site, rng, 65535, np.uint16)


@sows("unknown-values", fits=is_flat)
def ignored_value_undeclared(site, rng):
    return stray(site, rng, 255)


@sows("unknown-values", fits=lambda site: site.masks == "binary")
def mask_of_255(site, rng):
    mask = site.take(rng).mask
    Image.fromarray(load(mask) * 255).save(mask)
    return [site.name(mask)]


@sows("unknown-values", fits=lambda site: site.masks == "binary255")
def mask_of_1(site, rng):
    mask = site.take(rng).mask
    Image.fromarray(load(mask) // 255).save(mask)
    return [site.name(mask)]


@sows("smeared-mask", fits=lambda site: site.masks in ("binary255", "ignored"))
def mask_scaled_smoothly(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    small.resize(image.size, Image.Resampling.BILINEAR).save(mask)
    return [site.name(mask)]


@sows("smeared-mask", fits=lambda site: site.masks in ("binary255", "ignored"))
def mask_with_soft_edges(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    values = ndimage.uniform_filter(np.asarray(image).astype(np.float32), 3, mode="nearest")
    Image.fromarray(np.rint(values).astype(np.uint8)).save(mask)
    return [site.name(mask)]


@sows("smeared-mask", fits=lambda site: site.masks == "classes")
def mask_scaled_smoothly_to_known_values(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    image.resize((40, 40), Image.Resampling.NEAREST).resize(image.size, Image.Resampling.BILINEAR).save(mask)
    return [site.name(mask)]


@sows("smeared-mask", "unknown-colors", fits=lambda site: site.masks == "colors")
def colors_scaled_smoothly(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    image.resize((40, 40), Image.Resampling.NEAREST).resize(image.size, Image.Resampling.BILINEAR).save(mask)
    return [site.name(mask)]


@sows("color-mask", fits=lambda site: site.masks != "colors")
def mask_of_colors(site, rng):
    mask = site.take(rng).mask
    Image.fromarray(COLORS[load(mask) % 4]).save(mask)
    return [site.name(mask)]


@sows("unknown-colors", fits=lambda site: site.masks == "colors")
def color_of_no_class(site, rng):
    mask = site.take(rng).mask
    values = np.array(Image.open(mask))
    values[5:12, 5:15] = rng.integers(10, 100, 3)
    Image.fromarray(values).save(mask)
    return [site.name(mask)]


@sows("lossy-mask")
def mask_as_jpeg(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    image.load()
    new = replaced(mask, ".jpg")
    image.convert("RGB" if site.masks == "colors" else "L").save(new, "JPEG")
    return [site.name(new)]


@sows("lossy-mask")
def mask_as_jpeg_in_disguise(site, rng):
    mask = site.take(rng).mask
    image = Image.open(mask)
    image.load()
    image.convert("RGB" if site.masks == "colors" else "L").save(mask, "JPEG")
    return [site.name(mask)]


@sows("float-mask", "unsupported-mode")
def mask_of_floats(site, rng):
    mask = site.take(rng).mask
    values = load(mask).astype(np.float32) + np.float32(0.25)
    new = replaced(mask, ".tif")
    Image.fromarray(values).save(new)
    return [site.name(new)]


@sows("transparent")
def mask_with_holes(site, rng):
    mask = site.take(rng).mask
    values = load(mask)
    clear = np.stack([*([values] * 3), np.where(values, 255, 0).astype(values.dtype)], -1).astype(np.uint8)
    new = replaced(mask, ".png")
    Image.fromarray(clear).save(new)
    return [site.name(new)]


def either(site: Site, rng: np.random.Generator) -> Path:
    pair = site.take(rng)
    return pair.image if rng.integers(2) else pair.mask


@sows("unreadable")
def png_cut(site, rng):
    file = either(site, rng)
    image = Image.open(file)
    image.load()
    new = replaced(file, ".png")
    image.save(new)
    new.write_bytes(new.read_bytes()[: int(new.stat().st_size * rng.uniform(0.3, 0.9))])
    return [site.name(new)]


@sows("unreadable", fits=lambda site: site.masks != "grey16")
def jpeg_cut(site, rng):
    image = site.take(rng).image
    values = upright(image)
    new = replaced(image, ".jpg")
    Image.fromarray(values).save(new, quality=95)
    new.write_bytes(new.read_bytes()[: int(new.stat().st_size * rng.uniform(0.5, 0.9))])
    return [site.name(new)]


@sows("empty-file")
def empty_file(site, rng):
    file = either(site, rng)
    file.write_bytes(b"")
    return [site.name(file)]


@sows("not-an-image")
def html_as_image(site, rng):
    file = either(site, rng)
    file.write_bytes(b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>")
    return [site.name(file)]


@sows("transparent")
def image_with_holes(site, rng):
    image = site.take(rng).image
    picture = Image.fromarray((upright(image) // 256 if site.masks == "grey16" else upright(image)).astype(np.uint8))
    picture = picture.convert("RGBA")
    picture.putalpha(
        Image.fromarray(np.where(np.arange(picture.width) < 9, 128, 255)[None].astype(np.uint8)).resize(picture.size)
    )
    new = replaced(image, ".png")
    picture.save(new)
    return [site.name(new)]


@sows("unsupported-mode")
def image_in_cmyk(site, rng):
    image = site.take(rng).image
    size = upright(image).shape[1::-1]
    new = replaced(image, ".jpg")
    Image.effect_noise(size, 50).convert("CMYK").save(new)
    return [site.name(new)]


@sows("frames")
def several_frames(site, rng):
    image = site.take(rng).image
    size = upright(image).shape[1::-1]
    frames = [Image.effect_noise(size, 50) for _ in range(3)]
    new = replaced(image, str(rng.choice([".gif", ".tif", ".png", ".webp"])))
    frames[0].save(new, save_all=True, append_images=frames[1:])
    return [site.name(new)]


@sows("too-large")
def bomb(site, rng):
    file = replaced(either(site, rng), ".png")

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 16))) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return [site.name(file)]


@sows("not-a-file")
def dangling_link(site, rng):
    file = either(site, rng)
    file.unlink()
    file.symlink_to("nowhere.png")
    return [site.name(file)]


@sows("not-a-file")
def link_to_itself(site, rng):
    file = either(site, rng)
    file.unlink()
    file.symlink_to(file.name)
    return [site.name(file)]


@sows("not-a-file")
def folder_as_image(site, rng):
    file = either(site, rng)
    file.unlink()
    file.mkdir()
    return [site.name(file)]


@sows("not-a-file")
def pipe_as_image(site, rng):
    file = either(site, rng)
    file.unlink()
    os.mkfifo(file)
    return [site.name(file)]


@sows("not-finite")
def image_with_nan(site, rng):
    image = site.take(rng).image
    values = (
        np.array(Image.fromarray(upright(image).astype(np.uint16 if site.masks == "grey16" else np.uint8)).convert("F"))
        / 65535
    )
    values[3, 4:9] = np.nan
    new = replaced(image, ".tif")
    Image.fromarray(values.astype(np.float32)).save(new)
    return [site.name(new)]


@sows("unsupported-mode")
def image_with_many_bits(site, rng):
    image = site.take(rng).image
    values = upright(image).astype(np.int32)
    new = replaced(image, ".tif")
    Image.fromarray((values if values.ndim == 2 else values[..., 0]) * 70_000).save(new)
    return [site.name(new)]


def number_objects(site: Site, rng: np.random.Generator, count: int) -> list[str]:
    mask = site.take(rng).mask
    height, width = load(mask).shape
    ids = np.zeros((height, width), np.uint16)
    for value in range(1, count + 1):
        row, column = divmod(value - 1, 7)
        ids[1 + 9 * row : 7 + 9 * row, 1 + 9 * column : 7 + 9 * column] = value
    new = replaced(mask, ".png")
    Image.fromarray(ids).save(new)
    return [site.name(new)]


@sows("instance-ids", fits=with_ids)
def many_objects_numbered(site, rng):
    return number_objects(site, rng, 40)


@sows("instance-ids", fits=lambda site: site.masks == "binary")
def few_objects_numbered(site, rng):
    return number_objects(site, rng, 6)


@sows("unknown-values", fits=lambda site: site.masks in ("classes", "grey16", "binary"))
def ids_from_one(site, rng):
    mask = site.take(rng).mask
    Image.fromarray(load(mask) + np.uint8(1)).save(mask)
    return [site.name(mask)]


@sows("palettes-differ", fits=lambda site: site.masks == "palette")
def palette_in_another_order(site, rng):
    mask = site.take(rng).mask
    order = np.array([0, 2, 3, 1])
    image = Image.fromarray(order[load(mask)].astype(np.uint8))
    image.putpalette(COLORS[np.argsort(order)].ravel().tolist())
    image.save(mask)
    return [site.name(mask)]


def copy(site: Site, rng: np.random.Generator, change: Callable, ending: str = "") -> list[str]:
    """Put a picture that is trained on, changed, in the place of one that is not, its mask with it."""
    of, to = site.take(rng, "train"), site.take(rng, "val", "test")
    values = upright(of.image)
    image = replaced(to.image, ending or ".png" if ending or site.ending == ".jpg" else site.ending)
    changed = change(values)
    options = {"quality": 60} if image.suffix == ".jpg" else {}
    Image.fromarray(changed).save(image, **options)
    ids = Image.fromarray(load(of.mask))
    save = np.asarray(ids.resize(changed.shape[1::-1], Image.Resampling.NEAREST))
    save_mask(np.where(save == 255, 1, save) if site.masks == "binary255" else save, to.mask, site)
    return [site.name(image)]


@sows("leak", fits=with_parts)
def leak(site, rng):
    of, to = site.take(rng, "train"), site.take(rng, "val", "test")
    to.image.write_bytes(of.image.read_bytes())
    to.mask.write_bytes(of.mask.read_bytes())
    return [site.name(to.image)]


@sows("leak", fits=with_parts)
def leak_in_another_format(site, rng):
    return copy(site, rng, np.array, ".tif" if site.ending == ".png" else ".png")


@sows("duplicate", fits=with_parts)
def same_picture_twice(site, rng):
    of, to = site.take(rng, "train"), site.take(rng, "train")
    to.image.write_bytes(of.image.read_bytes())
    to.mask.write_bytes(of.mask.read_bytes())
    return [site.name(to.image), site.name(of.image)]


@sows("near-duplicate", fits=lambda site: site.parts and site.masks != "grey16")
def leak_encoded_again(site, rng):
    return copy(site, rng, np.array, ".jpg")


@sows("near-duplicate", fits=with_parts)
def leak_brighter(site, rng):
    return copy(site, rng, lambda v: np.minimum(v * 1.1, np.iinfo(v.dtype).max).astype(v.dtype))


@sows("near-duplicate", fits=with_parts)
def leak_mirrored(site, rng):
    return copy(site, rng, lambda v: np.ascontiguousarray(v[:, ::-1]))


@sows("near-duplicate", fits=with_parts)
def leak_turned(site, rng):
    return copy(site, rng, lambda v: np.ascontiguousarray(np.rot90(v)))


@sows("near-duplicate", fits=lambda site: site.parts and site.masks != "grey16")
def leak_scaled(site, rng):
    def half(values):
        return np.asarray(Image.fromarray(values).resize((70, 70), Image.Resampling.BICUBIC))

    return copy(site, rng, half)


@sows("wrong-ending")
def wrong_ending(site, rng):
    image = site.take(rng).image
    values = upright(image)
    new = replaced(image, ".jpg" if site.ending != ".jpg" else ".png")
    Image.fromarray(values).save(new, "PNG" if site.ending != ".jpg" else "JPEG")
    return [site.name(new)]


@sows("wrong-ending")
def wrong_ending_of_mask(site, rng):
    mask = site.take(rng).mask
    data = mask.read_bytes()
    new = replaced(mask, ".tif" if mask.suffix == ".png" else ".png")
    new.write_bytes(data)
    return [site.name(new)]


@sows("all-ignored", fits=lambda site: site.masks == "ignored")
def nothing_labelled(site, rng):
    mask = site.take(rng).mask
    Image.fromarray(np.full_like(load(mask), 255)).save(mask)
    return [site.name(mask)]


@sows("constant-image")
def constant_image(site, rng):
    image = site.take(rng).image
    save_image(np.full_like(upright(image), 90), image)
    return [site.name(image)]


@sows("absent-class", fits=lambda site: site.parts and site.ids == 4)
def class_absent(site, rng):
    for pair in [pair for pair in site.pairs if pair.part == "val"]:
        site.pairs.remove(pair)
        ids = load(pair.mask)
        save_mask(np.where(ids == 3, 0, ids), pair.mask, site)
    return ["."]


@sows("mixed-modes", fits=lambda site: site.masks != "grey16")
def one_in_colour(site, rng):
    image = site.take(rng).image
    values = upright(image)
    save_image(values[..., 0] if site.colored else np.stack([values] * 3, -1), image)
    return ["."]


@sows("few-levels", fits=lambda site: site.masks == "grey16")
def twelve_bits_of_sixteen(site, rng):
    for pair in site.pairs:
        save_image((upright(pair.image) // 16).astype(np.uint16), pair.image)
    del site.pairs[:1]
    return ["."]


@sows("unread-file")
def file_of_another_format(site, rng):
    file = site.take(rng).image.with_name(f"phone{rng.choice(['.HEIC', '.npy', '.nii.gz'])}")
    file.write_bytes(b"\0\0\0\x18ftypheic")
    return [site.name(file.parent)]


@sows("changed", fits=lambda site: site.ending == ".jpg", later=True)
def bit_rot(site, rng):
    image = site.take(rng).image
    data = bytearray(image.read_bytes())
    for place in rng.permutation(np.arange(data.find(b"\xff\xda") + 20, len(data) - 8)):
        changed = data.copy()
        changed[place] ^= 1 << int(rng.integers(7))
        try:
            if 0xFF not in (changed[place], data[place]):
                Image.open(io.BytesIO(changed)).load()
                break
        except OSError:
            continue
    image.write_bytes(changed)
    return [site.name(image)]


# A campaign


@dataclass
class Tally:
    """Planted and found by kind, what was missed, and what was reported without being planted."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)


def compare(planted: list[Planted], report: dict, tally: Tally, where: str) -> None:
    """Count what of `planted` a report names by kind and file, and what it names besides."""
    rows = [(row["kind"], row["file"]) for row in (*report["faults"], *report["warnings"])]
    for fault in planted:
        tally.planted[fault.name] += 1
        if any(kind in fault.kinds and file in fault.files for kind, file in rows):
            tally.found[fault.name] += 1
        else:
            tally.missed.append(f"{where}: {fault.name} in {fault.files}")
    for row in rows:
        if not any(row[0] in fault.kinds and row[1] in fault.files for fault in planted):
            tally.false_alarms.append(f"{where}: {row}")


def run_set(folder: Path, seed: int, names: Callable[[Site], list[str]], tally: Tally, pairs: int = 200) -> None:
    """Write a set, check that it is clean, plant faults in it and count those that a check finds."""
    from keras_unetres.doctor.check import check

    site = make_clean(folder, seed, pairs)
    rng = np.random.default_rng([seed, 1])
    where = f"set {seed} ({site.masks}{site.ending})"
    compare([], check(folder, hashes="off", progress=False).to_dict(), tally, where + ", clean")
    chosen = sorted(names(site), key=lambda name: (PLANTS[name].later, name != "class_absent"))
    planted = [plant(site, name, rng) for name in chosen if not PLANTS[name].later]
    later = [name for name in chosen if PLANTS[name].later]
    if later:
        check(folder, progress=False)
        planted += [plant(site, name, rng) for name in later]
    compare(planted, check(folder, hashes="keep" if later else "off", progress=False).to_dict(), tally, where)


def choose(site: Site, counts: Counter[str], most: int) -> list[str]:
    """Return the kinds that fit a set and were planted least often so far."""
    fitting = [name for name, kind in PLANTS.items() if kind.fits(site)]
    chosen = sorted(fitting, key=lambda name: counts[name])[:most]
    counts.update(chosen)
    return chosen


def campaign(folder: Path, seeds: range = range(20), pairs: int = 200, most: int = 16) -> Tally:
    """Plant faults in seeded sets and count those that are found."""
    tally, counts = Tally(), Counter()
    for seed in seeds:
        run_set(folder / str(seed), seed, lambda site: choose(site, counts, most), tally, pairs)
    return tally


def table(tally: Tally) -> str:
    """Return a campaign as text."""
    rows = [f"{name:28} {tally.planted[name]:7d} {tally.found[name]:7d}" for name in PLANTS]
    total = f"{'all':28} {tally.planted.total():7d} {tally.found.total():7d}"
    head = f"{'kind':28} planted   found"
    lines = [head, *rows, total, f"false alarms: {len(tally.false_alarms)}"]
    return "\n".join([*lines, *(f"missed: {line}" for line in tally.missed), *tally.false_alarms])


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        result = campaign(Path(made))
    print(table(result))
    sys.exit(bool(result.missed or result.false_alarms))
