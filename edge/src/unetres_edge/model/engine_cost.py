"""What another engine than LiteRT costs a model file: its score on held-out images, measured when it was exported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_POINTS = 0.02  # of the score, by which an engine that costs nothing may be lower than LiteRT


@dataclass(frozen=True)
class EngineCost:
    """How an engine compares with LiteRT on the held-out images of an export.

    Args:
        engine: its name, such as "openvino".
        version: version of its package.
        images: number of held-out images.
        points: loss of score on these images against LiteRT, in points; negative where the score is higher.
        equal: share of their labels that are LiteRT's.
        least_equal: the same of the image where it is least.
        selftest_equal: the same of the images of the self-test, by which a device knows whether its engine computes
            what that of the export computed.

    Raises:
        ValueError: a number that cannot be meant.
    """

    engine: str
    version: str
    images: int
    points: float
    equal: float
    least_equal: float
    selftest_equal: float

    def __post_init__(self) -> None:
        shares = (self.equal, self.least_equal, self.selftest_equal)
        if self.images < 1 or not math.isfinite(self.points) or not all(0 <= share <= 1 for share in shares):
            raise ValueError("images, points or shares of an engine are wrong")

    @property
    def is_free(self) -> bool:
        """Whether the score is no lower than by LiteRT, but for `MOST_POINTS`."""
        return self.points <= MOST_POINTS

    def __str__(self) -> str:
        kind = "costs" if self.points >= 0 else "gains"
        return f"{kind} {abs(self.points):.3f} points on {self.images} held-out images, by the receipt"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineCost:
        """Read what `to_dict` gives; keys of a later version are left out.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        names, shares = ("engine", "version"), ("points", "equal", "least_equal", "selftest_equal")
        if not all(isinstance(values[name], str) for name in names) or type(values["images"]) is not int:
            raise TypeError("an engine has no name, version or images")
        if not all(type(values[name]) in (int, float) for name in shares):
            raise TypeError("an engine has points or shares that are no numbers")
        return cls(values["engine"], values["version"], values["images"], *(float(values[name]) for name in shares))
