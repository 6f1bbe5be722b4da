"""Calibration of probabilities, so that they are right as often as they say: a temperature, and perhaps a bias a class.

The scores of a network say more than it knows, and those of its int8 file say it otherwise. Divided by a temperature
(Guo 2017) and moved by a bias of each class (Alexandari 2020), both found on labelled images that the network was not
trained on, they are as right as they say. The label stays that of the scores as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEAST, MOST = 1 / 64, 64.0  # of a temperature
MOST_BIAS = 64.0


@dataclass(frozen=True)
class Calibration:
    """A temperature and biases by which the scores of a file become calibrated probabilities.

    The probabilities are those that the card's activation makes of `scores / temperature + bias`. Scores that are
    probabilities already are taken by their logarithm, and a softmax follows.

    Args:
        temperature: divisor of the scores, 1/64 to 64; 1 leaves them as they are.
        bias: number added to the scores of each class after that, from -64 to 64; () for none.
        images: number of labelled images on which it was found.
        split: the part of the data set that they are.

    Raises:
        ValueError: a number that is out of its range.
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    images: int = 0
    split: str = ""

    def __post_init__(self) -> None:
        if not LEAST <= self.temperature <= MOST:  # also what is not a number
            raise ValueError(f"temperature {self.temperature} is not within {LEAST:g} and {MOST:g}")
        if not all(math.isfinite(value) and abs(value) <= MOST_BIAS for value in self.bias):
            raise ValueError(f"bias {self.bias} is not within {-MOST_BIAS:g} and {MOST_BIAS:g}")
        if self.images < 0:
            raise ValueError(f"{self.images} images")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "temperature": self.temperature,
            "bias": list(self.bias),
            "images": self.images,
            "split": self.split,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` gives; keys of a later version are left out.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        bias = values["bias"]
        numbers = (values["temperature"], *bias)
        if not isinstance(bias, list) or not all(type(value) in (int, float) for value in numbers):
            raise TypeError("temperature or bias is no number")
        if type(values["images"]) is not int or not isinstance(values["split"], str):
            raise TypeError("images or split is wrong")
        return cls(float(numbers[0]), tuple(map(float, bias)), values["images"], values["split"])
