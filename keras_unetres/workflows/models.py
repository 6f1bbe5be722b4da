"""`unetres models`: the networks by name, what each costs, and a picture of one; starts with their model cards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unetres_edge.errors import UsageError, WeightsError
from unetres_edge.files import write_bytes, write_report
from unetres_edge.terminal import in_words

from ..choices.starts import STARTS, file_of, find_form

_NAME = 30  # characters of a name in the table, the longest and a space
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
        name: name of the network, or of a start, whose model card is printed; None for all.
        size: (height, width) of the input, px; None for the one at which each network is usually quoted.
        plot: .png, .svg or .pdf file for a picture of the network.
        json_file: file for the figures.
        say: callback for lines to the user.

    Returns:
        A row for each network: "name", "about", "size", and the fields of `Cost`; of a start its model card.

    Raises:
        UsageError: no such network, a size it does not take, or `plot` without a name.
        WeightsError: the model card of a start is not readable.
    """
    if name is not None and find_form(name) is not None:
        return _list_start(name, size, plot, json_file, say)
    if plot is not None and name is None:
        raise UsageError("--plot draws one network", fix="name it: unetres models NAME --plot F.png")
    say(f"{'name':{_NAME}}{'input':>10}{'params M':>10}{'mul-adds G':>12}{'field px':>10}  int8-clean  about")
    if name is None and size is None:  # from the table that was written by building them all
        rows: list[dict[str, Any]] = json.loads(_COSTS.read_text(encoding="utf-8"))
        for row in rows:
            say(_line(row))
        say("starts, trained already: train --weights NAME, and what segments something, predict NAME PICTURES")
        for start in (f"{name}_{filters}" for name, each in STARTS.items() for filters in each.depths):
            say(f"{start:{_NAME}}{_about(read_model_card(start))}")
    else:
        rows = _measure(name, size, plot, say)
    if json_file is not None:
        write_report(json_file, rows)
    return rows


def read_model_card(name: str) -> dict[str, Any]:
    """Return the model card of a start that comes with the package, JSON values.

    Raises:
        UsageError: there is no such start.
        WeightsError: it is not readable.
    """
    path = file_of(name, ".json")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"the model card is not readable: {error}", file=path, fix="install it again") from error


def _list_start(
    name: str,
    size: tuple[int, int] | None,
    plot: str | os.PathLike[str] | None,
    json_file: str | os.PathLike[str] | None,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Print the model card of a start."""
    if size is not None or plot is not None:
        raise UsageError(
            f"{name} is a start, which is neither measured nor drawn",
            fix="name its network: unetres models unet --plot F.png",
        )
    card = read_model_card(name)
    for field, value in card.items():
        lines = value if field == "not_for" else [value]
        if field == "scores":
            lines = [{form: scores} for form, scores in value.items()]
        for line in lines:
            say(f"{field.replace('_', ' '):14}{in_words(line)}")
    if json_file is not None:
        write_report(json_file, card)
    return [card]


def _about(card: Mapping[str, Any]) -> str:
    """Return what one line says of a start."""
    scores = ", ".join(f"{form} {each['miou']:.3f}" for form, each in card["scores"].items())
    return f"{card['about']}; held-out mIoU {scores}"


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
        f"{row['name']:{_NAME}}{f'{height}x{width}':>10}{row['parameters'] / 1e6:10.2f}"
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
