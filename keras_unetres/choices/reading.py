"""How a data set can be read, by name: its parts, what its mask values are, and what instances become."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
MASK_KINDS = ("classes", "instances")
TARGETS = ("semantic", "separated", "borders")
