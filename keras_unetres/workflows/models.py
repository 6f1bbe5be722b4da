"""`unetres models`: the networks by name, what each costs, and a picture of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unetres_edge.errors import UsageError
from unetres_edge.files import write_bytes, write_report

_COSTS = Path(__file__).parents[1] / "models" / "costs.json"


def list_models(
    name: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    plot: str | os.PathLike[str] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Print the cost of one network or of all, and draw one.

    Args:
        name: name of the network; None for all.
        size: (height, width) of the input, px; None for the one at which each network is usually quoted.
        plot: .png, .svg or .pdf file for a picture of the network.
        json_file: file for the figures.
        say: callback for lines to the user.

    Returns:
        A row for each network: "name", "about", "size", and the fields of `Cost`.

    Raises:
        UsageError: no such network, a size it does not take, or `plot` without a name.
    """
    if plot is not None and name is None:
        raise UsageError("--plot draws one network", fix="name it: unetres models NAME --plot F.png")
    say(f"{'name':22}{'input':>10}{'params M':>10}{'mul-adds G':>12}{'field px':>10}  int8-clean  about")
    if name is None and size is None:  # from the table that was written by building them all
        rows: list[dict[str, Any]] = json.loads(_COSTS.read_text(encoding="utf-8"))
        for row in rows:
            say(_line(row))
    else:
        rows = _measure(name, size, plot, say)
    if json_file is not None:
        write_report(json_file, rows)
    return rows


def _measure(
    name: str | None,
    size: tuple[int, int] | None,
    plot: str | os.PathLike[str] | None,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Build networks, print what each costs, and draw the one that is named."""
    from ..models.catalog import NETWORKS, find_network, measure

    rows = []
    for network in NETWORKS.values() if name is None else [find_network(name)]:
        model = network.build(size)
        row = measure(network, model, size)
        rows.append(row)
        say(_line(row))
        if name is not None:
            for fault in row["not_int8"]:
                say(f"  splits the int8 partition: {fault}")
            _say_geometry(model, say)
        if plot is not None:
            from ..pages.diagram import draw_network

            write_bytes(plot, draw_network(model, os.fspath(plot)))
            say(f"wrote {plot}")
    return rows


def _line(row: Mapping[str, Any]) -> str:
    """Return the line of a network in the printed table."""
    height, width = row["size"]
    return (
        f"{row['name']:22}{f'{height}x{width}':>10}{row['parameters'] / 1e6:10.2f}"
        f"{row['multiply_adds'] / 1e9:12.2f}{row['receptive_field']:10}  "
        f"{'no' if row['not_int8'] else 'yes':10}  {row['about']}"
    )


def _say_geometry(model: Any, say: Callable[[str], None]) -> None:
    """Print the feature maps and, for a network that answers per pixel, its geometry."""
    from ..models import crop_offset, feature_pyramid, receptive_halo

    maps = ", ".join(f"{stride}: {tensor.shape[-1]}" for stride, tensor in feature_pyramid(model).items())
    say(f"  features (stride: channels)  {maps}")
    if len(model.output.shape) == 4:
        say(f"  output {tuple(model.output.shape[1:])}, crop offset {crop_offset(model)} px")
        say(f"  halo {receptive_halo(model)} px")
