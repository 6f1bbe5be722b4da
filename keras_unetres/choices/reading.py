"""How a data set can be read, by name: its parts, what its mask values are, and what instances become."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
MASK_KINDS = ("classes", "instances")
TARGETS = ("semantic", "separated", "borders")
# How masks lie on their images, by quarters to the left or right, ... -> the orientation of EXIF that mends it.
MASKS_TURNED = {
    "none": 1,
    "mirrored": 2,
    "half": 3,
    "upside-down": 4,
    "transposed": 5,
    "left": 6,
    "anti-transposed": 7,
    "right": 8,
}
