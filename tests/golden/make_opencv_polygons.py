"""Writes `opencv_polygons.npz`: polygons on 32 x 32 px, and the pixels that OpenCV's `fillPoly` fills, holes cut out.

Made once, by Python 3.11 with opencv-python 5.0.0.93 and numpy 2.4.6: `python tests/golden/make_opencv_polygons.py`
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIDE, COUNT, CORNERS = 32, 60, 7
RNG = np.random.default_rng(0)


def main() -> None:
    corners = RNG.integers(0, SIDE, (COUNT, 2, CORNERS, 2)).astype(np.int32)  # most cross themselves
    masks = np.zeros((COUNT, SIDE, SIDE), np.uint8)
    for mask, (outer, hole) in zip(masks, corners, strict=True):
        cv2.fillPoly(mask, [outer], 1)
        cv2.fillPoly(mask, [hole], 0)
    file = Path(__file__).with_name("opencv_polygons.npz")
    np.savez_compressed(file, corners=corners.astype(np.int8), masks=np.packbits(masks))


if __name__ == "__main__":
    main()
