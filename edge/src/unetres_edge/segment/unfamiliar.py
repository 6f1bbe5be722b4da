"""What becomes of an image unlike those that the network was trained on, by name."""

from __future__ import annotations

ON_UNFAMILIAR = ("warn", "skip", "fail")
