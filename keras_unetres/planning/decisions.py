"""What a plan is made of, and how it is written down and said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..runs import Compilation
from ..settings import FileCost, TrainSettings, flat_options
from .fingerprint import Fingerprint

SCHEMA = 1


@dataclass(frozen=True)
class Decision:
    """The value of a setting, and why it is taken.

    Args:
        setting: its name, as `keras_unetres.settings.flat_options` has it.
        value: value as the field keeps it; None for what is off.
        reason: reason, one sentence without its full stop.
    """

    setting: str
    value: Any
    reason: str

    @property
    def option(self) -> str:
        """The option that overrides it."""
        return flat_options()[self.setting].word

    def __str__(self) -> str:
        name = self.setting.replace("_", " ")
        return f"{name} {_shown(self.value)}: {self.reason}  ({self.option})"


@dataclass(frozen=True)
class TrainingPlan:
    """The decisions for a training, and what they were made from.

    Args:
        fingerprint: fingerprint of the training part.
        decisions: decisions in the order in which they are said; settings that the user gave are not among them.
        minutes: the budget, or None.
        measured: filters -> seconds of a training step, where that was measured.
        warnings: sentences about what is wrong with the budget.
        compilation: how steps are computed fastest, where that was measured.
        files: filters -> what the int8 file takes, where that was measured.
    """

    fingerprint: Fingerprint
    decisions: tuple[Decision, ...]
    minutes: float | None = None
    measured: Mapping[int, float] | None = None
    warnings: tuple[str, ...] = ()
    compilation: Compilation | None = None
    files: Mapping[int, FileCost] | None = None

    def decides(self, setting: str) -> bool:
        """Return whether a setting, as `flat_options` names it, was left to the plan."""
        return any(decision.setting == setting for decision in self.decisions)

    def apply(self, settings: TrainSettings) -> TrainSettings:
        """Return settings in which nothing is left to decide."""
        return settings.with_flat({**{decision.setting: decision.value for decision in self.decisions}, "plan": False})

    def lines(self) -> list[str]:
        """Return a line for each decision and warning."""
        return [f"plan      {decision}" for decision in self.decisions] + [
            f"warning   {text}" for text in self.warnings
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, as `plan.json` keeps them."""
        return {
            "schema": SCHEMA,
            "budget": {"minutes": self.minutes},
            "measured_step_seconds": {str(filters): value for filters, value in (self.measured or {}).items()},
            "measured_files": {str(filters): asdict(cost) for filters, cost in (self.files or {}).items()},
            "decisions": [{**asdict(decision), "option": decision.option} for decision in self.decisions],
            "warnings": list(self.warnings),
            "fingerprint": asdict(self.fingerprint),
        }


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    parts = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
