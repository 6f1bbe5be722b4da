"""What ends an export: score the file, ask what it is made of, let the gate decide, and write file and receipt."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card
from unetres_edge.files import read_bytes, write_bytes, write_json
from unetres_edge.latency.profile import Profile
from unetres_edge.model.card import read_card
from unetres_edge.segment.tiles import pad_to_tile

from ..pages.receipt import FLOAT32, ChangedImage
from ..settings import LimitSettings
from ..tasks.loading import package_versions
from ..tasks.task import Loaded
from .engine_costs import other_engines
from .gate import decide
from .held_out import HeldOut, Scored
from .receipt import Calibration, FileFacts, Receipt, card_scores, receipt_files
from .rejection import rejection
from .rows import AWARE, KERAS, drop_values, file_row
from .targets import ask_targets

if TYPE_CHECKING:
    from ..tflite import Exported

REFERENCE = FLOAT32
_TILES = 4  # on which noise and the tools of targets are measured
_UNLABELLED = "no pixel of these images is labelled"


@dataclass(frozen=True)
class Candidate:
    """A model on its way to a file, and the images that decide whether the file may be used.

    Args:
        source: run folder or `.keras` file, or what else it was made from.
        loaded: the model and its card.
        origin: the float model that a quantization-aware one was made from, where it is still there; else `loaded`.
        crops: calibration images (N, h, w, C) uint8, or None.
        crops_from: words for where the crops come from.
        held: the images that decide, or why there are none.
        max_drop: the largest loss that is allowed, points.
        command: command line that does it again, or "".
        mixed: choice of the layers that compute in float32, JSON values; None if nothing was.
        limits: limits of the file on its device.
        profile: profile of that device; None for this machine.
        reliability: reliability of its probabilities, JSON values; None where that was not asked.
        refinement: what refinement had to do with it, JSON values; None where it was neither asked for nor tried.
    """

    source: str
    loaded: Loaded
    origin: Loaded
    crops: np.ndarray | None
    crops_from: str
    held: HeldOut | str
    max_drop: float
    command: str
    mixed: dict[str, Any] | None = None
    limits: LimitSettings = LimitSettings()
    profile: Profile | None = None
    reliability: dict[str, Any] | None = None
    refinement: dict[str, Any] | None = None

    def exceeded_by(self, data: bytes) -> str | None:
        """Return what a file takes, in words, where that is more than its limits allow."""
        if not self.limits.any:
            return None
        from ..tflite.cost import file_cost

        return self.limits.exceeded_by(file_cost(data, self.limits, self.profile))


@dataclass(frozen=True)
class Proof:
    """A file that was scored, and is not yet where it belongs.

    Args:
        receipt: receipt of the file, by the name that it will have.
        data: bytes of the file.
        changed: images of which it changes most.
        exceeds: whether it takes more than its limits allow.
    """

    receipt: Receipt
    data: bytes
    changed: tuple[ChangedImage, ...]
    exceeds: bool

    @property
    def points(self) -> float:
        """The points that the file loses; 0 of one that was not scored."""
        return 0.0 if self.receipt.drop is None else self.receipt.drop.points

    @property
    def loses(self) -> bool:
        """Whether the file loses more than is allowed, and nothing else is wrong with it."""
        return self.points > self.receipt.max_drop and not self.exceeds

    def figures(self) -> dict[str, Any]:
        """Return what the receipt of another file says of this one, JSON values."""
        row = file_row(self.receipt.rows) if self.receipt.rows else None
        return {
            "line": self.receipt.verdict.line,
            "score": None if row is None else row.score,
            **drop_values(self.receipt.drop),
            "labels_equal": self.receipt.file.agreement if row is None else row.labels_equal,
            "kb": _kilobytes(len(self.data)),
        }

    def after(self, refinement: dict[str, Any]) -> Proof:
        """Return the same, with what refinement had to do with it."""
        return replace(self, receipt=replace(self.receipt, refinement=refinement))


def prove(
    candidate: Candidate, done: Exported, reference: bytes | None, out: Path, say: Callable[[str], None]
) -> Proof:
    """Score a file that was converted.

    Args:
        candidate: model that was exported.
        done: the file, somewhere else; it is written anew with its scores.
        reference: the float32 `.tflite` of the same model, where there is one to compare with.
        out: path that the file belongs to.
        say: callback for lines to the user.
    """
    data = read_bytes(done.path)
    card = read_card(data)
    scored = None
    if not isinstance(candidate.held, str):
        say(f"scoring on {candidate.held.about} ...")
        scored = _score(candidate, candidate.held, reference, data)
        others, costs = other_engines(scored, candidate.held.about.num_images, data, card)
        card = replace(card, scores=card_scores(scored.score, candidate.held.about, scored.rows), engines=costs)
        data = _with_card(data, card)
        write_bytes(done.path, data)
        sizes = {_title(card): len(data), **({REFERENCE: len(reference)} if reference else {})}
        rows = (*scored.rows, scored.device(Path(done.path)), *others)
        scored = replace(scored, rows=tuple(replace(row, kb=_kilobytes(sizes.get(row.title))) for row in rows))
    receipt = _receipt(candidate, done, data, scored, reference, out)
    for line in receipt.table():
        say(line)
    exceeds = candidate.exceeded_by(data) is not None
    return Proof(receipt, data, () if scored is None else scored.changed, exceeds)


def _score(candidate: Candidate, held: HeldOut, reference: bytes | None, data: bytes) -> Scored:
    aware = {} if candidate.origin is candidate.loaded else {AWARE: candidate.loaded}
    files = {**({REFERENCE: reference} if reference else {}), _title(read_card(data)): data}
    return held.score({KERAS: candidate.origin, **aware}, files)


def _kilobytes(count: int | None) -> float | None:
    return None if count is None else round(count / 1000, 1)


def _with_card(data: bytes, card: Card) -> bytes:
    from ..tflite.seal import add_card

    return add_card(data, card)


def _receipt(
    candidate: Candidate, done: Exported, data: bytes, scored: Scored | None, reference: bytes | None, out: Path
) -> Receipt:
    from ..tflite.contents import read_contents

    held = candidate.held
    about = None if isinstance(held, str) else held.about
    drop = None if scored is None else scored.drop
    verdict = decide(
        drop,
        candidate.max_drop,
        score="" if scored is None else scored.score,
        images=str(about),
        why_not=held if isinstance(held, str) else _UNLABELLED,
        reached=None if scored is None else file_row(scored.rows).score,
        baseline=None if scored is None else scored.baseline,
        exceeded=candidate.exceeded_by(data),
    )
    layers = [layer.name for layer in candidate.loaded.model.layers]
    contents = read_contents(data, layers)
    card = read_card(data)
    tiles = _some_tiles(candidate)
    seen = np.stack([card.preprocessing.normalise(tile) for tile in tiles])
    target = out if verdict.passed is not False else out.with_name(out.name + ".rejected")
    return Receipt(
        verdict=verdict,
        score=None if scored is None else scored.score,
        max_drop=candidate.max_drop,
        drop=drop,
        file=FileFacts(
            target.name,
            len(data),
            card.sha256,
            card.task,
            done.head,
            card.recipe,
            card.preprocessing.size,
            card.preprocessing.to_dict(),
            card.class_names,
            card.class_colors,
            done.agreement,
        ),
        source=candidate.source,
        scored_on=about,
        why_not=held if isinstance(held, str) else "",
        calibration=_calibration(candidate, done, card),
        rows=() if scored is None else scored.rows,
        images=() if scored is None else scored.images,
        noise_db=_noise(candidate, reference, data, (tiles, seen), layers),
        mixed=candidate.mixed,
        reliability=candidate.reliability,
        refinement=candidate.refinement,
        contents=contents.to_dict(),
        targets=ask_targets(data, contents, card, seen),
        versions={**package_versions(), "python": platform.python_version(), "system": platform.platform()},
        command=candidate.command,
        path=target,
    )


def publish(proof: Proof, out: Path, say: Callable[[str], None]) -> Receipt:
    """Write the file, then its receipt, each whole or not at all.

    Args:
        proof: the file.
        out: path that it belongs to.
        say: callback for lines to the user.

    Raises:
        GateError: the file loses more than is allowed; it is at `OUT.rejected`.
        FileSystemError: something cannot be written; an earlier file is as it was.
    """
    receipt = proof.receipt
    assert receipt.path is not None
    json_file, page = receipt_files(receipt.path)
    html = receipt.page(proof.changed)
    write_bytes(receipt.path, proof.data)
    write_json(json_file, receipt.to_dict())
    write_bytes(page, html)
    say(f"receipt    {page}: {receipt.verdict.line}")
    if receipt.refinement is not None:
        say(f"refining   {receipt.refinement['line']}")
    if receipt.passed is False:
        raise rejection(receipt, page, exceeds=proof.exceeds)
    say(f"wrote      {out}: {len(proof.data) / 1000:.0f} kB, {len(receipt.contents['ops'])} ops")
    return receipt


def _noise(
    candidate: Candidate,
    reference: bytes | None,
    data: bytes,
    tiles: tuple[list[np.ndarray], np.ndarray],
    layers: list[str],
) -> Mapping[str, float | None]:
    """Return the noise of each layer, of tiles as they are and as the file's network sees them."""
    from ..tflite.noise import noise_by_layer

    if reference is None:
        return {}
    exact = np.stack([candidate.origin.card.preprocessing.normalise(tile) for tile in tiles[0]])
    return noise_by_layer(reference, data, (exact, tiles[1]), layers)


def _calibration(candidate: Candidate, done: Exported, card: Card) -> Calibration:
    if not done.num_calibration:
        ranges = "none needed" if card.recipe != "static_wi8_ai8" else "learned with the model"
        return Calibration(0, None, ranges)
    ranges = "smallest to largest" if candidate.refinement is None else "of several ways, that nearest to float"
    return Calibration(done.num_calibration, candidate.crops_from, ranges)


def _some_tiles(candidate: Candidate) -> list[np.ndarray]:
    """Return a few tiles (h, w, C) uint8 as the network is fed: of held-out images, else of calibration, else noise."""
    pre = candidate.loaded.card.preprocessing
    if not isinstance(candidate.held, str):
        prepared = [pre.prepare(image) for image in candidate.held.sample(_TILES)]
        return [
            middle(image, pre.size) if pre.fit == "crop" else pre.place(*image.shape[:2]).image(image)
            for image in prepared
        ]
    if candidate.crops is not None:
        return list(candidate.crops[:_TILES])
    return list(np.random.default_rng(0).integers(0, 256, (_TILES, *pre.size, pre.channels), np.uint8))


def middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle (h, w, C) of an image, mirrored outwards where it is too small."""
    image = pad_to_tile(image, size)
    y, x = ((n - t) // 2 for n, t in zip(image.shape[:2], size, strict=True))
    return image[y : y + size[0], x : x + size[1]]


def _title(card: Card) -> str:
    return REFERENCE if card.recipe == "float32" else f"{card.recipe} .tflite"
