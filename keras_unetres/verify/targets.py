"""Where a file runs: the verdict of each target by its rules, and by its own tool where one is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card

if TYPE_CHECKING:
    from ..tflite.contents import Contents


@dataclass(frozen=True)
class TargetRow:
    """Whether a file runs on a target.

    Args:
        target: its name.
        fits: "yes"; "partly": it runs, but not all of it where it should; or "no".
        reason: why, in one sentence, with the layers.
        by: "rules", or the tool and its version.
        rules: verdict of the rules, as JSON values, where a tool has spoken; else None.
        note: why no tool was asked, or None.
    """

    target: str
    fits: str
    reason: str
    by: str
    rules: Mapping[str, Any] | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def ask_targets(data: bytes, contents: Contents, card: Card, images: np.ndarray | None) -> tuple[TargetRow, ...]:
    """Return the verdict of each target.

    Args:
        data: bytes of the file.
        contents: contents of the file.
        card: card of the file.
        images: (N, h, w, C) float32 as the network sees them, which tools run; None to ask no tool.
    """
    from ..tflite.target_tools import TOOLS, ask_tools, installed
    from ..tflite.targets import judge

    asked_tools = {} if images is None else ask_tools(data, contents, images)
    rows = []
    for verdict in judge(contents, card):
        tool = asked_tools.get(verdict.target)
        needed = TOOLS.get(verdict.target)
        note = None
        if tool is None and needed is not None:
            missing = installed(needed) is None
            note = f"not checked with {needed}: " + ("not installed" if missing else "not asked")
        said = tool or verdict
        rules = verdict.to_dict() if tool else None
        rows.append(TargetRow(said.target, said.fits, said.reason, said.by, rules, note))
    return tuple(rows)
