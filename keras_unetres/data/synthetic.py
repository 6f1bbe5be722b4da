"""Pictures of touching cells, drawn in the manner of a phase-contrast microscope, with exact labels.

They stand in for a data set where none can be downloaded: tutorials, tests, benchmarks. A cell is told from the
background by its outline (dark rim, bright halo) and its granular cytoplasm and hardly by its grey level, so that a
global threshold fails where a small network succeeds. This is a drawing, not a simulation of optics, and scores
measured on it say nothing about a real microscope.

Labels come first and the picture is drawn from them: no pixel is labelled by a shape that the picture does not show.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unetres_edge.errors import UsageError
from unetres_edge.files import make_folder, write_bytes

__all__ = ["CLASSES", "CellPicture", "make_cells", "write_cells"]

CLASSES = ("background", "cell")

_PALETTE = (24, 24, 40, 255, 176, 0)  # R, G, B of each class
_SMALLEST_SIDE = 64  # px; in less, a single cell decides how much is covered
_LARGEST_SIDE = 4096  # px; in more, the numbers of the cells might not fit uint16
_SMALLEST_CELL = 60  # px of area; what remains of a cell below this is dropped
_MOST_COVERED = 0.5  # of the area, before neighbours are joined
_FAR = 9.0  # level of a pixel that no cell reaches

_Floats = NDArray[np.float32]
_Ids = NDArray[np.uint16]
_Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class CellPicture:
    """One picture and its labels.

    Args:
        image: (H, W) uint8 grey levels.
        instances: (H, W) uint16; 0 is background, cells are numbered 1, 2, ... without gaps.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint16]

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Class ids, (H, W) uint8: indices into `CLASSES`."""
        return (self.instances > 0).astype(np.uint8)


def make_cells(index: int, *, seed: int = 0, size: tuple[int, int] = (256, 256)) -> CellPicture:
    """Draw picture `index` of the series `seed`.

    The same arguments give the same picture, whichever others are drawn before it.

    Args:
        index: place in the series, from 0.
        seed: the series, from 0.
        size: height and width in px, 64 to 4096 each.

    Returns:
        A picture in which cells cover 25 to 55 % of the area and most of them touch a neighbour.

    Raises:
        UsageError: an argument is not a whole number or is out of range.
    """
    _check_whole("index", index, 0)
    _check_whole("seed", seed, 0)
    _check_size(size)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    instances = _tidy(_place_cells(rng, size))
    return CellPicture(_expose(rng, _light(rng, size) * _draw(rng, instances)), instances)


def write_cells(
    folder: str | os.PathLike[str],
    *,
    num_images: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    first: int = 0,
) -> Path:
    """Write pictures `first` to `first + num_images - 1` of the series `seed` as a data set.

    Files of the same name are replaced. The layout is::

        classes.txt                 one class name a line
        images/cells_0000.png       8-bit grey
        masks/cells_0000.png        palette PNG, whose indices are the class ids
        instances/cells_0000.png    16-bit instance ids

    Args:
        folder: made if it is not there.
        num_images: 1 or more.
        seed: as for `make_cells`.
        size: as for `make_cells`.
        first: index of the first picture; training and test sets of one seed take ranges that do not overlap.

    Returns:
        `folder`.

    Raises:
        UsageError: an argument is not a whole number or is out of range; nothing has been written.
        FileSystemError: the system refused a folder or a file.
    """
    _check_whole("num_images", num_images, 1)
    _check_whole("first", first, 0)
    _check_whole("index of the last picture", first + num_images - 1, 0)
    _check_whole("seed", seed, 0)
    _check_size(size)
    folder = make_folder(folder)
    images, masks, instances = (make_folder(folder / name) for name in ("images", "masks", "instances"))
    write_bytes(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES).encode())
    for index in range(first, first + num_images):
        picture, name = make_cells(index, seed=seed, size=size), f"cells_{index:04d}.png"
        write_bytes(images / name, _png(Image.fromarray(picture.image)))
        write_bytes(masks / name, _png(_with_palette(picture.mask)))
        write_bytes(instances / name, _png(Image.fromarray(picture.instances)))
    return folder


# Where the cells are ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """A star-shaped outline: an ellipse whose radius is modulated by three waves. Lengths in px, angles in rad."""

    row: float
    col: float
    radius: float
    stretch: float
    angle: float
    heights: NDArray[np.float64]
    phases: NDArray[np.float64]

    def box(self, size: tuple[int, int]) -> _Box:
        """The part of a frame in which `level` may be below 1.5."""
        reach = 1.5 * self.radius * self.stretch * (1.0 + float(np.abs(self.heights).sum()))
        top, left = max(0, int(self.row - reach)), max(0, int(self.col - reach))
        return slice(top, min(size[0], int(self.row + reach) + 2)), slice(left, min(size[1], int(self.col + reach) + 2))

    def level(self, box: _Box) -> _Floats:
        """Distance from the centre over that of the outline in the same direction: 0 in the centre, 1 on the outline.

        Returns:
            One float32 for each pixel of `box`.
        """
        rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] - np.float32(self.row)
        cols = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] - np.float32(self.col)
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        along = (cols * cos + rows * sin) / np.float32(self.stretch)
        across = (rows * cos - cols * sin) * np.float32(self.stretch)
        theta = np.arctan2(across, along)
        outline = np.ones_like(theta)
        for order, (height, phase) in enumerate(zip(self.heights, self.phases, strict=True), start=2):
            outline += np.float32(height) * np.cos(np.float32(order) * theta + np.float32(phase))
        return (np.hypot(along, across) / (np.float32(self.radius) * outline)).astype(np.float32, copy=False)


def _place_cells(rng: np.random.Generator, size: tuple[int, int]) -> _Ids:
    """Add cells, most of them beside an earlier one, until the share of the area drawn for this picture is covered."""
    nearest, second = np.full((2, *size), _FAR, np.float32)
    owner = np.zeros(size, np.uint16)
    typical, wanted = rng.uniform(9.0, 15.0), rng.uniform(0.31, 0.47) * owner.size
    cells: list[_Cell] = []
    covered = 0
    for _ in range(100 + owner.size // 100):
        if covered >= wanted:
            break
        cell = _next_cell(rng, cells, typical, size)
        row, col = int(cell.row), int(cell.col)
        if not (0 <= row < size[0] and 0 <= col < size[1]) or nearest[row, col] < 1.25:
            continue
        box = cell.box(size)
        level = cell.level(box)
        gained = int(np.count_nonzero((level < 1.0) & (nearest[box] >= 1.0)))
        if covered + gained > _MOST_COVERED * owner.size:
            continue
        covered += gained
        cells.append(cell)
        owner[box][level < nearest[box]] = len(cells)
        second[box] = np.minimum(second[box], np.maximum(nearest[box], level))
        nearest[box] = np.minimum(nearest[box], level)
    # Between two cells that all but touch, the cleft is filled: a background 1 px wide would be lost in the blur.
    owner[(nearest >= 1.0) & (nearest + second >= 2.3)] = 0
    return owner


def _next_cell(rng: np.random.Generator, cells: list[_Cell], typical: float, size: tuple[int, int]) -> _Cell:
    radius = typical * float(np.clip(rng.lognormal(0.0, 0.26), 0.6, 1.7))
    if cells and rng.random() < 0.8:
        other, direction = cells[rng.integers(len(cells))], rng.uniform(0.0, 2.0 * np.pi)
        apart = rng.uniform(0.85, 1.0) * (radius + other.radius)
        row, col = other.row + apart * np.sin(direction), other.col + apart * np.cos(direction)
    else:
        row, col = rng.uniform(0.0, size[0]), rng.uniform(0.0, size[1])
    stretch, angle = 1.0 + rng.gamma(2.0, 0.08), rng.uniform(0.0, np.pi)
    heights = np.clip(rng.normal(0.0, (0.08, 0.06, 0.045)), -0.14, 0.14)
    return _Cell(float(row), float(col), radius, stretch, angle, heights, rng.uniform(0.0, 2.0 * np.pi, 3))


def _tidy(owner: _Ids) -> _Ids:
    """Keep the largest connected piece of each cell, drop the cells that are too small, number the rest from 1."""
    tidy = np.zeros_like(owner)
    kept = 0
    for number, box in enumerate(ndimage.find_objects(owner), start=1):
        if box is None:
            continue
        pieces, _ = ndimage.label(owner[box] == number)
        areas = np.bincount(pieces.ravel())[1:]
        if areas.max() >= _SMALLEST_CELL:
            kept += 1
            tidy[box][pieces == 1 + areas.argmax()] = kept
    return tidy


# What they look like ------------------------------------------------------------------------------------------------


def _draw(rng: np.random.Generator, instances: _Ids) -> _Floats:
    """Transmission of the specimen, (H, W) float32, where 1 is empty background."""
    size, inside = instances.shape, instances > 0
    number = int(instances.max())
    depth = ndimage.distance_transform_edt(_interior(instances)).astype(np.float32)  # px from the cell's own outline

    # Half of the cells are darker than the background, a quarter hardly differs from it, a quarter is brighter.
    tone = rng.choice((-0.26, -0.12, 0.0, 0.12), number) + rng.normal(0.0, 0.03, number)
    body = _per_cell(tone, instances) * (1.0 - np.exp(-depth / 2.5))
    grain = _per_cell(rng.uniform(0.05, 0.10, number), instances) * _grain(rng, size, 1.1)
    rim = _per_cell(rng.uniform(0.22, 0.36, number), instances) * np.exp(-depth / rng.uniform(1.0, 1.5))
    near = ndimage.gaussian_filter(inside.astype(np.float32), rng.uniform(1.8, 2.6), truncate=3.0)
    halo = np.where(inside, 0.0, rng.uniform(0.55, 0.8) * near)

    scene = 1.0 + body + grain - rim + halo + 0.012 * _grain(rng, size, 3.0)
    scene += _nuclei(rng, instances, depth) + _debris(rng, size)
    return ndimage.gaussian_filter(scene.astype(np.float32), rng.uniform(0.7, 1.0), truncate=3.0)


def _interior(instances: _Ids) -> NDArray[np.bool_]:
    """True where a pixel and its four neighbours belong to one cell."""
    interior = instances > 0
    for near, far in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differ = instances[near] != instances[far]
        interior[near] &= ~differ
        interior[far] &= ~differ
    return interior


def _per_cell(values: NDArray[np.float64], instances: _Ids) -> _Floats:
    """Spread one value for each cell over its pixels; 0 in the background."""
    return np.concatenate(([0.0], values)).astype(np.float32)[instances]


def _grain(rng: np.random.Generator, size: tuple[int, ...], width: float) -> _Floats:
    """Noise of unit deviation whose grains are about `width` px wide."""
    noise = ndimage.gaussian_filter(rng.standard_normal(size, dtype=np.float32), width, truncate=3.0)
    return noise / noise.std()


def _nuclei(rng: np.random.Generator, instances: _Ids, depth: _Floats) -> _Floats:
    """A disc with a darker edge and one nucleolus at the deepest point of each cell that has room for it."""
    drawn = np.zeros(instances.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        inside = np.where(instances[box] == number, depth[box], 0.0)
        row, col = np.unravel_index(inside.argmax(), inside.shape)
        radius = rng.uniform(0.38, 0.55) * float(inside.max())
        tone, spot, shift = rng.normal(0.0, 0.06), rng.uniform(0.15, 0.3), rng.uniform(-0.4, 0.4, 2) * radius
        if radius < 2.5:
            continue
        rows, cols = np.ogrid[: inside.shape[0], : inside.shape[1]]
        away = np.hypot(rows - row, cols - col)
        nucleolus = np.exp(-((rows - row - shift[0]) ** 2 + (cols - col - shift[1]) ** 2) / 3.0)
        drawn[box] += tone * (away < radius) - 0.12 * np.exp(-((away - radius) ** 2) / 1.2) - spot * nucleolus
    return drawn


def _debris(rng: np.random.Generator, size: tuple[int, ...]) -> _Floats:
    """Specks in focus, dark or bright and too small for a cell, and a few wide shadows of dust out of focus."""
    drawn = np.zeros(size, np.float32)
    area = size[0] * size[1] / 65536
    specks, shadows = rng.poisson(14 * area), rng.poisson(4 * area)
    widths = np.concatenate((rng.uniform(0.7, 1.7, specks), rng.uniform(8.0, 16.0, shadows)))
    heights = np.concatenate((rng.choice((-0.5, 0.5), specks), rng.uniform(-0.12, 0.06, shadows)))
    for row, col, width, height in zip(
        rng.uniform(0, size[0], widths.size), rng.uniform(0, size[1], widths.size), widths, heights, strict=True
    ):
        reach = int(3 * width) + 1
        top, left = max(0, int(row) - reach), max(0, int(col) - reach)
        box = slice(top, int(row) + reach + 1), slice(left, int(col) + reach + 1)
        rows, cols = np.ogrid[top : min(size[0], box[0].stop), left : min(size[1], box[1].stop)]
        drawn[box] += height * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2.0 * width**2))
    return drawn


def _light(rng: np.random.Generator, size: tuple[int, int]) -> _Floats:
    """Illumination, (H, W) float32 around 1: a slope across the field and a fall-off towards the corners."""
    rows = np.linspace(-1.0, 1.0, size[0], dtype=np.float32)[:, None]
    cols = np.linspace(-1.0, 1.0, size[1], dtype=np.float32)[None, :]
    direction, slope = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.03, 0.12)
    middle = rng.uniform(-0.3, 0.3, 2)
    fall = rng.uniform(0.04, 0.12) * ((rows - middle[0]) ** 2 + (cols - middle[1]) ** 2)
    return (1.05 + slope * (np.sin(direction) * rows + np.cos(direction) * cols) - fall).astype(np.float32)


def _expose(rng: np.random.Generator, light: _Floats) -> NDArray[np.uint8]:
    """Count photons, add the noise of the read-out, and scale to grey levels."""
    photons, grey = rng.uniform(500.0, 1500.0), rng.uniform(115.0, 150.0)
    counts = rng.poisson(photons * np.maximum(light, 0.0)) + rng.normal(0.0, 8.0, light.shape)
    return np.clip(np.rint(counts * (grey / photons)), 0, 255).astype(np.uint8)


# Arguments and files ------------------------------------------------------------------------------------------------


def _check_whole(name: str, value: object, least: int, most: int = 2**63 - 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        expected = f"a whole number from {least} to {most}"
        raise UsageError(f"{name} cannot be used", expected=expected, found=repr(value))


def _check_size(size: object) -> None:
    if not isinstance(size, tuple) or len(size) != 2:
        raise UsageError("size cannot be used", expected="a tuple (height, width) in px", found=repr(size))
    for name, side in zip(("height in size", "width in size"), size, strict=True):
        _check_whole(name, side, _SMALLEST_SIDE, _LARGEST_SIDE)


def _with_palette(mask: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette(_PALETTE)
    return image


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
