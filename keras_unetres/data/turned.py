"""Images that EXIF turns, whose masks may lie on the pixels as stored or as they are seen.

Where the sides tell, the mask is read as it fits. Where it fits both ways, because the image is square or turned upside
down, the other images tell, or the edges of the mask and those of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from unetres_edge.images.decode import read_orientation
from unetres_edge.images.tiff import upright

from .findings import Finding, Where, relative
from .fixes import declare
from .sources import ImageFile, Source

_SIDE = 2048  # px; of larger images, fewer rows and columns are looked at
BETTER = 1.25  # times as much of the image's edges lies on those of the mask


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


def lay(
    source: Source, image: np.ndarray, mask: np.ndarray, masks_on: str | None
) -> tuple[Callable[[np.ndarray], np.ndarray], Turn | None]:
    """Return what turns the mask of an image and all that lies on it, and what was found, None where nothing turns it.

    Args:
        source: source of the image.
        image: (H, W) or (H, W, C), as it is seen.
        mask: mask as stored.
        masks_on: place of masks that the reading says, see `Reading`.
    """
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


def edges_of(image: np.ndarray) -> np.ndarray:
    """Return (H, W) float32, how strong the edges of an image are; 1 on average."""
    grey = image.astype(np.float32).mean(-1) if image.ndim == 3 else image.astype(np.float32)
    strength: np.ndarray = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    return strength / max(float(strength.mean()), 1e-12)


def on_outlines(edges: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean strength of edges on the outlines of a mask; 0 where it has none."""
    outline = np.zeros(mask.shape, bool)
    outline[1:] |= mask[1:] != mask[:-1]
    outline[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    return float(edges[outline].mean()) if outline.any() else 0.0
