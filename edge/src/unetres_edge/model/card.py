"""The card: what a model file says about itself, and the digest that tells whether its bytes are still the sealed ones.

A card is JSON in the `Model.metadata` table of the `.tflite` flatbuffer, under the name `KERAS_UNETRES_CARD`. Reading
it needs no TensorFlow and no LiteRT: the few flatbuffer offsets are followed here, each checked against the file's
length. The SHA-256 in it covers the whole file, computed with its own 64 characters set to "0".
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CardMissingError, ModelDamagedError, ModelError
from ..files import parse_state
from ..images.preprocessing import Preprocessing
from .background import find_background
from .calibration import Calibration
from .engine_cost import EngineCost
from .familiarity import Familiarity
from .promise import Promise

CARD_NAME = "KERAS_UNETRES_CARD"
SCHEMA = 1
HEADS = ("logits", "argmax")
TASKS = ("segment", "classify")
MAX_CLASSES = 255  # of a segmenter: ids are bytes, and 255 is "not labelled"
ACTIVATIONS = ("softmax", "sigmoid", "none")
_KERAS = ("a zip archive (perhaps .keras)", "an HDF5 file")
_NO_DIGEST = "0" * 64
_DIGEST_KEY = b'"sha256": "'
_RESEALED = re.compile(rb'"resealed": (\d), "sha256": "')


@dataclass(frozen=True)
class Card:
    """What a model file says about itself (schema 1).

    Args:
        class_names: names of the classes; the class id is the position.
        class_colors: (red, green, blue) of each class, 0..255.
        preprocessing: preparation of images for the network.
        task: "segment" (a class for every pixel) or "classify" (a class for the image).
        head: "logits" (scores for every class) or "argmax" (class ids made in the graph).
        ignore_index: the id that means "not labelled" in the masks it was scored on, or None.
        background: the class of which no objects and outlines are made; -1 for that whose name says so, else 0.
        show: the three channels that pictures show as red, green and blue, counted from 1; () for the usual ones.
        halo: distance, in px, at which an input pixel can influence the output.
        stride: px of the input between neighbouring elements of the network's smallest map, or 0 if not known.
        crop: px of each side of the input that have no output: 0, or of an unpadded network more (92 of Ronneberger
            2015), whose tiles are cut with that much around them.
        activation: function that makes probabilities of the scores: "softmax" over the classes, "sigmoid" of each by
            itself, or "none" where they are probabilities already.
        calibration: calibration of the probabilities, of a file of which it was found; None for the network's own.
        familiarity: statistics that tell pictures unlike those of the training; None where there are none.
        promises: risks that are promised, each with the doubt above which a pixel is given up for it.
        engines: cost of other engines than LiteRT on held-out images; () where that was not measured.
        recipe: name of the recipe by which the file was quantized.
        scores: scores on held-out images.
        dataset: reading of the data set (options of `unetres train`), so that scoring reads it likewise.
        versions: package name -> version that made the file.
        resealed: number of times that the file was sealed again after another tool had changed it, up to 9.
        sha256: hexadecimal digest of the sealed file; zeros before sealing.
    """

    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    preprocessing: Preprocessing
    task: str = "segment"
    head: str = "logits"
    ignore_index: int | None = None
    background: int = -1
    show: tuple[int, ...] = ()
    halo: int = 0
    stride: int = 0
    crop: int = 0
    activation: str = "softmax"
    calibration: Calibration | None = None
    familiarity: Familiarity | None = None
    promises: tuple[Promise, ...] = ()
    engines: tuple[EngineCost, ...] = ()
    recipe: str = "float32"
    scores: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    resealed: int = 0
    sha256: str = _NO_DIGEST

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("task", self.task, TASKS),
            ("head", self.head, HEADS),
            ("activation", self.activation, ACTIVATIONS),
        ):
            if value not in allowed:
                raise ModelError(f"card has an unknown {name}", expected=" or ".join(allowed), found=value)
        if not self.class_names:
            raise ModelError("card names no class")
        if self.per_pixel and len(self.class_names) > MAX_CLASSES:
            raise ModelError(
                "the model has more classes than a class map can hold",
                expected=f"at most {MAX_CLASSES}, with ids 0..{MAX_CLASSES - 1}; {MAX_CLASSES} is not labelled",
                found=len(self.class_names),
            )
        if len(self.class_colors) != len(self.class_names):
            raise ModelError(
                "card has not one colour a class", expected=len(self.class_names), found=len(self.class_colors)
            )
        if any(not 0 <= each < len(self.class_names) for promise in self.promises for each in promise.classes):
            raise ModelError("card promises something of a class that it does not name")
        bias = () if self.calibration is None else self.calibration.bias
        if bias and len(bias) != len(self.class_names):
            raise ModelError("card has not one bias a class", expected=len(self.class_names), found=len(bias))
        if self.background == -1:
            object.__setattr__(self, "background", find_background(self.class_names))
        if self.crop:
            self._check_crop()
        if not 0 <= self.background < len(self.class_names):
            raise ModelError(
                "card has no such class for the background",
                expected=f"0..{len(self.class_names) - 1}",
                found=self.background,
            )

    def _check_crop(self) -> None:
        """Refuse a network without padding whose tiles would have no pixel to keep, or would be scaled."""
        left = min(self.preprocessing.size) - 2 * self.crop
        if self.crop < 0 or not self.per_pixel or self.preprocessing.fit != "crop" or not 1 <= self.stride <= left:
            raise ModelError(
                "card has a crop that its tiles do not bear",
                expected="0, or of a segmenter with fit 'crop' one that leaves a stride of each side of the input",
                found=f"crop {self.crop}, stride {self.stride}, input {self.preprocessing.size}",
            )

    @property
    def output_size(self) -> tuple[int, int]:
        """The (height, width) px of the network's output."""
        height, width = self.preprocessing.size
        return height - 2 * self.crop, width - 2 * self.crop

    @property
    def per_pixel(self) -> bool:
        """Whether each pixel of an image gets a class, and not the image alone."""
        return self.task == "segment"

    def engine_cost(self, name: str) -> EngineCost | None:
        """Return what an engine costs; None where it was not measured, or other tools changed the file since."""
        return None if self.resealed else next((each for each in self.engines if each.engine == name), None)

    @property
    def stacked(self) -> bool:
        """Whether the pages of a file were read as the channels of one image."""
        return bool(self.dataset.get("pages") == "channels")

    def to_json(self) -> str:
        """Return the card as JSON text, the digest last."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "task": self.task,
                "classes": [
                    {"name": name, "color": list(color)}
                    for name, color in zip(self.class_names, self.class_colors, strict=True)
                ],
                "preprocessing": self.preprocessing.to_dict(),
                "head": self.head,
                "ignore_index": self.ignore_index,
                "background": self.background,
                "show": list(self.show),
                "halo": self.halo,
                "stride": self.stride,
                **({"crop": self.crop} if self.crop else {}),
                "activation": self.activation,
                "calibration": None if self.calibration is None else self.calibration.to_dict(),
                "familiarity": None if self.familiarity is None else self.familiarity.to_dict(),
                "promises": [promise.to_dict() for promise in self.promises],
                **({"engines": [engine.to_dict() for engine in self.engines]} if self.engines else {}),
                "recipe": self.recipe,
                "scores": self.scores,
                "dataset": self.dataset,
                "versions": self.versions,
                "resealed": self.resealed,
                "sha256": self.sha256,
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Read a card.

        Raises:
            ModelError: not JSON, a newer schema, or fields that are missing or wrong.
        """
        try:
            values = parse_state(text, last_counts=True)
            if values["schema"] != SCHEMA:
                raise ModelError(
                    "card is of another schema", expected=SCHEMA, found=values["schema"], fix="update unetres-edge"
                )
            return cls(
                class_names=tuple(_text(c["name"]) for c in values["classes"]),
                class_colors=tuple(_color(c["color"]) for c in values["classes"]),
                preprocessing=Preprocessing.from_dict(values["preprocessing"]),
                task=values["task"],
                head=values["head"],
                ignore_index=values["ignore_index"],
                background=_id(values.get("background", -1)),  # older files do not say it
                show=_show(values.get("show", [])),  # older files do not say it
                halo=int(values["halo"]),
                stride=int(values.get("stride", 0)),  # older files do not say it
                crop=_id(values.get("crop", 0)),  # only files of unpadded networks say it
                activation=_text(values.get("activation", "softmax")),  # older files do not say it
                calibration=_calibration(values.get("calibration")),  # older files have none
                familiarity=_familiarity(values.get("familiarity")),  # older files have none
                promises=tuple(map(Promise.from_dict, _list(values.get("promises", [])))),  # older files have none
                engines=tuple(map(EngineCost.from_dict, _list(values.get("engines", [])))),  # where it was measured
                recipe=_text(values["recipe"]),
                scores=dict(values["scores"]),
                dataset=dict(values["dataset"]),
                versions=dict(values["versions"]),
                resealed=int(values.get("resealed", 0)),  # older files do not say it
                sha256=str(values["sha256"]),
            )
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise ModelError(f"card is not readable: {type(error).__name__}: {error}") from error


def default_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` distinct colours: black first, then the PASCAL VOC colour map."""
    colors = []
    for index in range(count):
        red = green = blue = 0
        value = index
        for bit in range(7, -1, -1):
            red |= (value & 1) << bit
            green |= (value >> 1 & 1) << bit
            blue |= (value >> 2 & 1) << bit
            value >>= 3
        colors.append((red, green, blue))
    return tuple(colors)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _id(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no class id")
    return value


def _calibration(values: Any) -> Calibration | None:
    return None if values is None else Calibration.from_dict(values)


def _familiarity(values: Any) -> Familiarity | None:
    return None if values is None else Familiarity.from_dict(values)


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return values


def _show(values: Sequence[int]) -> tuple[int, ...]:
    if len(values) not in (0, 3) or not all(type(v) is int and v > 0 for v in values):
        raise ValueError(f"{values} are not three channels, counted from 1")
    return tuple(values)


def _color(values: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = values
    if not all(type(v) is int and 0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"colour {values} is not of three whole numbers 0..255")
    return red, green, blue


def read_card(data: bytes, *, file: str | None = None) -> Card:
    """Return the card inside a `.tflite`, after checking the digest over the whole file.

    Args:
        data: the file's bytes.
        file: name of the file in errors.

    Raises:
        ModelError: not a `.tflite`, or a card of another schema.
        ModelDamagedError: cut short, or changed since it was sealed.
        CardMissingError: a `.tflite` without a card.
    """
    start, end = _find_card(data, file)
    text = bytes(data[start:end])
    digest = _digest_span(text, start, file)
    try:
        card = Card.from_json(text)
    except ModelError as error:
        if _file_digest(data, digest) == bytes(data[slice(*digest)]).decode("ascii", "replace"):
            error.file = file
            raise
        raise ModelDamagedError("the card is damaged", file=file, fix="copy the model file again") from error
    computed = _file_digest(data, digest)
    if computed != card.sha256:
        raise ModelDamagedError(
            "the file changed since it was sealed",
            file=file,
            expected=f"SHA-256 {card.sha256[:12]}...",
            found=f"{computed[:12]}...",
            fix="copy the model file again, or export it again",
        )
    return card


def seal(data: bytes) -> bytes:
    """Return the file with the digest of its present bytes written into its card."""
    start, end = _find_card(data, None)
    digest = _digest_span(bytes(data[start:end]), start, None)
    sealed = bytearray(data)
    sealed[slice(*digest)] = _file_digest(data, digest).encode()
    return bytes(sealed)


def reseal(data: bytes, *, file: str | None = None) -> bytes:
    """Return a file that another tool has changed on purpose, sealed again; its card says so from then on.

    The card is changed in its place, so that nothing else in the file moves.

    Args:
        file: name of the file in errors.

    Raises:
        ModelError: not a `.tflite` with a card that can be read, or one whose card has no room to say so.
    """
    start, end = _find_card(data, file)
    text = bytes(data[start:end])
    Card.from_json(text)
    matches = list(_RESEALED.finditer(text))
    if not matches:
        raise ModelError("the card has no place to say that it was sealed again", file=file, fix="export it again")
    changed = bytearray(data)
    at = start + matches[-1].start(1)
    changed[at : at + 1] = str(min(9, int(matches[-1].group(1)) + 1)).encode()
    return seal(bytes(changed))


def read_metadata(data: bytes, name: str, *, file: str | None = None) -> bytes | None:
    """Return another entry of a verified file's `Model.metadata`, or None if there is none of this name."""
    span = _find_entry(data, name, file)
    return None if span is None else bytes(data[slice(*span)])


def _digest_span(text: bytes, start: int, file: str | None) -> tuple[int, int]:
    at = text.rfind(_DIGEST_KEY)
    if at < 0 or len(text) < at + len(_DIGEST_KEY) + 64:
        raise ModelDamagedError("the card has no digest", file=file, fix="copy the model file again")
    first = start + at + len(_DIGEST_KEY)
    return first, first + 64


def _file_digest(data: bytes, span: tuple[int, int]) -> str:
    view = memoryview(data)
    digest = hashlib.sha256(view[: span[0]])
    digest.update(_NO_DIGEST.encode())
    digest.update(view[span[1] :])
    return digest.hexdigest()


# Field numbers of tables in the TFLite schema (schema.fbs): Model, Metadata and Buffer.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0


def _find_card(data: bytes, file: str | None) -> tuple[int, int]:
    """Return the [start, end) of the card's JSON in the file."""
    span = _find_entry(data, CARD_NAME, file)
    if span is not None:
        return span
    raise CardMissingError(
        "the .tflite has no card",
        file=file,
        expected="a file written by `unetres export`",
        fix="pass card=Card(...) from Python, or export the model with keras_unetres.export_tflite",
    )


def _find_entry(data: bytes, name: str, file: str | None) -> tuple[int, int] | None:
    """Return the [start, end) of an entry of `Model.metadata`."""
    if data[4:8] != b"TFL3":
        kind = _kind(data)
        fix = "make a .tflite of it: unetres export" if kind in _KERAS else None
        raise ModelError("not a .tflite file", file=file, expected="a TFLite flatbuffer", found=kind, fix=fix)
    try:
        flat = _Flatbuffer(data)
        model = flat.follow(0)
        for entry in flat.vector(model, _MODEL_METADATA):
            start, end = flat.span(flat.follow(entry), _METADATA_NAME)
            # One long name may stand in all entries: none but those of the right length are looked at.
            if end - start == len(name) and data[start:end] == name.encode():
                number = flat.number(flat.follow(entry), _METADATA_BUFFER)
                buffers = flat.vector(model, _MODEL_BUFFERS)
                return flat.span(flat.follow(buffers[number]), _BUFFER_DATA)
    except (struct.error, IndexError) as error:
        raise ModelDamagedError(
            "the file is incomplete or damaged", file=file, found=f"{len(data)} bytes", fix="copy the model file again"
        ) from error
    return None


class _Flatbuffer:
    """The few steps through a flatbuffer that finding the card takes; leaving the file raises `struct.error`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _read(self, kind: str, at: int) -> int:
        if at < 0:
            raise struct.error("offset before the file")
        return int(struct.unpack_from(kind, self._data, at)[0])

    def follow(self, at: int) -> int:
        return at + self._read("<I", at)

    def _field(self, table: int, number: int) -> int | None:
        vtable = table - self._read("<i", table)
        if 4 + 2 * number >= self._read("<H", vtable):
            return None
        offset = self._read("<H", vtable + 4 + 2 * number)
        return table + offset if offset else None

    def number(self, table: int, number: int) -> int:
        at = self._field(table, number)
        return 0 if at is None else self._read("<I", at)

    def span(self, table: int, number: int) -> tuple[int, int]:
        """Return [start, end) of a vector of bytes."""
        at = self._field(table, number)
        if at is None:
            return 0, 0
        start = self.follow(at) + 4
        end = start + self._read("<I", start - 4)
        if end > len(self._data):
            raise struct.error("vector beyond the file")
        return start, end

    def vector(self, table: int, number: int) -> range:
        """Return the positions of the elements of a vector of tables."""
        at = self._field(table, number)
        if at is None:
            return range(0)
        start = self.follow(at) + 4
        count = self._read("<I", start - 4)
        if start + 4 * count > len(self._data):
            raise struct.error("vector beyond the file")
        return range(start, start + 4 * count, 4)


def _kind(data: bytes) -> str:
    for magic, name in (
        (b"PK\x03\x04", _KERAS[0]),
        (b"\x89HDF", _KERAS[1]),
        (b"\x80", "a pickle"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8", "a JPEG image"),
    ):
        if data.startswith(magic):
            return name
    return "an empty file" if not data else "something else"
