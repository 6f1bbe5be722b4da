"""A promised risk: a doubt above which a pixel is given up, so that of what is left no more is wrong than was promised.

The threshold is found on labelled images by conformal risk control (Angelopoulos 2022): over images of the same kind,
the mean of the risk is at most the level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

RISKS = {
    "miss": "share of the pixels of the classes that are taken for others",
    "false": "share of the pixels of all other classes that are taken for these",
    "error": "share of the kept pixels that are wrong",
}


@dataclass(frozen=True)
class Promise:
    """A risk that is promised at a level, and the doubt above which a pixel is given up for it.

    Args:
        risk: a name of `RISKS`.
        classes: ids of the classes that it is about; () for "error".
        level: the mean over images that is promised, above 0 and below 1.
        threshold: a pixel whose doubt is larger is given up; 0 to 1.
        images: number of images on which it was found. So few cannot promise less than 1 / (images + 1).

    Raises:
        ValueError: a number or a name that cannot be meant.
    """

    risk: str
    classes: tuple[int, ...]
    level: float
    threshold: float
    images: int

    def __post_init__(self) -> None:
        if self.risk not in RISKS:
            raise ValueError(f"no such risk: {self.risk}")
        if not (0 < self.level < 1 and 0 <= self.threshold <= 1 and self.images > 0):
            raise ValueError("level, threshold or images of a promise is wrong")
        if (not self.classes) != (self.risk == "error") or not all(type(each) is int for each in self.classes):
            raise ValueError(f"classes {self.classes} do not go with the risk {self.risk}")

    def doubt(self, chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the doubt (h, w) float32 of each pixel, 0 where its label cannot add to the risk.

        It is the probability that the label adds to it: of a miss, that the pixel is of the classes though labelled
        otherwise.

        Args:
            chances: (h, w, classes) float32 calibrated probabilities.
            labels: (h, w) class ids.
        """
        if self.risk == "error":
            return 1 - np.take_along_axis(chances, labels[..., None].astype(np.intp), -1)[..., 0]
        of_them = chances[..., list(self.classes)].sum(-1)
        labelled = np.isin(labels, self.classes)
        zero = np.float32(0)
        return np.where(labelled, zero, of_them) if self.risk == "miss" else np.where(labelled, 1 - of_them, zero)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "risk": self.risk,
            "classes": list(self.classes),
            "level": self.level,
            "threshold": self.threshold,
            "images": self.images,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Promise:
        """Read what `to_dict` gives; keys of a later version are left out.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        classes, numbers = values["classes"], (values["level"], values["threshold"])
        if not isinstance(classes, list) or not all(type(each) in (int, float) for each in numbers):
            raise TypeError("a promise has what is no list or number")
        if type(values["images"]) is not int:
            raise TypeError("images is no number")
        return cls(values["risk"], tuple(classes), float(numbers[0]), float(numbers[1]), values["images"])
