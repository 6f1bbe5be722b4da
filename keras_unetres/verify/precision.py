"""The mixed precision search of `--recipe auto`: the fewest layers in float32 that keep the loss within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scores.paired import signed

if TYPE_CHECKING:
    from ..tflite import CalibratedModel

_IMAGES = 8  # on which the noise of each layer is measured
_AT_ONCE = 7  # choices between two known ones


@dataclass(frozen=True)
class MixedPrecision:
    """Which layers compute in float32.

    Args:
        order: the names of all `LayerGroup`s, those first of which float32 takes most noise for its cost.
        count: number of them, the first ones, that compute in float32.
        noise: layer -> signal to noise of the answer where it alone is in int8, dB.
        tried: trials, as JSON values: "floats", "drop" in points, "part".
    """

    order: tuple[str, ...]
    count: int
    noise: dict[str, float]
    tried: list[dict[str, Any]]

    @property
    def floats(self) -> tuple[str, ...]:
        """The names of what computes in float32."""
        return self.order[: self.count]

    def layers(self, calibrated: CalibratedModel) -> tuple[str, ...]:
        """Return the Keras layers that compute in float32."""
        return tuple(layer for each in calibrated.converter.groups if each.name in self.floats for layer in each.layers)

    def to_dict(self, calibrated: CalibratedModel) -> dict[str, Any]:
        """Return JSON values, the layers as they are called."""
        layers = calibrated.converter.groups
        total = sum(each.multiply_adds for each in layers) or 1
        return {
            "layers": [
                {
                    "layer": each.name,
                    "noise_db": self.noise[each.name] if np.isfinite(self.noise[each.name]) else None,
                    "multiply_adds": each.multiply_adds,
                    "float": each.name in self.floats,
                }
                for each in layers
            ],
            "float_multiply_adds": sum(each.multiply_adds for each in layers if each.name in self.floats) / total,
            "tried": self.tried,
        }


def search_precision(
    calibrated: CalibratedModel,
    reference: bytes,
    judges: Sequence[tuple[str, Callable[[bytes], float]]],
    max_drop: float,
    say: Callable[[str], None],
) -> MixedPrecision:
    """Choose the layers that compute in float32.

    Layers come in the order of the noise that each alone brings into the answer, over its cost. The first judge
    searches the shortest beginning of that order that is good enough, by doubling and halving; each later one only
    lengthens it.

    Args:
        reference: the float32 `.tflite`, with scores for an answer.
        judges: (name of the part, points that a file loses there); the images that decide in the end come last.
        max_drop: points.
        say: callback for lines to the user.
    """
    layers = calibrated.converter.groups
    say(f"mixing     the noise of {len(layers)} layers, one by one ...")
    images = calibrated.images[np.unique(np.linspace(0, len(calibrated.images) - 1, _IMAGES).astype(int))]
    noise = calibrated.converter.noise(reference, images)
    cost = {each.name: each.cost for each in layers}
    order = tuple(sorted(cost, key=lambda layer: -(10 ** (-noise[layer] / 10)) / cost[layer]))
    search = _Search(calibrated, order, max_drop, say)
    count = 0
    for part, drop in judges:
        count = search.shortest(part, drop, count)
    return MixedPrecision(order, count, noise, search.tried)


class _Search:
    """Looks for the shortest beginning of an order that is good enough."""

    def __init__(
        self, calibrated: CalibratedModel, order: tuple[str, ...], max_drop: float, say: Callable[[str], None]
    ) -> None:
        self._calibrated, self._order, self._max_drop, self._say = calibrated, order, max_drop, say
        self._files: dict[int, bytes] = {}  # those made last
        self.tried: list[dict[str, Any]] = []

    def shortest(self, part: str, drop: Callable[[bytes], float], least: int) -> int:
        """Return the number of layers, `least` or more; all of them where nothing is good enough."""
        last = len(self._order)
        low, high = least - 1, last
        counts = sorted({least, *(min(last, least + 2**n) for n in range(last.bit_length() + 1))})
        for count in counts:
            if self._fits(count, counts, part, drop):
                high = count
                break
            low = count
        while high - low > 1:
            inner = np.unique(np.linspace(low + 1, high - 1, min(_AT_ONCE, high - low - 1)).astype(int)).tolist()
            first, end = 0, len(inner)
            while first < end:
                middle = (first + end) // 2
                if self._fits(inner[middle], inner, part, drop):
                    end = middle
                else:
                    first = middle + 1
            low, high = inner[first - 1] if first else low, inner[first] if first < len(inner) else high
        return high

    def _fits(self, count: int, near: list[int], part: str, drop: Callable[[bytes], float]) -> bool:
        """Score a number of layers; `near`, all that may be asked for next, are made with it, but for the first."""
        if count not in self._files:
            self._make([count] if count == near[0] else near)
        lost = drop(self._calibrated.seal(self._files[count]))
        self.tried.append({"floats": count, "drop": round(lost, 4), "part": part})
        self._say(f"mixing     {count} of {len(self._order)} layers in float32: {signed(-lost)} points, {part} part")
        return lost <= self._max_drop

    def _make(self, counts: list[int]) -> None:
        layers = {each.name: each.layers for each in self._calibrated.converter.groups}
        choices = [[layer for name in self._order[:count] for layer in layers[name]] for count in counts]
        self._files = dict(zip(counts, self._calibrated.converter.convert(choices), strict=True))
