"""The receipt of an exported file: what it lost on held-out images, whether that is allowed, and what it is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from jinja2 import TemplateError

from unetres_edge.errors import ReceiptError
from unetres_edge.files import parse_state, read_bytes
from unetres_edge.model.card import default_colors
from unetres_edge.results.draw import Color

from ..choices.arguments import checks_kinds
from ..pages.receipt import ChangedImage, receipt_body, receipt_page, speed_line
from ..scores.bootstrap import DRAWS, LEVEL
from ..scores.paired import Drop, signed
from .gate import Verdict
from .rows import KERAS, PER_CLASS, ImageRow, Row, ScoredOn, drop_values, file_row, read_drop
from .targets import TargetRow

SCHEMA = 1
T = TypeVar("T")
_INTERVALS = {
    "level": LEVEL,
    "draws": DRAWS,
    "over": "images, the same for both forms",
    "method": "percentile bootstrap",
}


@dataclass(frozen=True)
class FileFacts:
    """The file that a receipt is of.

    Args:
        name: name of the file, without its folder.
        num_bytes: its size.
        sha256: the digest in its card.
        task: task, as in its card.
        head: head, as in its card.
        recipe: recipe, as in its card.
        size: (height, width) of its input, px.
        preprocessing: JSON values of its `Preprocessing`.
        class_names: names of the classes, by id.
        class_colors: colours of the classes, by id.
        agreement: share of labels equal to Keras's on calibration images, or on noise where there are none; None in
            receipts of version 0.1.0.
    """

    name: str
    num_bytes: int
    sha256: str
    task: str
    head: str
    recipe: str
    size: tuple[int, int]
    preprocessing: Mapping[str, Any]
    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    agreement: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of activations come from.

    Args:
        images: number of calibration images; 0 where the recipe needs none.
        source: source of these images, or None.
        ranges: way in which the ranges were found.
    """

    images: int
    source: str | None
    ranges: str


@dataclass(frozen=True)
class Receipt:
    """All that is known of an exported file: the command line, the pages and the demo read the same one.

    Args:
        verdict: the gate's verdict, and one line that says why.
        score: name of the score that counts, "mIoU" or "top-1"; None if nothing was scored.
        max_drop: the largest loss of it that is allowed, in points.
        drop: loss of the file, in points, with its interval; None if nothing was scored.
        file: the file.
        source: the run folder or `.keras` file that it was made from, or "a model in memory".
        scored_on: the images that scored it; None with a reason in `why_not`.
        why_not: why it was not scored, or "".
        calibration: source of the ranges.
        rows: the scores of each form of the model, the Keras model first.
        images: row of each image; none for classifiers.
        noise_db: layer -> signal to quantization noise, dB, of files that have a float32 one beside them.
        mixed: choice of the layers that stay in float32, JSON values; None without.
        reliability: reliability of its probabilities before and after calibration, JSON values; None if not asked.
        contents: ops, sizes and memory of the file, as `keras_unetres.tflite.contents.Contents.to_dict` gives it.
        targets: verdict on each target, whether it runs there.
        versions: versions of packages, Python and the system.
        command: command line that makes it again, or "".
        refinement: what refinement had to do with it: `line` for people, whether it is `used`, and the figures of the
            `plain` file and of the `refined` one, where both were made, JSON values; None without.
        path: path of the file, if that is known.
    """

    verdict: Verdict
    score: str | None
    max_drop: float
    drop: Drop | None
    file: FileFacts
    source: str
    scored_on: ScoredOn | None
    why_not: str
    calibration: Calibration
    rows: tuple[Row, ...]
    images: tuple[ImageRow, ...]
    noise_db: Mapping[str, float | None]
    mixed: Mapping[str, Any] | None
    contents: Mapping[str, Any]
    targets: tuple[TargetRow, ...]
    versions: Mapping[str, str]
    command: str
    reliability: Mapping[str, Any] | None = None
    refinement: Mapping[str, Any] | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def passed(self) -> bool | None:
        """Whether the file may be used; None if it was not scored."""
        return self.verdict.passed

    @property
    def scores(self) -> dict[str, Any]:
        """What the card of the file says of its scores; empty if it was not scored."""
        return (
            {} if self.scored_on is None or self.score is None else card_scores(self.score, self.scored_on, self.rows)
        )

    def __str__(self) -> str:
        return f"{self.file.name}, {self.file.recipe}, {self.file.num_bytes / 1000:.0f} kB: {self.verdict.line}"

    def _repr_html_(self) -> str:
        return receipt_body(self.to_dict(), self.file.class_colors)

    def page(self, changed: Sequence[ChangedImage] = ()) -> bytes:
        """Return the receipt as a page, UTF-8 HTML, with pictures of the images that lost most."""
        return receipt_page(self.to_dict(), changed, self.file.class_colors)

    def table(self) -> list[str]:
        """Return the lines that say how each form scored; none where nothing was scored."""
        if not self.rows:
            return []
        lines = [f"{'':28}{self.score:>8}{'vs Keras':>10}{'labels as Keras':>19}{'kB':>9}{'ms/image':>10}"]
        lines += [_line(row) for row in self.rows]
        speed = speed_line([row.title for row in self.rows], [row.ms for row in self.rows], file_row(self.rows).title)
        return [*lines, f"file       {speed}"] if speed else lines

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON values, schema 1."""
        file = self.file
        return _json_values(
            {
                "schema": SCHEMA,
                "verdict": asdict(self.verdict),
                "gate": {
                    "score": self.score,
                    "max_drop": self.max_drop,
                    **drop_values(self.drop),
                    "intervals": _INTERVALS,
                },
                "file": {
                    "name": file.name,
                    "bytes": file.num_bytes,
                    "sha256": file.sha256,
                    "task": file.task,
                    "head": file.head,
                    "recipe": file.recipe,
                    "size": file.size,
                    "preprocessing": file.preprocessing,
                    "classes": file.class_names,
                    "colors": file.class_colors,
                    "agreement": file.agreement,
                },
                "source": self.source,
                "data": {"why_not": self.why_not} if self.scored_on is None else asdict(self.scored_on),
                "calibration": {
                    "images": self.calibration.images,
                    "from": self.calibration.source,
                    "ranges": self.calibration.ranges,
                },
                "steps": [row.to_dict(str(self.score)) for row in self.rows],
                "images": [asdict(row) for row in self.images],
                "noise_db": self.noise_db,
                "mixed": self.mixed,
                "reliability": self.reliability,
                "refinement": self.refinement,
                "contents": self.contents,
                "targets": [row.to_dict() for row in self.targets],
                "versions": self.versions,
                "command": self.command,
            }
        )

    @classmethod
    def from_dict(cls, values: Any, *, file: str | os.PathLike[str] = "") -> Receipt:
        """Return the receipt of which `values` are the JSON values.

        Args:
            values: JSON values, as `to_dict` gives them. Fields that were added since version 0.1.0 may be absent, and
                unknown ones are left out.
            file: file that they were read from, for errors.

        Raises:
            ReceiptError: they are not a receipt, or one of another schema.
        """
        _check(values, _FORM, "", file)
        if values["schema"] != SCHEMA:
            raise ReceiptError("a receipt of another version", file=file, expected=SCHEMA, found=values["schema"])
        _check(values["data"], _UNSCORED if "why_not" in values["data"] else _SCORED_ON, "data", file)
        gate, facts, data, calibration = values["gate"], values["file"], values["data"], values["calibration"]
        names = tuple(facts["classes"])
        colors = _read_colors(facts.get("colors"), len(names), file)
        return cls(
            verdict=_build(Verdict, values["verdict"]),
            score=gate["score"],
            max_drop=gate["max_drop"],
            drop=read_drop(gate),
            file=FileFacts(
                facts["name"],
                facts["bytes"],
                facts["sha256"],
                facts["task"],
                facts["head"],
                facts["recipe"],
                (facts["size"][0], facts["size"][1]),
                facts["preprocessing"],
                names,
                colors,
                facts.get("agreement"),
            ),
            source=values["source"],
            scored_on=None if "why_not" in data else _build(ScoredOn, {**data, "notes": tuple(data["notes"])}),
            why_not=data.get("why_not", ""),
            calibration=Calibration(calibration["images"], calibration["from"], calibration["ranges"]),
            rows=tuple(Row.from_dict(row) for row in values["steps"]),
            images=tuple(_build(ImageRow, row) for row in values["images"]),
            noise_db=values["noise_db"],
            mixed=values.get("mixed"),
            contents=values["contents"],
            targets=tuple(_build(TargetRow, row) for row in values["targets"]),
            versions=values["versions"],
            command=values["command"],
            reliability=_read_reliability(values.get("reliability"), file),
            refinement=_read_refinement(values.get("refinement"), file),
        )


def _read_colors(values: Any, count: int, file: str | os.PathLike[str] | None) -> tuple[Color, ...]:
    """Return the colours of so many classes, the usual ones where a receipt has none.

    Raises:
        ReceiptError: they are none, or of another number.
    """
    if values is None:
        return default_colors(count)
    rows = values if isinstance(values, (list, tuple)) else ()
    sound = [
        row for row in rows if isinstance(row, (list, tuple)) and len(row) == 3 and all(type(v) is int for v in row)
    ]
    if len(sound) != count or len(rows) != count:
        raise ReceiptError("file.colors is wrong", file=file, expected=f"[red, green, blue] for {count} classes")
    return tuple((row[0], row[1], row[2]) for row in sound)


@checks_kinds
def read_receipt(path: str | os.PathLike[str]) -> Receipt:
    """Read a `.receipt.json`, or that of a `.tflite`.

    Raises:
        ReceiptError: it is not a receipt.
        FileSystemError: it cannot be read.
    """
    json_file = Path(path) if Path(path).suffix == ".json" else receipt_files(path)[0]
    try:
        values = parse_state(read_bytes(json_file, "receipt"))
    except (RecursionError, ValueError) as error:
        raise ReceiptError("the receipt is not JSON", file=json_file) from error
    receipt = _read(values, json_file)
    model = json_file.with_name(receipt.file.name)
    return replace(receipt, path=model) if model.is_file() else receipt


def _read(values: Any, file: Path) -> Receipt:
    """Return a receipt of which a page can be made.

    Raises:
        ReceiptError: it is none, or values deep in it are of another form.
    """
    try:
        receipt = Receipt.from_dict(values, file=file)
        if Path(receipt.file.name).name != receipt.file.name:
            raise ValueError("its file has a name that leads elsewhere")
        receipt.page()
    except (ArithmeticError, LookupError, TypeError, ValueError, TemplateError) as error:
        raise ReceiptError(
            f"the receipt has a value of another form: {error}", file=file, fix="export the file again"
        ) from error
    return receipt


def receipt_files(out: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the names of a file's receipt: "m.tflite" -> "m.receipt.json" and "m.receipt.html"."""
    path = Path(out)
    stem = path.name.removesuffix(".rejected").removesuffix(".tflite")
    stem += ".rejected" if path.suffix == ".rejected" else ""
    return path.with_name(stem + ".receipt.json"), path.with_name(stem + ".receipt.html")


def card_scores(score: str, scored_on: ScoredOn, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the card of a file says of its scores.

    Args:
        score: name of the score.
        scored_on: the images.
        rows: rows of the forms, the Keras model first.
    """
    file = file_row(rows)
    name = "miou" if score == "mIoU" else "top1"
    return {
        "split": scored_on.split,
        "num_images": scored_on.num_images,
        name: file.score,
        f"{name}_keras": rows[0].score,
        "drop_points": None if file.drop is None else file.drop.points,
        "labels_equal": file.labels_equal,
        PER_CLASS[score]: dict(file.per_class),
    }


def _read_reliability(values: Any, file: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """Return what a receipt says of probabilities; None where it says nothing.

    Raises:
        ReceiptError: it has another form.
    """
    if values is None:
        return None
    _check(values, _UNSCORED if isinstance(values, dict) and "why_not" in values else _RELIABILITY, "reliability", file)
    if "quality" in values:
        _check(values["quality"], _QUALITY, "reliability.quality", file)
    return dict(values)


def _read_refinement(values: Any, file: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """Return what a receipt says of refinement; None where it says nothing.

    Raises:
        ReceiptError: it has another form.
    """
    if values is None:
        return None
    _check(values, _REFINEMENT, "refinement", file)
    return dict(values)


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return a dataclass of the values that it has fields for."""
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names})


def _line(row: Row) -> str:
    first = row.title == KERAS
    drop = "" if row.drop is None or first else signed(-row.drop.points)
    if row.labels_as_file is not None:
        equal = f"{100 * row.labels_as_file:.3f} % as file"
    else:
        equal = "" if first or row.labels_equal is None else f"{100 * row.labels_equal:.3f} %"
    size = "" if row.kb is None else f"{row.kb:.0f}"
    ms = "" if row.ms is None else f"{row.ms:.1f}"
    value = "absent" if row.score is None else f"{row.score:.4f}"
    return f"{row.title:28}{value:>8}{drop:>10}{equal:>19}{size:>9}{ms:>10}"


def _json_values(value: Any) -> Any:
    """Return values as JSON has them: lists for tuples, and no lone surrogates of file names that are no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_json_values(key): _json_values(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(each) for each in value]
    return value


_NUMBER, _TEXT = (int, float), (str, NoneType)
_SHARE = (int, float, NoneType)
_DROP = {"drop": _SHARE, "drop_interval": (list, NoneType)}
_FORM: dict[str, Any] = {  # what a receipt of schema 1 has at least; a list holds the form of each item
    "schema": int,
    "verdict": {"passed": (bool, NoneType), "line": str},
    "gate": {"score": _TEXT, "max_drop": _NUMBER, **_DROP},
    "file": {
        **dict.fromkeys(("name", "sha256", "task", "head", "recipe"), str),
        "bytes": int,
        "size": list,
        "preprocessing": dict,
        "classes": list,
    },
    "source": str,
    "data": dict,
    "calibration": {"images": int, "from": _TEXT, "ranges": str},
    "steps": [{"title": str, "score": _SHARE, **_DROP, "labels_equal": _SHARE, "ms": _SHARE, "kb": _SHARE}],
    "images": [{"name": str, **dict.fromkeys(("first", "last", "drop", "labels_equal"), _SHARE)}],
    "noise_db": dict,
    "contents": {
        **dict.fromkeys(("ops", "float_islands", "outside_xnnpack", "inputs", "outputs", "metadata"), list),
        **dict.fromkeys(("xnnpack_partitions", "constant_bytes", "arena_bytes", "multiply_adds"), int),
    },
    "targets": [{**dict.fromkeys(("target", "fits", "reason", "by"), str), "rules": (dict, NoneType), "note": _TEXT}],
    "versions": dict,
    "command": str,
}
_MEASURED: dict[str, Any] = {
    "ece": _NUMBER,
    "log_loss": _NUMBER,
    "ece_by_class": dict,
    "bins": dict.fromkeys(("share", "claimed", "right"), list),
}
_RELIABILITY: dict[str, Any] = {
    "calibration": {"temperature": _NUMBER, "bias": list, "images": int, "split": str},
    "measured_on": str,
    "before": _MEASURED,
    "after": _MEASURED,
}
_QUALITY: dict[str, Any] = {"measured_on": str, "images": [list], "mean_error": _NUMBER, "correlation": _SHARE}
_REFINEMENT: dict[str, Any] = {"line": str, "used": bool, **dict.fromkeys(("plain", "refined"), (dict, NoneType))}
_UNSCORED = {"why_not": str}
_SCORED_ON = {**dict.fromkeys(("path", "split", "fingerprint"), str), "num_images": int, "notes": list}


def _check(value: Any, form: Any, path: str, file: str | os.PathLike[str]) -> None:
    """Raise ReceiptError unless a value has the form that `_FORM` describes."""
    kinds = dict if isinstance(form, dict) else list if isinstance(form, list) else form
    if not isinstance(value, kinds):
        wanted = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
        raise ReceiptError(
            f"not a receipt: {path or 'the file'} is wrong",
            file=file,
            expected=" or ".join(wanted).replace("NoneType", "null"),
            found=type(value).__name__,
        )
    if isinstance(form, list):
        for number, item in enumerate(value):
            _check(item, form[0], f"{path}[{number}]", file)
    elif isinstance(form, dict):
        missing = [key for key in form if key not in value]
        if missing:
            raise ReceiptError(f"not a receipt: {path or 'the file'} has no {missing[0]}", file=file)
        for key, inner in form.items():
            _check(value[key], inner, f"{path}.{key}".lstrip("."), file)
