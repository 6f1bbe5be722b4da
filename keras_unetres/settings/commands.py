"""The settings of every command but `train`, whose network, fit and data are in `train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unetres_edge.commands.predict_settings import ObjectSettings, PredictSettings
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import COLOR_ORDERS, Preprocessing
from unetres_edge.settings import Settings, all_options, like, setting

from ..choices.heads import HEADS
from ..choices.quantization import ENGINES, RANGE_METHODS
from ..choices.reading import SPLITS
from ..choices.recipes import ALIASES, AUTO, MIXED, RECIPES
from .train import (
    SIZE,
    DataSettings,
    FitSettings,
    LimitSettings,
    NetworkSettings,
    ReadingSettings,
    TrainSettings,
    WeightingSettings,
)

PREMASKS = ("masks", "labelme", "coco", "label-studio")  # forms of masks that are to be corrected
RETRAIN_EPOCHS = 5  # where neither epochs nor minutes are given
MAX_DROP = 0.3  # points that a file may lose, unless the command says how many

_DATA = "folder or shards of a data set, a dataset.yaml, a COCO annotation file, an address, hf:NAME or tfds:NAME"
_STRETCHED = "percentiles of each image that are stretched to full scale"
_MODEL = "run folder, .tflite or .keras file, or nuclei, which comes with the package"
_PARTS = (*SPLITS, "all")
_TEST_PART = "test, or val where there is none"


def _recipes() -> tuple[str, ...]:
    """Return the recipes of the command; which layers `MIXED` keeps in float is found by `AUTO`."""
    return (*(name for name in RECIPES if name != MIXED), *ALIASES, AUTO)


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Settings):
    """`unetres train`: where it reads and writes, and the settings of the run."""

    data: str | None = setting(None, _DATA, positional=True, unset="with --resume that of the run")
    out: str | None = setting(None, "run folder to make", metavar="RUN")
    resume: str | None = setting(
        None, "go on with this run, or that of --out, from its last checkpoint", metavar="RUN", bare=""
    )
    start: str | None = setting(
        None, "begin with the network and the weights of this run of the same classes", metavar="RUN"
    )
    overwrite: bool = setting(False, "replace an earlier run folder")
    folds: int | None = setting(
        None,
        "train a run in RUN/fold1 to RUN/foldN for each of N folds, whole groups in each, and score every image by the "
        "network that did not see it, with intervals, in RUN/report.html; --minutes are those of each",
        least=2,
        most=100,
        metavar="N",
        unset="one run",
    )
    settings: TrainSettings = TrainSettings()


@dataclass(frozen=True, kw_only=True)
class PlanCommand(Settings):
    """`unetres plan`: the data set, where the plan is written, and what is decided already."""

    data: str = setting(help=_DATA, positional=True)
    out: str | None = setting(None, "write it to this file, too", metavar="F")
    settings: TrainSettings = TrainSettings()


@dataclass(frozen=True, kw_only=True)
class CheckSettings(Settings):
    """`unetres check`."""

    data: str = setting(help=_DATA, positional=True)
    json: str | None = setting(None, "write the report to this file, too", metavar="F")
    html: str | None = setting(None, "write it as a page with pictures", metavar="F")
    fix: bool = setting(False, "write a dataset.yaml that mends what a declaration can mend")
    rehash: bool = setting(False, "take all files as they are, and renew their hashes")
    hashes: bool = setting(True, "neither compare nor write hashes")
    reading: ReadingSettings = ReadingSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rehash and not self.hashes:
            raise UsageError("--rehash and --no-hashes exclude each other")


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(Settings):
    """`unetres augment`."""

    data: str = setting(help=_DATA, positional=True)
    out: str = setting(help=".png to write", metavar="F")
    augment: str = like(DataSettings, "augment")
    size: int = like(NetworkSettings, "size", help="side of the crops", default=SIZE, unset=None)
    fit: str = like(NetworkSettings, "fit", default="crop")
    per_image: tuple[float, float] | None = like(NetworkSettings, "per_image", help=_STRETCHED, unset="no stretching")
    seed: int = like(FitSettings, "seed", help="seed of the draws")
    weighting: WeightingSettings = WeightingSettings()
    reading: ReadingSettings = ReadingSettings()


@dataclass(frozen=True, kw_only=True)
class RetrainSettings(Settings):
    """What commands from a run to a run take, which train its network on for a short while."""

    run: str = setting(help="run folder of a trained network; it is not changed", positional=True, metavar="RUN")
    out: str = setting(help="run folder to make", metavar="RUN2")
    overwrite: bool = setting(False, "replace an earlier run folder")
    data: str | None = setting(None, _DATA, metavar="D", unset="that of the run")
    epochs: int | None = like(FitSettings, "epochs", unset=f"{RETRAIN_EPOCHS}, or what --minutes allows")
    minutes: float | None = like(FitSettings, "minutes")
    learning_rate: float = like(FitSettings, "learning_rate", default=1e-4)

    @property
    def how(self) -> dict[str, Any]:
        """The fields beside the two run folders, as the workflow of the command takes them."""
        return {name: value for name, value in vars(self).items() if name not in ("run", "out")}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.minutes is not None:
            raise UsageError("--epochs and --minutes exclude each other")


_LAYERS = "names of the layers whose kernels are changed"
_ALL_LAYERS = "all with large kernels but those of the scores"


@dataclass(frozen=True, kw_only=True)
class PruneSettings(RetrainSettings):
    """`unetres prune`."""

    sparsity: float = setting(0.5, "final share of zeros in each kernel", above=0, below=1, metavar="P")
    layers: tuple[str, ...] | None = setting(None, _LAYERS, metavar="NAME", unset=_ALL_LAYERS)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(RetrainSettings):
    """`unetres cluster`."""

    clusters: int = setting(16, "number of different values in each kernel", least=2, most=65536, metavar="N")
    keep_zeros: bool = setting(False, "weights that are 0, as after pruning, stay 0; 0 is one of the values then")
    layers: tuple[str, ...] | None = setting(None, _LAYERS, metavar="NAME", unset=_ALL_LAYERS)


@dataclass(frozen=True, kw_only=True)
class KerasFileSettings(Settings):
    """How images meet the network of a `.keras` file, which does not say it itself."""

    title = "for .keras files, and .tflite files without a card: how images meet the network"

    channels: int | None = setting(
        None, "channels of the input: 1 or 3, or as many as the model takes", least=1, most=1024, metavar="N"
    )
    color_order: str | None = setting(
        None, "order of the colours", choices=COLOR_ORDERS, unset=Preprocessing.color_order
    )
    value_range: tuple[float, float] | None = setting(
        None, "what 0 and 255 become", least=-(10**6), most=10**6, metavar=("LOW", "HIGH"), unset="it has to be given"
    )
    mean: tuple[float, ...] | None = setting(
        None,
        "what is subtracted after that",
        least=-(10**6),
        most=10**6,
        metavar="X",
        unset=f"{Preprocessing.mean[0]:g}",
    )
    std: tuple[float, ...] | None = setting(
        None, "what is divided by after that", above=0, most=10**6, metavar="X", unset=f"{Preprocessing.std[0]:g}"
    )
    per_image: tuple[float, float] | None = like(NetworkSettings, "per_image", help=_STRETCHED, unset="no stretching")
    fit: str | None = like(NetworkSettings, "fit", unset=Preprocessing.fit)
    classes: tuple[str, ...] | None = setting(None, "class names", metavar="NAME", unset="their numbers")
    output: str | None = setting(None, "of several outputs, the one that is meant", metavar="NAME")
    modules: tuple[str, ...] | None = setting(
        None,
        "Python modules or .py files with layers of your own, which are imported",
        option="import",
        metavar="MODULE",
    )

    def preprocessing(self) -> dict[str, Any]:
        """Return the fields that say how images meet the network, as far as they are given."""
        names = (option.name for option in all_options(KerasFileSettings) if option.name not in _OF_THE_MODEL)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


_OF_THE_MODEL = ("classes", "output", "modules")


@dataclass(frozen=True, kw_only=True)
class GateSettings(Settings):
    """On which images a file is scored before it is written, and how much it may lose."""

    title = "gate: the file is scored beside Keras, and refused if it loses too much"

    data: str | None = setting(None, _DATA, metavar="D", unset="that of the run")
    split: str | None = setting(None, "part that is scored", choices=_PARTS, unset=_TEST_PART)
    max_drop: float | None = setting(
        None,
        "largest loss that is allowed, in points of mIoU or top-1",
        least=0,
        most=100,
        metavar="P",
        unset=f"{MAX_DROP:g}",
    )
    gate: bool = setting(True, "write the file without scoring it")
    max_ms: float | None = like(LimitSettings, "max_ms", unset="that of the run")
    max_kb: float | None = like(LimitSettings, "max_kb", unset="that of the run")
    max_arena: float | None = like(LimitSettings, "max_arena", unset="that of the run")
    device: str | None = like(LimitSettings, "device", unset="that of the run, or this machine")


def _risk() -> Any:
    return setting(
        (),
        "what is promised of pixels that are not given up, such as miss<=0.05, false(cell)<=0.1 or error<=0.02: the "
        "thresholds for it are found on these images",
        metavar="PROMISE",
    )


def _tile_size(help: str, **about: Any) -> Any:
    return setting(None, help, least=1, most=65_536, metavar="PX", repeats=True, **about)


@dataclass(frozen=True, kw_only=True)
class DistilSettings(Settings):
    """`unetres distil`."""

    runs: tuple[str, ...] = setting(
        help="run folders of trained segmenters, whose mean teaches; they are not changed",
        positional=True,
        metavar="RUN",
    )
    out: str = setting(help="run folder to make", metavar="SMALL")
    overwrite: bool = setting(False, "replace an earlier run folder")
    data: str | None = setting(None, _DATA, metavar="D", unset="that of the first run")
    filters: int | None = like(NetworkSettings, "filters", unset="decided from the limits and the minutes")
    epochs: int | None = like(FitSettings, "epochs")
    minutes: float | None = like(FitSettings, "minutes")
    temperature: float = setting(
        2.0, "scores are divided by it before they are compared", least=1, most=100, metavar="T"
    )
    share: float = setting(
        0.5, "share of the loss that the teachers have; the labels have the rest", least=0, most=1, metavar="P"
    )
    limits: LimitSettings = LimitSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.minutes is not None:
            raise UsageError("--epochs and --minutes exclude each other")


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings(RetrainSettings):
    """`unetres quantize`."""

    run: str = setting(
        help="run folder of a trained network, or a .keras file; it is not changed", positional=True, metavar="RUN"
    )
    data: str | None = setting(None, _DATA, metavar="D", unset="that of the run; of a .keras file it has to be given")

    engine: str = setting("native", "what computes the fake quantization", choices=ENGINES)
    ranges: str = setting("minmax", "how the ranges of activations are found", choices=RANGE_METHODS)
    keep_zeros: bool = setting(False, "weights that are 0, as after pruning, stay 0")
    size: tuple[int, int] | None = _tile_size("for .keras files: side, or height and width")
    keras_file: KerasFileSettings = KerasFileSettings()

    @property
    def how(self) -> dict[str, Any]:
        """The fields of the training, as the workflow of the command takes them."""
        return {name: value for name, value in super().how.items() if name not in ("size", "keras_file")}


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """`unetres export`."""

    model: str = setting(help="run folder, or .keras file", positional=True)
    out: str | None = setting(None, ".tflite to write", metavar="F", unset="the model's name with .tflite")
    recipe: str = setting(
        "static_wi8_ai8",
        f"how weights and activations are kept: {', '.join(name for name in RECIPES if name != MIXED)}, a short name "
        "such as int8 or float, or auto: int8, and as few layers in float32 as keep the loss within --max-drop",
        choices=_recipes,
        metavar="NAME",
    )
    head: str = setting(
        "logits",
        "what the file takes and gives: logits, logits_int8, logits_float, argmax or mediapipe",
        choices=lambda: tuple(HEADS),
        metavar="NAME",
    )
    size: tuple[int, int] | None = _tile_size("side, or height and width, of the tile", unset="that of the network")
    overwrite: bool = setting(False, "replace an earlier file and its receipt")
    web: str | None = setting(None, "also write a page with the model, for any static host", metavar="DIR")
    risk: tuple[str, ...] = _risk()
    calibrate: bool = setting(True, "leave probabilities as the network claims them, and unfamiliar pictures untold")
    calibration: str | None = setting(None, "for .keras files: a folder of training images", metavar="DIR")
    always_refine: bool = setting(
        False,
        "refine int8 at once: equalize channels, learn how kernels are rounded, correct biases; no labels. Without it, "
        "that is tried where the plain file loses more than is allowed",
        option="refine",
    )
    may_refine: bool = setting(True, "do not try that either", option="refine")
    allow_disagreement: bool = setting(
        False, "write a file that is not scored though fewer than 95 % of its clear labels are those of Keras"
    )
    scoring: GateSettings = GateSettings()
    keras_file: KerasFileSettings = KerasFileSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.always_refine and not self.may_refine:
            raise UsageError("--refine and --no-refine exclude each other")

    @property
    def refine(self) -> bool | None:
        """Whether to refine: always, never, or None where the plain file loses too much."""
        return True if self.always_refine else None if self.may_refine else False


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(Settings):
    """`unetres calibrate`."""

    model: str = setting(help=".tflite file that gives scores", positional=True)
    data: str = setting(help=_DATA, metavar="D")
    split: str = setting(
        "val", "part that it is calibrated on: images that the network was not trained on", choices=_PARTS
    )
    risk: tuple[str, ...] = _risk()
    out: str | None = setting(
        None, ".tflite to write", metavar="F", unset="the file itself, once the new one is complete"
    )
    overwrite: bool = setting(False, "replace the file of --out")
    json: str | None = setting(None, "write the figures to this file, too", metavar="F")


@dataclass(frozen=True, kw_only=True)
class NextSettings(Settings):
    """`unetres next`."""

    model: str = setting(help="run folder or .tflite file of a segmenter", positional=True)
    pool: tuple[str, ...] = setting(
        help="unlabelled images; folders of them, which are entered; patterns", positional=True
    )
    out: str = setting(help="folder to make: the chosen images, with masks to correct", metavar="DIR")
    count: int = setting(10, "images to choose", least=1, most=100_000, metavar="N")
    form: str = setting("masks", "what the masks are written as", choices=PREMASKS)
    data: str | None = setting(
        None, "labelled images, which the chosen ones shall differ from", metavar="D", unset="those of the run folder"
    )
    json: str | None = setting(None, "write the list to this file, too", metavar="F")
    csv: str | None = setting(None, "write it as a table", metavar="F")


@dataclass(frozen=True, kw_only=True)
class SuspectsSettings(Settings):
    """`unetres suspects`."""

    data: str = setting(help=_DATA, positional=True)
    folds: int = setting(3, "short trainings, each without one part of the images", least=2, most=100, metavar="N")
    epochs: int = setting(12, "passes over the data of each", least=1, most=10_000, metavar="N")
    filters: int = setting(8, "filters of the first level", least=1, most=1024, metavar="N")
    size: int | None = like(NetworkSettings, "size")
    runs: str | None = setting(None, "keep the run folders here", metavar="DIR", unset="thrown away")
    json: str | None = setting(None, "write the list to this file, too", metavar="F")
    csv: str | None = setting(None, "write it as a table", metavar="F")
    html: str | None = setting(None, "write it as a page with pictures", metavar="F")
    reading: ReadingSettings = ReadingSettings()


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """`unetres evaluate`."""

    model: str = setting(help=_MODEL, positional=True)
    data: str = setting(help=_DATA, positional=True)
    split: str = setting("test", "part that is scored", choices=_PARTS)
    json: str | None = setting(None, "write the scores to this file, too", metavar="F")
    size: tuple[int, int] | None = _tile_size("for .keras files: side, or height and width")
    seed: int | None = like(FitSettings, "seed", default=None, help="seed of the split", unset="that of the training")
    overlap: int | None = like(PredictSettings, "overlap")
    tta: str = like(PredictSettings, "tta")
    others: tuple[str, ...] = setting(
        (), "more models, to take the mean of all", option="with", metavar="MODEL", tags=("masks",)
    )
    instances: bool = setting(False, "score objects, too: AP, panoptic quality, V_rand")
    separation: ObjectSettings = ObjectSettings()
    reading: ReadingSettings = ReadingSettings()
    keras_file: KerasFileSettings = KerasFileSettings()


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """`unetres report`."""

    model: str = setting(help="run folder, or .tflite file", positional=True, metavar="RUN")
    data: str | None = setting(None, _DATA, metavar="D", unset="that of the run")
    split: str | None = like(GateSettings, "split")
    out: str | None = setting(None, ".html to write, a .json beside it", metavar="F", unset="RUN/report.html")


@dataclass(frozen=True, kw_only=True)
class PredictCommand(PredictSettings):
    """`unetres predict`."""

    model: str = like(PredictSettings, "model", help=_MODEL)
    others: tuple[str, ...] = like(EvaluateSettings, "others")
    size: tuple[int, int] | None = like(EvaluateSettings, "size")
    keras_file: KerasFileSettings = KerasFileSettings()


@dataclass(frozen=True, kw_only=True)
class InspectSettings(Settings):
    """`unetres inspect`."""

    model: str = setting(help=".tflite file", positional=True)
    ops: bool = setting(False, "list every op with the Keras layers in it")
    tools: bool = setting(False, "also ask the targets' own tools that are installed")
    json: str | None = setting(None, "write it all to this file, too", metavar="F")


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Settings):
    """`unetres models`."""

    name: str | None = setting(None, "a network's name, or that of a start", positional=True, unset="all")
    size: tuple[int, int] | None = _tile_size("side, or height and width, of the input", unset="the published one")
    plot: str | None = setting(None, "draw the network to this .png, .svg or .pdf file", metavar="F")
    json: str | None = setting(None, "write the figures to this file, too", metavar="F")


@dataclass(frozen=True, kw_only=True)
class DemoSettings(Settings):
    """`unetres demo`."""

    out: str = setting("demo", "folder to write", metavar="DIR")
    epochs: int = like(FitSettings, "epochs", default=8, unset="")
    seed: int = like(FitSettings, "seed", help="seed of pictures and training")


@dataclass(frozen=True, kw_only=True)
class ServeDemoSettings(Settings):
    """`unetres serve-demo`."""

    model: str = setting(help=".tflite file", positional=True)
    port: int = setting(0, "port of this machine to listen on; 0 for any", least=0, most=65_535, metavar="N")
    browser: bool = setting(True, "do not open the page")
    litert: str | None = setting(None, "folder with node_modules/@litertjs/core", metavar="DIR", unset="fetched once")


@dataclass(frozen=True, kw_only=True)
class AnnotateSettings(Settings):
    """`unetres annotate`."""

    pictures: str = setting(
        help="folder of pictures, a data set whose masks are to be corrected, or a project", positional=True
    )
    out: str | None = setting(
        None, "project to make, or to go on with", metavar="PROJECT", unset="PICTURES, if that is a project"
    )
    classes: tuple[str, ...] | None = setting(
        None, "class names of a new project", metavar="NAME", unset="background object; of a data set, its own"
    )
    host: str = setting("127.0.0.1", "address to listen on; by the usual one, only this machine reaches it")
    port: int = setting(0, "port to listen on; 0 for that of the last start, or any", least=0, most=65_535, metavar="N")
    browser: bool = setting(True, "do not open the page")
    learn: bool = setting(True, "train no network beside the painting")
    minutes: float = like(
        FitSettings, "minutes", default=3.0, help="length of each training beside the painting", unset=""
    )
    review: tuple[str, ...] | None = setting(
        None, "reports of `check --json` and `suspects --json`: the page goes from place to place", metavar="JSON"
    )
