"""`unetres-edge inspect`: verify a model file and print its card."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..terminal import counted, in_words

if TYPE_CHECKING:
    from ..model.card import Card


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model file."""
    parser.add_argument("model", help=".tflite file")


def run(options: argparse.Namespace) -> None:
    """Verify a model file and print its card."""
    from ..files import read_bytes
    from ..model.card import read_card

    data = read_bytes(options.model, "model file")
    print_card(read_card(data, file=options.model), len(data))


def print_card(card: Card, num_bytes: int) -> None:
    """Print a card as people read it."""
    for line in card_lines(card, num_bytes):
        print(line)


def card_lines(card: Card, num_bytes: int) -> list[str]:
    """Return a card as people read it, line by line."""
    pre = card.preprocessing
    order = f" ({pre.color_order})" if pre.channels == 3 else ""
    resealed = f"resealed   {counted(card.resealed, 'time')}: other tools changed the file after its export"
    return [
        f"task       {card.task}, head {card.head}, recipe {card.recipe}, {num_bytes / 1000:.0f} kB",
        f"input      {pre.size[0]} x {pre.size[1]} x {pre.channels}{order}, fit {pre.fit}",
        *(
            f"class      {number}  {name}  #{bytes(color).hex()}"
            for number, (name, color) in enumerate(zip(card.class_names, card.class_colors, strict=True))
        ),
        f"halo       {card.halo} px",
        *(f"scores     {key}: {in_words(value)}" for key, value in card.scores.items()),
        *(f"engine     {cost.engine} {cost.version} {cost}" for cost in card.engines if not card.resealed),
        "made by    " + ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        *([resealed] if card.resealed else []),
        f"sha256     {card.sha256} (verified)",
    ]
