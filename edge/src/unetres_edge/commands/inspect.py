"""`unetres-edge inspect`: verify a model file and print its card."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

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
    pre = card.preprocessing
    print(f"task       {card.task}, head {card.head}, recipe {card.recipe}, {num_bytes / 1000:.0f} kB")
    print(f"input      {pre.size[0]} x {pre.size[1]} x {pre.channels} ({pre.color_order}), fit {pre.fit}")
    for name, color in zip(card.class_names, card.class_colors, strict=True):
        print(f"class      {card.class_names.index(name)}  {name}  #{bytes(color).hex()}")
    print(f"halo       {card.halo} px")
    for key, value in card.scores.items():
        print(f"scores     {key}: {json.dumps(value)}")
    print("made by    " + ", ".join(f"{name} {version}" for name, version in card.versions.items()))
    if card.resealed:
        print(f"resealed   {card.resealed} times: other tools changed the file after its export")
    print(f"sha256     {card.sha256} (verified)")
