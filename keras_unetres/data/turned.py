"""Masks that lie turned on their images: those of images that EXIF turns, and all of a set that was exported so.

Of an image that EXIF turns, the sides tell, and the mask is read as it fits. Where it fits both ways, because the image
is square or turned upside down, the other images tell, or the edges of the mask and those of the image.

Masks that are mirrored or transposed have the sizes of their images. There the edges tell: how strong they are on the
outlines of a mask, less how strong those of another image are there, so that what all images share says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from unetres_edge.errors import Fix
from unetres_edge.images.decode import read_orientation
from unetres_edge.images.tiff import upright

from ..choices.reading import MASKS_TURNED
from .findings import Finding, Where, relative
from .fixes import declare
from .sources import ImageFile, Source

_SIDE = 2048  # px; of larger images, fewer rows and columns are looked at
BETTER = 1.25  # times as much of the image's edges lies on those of the mask
LOOKED_AT = 48  # images, spread over a set, whose edges tell whether its masks lie turned
_THIN = 384  # px; of larger ones, fewer rows and columns are looked at
_STRONGEST = 6.0  # times the average; one bright spot must not outweigh an outline
_FEWEST_PIXELS, _FEWEST_IMAGES = 8, 4
_EXCESS = 0.15  # on the outlines over what is there by chance, in units of the average edge
_BY_CHANCE = 0.35  # of that excess, what the masks as they are may have
_SURE, _SURE_OF_FEW = 4.0, 6.0  # standard errors; of less than 8 images
_AGREE = 0.8  # of the images


@dataclass(frozen=True)
class Turn:
    """How an image and its mask lie on each other, of one that EXIF turns.

    Args:
        fits: "stored" where the mask lies on the pixels as stored, and was turned with the image; "both" where the
            sides do not tell.
        seen, stored: share of the image's edges that lies on those of the mask, as it is and turned.
    """

    fits: str
    seen: float = 0.0
    stored: float = 0.0


@dataclass(frozen=True)
class Lie:
    """What tells how a mask lies on its image.

    Args:
        edges: (h, w) float16, how strong the edges of the image are; 1 on average.
        outline: bool, outlines of the mask; (h, w), or (w, h) where its sides are exchanged.
    """

    edges: np.ndarray
    outline: np.ndarray


def lie_of(image: np.ndarray, mask: np.ndarray) -> Lie | None:
    """Return what tells how a mask lies on an image, or None of one without outlines, or of another size."""
    if mask.shape not in (image.shape[:2], image.shape[1::-1]):
        return None
    step = -(-max(mask.shape) // _THIN)
    outline = outlines_of(mask[::step, ::step])
    if outline.sum() < _FEWEST_PIXELS:
        return None
    edges = np.minimum(edges_of(image[::step, ::step]), _STRONGEST)
    return Lie(edges.astype(np.float16), outline)


def lay(
    source: Source, image: np.ndarray, mask: np.ndarray, masks_on: str | None, masks_turned: str | None = None
) -> tuple[Callable[[np.ndarray], np.ndarray], Turn | None]:
    """Return what turns the mask of an image and all that lies on it, and what was found, None where nothing turns it.

    Args:
        source: source of the image.
        image: (H, W) or (H, W, C), as it is seen.
        mask: mask as stored.
        masks_on, masks_turned: what the reading says of masks, see `Reading`.
    """
    mend = MASKS_TURNED.get(masks_turned or "", 1)
    turn_it, found = _lay(source, image, upright(mask, mend), masks_on)
    return (turn_it if mend == 1 else lambda values: turn_it(upright(values, mend))), found


def _lay(
    source: Source, image: np.ndarray, mask: np.ndarray, masks_on: str | None
) -> tuple[Callable[[np.ndarray], np.ndarray], Turn | None]:
    """Return what `lay` does, of a mask that nothing but the turn of its image by EXIF may turn."""
    orientation = read_orientation(source.file) if isinstance(source, ImageFile) and source.page is None else 1
    if orientation == 1 or masks_on == "seen":
        return _as_it_is, None

    def turned(values: np.ndarray) -> np.ndarray:
        return upright(values, orientation)

    if masks_on == "stored":
        return turned, None
    other = turned(mask)
    if other.shape == image.shape[:2] != mask.shape:
        return turned, Turn("stored")
    if other.shape == mask.shape == image.shape[:2]:
        step = max(1, max(mask.shape) // _SIDE)
        edges = edges_of(image[::step, ::step])
        return _as_it_is, Turn("both", *(on_outlines(edges, lain[::step, ::step]) for lain in (mask, other)))
    return _as_it_is, None


def _as_it_is(values: np.ndarray) -> np.ndarray:
    return values


def turned_note(turns: Iterable[Turn | None]) -> str:
    """Return a sentence on the images that EXIF turns, or ""."""
    known = [turn for turn in turns if turn is not None]
    stored = sum(turn.fits == "stored" for turn in known)
    if not known:
        return ""
    rest = f"; {len(known) - stored} fit both ways" if len(known) > stored else ""
    return (
        f"EXIF turns {len(known)} images: the masks of {stored} lie on the pixels as stored and are turned, too{rest}"
    )


def find_unclear(turns: Iterable[tuple[str, Path, Turn | None]], base: Path) -> list[Finding]:
    """Return a fault for each mask that fits both ways and seems to lie on the pixels as stored.

    Args:
        turns: (name, file of the mask, what was found) of each sample.
    """
    rows = list(turns)
    both = [(name, file, turn) for name, file, turn in rows if turn is not None and turn.fits == "both"]
    others = sum(turn is not None and turn.fits == "stored" for _, _, turn in rows)
    seen, stored = (sum(getattr(turn, way) for _, _, turn in both) for way in ("seen", "stored"))
    if not both or not (others or stored > BETTER * seen):
        return []
    figures = {"others": others, "seen": round(seen / len(both), 3), "stored": round(stored / len(both), 3)}
    fix = declare({"masks_on": "stored" if others or stored > seen else "seen"})
    return [Finding("turned-image", Where(relative(file, base), name), figures, fix) for name, file, _ in both]


def find_turned(lies: Iterable[Lie | None]) -> list[Finding]:
    """Return a fault if masks of the sizes of their images lie on them turned; none where that is not sure."""
    found = [lie for lie in lies if lie is not None and lie.outline.shape == lie.edges.shape]
    way = _find_way(found)
    if way is None:
        return []
    name, seen, turned = way
    figures = {"images": len(found), "way": name, "seen": round(seen, 2), "turned": round(turned, 2)}
    return [Finding("turned-masks", Where("."), figures, declare({"masks_turned": name}))]


def find_quarter(lies: Iterable[Lie | None]) -> Fix | None:
    """Return the line that mends masks whose sides are exchanged, or None where it is not sure."""
    all_lies = [lie for lie in lies if lie is not None]
    found = [lie for lie in all_lies if lie.outline.shape == lie.edges.shape[::-1]]
    way = _find_way(found) if len(found) == len(all_lies) else None
    return None if way is None else declare({"masks_turned": way[0]})


def _find_way(lies: Sequence[Lie]) -> tuple[str, float, float] | None:
    """Return (name, excess as masks are, excess turned) of the one way in which masks fit, other than as they are."""
    square = all(lie.outline.shape == lie.edges.shape[::-1] for lie in lies)
    upright_too = all(lie.outline.shape == lie.edges.shape for lie in lies)
    ways = [1, 2, 3, 4] * upright_too + [5, 6, 7, 8] * square
    if len(lies) < _FEWEST_IMAGES or not ways:
        return None
    excess = {way: np.array([_excess(lies, index, way) for index in range(len(lies))]) for way in ways}
    best = max(ways, key=lambda way: float(excess[way].mean()))
    here, others = excess[best], [excess[way] for way in ways if way != best]
    seen = float(excess[1].mean()) if upright_too else 0.0
    sure = _SURE if len(lies) >= 2 * _FEWEST_IMAGES else _SURE_OF_FEW
    if (
        best == 1
        or here.mean() < _EXCESS
        or seen > _BY_CHANCE * here.mean()
        or any(_errors(values) < sure for values in (here, *(here - other for other in others)))
        or any((here > other).mean() < _AGREE for other in others)
    ):
        return None
    return next(name for name, way in MASKS_TURNED.items() if way == best), seen, float(here.mean())


def _excess(lies: Sequence[Lie], index: int, way: int) -> float:
    """Return how much stronger edges are on a mask, turned, than those of the next image are there."""
    outline = upright(lies[index].outline, way)
    other = lies[(index + 1) % len(lies)].edges
    rows, columns = (
        ((np.arange(n) + 0.5) * there / n).astype(int) for n, there in zip(outline.shape, other.shape, strict=True)
    )
    by_chance = other[np.ix_(rows, columns)][outline].mean(dtype=np.float64)
    return float(lies[index].edges[outline].mean(dtype=np.float64) - by_chance)


def _errors(values: np.ndarray) -> float:
    """Return the mean of values in standard errors of it."""
    return float(values.mean() / max(values.std(ddof=1) / len(values) ** 0.5, 1e-6))


def edges_of(image: np.ndarray) -> np.ndarray:
    """Return (H, W) float32, how strong the edges of an image are; 1 on average."""
    grey = image.astype(np.float32).mean(-1) if image.ndim == 3 else image.astype(np.float32)
    strength: np.ndarray = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    return strength / max(float(strength.mean()), 1e-12)


def outlines_of(mask: np.ndarray) -> np.ndarray:
    """Return (H, W) bool, the pixels on either side of a border between values, which no turn changes."""
    outline = np.zeros(mask.shape, bool)
    for near, far in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = mask[near] != mask[far]
        outline[near] |= differs
        outline[far] |= differs
    return outline


def on_outlines(edges: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean strength of edges on the outlines of a mask; 0 where it has none."""
    outline = outlines_of(mask)
    return float(edges[outline].mean()) if outline.any() else 0.0
