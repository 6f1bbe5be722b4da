"""What is said of a file that the gate rejects: what was lost, and every way on."""

from __future__ import annotations

from pathlib import Path

from unetres_edge.errors import GateError

from ..choices.recipes import AUTO, INT8, find_recipe
from .receipt import Receipt
from .rows import file_row

_MUCH = 2.0  # times the mean loss of a class
_BLIND = "train longer, or write it all the same with --no-gate --allow-disagreement"
_BEYOND = (
    "to keep the limit, take fewer filters, a smaller --size where time or tensors are too much, or let a run teach a "
    "smaller network (unetres distil with that limit); or allow more by the option"
)


def rejection(receipt: Receipt, page: Path, *, exceeds: bool) -> GateError:
    """Return the error of a receipt whose file was rejected.

    Args:
        receipt: receipt of the file.
        page: its receipt for people.
        exceeds: whether the file takes more than its limits allow.
    """
    lost = receipt.drop is not None and receipt.drop.points > receipt.max_drop
    parts = [receipt.verdict.line.removeprefix("Rejected. ").removesuffix(".")]
    if lost:
        parts += [_worst_class(receipt)]
    if receipt.refinement is not None:
        parts += [receipt.refinement["line"].removesuffix(".")]
    ways = [", or ".join((*_ways(receipt), "allow more with --max-drop"))] * lost + [_BEYOND] * exceeds
    return GateError(
        ". ".join(filter(None, parts)), file=receipt.path, fix=f"see {page}; {'; and '.join(ways or [_BLIND])}"
    )


def _worst_class(receipt: Receipt) -> str:
    """Return which class loses most, where there are others and it loses much more than they; else ""."""
    before, after = receipt.rows[0].per_class, file_row(receipt.rows).per_class
    pairs = {name: (before[name], after.get(name)) for name in before}
    known = {name: (a, b) for name, (a, b) in pairs.items() if a is not None and b is not None}
    if len(known) < 2:
        return ""
    losses = {name: a - b for name, (a, b) in known.items()}
    worst = max(losses, key=lambda name: losses[name])
    if losses[worst] < _MUCH * sum(losses.values()) / len(losses):
        return ""
    return f"'{worst}' loses most, from {known[worst][0]:.2f} to {known[worst][1]:.2f}"


def _ways(receipt: Receipt) -> list[str]:
    """Return the other ways to a file of the same network, the smallest files first."""
    recipe = find_recipe(receipt.file.recipe)
    halves = ["take --recipe float16"] * (recipe.activations != "float32")
    if recipe.name != INT8:
        return halves
    if receipt.refinement is None and not receipt.calibration.images:
        return ["train it on for longer", *halves]  # quantization-aware
    return [
        *["let it be refined, without --no-refine"] * (receipt.refinement is None),
        f"keep a few layers in float32 with --recipe {AUTO}",
        "train it on as int8 computes, with unetres quantize or ku.quantize_aware",
        "take --recipe static_wi8_ai16",
        *halves,
    ]
