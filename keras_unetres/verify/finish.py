"""What ends an export: score the file, ask what it is made of, let the gate decide, and write file and receipt."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card
from unetres_edge.errors import GateError
from unetres_edge.files import read_bytes, remove_left_over, write_bytes, write_json
from unetres_edge.model.card import read_card
from unetres_edge.segment.tiles import pad_to_tile

from ..tasks.loading import Loaded, package_versions
from .gate import AWARE, KERAS, HeldOut, Scored

if TYPE_CHECKING:
    from ..tflite import Exported
    from ..tflite.contents import Contents
    from .receipt import Ruling

REFERENCE = "float32 .tflite"
_TILES = 4  # on which noise and the tools of targets are measured


@dataclass(frozen=True)
class Job:
    """What was exported, and what it is scored on.

    Args:
        source: run folder or `.keras` file.
        loaded: the model and its card.
        origin: the float model that a quantization-aware one was made from, where it is still there; else `loaded`.
        crops: calibration images (N, h, w, C) uint8, or None.
        held: the images that decide, or why there are none.
        max_drop: the largest loss that is allowed, points.
        command: that does it again.
        mixed: how the layers that compute in float32 were chosen, JSON values; None if nothing was.
    """

    source: str
    loaded: Loaded
    origin: Loaded
    crops: np.ndarray | None
    held: HeldOut | str
    max_drop: float
    command: str
    mixed: dict[str, Any] | None = None


def receipt_files(out: Path) -> tuple[Path, Path]:
    """Return the names of a file's receipt: "m.tflite" -> "m.receipt.json" and "m.receipt.html"."""
    stem = out.name.removesuffix(".rejected").removesuffix(".tflite") + (
        ".rejected" if out.suffix == ".rejected" else ""
    )
    return out.with_name(stem + ".receipt.json"), out.with_name(stem + ".receipt.html")


def finish(job: Job, done: Exported, reference: bytes | None, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Score a file that was converted, and write it with its receipt, or as rejected.

    Args:
        job: what was exported.
        done: the file, somewhere else; it is written anew with its scores.
        reference: the float32 `.tflite` of the same model, where there is one to compare with.
        out: where the file belongs.
        say: called with lines for the user.

    Returns:
        As `export`.

    Raises:
        GateError: the file loses more than is allowed; it is at `OUT.rejected`.
        FileSystemError: something cannot be written; an earlier file is as it was.
    """
    from ..pages.receipt import receipt_page
    from ..tflite.contents import read_contents
    from ..tflite.seal import add_card
    from .receipt import rule

    data = read_bytes(done.path)
    card = read_card(data)
    contents = read_contents(data, [layer.name for layer in job.loaded.model.layers])
    scored, ruling = None, rule(None, job.max_drop, score="", images="", why_not=str(job.held))
    if not isinstance(job.held, str):
        say(f"scoring on {_images(job.held)} ...")
        models = {KERAS: job.origin, **({} if job.origin is job.loaded else {AWARE: job.loaded})}
        scored = job.held.score(models, {**({REFERENCE: reference} if reference else {}), _title(card): data})
        ruling = rule(scored.drop, job.max_drop, score=scored.score, images=_images(job.held), why_not=_UNLABELLED)
        card = replace(card, scores=_card_scores(scored, job.held))
        data = add_card(data, card)
        write_bytes(done.path, data)
        scored.rows.append(scored.device(Path(done.path)))
    target = out if ruling.passed is not False else out.with_name(out.name + ".rejected")
    figures = _figures(job, done, data, contents, scored, ruling, reference, target)
    for line in table(figures):
        say(line)
    json_file, page = receipt_files(target)
    for file in (target, json_file, page):
        remove_left_over(file)
    pictures = () if scored is None else scored.losses
    html = receipt_page(figures, pictures, job.loaded.card.class_colors)
    write_bytes(target, data)
    write_json(json_file, figures)
    write_bytes(page, html)
    say(f"receipt    {page}: {ruling.line}")
    if ruling.passed is False:
        raise GateError(
            ruling.line.removeprefix("Rejected. ").removesuffix("."),
            file=target,
            fix=f"see {page}; quantize while training, take another recipe, or allow more with --max-drop",
        )
    say(f"wrote      {out}: {len(data) / 1000:.0f} kB, {len(contents.ops)} ops")
    return {
        "path": os.fspath(out),
        "kb": round(len(data) / 1000, 1),
        "recipe": card.recipe,
        "agreement": done.agreement,
        "ops": len(contents.ops),
        "passed": ruling.passed,
        "drop": None if scored is None or scored.drop is None else scored.drop.points,
        "scores": card.scores,
        "receipt": os.fspath(json_file),
    }


_UNLABELLED = "no pixel of these images is labelled"


def table(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines that say how each form scored; none where nothing was scored."""
    if not figures["steps"]:
        return []
    score = figures["gate"]["score"]
    lines = [f"{'':28}{score:>8}{'vs Keras':>10}{'labels as Keras':>19}{'kB':>9}{'ms/image':>10}"]
    for row in figures["steps"]:
        drop = "" if row["drop"] is None or row["title"] == KERAS else f"{round(-row['drop'], 2) + 0.0:+.2f}"
        if row.get("labels_as_file") is not None:
            equal = f"{100 * row['labels_as_file']:.3f} % as file"
        else:
            equal = "" if row["title"] == KERAS else f"{100 * row['labels_equal']:.3f} %"
        size = "" if row["kb"] is None else f"{row['kb']:.0f}"
        ms = "" if row["ms"] is None else f"{row['ms']:.1f}"
        value = "absent" if row["score"] is None else f"{row['score']:.4f}"
        lines.append(f"{row['title']:28}{value:>8}{drop:>10}{equal:>19}{size:>9}{ms:>10}")
    return lines


def _figures(
    job: Job,
    done: Exported,
    data: bytes,
    contents: Contents,
    scored: Scored | None,
    ruling: Ruling,
    reference: bytes | None,
    target: Path,
) -> dict[str, Any]:
    """Return the receipt as JSON values."""
    from ..tflite.noise import noise_by_layer
    from .receipt import SCHEMA, intervals_note, json_text

    card = read_card(data)
    tiles = _some_tiles(job)
    seen = np.stack([card.preprocessing.normalise(tile) for tile in tiles])
    noise = {}
    if reference is not None:
        exact = np.stack([job.origin.card.preprocessing.normalise(tile) for tile in tiles])
        noise = noise_by_layer(reference, data, (exact, seen), [layer.name for layer in job.loaded.model.layers])
    sizes = {REFERENCE: reference, _title(card): data}
    steps = [] if scored is None else scored.rows
    for row in steps:
        size = sizes.get(row["title"])
        row["kb"] = None if size is None else round(len(size) / 1000, 1)
    return {
        "schema": SCHEMA,
        "verdict": {"passed": ruling.passed, "line": json_text(ruling.line)},
        "gate": {
            "score": None if scored is None else scored.score,
            "max_drop": job.max_drop,
            "drop": None if scored is None or scored.drop is None else scored.drop.points,
            "drop_interval": None
            if scored is None or scored.drop is None or scored.drop.interval is None
            else list(scored.drop.interval),
            "intervals": intervals_note(),
        },
        "file": {
            "name": json_text(target.name),
            "bytes": len(data),
            "sha256": card.sha256,
            "task": card.task,
            "head": done.head,
            "recipe": card.recipe,
            "size": list(card.preprocessing.size),
            "preprocessing": card.preprocessing.to_dict(),
            "classes": [json_text(name) for name in card.class_names],
        },
        "source": json_text(os.path.abspath(job.source)),
        "data": {"why_not": json_text(job.held)} if isinstance(job.held, str) else _text(job.held.about),
        "calibration": _calibration(job, done, card),
        "steps": steps,
        "images": [] if scored is None else scored.images,
        "noise_db": noise,
        "mixed": job.mixed,
        "contents": contents.to_dict(),
        "targets": ask_targets(data, contents, card, seen),
        "versions": {**package_versions(), "python": platform.python_version(), "system": platform.platform()},
        "command": json_text(job.command),
    }


def ask_targets(data: bytes, contents: Contents, card: Card, images: np.ndarray | None) -> list[dict[str, Any]]:
    """Return the verdict of each target: by its rules, and by its tool where one is installed.

    Args:
        data: bytes of the file.
        contents: of it.
        card: of it.
        images: (N, h, w, C) float32 as the network sees them, which tools run; None to ask no tool.
    """
    from ..tflite.target_tools import TOOLS, ask_tools, installed
    from ..tflite.targets import judge

    told = {} if images is None else ask_tools(data, contents, images)
    rows = []
    for verdict in judge(contents, card):
        tool = told.get(verdict.target)
        row = {**(tool or verdict).to_dict(), "rules": verdict.to_dict() if tool else None, "note": None}
        needed = TOOLS.get(verdict.target)
        if tool is None and needed is not None:
            missing = installed(needed) is None
            row["note"] = f"not checked with {needed}: " + ("not installed" if missing else "not asked")
        rows.append(row)
    return rows


def _calibration(job: Job, done: Exported, card: Card) -> dict[str, Any]:
    if not done.num_calibration:
        ranges = "none needed" if card.recipe != "static_wi8_ai8" else "learned with the model"
        return {"images": 0, "from": None, "ranges": ranges}
    return {"images": done.num_calibration, "from": "training images kept by the run", "ranges": "smallest to largest"}


def _card_scores(scored: Scored, held: HeldOut) -> dict[str, Any]:
    """Return what the card says of the scores of its file."""
    keras, file = scored.rows[0], scored.rows[-1]
    each = "per_class_iou" if scored.score == "mIoU" else "per_class_accuracy"
    name = "miou" if scored.score == "mIoU" else "top1"
    return {
        "split": held.about["split"],
        "num_images": held.about["num_images"],
        name: file["score"],
        f"{name}_keras": keras["score"],
        "drop_points": file["drop"],
        "labels_equal": file["labels_equal"],
        each: file[each],
    }


def _some_tiles(job: Job) -> list[np.ndarray]:
    """Return a few tiles (h, w, C) uint8 as the network is fed: of held-out images, else of calibration, else noise."""
    pre = job.loaded.card.preprocessing
    if not isinstance(job.held, str):
        prepared = [pre.prepare(image) for image in job.held.sample(_TILES)]
        return [
            middle(image, pre.size) if pre.fit == "crop" else pre.place(*image.shape[:2]).image(image)
            for image in prepared
        ]
    if job.crops is not None:
        return list(job.crops[:_TILES])
    return list(np.random.default_rng(0).integers(0, 256, (_TILES, *pre.size, pre.channels), np.uint8))


def middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle (h, w, C) of an image, mirrored outwards where it is too small."""
    image = pad_to_tile(image, size)
    y, x = ((n - t) // 2 for n, t in zip(image.shape[:2], size, strict=True))
    return image[y : y + size[0], x : x + size[1]]


def _images(held: HeldOut) -> str:
    number = held.about["num_images"]
    part = {"all": "", "train": "training ", "val": "validation "}.get(held.about["split"], f"{held.about['split']} ")
    return f"{number} {part}image{'s' * (number != 1)}"


def _title(card: Card) -> str:
    return REFERENCE if card.recipe == "float32" else f"{card.recipe} .tflite"


def _text(values: Mapping[str, Any]) -> dict[str, Any]:
    from .receipt import json_text

    return {
        key: [json_text(v) for v in value]
        if isinstance(value, list)
        else json_text(value)
        if isinstance(value, str)
        else value
        for key, value in values.items()
    }
