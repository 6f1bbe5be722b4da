"""`ku.inspect` and `unetres inspect`: what a model file says of itself, what it is made of, and where it would run."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge import Card
from unetres_edge.commands.inspect import card_lines
from unetres_edge.errors import CardMissingError, UnetresError
from unetres_edge.files import check_output, read_bytes, write_report
from unetres_edge.model.card import read_card

from ..choices.arguments import checks_kinds
from ..choices.starts import find_model
from ..tasks.foreign import options_of_file, read_ends, stand_in
from ..verify.receipt import read_receipt, receipt_files
from ..verify.targets import ask_targets


@checks_kinds
def inspect(
    model: str | os.PathLike[str],
    *,
    ops: bool = False,
    tools: bool = False,
    json_file: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Verify a `.tflite`, and tell its card, its ops, its memory and its targets. No TensorFlow is loaded.

    Args:
        model: a `.tflite`, or a start such as "nuclei"; of one without a card, what its graph tells.
        ops: list every op with the Keras layers in it.
        tools: whether also to ask the targets' own tools that are installed; they run the file on noise.
        json_file: file for what is returned.
        say: callback for lines to the user.

    Returns:
        JSON values: "card" (None without one), "contents" (see `Contents.to_dict`), "targets" and "receipt": the
        receipt beside the file, if it is of this file.

    Raises:
        ModelError: no `.tflite`, or without a card one that is neither a segmenter nor a classifier.
        ModelDamagedError: the file is not the one that was sealed.
    """
    from ..tflite.contents import read_contents

    if json_file is not None:
        check_output(json_file, ".json")
    model = find_model(model)
    data = read_bytes(model, "model file")
    contents, sealed = None, True
    try:
        card = read_card(data, file=os.fspath(model))
    except CardMissingError:
        contents, sealed = read_contents(data), False
        card = stand_in(read_ends(contents, os.fspath(model)))
    contents = contents or read_contents(data)
    pre = card.preprocessing
    noise = np.random.default_rng(0).integers(0, 256, (2, *pre.size, pre.channels), np.uint8)
    seen = np.stack([pre.normalise(tile) for tile in noise]) if tools else None
    report: dict[str, Any] = {
        "card": json.loads(card.to_json()) if sealed else None,
        "contents": contents.to_dict(),
        "targets": [row.to_dict() for row in ask_targets(data, contents, card, seen)],
        "receipt": _receipt(Path(model), card.sha256) if sealed else None,
    }
    listed = list_ops(report["contents"]) if ops else []
    about = card_lines(card, len(data)) if sealed else _without_card(card, len(data), os.fspath(model))
    for line in (*about, *describe(report), *listed):
        say(line)
    if json_file is not None:
        write_report(json_file, report)
    return report


def describe(report: dict[str, Any]) -> list[str]:
    """Return the lines that say what a file is made of and where it would run."""
    contents = report["contents"]
    types = ", ".join(f"{count} write {kind}" for kind, count in contents["types"].items())
    islands = ", ".join(dict.fromkeys(contents["float_islands"])) or "none"
    outside = ", ".join(dict.fromkeys(contents["outside_xnnpack"])) or "nothing"
    ends = [
        f"{end['type']} {' x '.join(map(str, end['shape']))}"
        for end in (contents["inputs"][0], contents["outputs"][-1])
    ]
    lines = [
        f"ops        {len(contents['ops'])}: {types}",
        f"ends       {ends[0]} -> {ends[1]}",
        f"float      islands: {islands}",
        f"xnnpack    pieces: {contents['xnnpack_partitions']}; outside: {outside}",
        f"memory     {contents['constant_bytes'] / 1000:,.0f} kB of constants, "
        f"{contents['arena_bytes'] / 1000:,.0f} kB of tensors ({contents['arena_by']})",
        f"work       {contents['multiply_adds'] / 1e6:,.1f} M multiply-adds a tile",
    ]
    for row in report["targets"]:
        note = f" ({row['note']})" if row["note"] else ""
        lines.append(f"target     {row['fits']:7}{row['target']}: {row['reason']} [{row['by']}]{note}")
    if report["receipt"]:
        lines.append(f"receipt    {report['receipt']['file']}: {report['receipt']['line']}")
    return lines


def list_ops(contents: dict[str, Any]) -> list[str]:
    """Return one line for each op."""
    return [
        f"op {index:<4}    {op['op']:24}{' '.join(dict.fromkeys(op['inputs'])):>8} -> {op['output']:8}"
        f"{' x '.join(map(str, op['shape'][1:])):>18}{op['multiply_adds'] / 1e6:>10.2f} M  "
        f"{'' if op['xnnpack'] else '(outside XNNPACK) '}{' + '.join(op['layers'])}"
        for index, op in enumerate(contents["ops"])
    ]


def _without_card(card: Card, num_bytes: int, file: str) -> list[str]:
    """Return what is said in the place of a card that is not there."""
    options = " ".join(" ".join((option, *values)) for option, values in options_of_file(file).items())
    return [
        f"card       none: nothing says how images are fed to it, or that it is whole; {num_bytes / 1000:.0f} kB",
        f"task       {card.task}, head {card.head}, {len(card.class_names)} classes",
        f"run it     unetres predict {shlex.quote(file)} IMAGES --out DIR {options}",
    ]


def _receipt(model: Path, digest: str) -> dict[str, str] | None:
    """Return the name and the verdict of the receipt beside a file, unless it is that of other bytes."""
    try:
        receipt = read_receipt(model)
    except UnetresError:  # none, or a file of that name that is no receipt
        return None
    if receipt.file.sha256 != digest:
        return None
    return {"file": os.fspath(receipt_files(model)[0]), "line": receipt.verdict.line}
