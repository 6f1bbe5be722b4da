"""The networks that a search compares, and how it halves them: each a change of the network that the rules chose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unetres_edge.errors import UsageError

from ..runs import Plan
from ..settings import DEPTH, TrainSettings

# Level -> share of its own training after which the worse half is left out, and so on.
RUNGS: dict[str, tuple[float, ...]] = {"quick": (1 / 8, 1 / 4), "full": (1 / 16, 1 / 8, 1 / 4)}
_MOST_FILTERS = 64
_SCALES = (0.75, 1.5)  # of the input's side, where whole images are scaled
_UNIT = 32  # px, of which those sides are multiples


def find_candidates(given: TrainSettings, chosen: TrainSettings, level: str) -> dict[str, Mapping[str, Any]]:
    """Return the networks to compare, that of the rules first; what the user gave stays as it is.

    Args:
        given: settings that the user gave.
        chosen: the same, with what the rules decided.
        level: a key of `RUNGS`.

    Returns:
        Name of a network, which serves as that of a folder -> the settings in which it differs from what was chosen.

    Raises:
        UsageError: the network has no forms to choose from, or the user has chosen them all.
    """
    network = chosen.network
    if network.published_encoder is not None or network.name != "unet":
        raise UsageError("--search is of U-Nets of their own", fix="drop --search, or --encoder and --network")
    filters, depth = network.filters or 0, network.depth or DEPTH
    changes: list[dict[str, Any]] = []
    is_open = given.network.filters is None
    if is_open:
        changes += [{"filters": many} for many in (filters // 2, 2 * filters) if 2 <= many <= _MOST_FILTERS]
    if not network.residual:
        changes.append({"residual": True})
    if level == "full":
        if is_open and not network.residual and filters >= 4:
            changes.append({"filters": filters // 2, "residual": True})
        if given.network.depth is None and not network.crop:
            changes += [{"depth": depth - 1}, *([{"depth": depth - 1, "filters": 2 * filters}] if is_open else [])]
            if network.input_size % 2 ** (depth + 1) == 0:
                changes.append({"depth": depth + 1})
        if given.network.size is None and network.image_fit != "crop":
            sides = {max(_UNIT, _UNIT * round(scale * network.input_size / _UNIT)) for scale in _SCALES}
            changes += [{"size": side} for side in sorted(sides - {network.input_size})]
    if not changes:
        raise UsageError("nothing is left to search", fix="drop --search, or --filters, --depth or --residual")
    return {_name(chosen, change): change for change in ({}, *changes)}


def _name(chosen: TrainSettings, changes: Mapping[str, Any]) -> str:
    network = chosen.with_flat(changes).network
    words = [f"filters{network.filters}", f"depth{network.depth or DEPTH}"]
    if "size" in changes:
        words.append(f"size{network.size}")
    return "_".join([*words, *(["residual"] if network.residual else [])])


def survivors(number: int) -> int:
    """Return how many of some candidates a rung leaves: the better half, and always one."""
    return max(1, number // 2)


def training_share(number: int, rungs: tuple[float, ...]) -> float:
    """Return what part of the whole time the training of the best one gets; the others take the rest."""
    lost = 0.0
    for rung in rungs:
        kept = survivors(number)
        lost += (number - kept) * rung
        number = kept
    return 1 / (1 + lost)


def last_epoch(plan: Plan, share: float) -> int:
    """Return the first epoch of a plan, counted from 1, that is validated and has a share of all behind it."""
    first = max(1, math.ceil(share * plan.epochs - 1e-9))
    return next(epoch for epoch in range(first, plan.epochs + 1) if plan.validates(epoch))
