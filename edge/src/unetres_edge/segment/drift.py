"""Drift: whether frames, taken together, became unlike the held-out pictures. A sequential test, by a bet against it.

Of each frame it is only asked whether it is warned of. As long as frames are like the held-out pictures, the share of
warnings is at most some limit, and a fair bet that it is more does not gain. The gain is a martingale: that it ever
reaches 100 has a probability of at most 1 % (Ville 1939; Vovk 2005 of p-values). The bet is a mixture, over how many
frames are unlike and since which frame, so that a change is found late as well as early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..model.familiarity import ALARM, Familiarity

FIRES = 100.0  # gain at which frames have drifted
_UNSURE = 0.01  # that the limit is too low for these held-out pictures
_STAKES = (0.1, 0.3, 0.6, 0.9)  # of what is there, on a warning; the mixture has them in equal parts
_LEADING = 1  # the stake by which the first frame is told
_NO_PROMISE = 0.5  # the limit where too few pictures were held out to promise one
_MOST = 1e12  # a gain above it is this; a float has room for it


@dataclass(frozen=True)
class Drift:
    """Whether frames have drifted, as the bet of a `DriftTest` says it after some of them.

    Args:
        gain: gain of the bet, 1 at first; at 100 frames have drifted.
        fired_at: index of the frame at which it first did; None if it did not.
        since: index of the frame from which on frames are probably unlike; None if it did not fire.
    """

    gain: float
    fired_at: int | None = None
    since: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"gain": float(f"{self.gain:.4g}"), "fired_at": self.fired_at, "since": self.since}


class DriftTest:
    """A sequential test for drift: takes one frame after the other; `drift` is its answer so far.

    Frames of a video follow each other and are less than they count: a scene that is warned of throughout fires, as it
    should, and that scenes are warned of is as rare as the held-out pictures promise, one in twenty, not one in 100.

    Args:
        known: statistics of held-out pictures, from the card.
    """

    def __init__(self, known: Familiarity) -> None:
        self.limit = most_warnings(len(known.distances)) if known.promised else _NO_PROMISE
        self.drift = Drift(1.0)
        self._frames = 0
        self._begun = [0.0] * len(_STAKES)  # the gains of bets that began, by stake
        self._leading, self._since = 0.0, 0

    def add(self, familiarity: float) -> bool:
        """Take the familiarity of the next frame; return whether it is this one at which frames have drifted."""
        index, self._frames = self._frames, self._frames + 1
        factors = [1 - stake + (stake / self.limit if familiarity <= ALARM else 0) for stake in _STAKES]
        begins = 1 / (self._frames * (self._frames + 1))  # the bet from this frame on; that of all later ones remains
        self._begun = [min(_MOST, f * (b + begins)) for f, b in zip(factors, self._begun, strict=True)]
        gain = sum(self._begun) / len(_STAKES) + 1 / (self._frames + 1)
        if self._leading <= 0:
            self._leading, self._since = 0.0, index
        self._leading += math.log(factors[_LEADING])
        before = self.drift
        fires = before.fired_at is None and gain >= FIRES
        self.drift = Drift(gain, index, self._since) if fires else Drift(gain, before.fired_at, before.since)
        return fires


def most_warnings(count: int) -> float:
    """Return a limit of the share of warnings by so many held-out pictures, which holds for 99 in 100 draws of them.

    At most one in twenty pictures is warned of in the mean over draws of the held-out pictures; of one draw the share
    is a beta variable (Vovk 2012, proposition 2a), and its 99th percentile is this.
    """
    warned = math.floor(ALARM * (count + 1) + 1e-9)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        # the share is below `middle` where of `count` uniform numbers at least `warned` are
        fewer = sum(_binomial(count, k, middle) for k in range(warned))
        low, high = (middle, high) if fewer > _UNSURE else (low, middle)
    return high


def _binomial(count: int, chosen: int, share: float) -> float:
    ways = math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)
    return math.exp(ways + chosen * math.log(share) + (count - chosen) * math.log1p(-share))
