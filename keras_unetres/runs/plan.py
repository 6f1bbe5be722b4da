"""The plan of a run in steps, and the learning rate of each step.

The plan is made once and written down. From then on everything is a function of the seed and the step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from unetres_edge.terminal import counted

_MOST = 10**12  # epochs, or steps of one
_FASTEST = 1000
TOO_FEW_STEPS = 100  # after which a network has not learned anything yet
_LEARNING_STEPS = 300  # after which one has
_POLY_POWER = 0.9  # Chen 2017 (DeepLab), section 4.1


@dataclass(frozen=True)
class Plan:
    """What a run will do, in steps.

    Args:
        epochs: number of epochs.
        steps_per_epoch: optimizer steps in each.
        validate_every: epochs between two validations; the last epoch always validates.
        warmup_steps: steps over which the learning rate rises to its peak.
        learning_rate: the peak.
        schedule: course of the rate from there: "cosine" to 0, "poly" to 0, or "constant".
    """

    epochs: int
    steps_per_epoch: int
    validate_every: int
    warmup_steps: int
    learning_rate: float
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        counts = (self.epochs, self.steps_per_epoch, self.validate_every)
        if not all(1 <= count <= _MOST for count in counts) or not 0 <= self.warmup_steps <= _MOST:
            raise ValueError(f"a plan has from 1 to {_MOST} epochs and steps")
        if not 0 < self.learning_rate <= _FASTEST:  # NaN is not
            raise ValueError(f"the learning rate of a plan is above 0 and at most {_FASTEST}")

    @property
    def steps(self) -> int:
        """All optimizer steps."""
        return self.epochs * self.steps_per_epoch

    def describe(self, batch: int) -> str:
        """Return the plan in words, with the size of a batch."""
        return f"{counted(self.epochs, 'epoch')} of {counted(self.steps_per_epoch, 'step')}, batch {batch}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0.

        A linear warm-up, then half a cosine (Loshchilov 2017), (1 - t)**0.9 (Chen 2017), or the peak.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        if self.schedule == "constant":
            return self.learning_rate
        fall = (1 - done) ** _POLY_POWER if self.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate * fall

    def validates(self, epoch: int) -> bool:
        """Whether validation is run after an epoch, counted from 1."""
        return 1 <= epoch <= self.epochs and (epoch % self.validate_every == 0 or epoch == self.epochs)

    def validations(self, first: int = 1) -> int:
        """Return how many validations are run after an epoch and all that follow it."""
        return 0 if first > self.epochs else -(-self.epochs // self.validate_every) - (first - 1) // self.validate_every


def too_few_steps(minutes: float, steps: int) -> str | None:
    """Return what is wrong with a time budget in which a network takes so many steps, or None."""
    if steps >= TOO_FEW_STEPS:
        return None
    needed = math.ceil(minutes * _LEARNING_STEPS / max(1, steps))
    return (
        f"{minutes:g} min are too few: about {steps} steps teach nothing; "
        f"--minutes {needed} or more, or a machine with a GPU"
    )
