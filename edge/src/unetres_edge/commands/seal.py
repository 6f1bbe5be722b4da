"""`unetres-edge seal`: seal a file again that another tool has changed on purpose."""

from __future__ import annotations

import argparse
import os

from ..engines.litert import LiteRTEngine
from ..errors import ExistsError
from ..files import read_bytes, write_bytes
from ..model.card import read_card, reseal
from ..terminal import counted
from .options import add_model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the file and where it goes."""
    add_model(parser, ".tflite file with a card; replaced, unless --out is given")
    parser.add_argument("--out", metavar="F", help="write the sealed file here; must not exist")


def run(options: argparse.Namespace) -> None:
    """Seal a file again and write it, once it has run."""
    out = options.model if options.out is None else options.out
    if options.out is not None and os.path.lexists(out):
        raise ExistsError("the output exists already", file=options.out, fix="choose another --out")
    sealed = reseal(read_bytes(options.model, "model file"), file=options.model)
    card = read_card(sealed, file=options.model)
    LiteRTEngine(sealed, card).close()  # what does not run is not sealed
    write_bytes(out, sealed)
    again = counted(card.resealed, "time")
    print(f"sealed     {out}: SHA-256 {card.sha256}, sealed again {again}")
