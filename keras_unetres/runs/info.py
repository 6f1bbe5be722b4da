"""What `run.json` says of a run, typed: how to rebuild the model, how the data was read, settings, plan, versions.

Files of earlier versions are read: what they lack has a default. What a later version added is kept, and not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NoReturn, TypeVar

from unetres_edge import Preprocessing
from unetres_edge.errors import RunFolderError, UnetresError, shortened

from ..choices.augmentations import AUGMENTATIONS
from ..choices.tasks import SEGMENT, TASK_TRAITS
from ..data.declaration import Reading
from ..settings import TrainSettings
from .plan import Plan
from .typed import of_known

SCHEMA = 1
QUANTIZE_AWARE, PRUNE, CLUSTER = "quantize_aware", "prune", "cluster"
# step of compression -> the fields of `Compression` that tell how it was done.
STEPS = {QUANTIZE_AWARE: ("ranges", "keep_zeros"), PRUNE: ("sparsity",), CLUSTER: ("clusters", "keep_zeros")}
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")  # of Keras
T = TypeVar("T")


@dataclass(frozen=True)
class ModelInfo:
    """The name of a builder of `keras_unetres.models`, and its arguments."""

    builder: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ClassInfo:
    """The classes of a model.

    Args:
        names: the position is the class id.
        colors: (red, green, blue) of each.
        note: mapping of the values, in words, or "".
        ignored: whether some pixels are not labelled.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    note: str = ""
    ignored: bool = False


@dataclass(frozen=True)
class DataInfo:
    """The data set of a run.

    Args:
        path: place of the data set, or None for arrays.
        fingerprint: digest of its files and of what they mean.
        splits: part -> names of its images.
    """

    path: str | None
    fingerprint: str
    splits: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Compilation:
    """The way in which steps are computed: precision, XLA, kind of normalisation.

    Args:
        precision: dtype policy of Keras, such as "float32" or "mixed_bfloat16"; None where it is left to the machine,
            as in runs of the first version: mixed float16 with a GPU, float32 elsewhere.
        jit_compile: whether XLA compiles a step; None where the devices decide, as in runs of the first version.
        fused_norm: whether BatchNormalization is one kernel; see `keras_unetres.training.fused_norm`.
        tried: name -> measured seconds of a step, where several ways were tried.
        wide_depthwise: whether gradients of depthwise convolutions that are slow in half precision are computed in
            float32; see `keras_unetres.training.depthwise`.
    """

    precision: str | None = None
    jit_compile: bool | None = None
    fused_norm: bool = False
    tried: Mapping[str, float] = field(default_factory=dict)
    wide_depthwise: bool = False

    def __post_init__(self) -> None:
        if self.precision not in (None, *_POLICIES):
            raise ValueError(f"precision is {self.precision!r}, not one of {', '.join(_POLICIES)}")
        if not isinstance(self.tried, Mapping) or not all(isinstance(s, (int, float)) for s in self.tried.values()):
            raise ValueError("tried is wrong: seconds of each way")

    @property
    def name(self) -> str:
        """Name for a person, such as "bfloat16" or "float32, XLA"."""
        return (self.precision or "float32").removeprefix("mixed_") + (", XLA" if self.jit_compile else "")


@dataclass(frozen=True)
class Compression:
    """A step of compression after which the network was trained on.

    Args:
        step: a name of `STEPS`.
        engine: "native" or "tfmot".
        ranges: way in which ranges were found, for quantization.
        keep_zeros: whether weights that were 0 stayed 0.
        sparsity: share of zeros in each kernel, for pruning.
        clusters: number of different values in each kernel, for clustering.
    """

    step: str
    engine: str = "native"
    ranges: str = "minmax"
    keep_zeros: bool = False
    sparsity: float | None = None
    clusters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the fields that the step has."""
        return {name: getattr(self, name) for name in ("step", "engine", *STEPS.get(self.step, ()))}


@dataclass(frozen=True)
class Distillation:
    """The teachers of a network that learns from others beside the labels.

    Args:
        teachers: run folders.
        digests: SHA-256 of the weights of each, in hexadecimal.
        temperature: number by which scores are divided before they are compared.
        share: share of the loss that the teachers have.
    """

    teachers: tuple[str, ...]
    digests: tuple[str, ...]
    temperature: float = 2.0
    share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("teachers", "digests"):
            texts = getattr(self, name)
            if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{name} is not a list of words")
            object.__setattr__(self, name, tuple(texts))
        if not self.teachers or len(self.teachers) != len(self.digests):
            raise ValueError(f"{len(self.teachers)} teachers with {len(self.digests)} digests")
        if not 1 <= self.temperature <= 100 or not 0 <= self.share <= 1:
            raise ValueError("temperature has to be 1 to 100, and share 0 to 1")


@dataclass(frozen=True)
class Speed:
    """What a plan for a time budget was made from, seconds."""

    step_seconds: float
    validation_seconds: float


@dataclass(frozen=True)
class RunInfo:
    """The content of `run.json`.

    Args:
        model: builder of the network, with its arguments.
        classes: classes that its outputs mean.
        preprocessing: preparation of images for the network.
        reading: way in which the data set was read.
        data: the data set.
        settings: settings of the training, as JSON values; see `train_settings`.
        augment: name of the random changes of the images.
        task: "segment" or "classify".
        plan: plan of the run, in steps; None before it is made.
        seed: seed of all random draws.
        versions: package -> version, for what decides a result.
        speed: times that were measured for the plan; None where nothing was.
        compress: steps of compression applied to the network, in order.
        source: the run folder that it was compressed from.
        compilation: way in which steps are computed.
        distil: the teachers of the training; None without.
        later: values that later versions wrote.
    """

    model: ModelInfo
    classes: ClassInfo
    preprocessing: Preprocessing
    reading: Reading
    data: DataInfo
    settings: Mapping[str, Any]
    augment: str
    task: str = SEGMENT.name
    plan: Plan | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    speed: Speed | None = None
    compress: tuple[Compression, ...] = ()
    source: str | None = None
    compilation: Compilation = Compilation()
    distil: Distillation | None = None
    later: Mapping[str, Any] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """Whether the network holds fake quantization, and so the ranges of its int8 file."""
        return any(step.step == QUANTIZE_AWARE for step in self.compress)

    def train_settings(self, file: str | os.PathLike[str] | None = None) -> TrainSettings:
        """Return the settings of the training.

        Raises:
            RunFolderError: there are settings of another version among them, or values that no setting takes.
        """
        try:
            return TrainSettings.from_dict(self.settings, file=file)
        except RunFolderError:
            raise
        except (AttributeError, TypeError, ValueError, UnetresError) as error:
            raise RunFolderError(f"run.json is wrong at settings: {error}", file=file) from error

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, as `run.json` holds them."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "later"}
        for name in ("model", "classes", "data", "compilation"):
            values[name] = asdict(values[name])
        for name in ("preprocessing", "reading"):
            values[name] = values[name].to_dict()
        values["plan"] = None if self.plan is None else self.plan.to_dict()
        values["speed"] = None if self.speed is None else asdict(self.speed)
        values["distil"] = None if self.distil is None else asdict(self.distil)
        values["compress"] = [step.to_dict() for step in self.compress]
        absent = {name for name in ("speed", "compress", "source", "distil") if not values[name]}
        return {"schema": SCHEMA, **{k: v for k, v in values.items() if k not in absent}, **self.later}

    @classmethod
    def from_dict(cls, values: Any, *, file: str | os.PathLike[str] | None = None) -> RunInfo:
        """Return the content of a `run.json` of any version, from its JSON values.

        Args:
            values: the content of `run.json`.
            file: file that it was read from, for errors.

        Raises:
            RunFolderError: another schema, or a value that is missing or wrong; its key is named.
        """
        schema = values.get("schema") if isinstance(values, dict) else type(values).__name__
        if schema != SCHEMA or not isinstance(values, dict):
            raise RunFolderError("run.json is of another schema", file=file, expected=SCHEMA, found=schema)
        required = ("augment", "classes", "data", "model", "plan", "preprocessing", "reading", "settings")
        missing = [name for name in required if name not in values]
        if missing:
            raise RunFolderError("run.json is incomplete", file=file, found="no " + ", ".join(missing))
        top = _Section(values, "", file)
        reading = top.section("reading")
        known = {f.name for f in fields(cls)} - {"later"}
        info = cls(
            model=_model(top.section("model")),
            classes=_classes(top.section("classes"), reading.get("ignore", (int, type(None)), None) is not None),
            preprocessing=top.section("preprocessing").made(lambda section: Preprocessing.from_dict(dict(section))),
            reading=reading.made(lambda section: of_known(Reading, section)),
            data=_data(top.section("data")),
            settings=top.get("settings", dict),
            augment=top.one_of("augment", tuple(AUGMENTATIONS), "none"),
            task=top.one_of("task", tuple(TASK_TRAITS), SEGMENT.name),
            plan=top.optional("plan", Plan),
            seed=top.number("seed", 0, _MOST_SEED),
            versions=top.get("versions", dict, {}),
            speed=top.optional("speed", Speed),
            compress=tuple(
                step.made(lambda section: of_known(Compression, section)) for step in top.sections("compress")
            ),
            source=top.get("source", (str, type(None)), None),
            compilation=top.optional("compilation", Compilation) or Compilation(),
            distil=top.optional("distil", Distillation),
            later={name: value for name, value in values.items() if name not in known | {"schema"}},
        )
        _check_network(info, top)
        return info


class _Section:
    """A part of `run.json` whose values are looked up by key; errors name the key with those above it."""

    def __init__(self, values: Mapping[str, Any], above: str, file: str | os.PathLike[str] | None) -> None:
        self._values, self._above, self._file = values, above, file

    def get(self, key: str, kind: type | tuple[type, ...], *default: Any) -> Any:
        """Return a value of a type, or the default where there is none."""
        if key not in self._values and default:
            return default[0]
        value = self._values.get(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if key not in self._values or not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.refuse(key, " or ".join(k.__name__ for k in kinds))
        return value

    def number(self, key: str, default: int, most: int) -> int:
        """Return a whole number from 0 on, or the default where there is none."""
        value: int = self.get(key, int, default)
        if not 0 <= value <= most:
            self.refuse(key, f"a whole number, 0 to {most}", found=shortened(value, 40))
        return value

    def one_of(self, key: str, words: tuple[str, ...], default: str) -> str:
        """Return one of some words, or the default where there is none."""
        value: str = self.get(key, str, default)
        if value not in words:
            self.refuse(key, " or ".join(words), found=value)
        return value

    def section(self, key: str) -> _Section:
        """Return the part of that key."""
        return _Section(self.get(key, dict), f"{self._above}{key}.", self._file)

    def sections(self, key: str) -> list[_Section]:
        """Return the parts in a list, which may be missing."""
        entries = self.get(key, (list, type(None)), None) or []
        if not all(isinstance(values, dict) for values in entries):
            self.refuse(key, "a list of parts")
        return [_Section(values, f"{self._above}{key}.{n}.", self._file) for n, values in enumerate(entries)]

    def optional(self, key: str, kind: type[T]) -> T | None:
        """Return a dataclass of numbers and words, or None where there is none."""
        if self._values.get(key) is None:
            return None
        return self.section(key).made(lambda section: of_known(kind, section))

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        texts = self.get(key, list)
        if not all(isinstance(value, str) for value in texts):
            self.refuse(key, "a list of words")
        return tuple(texts)

    def made(self, make: Callable[[Mapping[str, Any]], T]) -> T:
        """Return the object that `make` makes of the part; an error that it raises is named by the part's key."""
        try:
            return make(self._values)
        except (AttributeError, KeyError, TypeError, ValueError, UnetresError) as error:
            raise RunFolderError(
                f"run.json is wrong at {self._above.rstrip('.')}: {error}", file=self._file, fix="use a copy of it"
            ) from error

    def refuse(self, key: str, expected: str, *, found: str = "") -> NoReturn:
        """Raise the error that names a key."""
        value = self._values.get(key)
        found = found or ("nothing" if key not in self._values else "null" if value is None else type(value).__name__)
        raise RunFolderError(
            f"run.json is wrong at {self._above}{key}",
            file=self._file,
            expected=expected,
            found=found,
            fix="use a copy of it",
        )


_MOST_SEED = 2**63 - 1
_LARGEST = 1 << 16  # of the numbers that a network is made from


def _model(part: _Section) -> ModelInfo:
    arguments = part.get("arguments", dict)
    for name, value in arguments.items():
        for each in _numbers(value):
            if not abs(each) <= _LARGEST:  # NaN is not
                part.section("arguments").refuse(name, f"numbers of at most {_LARGEST}", found=shortened(each, 40))
    return ModelInfo(part.get("builder", str), arguments)


def _numbers(value: Any) -> Iterator[float]:
    """Yield every number in JSON values, however deep."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)


def _is_level(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _check_network(info: RunInfo, top: _Section) -> None:
    """Refuse a network that gives another number of classes, or takes another input, than the rest of the file says."""
    arguments, count = info.model.arguments, len(info.classes.names)
    shape = [*info.preprocessing.size, info.preprocessing.channels]
    input_shape = arguments.get("input_shape", shape)
    fits = isinstance(input_shape, list) and len(input_shape) == len(shape)
    if not fits or any(mine not in (None, other) for mine, other in zip(input_shape, shape, strict=True)):
        top.refuse("model", f"input_shape {shape}", found=f"input_shape {shortened(input_shape, 60)}")
    if arguments.get("num_classes", count) != count:
        top.refuse("model", f"{count} classes", found=f"num_classes {shortened(arguments['num_classes'], 40)}")


def _classes(part: _Section, ignored: bool) -> ClassInfo:
    names, colors = part.strings("names"), part.get("colors", list)
    if not all(isinstance(c, list) and len(c) == 3 and all(map(_is_level, c)) for c in colors):
        part.refuse("colors", "a list of [red, green, blue], each 0 to 255")
    if not names or len(names) != len(colors):
        part.refuse("colors", f"one for each of {len(names)} names", found=f"{len(colors)}")
    return ClassInfo(
        names,
        tuple((red, green, blue) for red, green, blue in colors),
        part.get("note", str, ""),
        part.get("ignored", bool, ignored),
    )


def _data(part: _Section) -> DataInfo:
    splits = part.section("splits")
    return DataInfo(
        part.get("path", (str, type(None))),
        part.get("fingerprint", str),
        {name: splits.strings(name) for name in part.get("splits", dict)},
    )
