"""`unetres-edge verify`: whether this device computes the labels that the file was made with."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..engines.table import open_engine
from ..errors import ModelError
from ..files import read_bytes
from ..model.card import Card, read_card, read_metadata
from ..model.selftest import SELFTEST_NAME, SelfTest, expected_labels, make_images
from .options import add_engine, add_model, add_threads, threads_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model and how this device runs it."""
    add_model(parser)
    add_threads(parser)
    add_engine(parser)


def run(options: argparse.Namespace) -> None:
    """Run the self-test; raise ModelError where this device computes other labels."""
    figures = verify(options.model, engine=options.engine, num_threads=threads_of(options))
    share = f"{100 * figures['equal']:.4f} % of the labels of {figures['images']} images"
    if not figures["same"]:
        raise ModelError(
            "this device computes other labels than the file was made with",
            file=options.model,
            expected=f"at least {100 * figures['least_equal']:.2f} % equal",
            found=f"{share} on {figures['engine']}",
            fix="update the runtime, or choose another --engine",
        )
    print(f"same       {share} are those the file was made with ({figures['engine']})")


def verify(
    model: str | os.PathLike[str], *, engine: str | None = None, num_threads: int | None = None
) -> dict[str, Any]:
    """Run a file's self-test and return whether this device computes the labels it was made with.

    Returns:
        JSON values: "same" (whether the share is within the tolerance), "equal" (share of labels), "least_equal",
        "images" and "engine".

    Raises:
        ModelDamagedError: the file is not the one that was sealed.
        ModelError: the file has no self-test, or one that does not fit it.
        EngineError: as `open_engine`.
    """
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    test = _read_selftest(data, card, os.fspath(model))
    runs = open_engine(engine or "litert", data, card, num_threads=num_threads)
    labels = expected_labels(runs, make_images(card, seed=test.seed, count=len(test.labels)))
    equal = float((labels == test.labels).mean())
    return {
        "same": equal >= test.least_equal,
        "equal": equal,
        "least_equal": test.least_equal,
        "images": len(test.labels),
        "engine": runs.name,
    }


def _read_selftest(data: bytes, card: Card, file: str) -> SelfTest:
    packed = read_metadata(data, SELFTEST_NAME, file=file)
    if packed is None:
        raise ModelError("the file has no self-test", file=file, fix="export it again")
    test = SelfTest.from_bytes(packed)
    size = card.output_size if card.per_pixel else (1, 1)
    if test.labels.ndim != 3 or not len(test.labels) or test.labels.shape[1:] != size:
        raise ModelError("the self-test does not fit the model", file=file, expected=size, found=test.labels.shape)
    return test
