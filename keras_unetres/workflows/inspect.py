"""`ku.inspect` and `unetres inspect`: what a model file says of itself, what it is made of, and where it would run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.commands.inspect import card_lines
from unetres_edge.errors import FileSystemError, UnetresError
from unetres_edge.files import read_bytes, write_json
from unetres_edge.model.card import read_card

from ..verify.receipt import read_receipt, receipt_files
from ..verify.targets import ask_targets


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
        model: `.tflite` with a card.
        ops: list every op with the Keras layers in it.
        tools: also ask the targets' own tools that are installed; they run the file on noise.
        json_file: where to write what is returned.
        say: called with lines for the user.

    Returns:
        JSON values: "card", "contents" (see `Contents.to_dict`), "targets" and "receipt": the receipt beside the file,
        if it is of this file.

    Raises:
        ModelDamagedError, CardMissingError: the file is not the one that was sealed, or has no card.
    """
    from ..tflite.contents import read_contents

    if json_file is not None and not Path(json_file).absolute().parent.is_dir():
        raise FileSystemError("the folder of the JSON file does not exist", file=json_file)
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    contents = read_contents(data)
    pre = card.preprocessing
    noise = np.random.default_rng(0).integers(0, 256, (2, *pre.size, pre.channels), np.uint8)
    seen = np.stack([pre.normalise(tile) for tile in noise]) if tools else None
    report = {
        "card": json.loads(card.to_json()),
        "contents": contents.to_dict(),
        "targets": [row.to_dict() for row in ask_targets(data, contents, card, seen)],
        "receipt": _receipt(Path(model), card.sha256),
    }
    listed = list_ops(report["contents"]) if ops else []
    for line in (*card_lines(card, len(data)), *describe(report), *listed):
        say(line)
    if json_file is not None:
        write_json(json_file, report)
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


def _receipt(model: Path, digest: str) -> dict[str, str] | None:
    """Return the name and the verdict of the receipt beside a file, unless it is that of other bytes."""
    try:
        receipt = read_receipt(model)
    except UnetresError:  # none, or a file of that name that is no receipt
        return None
    if receipt.file.sha256 != digest:
        return None
    return {"file": os.fspath(receipt_files(model)[0]), "line": receipt.verdict.line}
