"""How much each pixel counts in the loss: class weights, and the border weight map of Ronneberger 2015 eq. 2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.preprocessing import IGNORE

from .fixes import declare
from .records import Record, count_ids
from .targets import border_weight_map


@dataclass(frozen=True)
class Weighting:
    """What the weight of a pixel is made of; with the defaults there is none.

    Args:
        by_class: power of N / (K n_c), the share of a class's labelled pixels inverted (w_c of eq. 2), by which its
            pixels weigh: 1 balances the classes, 0.5 softens that, with 0 all weigh the same.
        border: (w0, sigma in px) of eq. 2, which weighs the background between close objects up; (10, 5) in the paper.
            None for none. Needs instances.
    """

    by_class: float = 0.0
    border: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.border is None:
            return
        object.__setattr__(self, "border", tuple(self.border))
        if len(self.border) != 2 or not (self.border[0] >= 0 and self.border[1] > 0):
            raise UsageError("border weights are wrong", expected="w0 >= 0 and sigma > 0 px", found=self.border)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def class_weights(masks: Iterable[np.ndarray], num_classes: int, power: float = 1.0) -> tuple[float, ...]:
    """Return N / (K n_c) for each class, N labelled pixels in all and n_c of the class; K classes are present.

    Args:
        power: exponent of that; the weights are scaled so that their mean over the labelled pixels is still 1.
        masks: (H, W) uint8 class ids with `IGNORE`; or (N,) class ids of N images, which count as pixels do.

    Returns:
        One weight a class, 1 for a class without a pixel. Weighted by them, the mean over labelled pixels is 1.
    """
    counts = np.zeros(num_classes, np.int64)
    for mask in masks:
        counts += count_ids(mask, num_classes)
    present = int((counts > 0).sum())
    total = int(counts.sum())
    if power == 1:
        return tuple(total / (present * int(n)) if n else 1.0 for n in counts)
    weights = [(total / (present * int(n))) ** power if n else 1.0 for n in counts]
    mean = float(np.dot(weights, counts)) / max(1, total)
    return tuple(weight / mean if n else 1.0 for weight, n in zip(weights, counts, strict=True))


def weight_map(
    record: Record,
    weighting: Weighting,
    by_class: tuple[float, ...] | None,
    target: str = "semantic",
    background: int = 0,
) -> np.ndarray | None:
    """Return the (H, W) float32 weights of a sample, 0 where not labelled, or None if every labelled pixel weighs 1.

    The border term is on background pixels of the mask, and on those of a class of borders: where touching objects are
    one class, it would else teach to join them.

    Args:
        by_class: the class weights, or None for 1.
        target: kind of classes that instances became, see `Reading`.
        background: the class between objects.

    Raises:
        DataError: border weights are wanted, and there are no instances.
    """
    if by_class is None and weighting.border is None:
        return record.weight
    weights = np.ones(record.mask.shape, np.float32)
    if by_class is not None:
        table = np.zeros(256, np.float32)
        table[: len(by_class)] = by_class
        weights = table[record.mask]
    if weighting.border is not None:
        if record.instances is None:
            raise DataError(
                "border weights need to know the objects",
                file=record.name,
                expected="instances",
                fix=declare({"masks_are": "instances"}),
            )
        w0, sigma = weighting.border
        border = border_weight_map(record.instances, w0, sigma, class_weights=(0, 0))
        between = (record.mask == background) | ((record.mask == 2) & (target == "borders"))
        weights = weights + np.where(between, border, 0)
    if record.weight is not None:
        weights = weights * record.weight
    return np.where(record.mask == IGNORE, 0, weights).astype(np.float32)
