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
        *_trust_lines(card),
        *(f"engine     {cost.engine} {cost.version} {cost}" for cost in card.engines if not card.resealed),
        "made by    " + ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        *([resealed] if card.resealed else []),
        f"sha256     {card.sha256} (verified)",
    ]


def _trust_lines(card: Card) -> list[str]:
    """Return what a card knows of when not to believe the file; a line that it knows nothing of is left out."""
    lines = []
    if card.calibration is not None:
        how = f"temperature {card.calibration.temperature:.3g}" + " and a bias a class" * bool(card.calibration.bias)
        lines.append(f"calibrated {how}, found on {_images(card.calibration.images, card.calibration.split)}")
    known = card.familiarity
    if known is not None:
        few = "" if known.promised else "; too few to promise that false alarms are few"
        lines.append(f"unfamiliar told by {known.images} training images and {known.held_out} held out{few}")
        if known.quality is not None:
            lines.append("quality    tells the mIoU to expect of each mask")
    for promise in card.promises:
        names = ", ".join(card.class_names[each] for each in promise.classes)
        about = f"{promise.risk}({names})" if names else promise.risk
        lines.append(f"promise    {about}<={promise.level:g}, kept with --abstain; found on {_images(promise.images)}")
    return lines


def _images(count: int, split: str = "") -> str:
    return counted(count, f"{split} image".strip())
