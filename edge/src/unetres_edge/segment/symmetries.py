"""The symmetries of the square, by the names under which test-time augmentation takes them."""

from __future__ import annotations

# Each is (mirrored left to right first, quarter turns counter-clockwise).
SYMMETRIES: dict[str, tuple[tuple[bool, int], ...]] = {
    "none": ((False, 0),),
    "flips": ((False, 0), (True, 0), (True, 2), (False, 2)),
    "all": tuple((mirrored, quarters) for mirrored in (False, True) for quarters in range(4)),
}
