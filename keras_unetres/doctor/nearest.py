"""Which of many small pictures may be alike, found without comparing each with each.

Of a picture whose mean is taken away and whose length is 1, the coefficients of the cosine transform are the same up to
signs when it is mirrored, and up to their order when rows and columns are exchanged. So absolute values, larger and
smaller of the two that are exchanged, are the same for all eight flips; and they differ no more than the pictures do.
Pictures that correlate by 0.98 therefore lie within sqrt(2 - 2 * 0.98) = 0.2 of each other in any of these figures.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn
from scipy.spatial import cKDTree

from .smalls import Chosen
from .summaries import fingerprints

_LOW = 5  # lowest frequencies of the picture, in either direction
_BAND = (4, 10)  # and of its details
_REACH = (0.2, 0.45)  # by which coarse (correlation 0.98) and fine ones (0.9) of pictures that are alike differ at most
_ROWS = 512  # pictures at a time
_DIRECTIONS = 8  # in which pictures are looked for
_CANDIDATES = 64  # nearest in these, of each picture, that are compared by all figures
_MOST_TELLING = 20_000  # pictures that tell the directions


def find_nearest(known: Chosen, others: Chosen, count: int) -> np.ndarray:
    """Return for each of `others`, N pictures, the indices (N, count) of the nearest in `known`; -1: none.

    Those that are left out by distance are not alike. Of more than `count` that may be, the nearest are taken; they are
    looked for among the 64 that are nearest in the 8 directions in which pictures differ most. No two pictures are
    farther apart there than by all figures, and a tree of so few finds them in a time that grows with their number, of
    pictures that are all much alike, too.
    """
    there, wanted = _figures(known), _figures(others)
    middle, turned = there.mean(0), _directions(there)
    tree = cKDTree((there - middle) @ turned)
    count, candidates = min(count, len(there)), min(_CANDIDATES, len(there))
    found = np.empty((len(wanted), count), np.int64)
    for start in range(0, len(wanted), _ROWS):
        rows = wanted[start : start + _ROWS]
        # Each of the two parts is scaled to differ by 1 at most.
        query = tree.query((rows - middle) @ turned, k=candidates, distance_upper_bound=np.sqrt(2.0), workers=-1)
        places = query[1].reshape(len(rows), candidates)
        apart = np.square(there[np.minimum(places, len(there) - 1)] - rows[:, None]).sum(-1)
        apart[places == len(there)] = np.inf
        order = np.argsort(apart, 1, kind="stable")[:, :count]
        near = np.take_along_axis(apart, order, 1) <= 2.0
        found[start : start + _ROWS] = np.where(near, np.take_along_axis(places, order, 1), -1)
    return found


def _directions(figures: np.ndarray) -> np.ndarray:
    """Return the directions (figures, 8) in which the rows of figures differ most; some thousands of rows tell them."""
    some = figures[:: -(-len(figures) // _MOST_TELLING)]
    return np.linalg.eigh(np.cov(some.T, bias=True))[1][:, -_DIRECTIONS:]


def _figures(small: Chosen) -> np.ndarray:
    """Return (N, figures) float64, as the tree takes them, that no flip changes."""
    rows = np.empty((len(small), _width(_LOW) + _width(_BAND[1] - _BAND[0])))
    for start in range(0, len(small), _ROWS):
        coarse, fine = fingerprints(small[start : start + _ROWS])
        parts = [
            _unflipped(coarse, (0, _LOW)) / _REACH[0],
            _unflipped(fine, _BAND) / _REACH[1],
        ]
        rows[start : start + _ROWS] = np.concatenate(parts, 1)
    return rows


def _width(side: int) -> int:
    return side * side  # figures of so many rows and columns of frequencies: of each pair the larger and the smaller


def _unflipped(fingerprint: np.ndarray, band: tuple[int, int]) -> np.ndarray:
    side = round(fingerprint.shape[1] ** 0.5)
    waves = np.abs(dctn(fingerprint.reshape(-1, side, side), axes=(1, 2), norm="ortho"))
    waves = waves[:, band[0] : band[1], band[0] : band[1]]
    above = np.triu_indices(waves.shape[1])
    one, two = waves[:, above[0], above[1]], waves[:, above[1], above[0]]
    on_diagonal = above[0] == above[1]
    return np.concatenate([np.maximum(one, two), np.minimum(one, two)[:, ~on_diagonal]], 1)
