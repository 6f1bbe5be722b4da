"""The settings of a training: the network, how it is fitted, and how its data is read and varied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.images.preprocessing import FITS
from unetres_edge.settings import Option, Settings, all_options, change, get, make, setting

from ..choices.augmentations import AUGMENTATIONS
from ..choices.fitting import (
    CLASS_WEIGHTS,
    COMPILERS,
    NORM_STATISTICS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    SEARCHES,
)
from ..choices.losses import parse_loss
from ..choices.networks import (
    EFFICIENTNETS,
    ENCODERS,
    LITE,
    NO_ENCODER,
    PADDINGS,
    RESNETS,
    SEGMENTERS,
    UPSAMPLINGS,
    find_network,
    unpadded_crop,
    unpadded_input,
)
from ..choices.reading import MASK_KINDS, TARGETS
from ..choices.starts import NO_WEIGHTS, STARTS, Start

if TYPE_CHECKING:
    from unetres_edge.latency.profile import Profile

# What holds without a plan: for classifiers, with --no-plan, and in runs of earlier versions that do not say it.
EPOCHS = 40  # where no minutes are given, either
BATCH = 4
SIZE = 256  # px
DEPTH = 4  # of a U-Net's own contracting path
LEARNING_RATE = 1e-3

_MASKS, _UNET, _FREE = "masks", "unet", "free"  # tags: of segmenters, of U-Nets, may differ when a run is resumed
# What runs of earlier versions, which do not say it, were trained with.
_BEFORE: dict[tuple[str, ...], Any] = {("fit", "plan"): False, ("fit", "norm_statistics"): "moving"}
_FLAT = {"network": ("network", "name")}  # fields that had another name where all settings were in one flat class


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """The network, and how images meet it."""

    title = "network"

    size: int | None = setting(
        None,
        "side of the square input",
        least=1,
        most=16384,
        metavar="PX",
        unit="px",
        unset=f"that of the images if they are smaller than {SIZE} px; else {SIZE}, of scaled ones by a plan up to 384",
    )
    name: str = setting(
        "unet",
        "unet, fcn, or a ResNet such as resnet50 for class folders",
        choices=lambda: (*SEGMENTERS, *RESNETS),
        option="network",
        metavar="NAME",
    )
    encoder: str | None = setting(
        None,
        "a ResNet or efficientnet_lite0 as contracting path, or none: U-Net's own; see: unetres models",
        choices=lambda: (*ENCODERS, NO_ENCODER),
        metavar="NAME",
        unset="decided from the data; without a plan U-Net's own; of fcn: resnet50",
        tags=(_MASKS,),
    )
    weights: str | None = setting(
        None,
        "what the network starts from: nuclei, shapes or a file of such a start for a U-Net without encoder; of the "
        "encoder or the classifier published weights: imagenet (downloads), a .safetensors, .pth, .whl or .h5 file, or "
        "a preset; none: random weights; they also decide how images meet the network",
        metavar="W",
        unset="decided from the data; without a plan random weights",
    )
    filters: int | None = setting(
        None,
        "channels of the finest level",
        least=1,
        most=4096,
        metavar="N",
        unset="decided from the minutes; with an encoder 16",
        tags=(_MASKS, _UNET),
    )
    depth: int | None = setting(
        None,
        "levels below the finest",
        least=1,
        most=12,
        metavar="N",
        unset="4; with an encoder all it has",
        tags=(_MASKS, _UNET),
    )
    residual: bool = setting(False, "residual blocks in both paths", tags=(_MASKS, _UNET))
    upsampling: str = setting(
        "transpose",
        "how the decoder doubles a map's size",
        choices=UPSAMPLINGS,
        tags=(_MASKS, _UNET),
    )
    padding: str = setting(
        "same",
        "same, or valid for convolutions that see nothing but the image, as in the U-Net paper: the output is smaller, "
        "and images are segmented by overlapping tiles with mirrored borders",
        choices=PADDINGS,
        tags=(_MASKS, _UNET),
    )
    dropout: float = setting(
        0.0, "share dropped at the end of the contracting path", least=0, below=1, metavar="P", tags=(_MASKS,)
    )
    channels: int | None = setting(
        None,
        "channels of the input",
        least=1,
        most=16,
        metavar="N",
        unset="1 if every image is grey, 3 with colour, else as many as the images have",
    )
    show: tuple[int, int, int] | None = setting(
        None,
        "channels, counted from 1, that pictures of images with other than 1 or 3 show as red, green and blue",
        least=1,
        most=16,
        metavar=("R", "G", "B"),
        unset="the first three; of two the mean",
        tags=(_MASKS,),
    )
    fit: str | None = setting(
        None,
        "how images become inputs; crop: at native scale, by tiles; else scaled",
        choices=FITS,
        unset="decided from the data; of classifiers: resize",
    )
    per_image: tuple[float, float] | None = setting(
        None,
        "percentiles of each image that are stretched to full scale; 0 0: no stretching",
        least=0,
        most=100,
        metavar=("LOW", "HIGH"),
        unset="decided from the data",
    )

    @property
    def task(self) -> str:
        """What the network does: "segment", or "classify", which gives one class for the whole image."""
        return find_network(self.name).task.name

    @property
    def published_encoder(self) -> str | None:
        """Name of the encoder, or None where the contracting path is U-Net's own."""
        return None if self.encoder == NO_ENCODER else self.encoder

    @property
    def start_weights(self) -> str | None:
        """The field `weights`, or None for random ones."""
        return None if self.weights == NO_WEIGHTS else self.weights

    @property
    def start(self) -> Start | None:
        """The start of this package that it begins with, if it does."""
        return STARTS.get(self.weights or "") if self.name == "unet" and self.published_encoder is None else None

    @property
    def starts_elsewhere(self) -> bool:
        """Whether its weights are downloaded or of a file, and not of an installed package."""
        installed = self.start is not None or (self.encoder, self.weights) == (LITE, "imagenet")
        return self.start_weights is not None and not installed

    @property
    def stretch(self) -> tuple[float, float] | None:
        """The field `per_image` of the preprocessing."""
        return self.per_image if self.per_image is not None and any(self.per_image) else None

    @property
    def image_fit(self) -> str:
        """The field `fit` of the preprocessing."""
        return self.fit or ("crop" if self.crop else find_network(self.name).task.fits[0])

    @property
    def input_size(self) -> int:
        """Side of the square input, px."""
        return self.size or self.input_for(SIZE)

    @property
    def crop(self) -> int:
        """Pixels of every side that the output leaves out: 0 with padding."""
        return unpadded_crop(self.depth or DEPTH) if self.padding == "valid" else 0

    @property
    def output_size(self) -> int:
        """Side of the square output, px."""
        return self.input_size - 2 * self.crop

    def input_for(self, output: int) -> int:
        """Return the side of the input of an output of at least `output` px, a multiple of 2**depth with padding."""
        return unpadded_input(self.depth or DEPTH, output) if self.crop else output

    def model(self, channels: int, num_classes: int) -> tuple[str, dict[str, Any]]:
        """Return the builder's name and its arguments, as `run.json` keeps them."""
        shape = {"input_shape": [self.input_size, self.input_size, channels], "num_classes": num_classes}
        if self.name in RESNETS:
            depth, variant = RESNETS[self.name]
            return "build_resnet", {**shape, "depth": depth, "variant": variant}
        encoder = self.published_encoder
        arguments = {**shape, "encoder": encoder, "dropout": self.dropout}
        if self.name == "fcn":
            return "build_fcn", {**arguments, "encoder": encoder or "resnet50"}
        filters = self.filters or (None if encoder else self.start.filters if self.start else 32)
        arguments |= {
            "filters": filters,
            "depth": self.depth or (self.start.depths.get(filters or 0) if self.start else None),
            "residual": self.residual,
            "upsampling": self.upsampling,
            "padding": "valid" if self.crop else None,
        }
        return "build_unet", {name: value for name, value in arguments.items() if value is not None}


@dataclass(frozen=True)
class FitSettings(Settings):
    """How the weights are fitted: budget, loss, optimizer, and what is kept."""

    title = "training"

    epochs: int | None = setting(
        None,
        "passes over the data",
        least=1,
        most=1_000_000,
        metavar="N",
        unset="what the steps of a pass ask for, or --minutes allows",
    )
    minutes: float | None = setting(
        None, "wall-clock budget instead of --epochs", above=0, most=525_600, metavar="M", unit="min"
    )
    batch: int | None = setting(
        None, "crops of one step", least=1, most=65_536, metavar="N", unset=f"decided from the data; else {BATCH}"
    )
    learning_rate: float | None = setting(
        None,
        "peak of the schedule",
        above=0,
        most=1000,
        metavar="R",
        unset=f"decided with the average of the weights; else {LEARNING_RATE:g}",
    )
    loss: str = setting(
        "cross_entropy + dice", "sum of losses; a classifier's is cross-entropy", check=parse_loss, metavar="L"
    )
    optimizer: str = setting("adamw", "update rule", choices=OPTIMIZERS)
    schedule: str = setting("cosine", "how the learning rate falls after its warm-up", choices=SCHEDULES)
    warmup: int | None = setting(
        None,
        "steps over which the learning rate rises",
        least=0,
        most=1_000_000_000,
        metavar="N",
        unset="a tenth of all, at most 100",
    )
    weight_decay: float = setting(1e-4, "decay of kernels", least=0, most=1000, metavar="W")
    clip_norm: float | None = setting(
        1.0, "largest norm of all gradients together", above=0, most=10**9, metavar="N", unset="no limit"
    )
    ema: float | None = setting(
        None,
        "momentum of a moving average of the weights, such as 0.99, which is what is validated and kept; 0: no average",
        least=0,
        below=1,
        metavar="M",
        unset="decided from the number of steps",
    )
    freeze_norm: float = setting(
        0.0,
        "share of the epochs, at the end, in which BatchNormalization works as at inference",
        least=0,
        below=1,
        metavar="P",
    )
    norm_statistics: str = setting(
        "precise",
        "statistics of BatchNormalization that are validated and kept; precise: measured over many crops with the "
        "weights at hand (Wu and Johnson 2021); moving: averages gathered while training",
        choices=NORM_STATISTICS,
    )
    deep_supervision: bool = setting(False, "train coarser levels of the decoder, too", tags=(_MASKS, _UNET))
    patience: int | None = setting(
        None,
        "validations without a better score after which training ends",
        least=1,
        most=1_000_000,
        metavar="N",
        unset="no early end",
    )
    checkpoint_seconds: float = setting(
        60.0, "time between two checkpoints", least=0, most=31_536_000, metavar="S", unit="s", tags=(_FREE,)
    )
    tensorboard: bool = setting(False, "write event files for TensorBoard, too", tags=(_FREE,))
    devices: int = setting(
        1, "GPUs of this machine to train on; each gets an equal part", least=1, most=1024, metavar="N", tags=(_FREE,)
    )
    precision: str = setting(
        "auto",
        "numbers that a step computes with; weights are float32 and exports the same; auto: what the processor does "
        "fastest",
        choices=PRECISIONS,
    )
    compile: str = setting("auto", "what compiles a step; auto: what is faster on the processor", choices=COMPILERS)
    plan: bool = setting(
        True, "what is not given has a fixed value; else it is decided from the data and the minutes", tags=(_FREE,)
    )
    search: str = setting(
        "none",
        "networks that are compared on short trainings, the best of which is gone on with; quick: about four, full: "
        "about ten",
        choices=SEARCHES,
        tags=(_MASKS, _UNET, _FREE),
    )
    seed: int = setting(0, "seed of weights, splits, order and augmentation", least=0, most=2**32 - 1, metavar="S")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.minutes is not None:
            raise UsageError("--epochs and --minutes exclude each other")

    @property
    def batch_size(self) -> int:
        """The field `batch`, or where it is left open the fixed value."""
        return BATCH if self.batch is None else self.batch

    @property
    def peak_rate(self) -> float:
        """The field `learning_rate`, or where it is left open the fixed value."""
        return LEARNING_RATE if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True)
class ReadingSettings(Settings):
    """How a data set is read, where that differs from what it says itself."""

    title = "data set"

    masks_are: str | None = setting(
        None,
        "what mask values are",
        choices=MASK_KINDS,
        option="masks",
        unset="what the data set says, or classes",
        tags=(_MASKS,),
    )
    target: str | None = setting(
        None,
        "what instances become",
        choices=TARGETS,
        unset="what the data set says; a planned training parts them: separated; else semantic",
        tags=(_MASKS,),
    )
    ignore: int | None = setting(
        None,
        "mask value that means 'not labelled'",
        least=-(2**15),
        most=2**16 - 1,
        metavar="N",
        unset="what the data set says",
        tags=(_MASKS,),
    )
    val_from: str | None = setting(
        None, "image names that make the validation part", metavar="GLOB", unset="a seeded 15 %"
    )
    test_from: str | None = setting(
        None, "image names that make the test part; none: no test part", metavar="GLOB", unset="a seeded 15 %"
    )
    group_by: str | None = setting(
        None,
        "regular expression on image names; images of one match, such as a patient, stay in one part",
        metavar="PATTERN",
        unset="what the data set says",
    )

    fold: tuple[int, int] | None = setting(
        None,
        "the K-th of N folds is the test part, the rest for training and, a seeded 15 % of it, for validation; --folds "
        "trains all",
        least=1,
        most=100,
        metavar=("K", "N"),
        unset="no folds",
    )

    def reading(self) -> dict[str, Any]:
        """Return the fields of `keras_unetres.data.Reading`; None where the data set decides."""
        return {option.name: getattr(self, option.name) for option in all_options(ReadingSettings)}


@dataclass(frozen=True)
class WeightingSettings(Settings):
    """How much each pixel counts."""

    title = "data set"

    class_weights: str | None = setting(
        None,
        "equal: every pixel weighs the same; balanced: rare classes weigh more, all together the same; softened: by "
        "the square root of that",
        choices=tuple(CLASS_WEIGHTS),
        unset="decided from the data; else equal",
    )
    border_weight: tuple[float, float] | None = setting(
        None,
        "W0 and SIGMA (px) of the U-Net border weights (Ronneberger 2015 eq. 2)",
        least=0,
        most=10**6,
        metavar=("W0", "SIGMA"),
        bare=(10.0, 5.0),
        unset="none",
        tags=(_MASKS,),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.border_weight is not None and not self.border_weight[1] > 0:
            raise UsageError("--border-weight is wrong", expected="W0 >= 0 and SIGMA > 0", found=self.border_weight)


@dataclass(frozen=True)
class DataSettings(WeightingSettings, ReadingSettings):
    """How the data set is read, varied and weighted."""

    augment: str = setting(
        "auto",
        "random changes of the images; auto: decided from the data; else microscopy if every image is grey, or street",
        choices=("auto", *AUGMENTATIONS),
    )
    balance: float = setting(
        0.0, "share of crops chosen by class, each class alike", least=0, most=1, metavar="P", tags=(_MASKS,)
    )
    cache: str | None = setting(
        None, "folder that keeps prepared samples", metavar="DIR", unset="memory", tags=(_MASKS, _FREE)
    )


@dataclass(frozen=True)
class FileCost:
    """What a file takes on its device.

    Args:
        ms: milliseconds of a tile; None where nobody asked.
        kb: its size, in kB.
        arena_kb: memory of the tensors that it computes, in kB.
    """

    ms: float | None
    kb: float
    arena_kb: float


@dataclass(frozen=True)
class LimitSettings(Settings):
    """What the int8 file may take on its device: the network is chosen so, and export holds the file to it."""

    title = "device"

    max_ms: float | None = setting(
        None,
        "milliseconds that the int8 file may take for a tile, on this machine or the one of --device",
        above=0,
        most=10**7,
        metavar="MS",
        unit="ms",
        unset="no limit",
        tags=(_MASKS, _FREE),
    )
    max_kb: float | None = setting(
        None,
        "size of the int8 file, in kB of 1000 bytes",
        above=0,
        most=10**9,
        metavar="KB",
        unit="kB",
        unset="no limit",
        tags=(_MASKS, _FREE),
    )
    max_arena: float | None = setting(
        None,
        "memory of the tensors that the int8 file computes, in kB of 1000 bytes; kernels may take more beside it",
        above=0,
        most=10**9,
        metavar="KB",
        unit="kB",
        unset="no limit",
        tags=(_MASKS, _FREE),
    )
    device: str | None = setting(
        None,
        "profile of the device that --max-ms is about, written there by: unetres-edge profile --out device.json",
        metavar="FILE",
        unset="this machine, on which the file is timed",
        tags=(_MASKS, _FREE),
    )

    def read_profile(self) -> Profile | None:
        """Return the profile of the device, or None for this machine.

        Raises:
            FileSystemError: it cannot be read.
            ModelError: it is no profile.
            UsageError: there is no limit that it is about.
        """
        from unetres_edge.latency.profile import Profile

        if self.device is None:
            return None
        if self.max_ms is None:
            raise UsageError("--device is of --max-ms", found=self.device, fix="pass --max-ms too, or drop it")
        return Profile.load_file(self.device)

    def exceeded_by(self, cost: FileCost, share: float = 1.0) -> str | None:
        """Return what a file exceeds, in words, or None.

        Args:
            cost: what it takes.
            share: share of the limits that it may take.
        """
        tile = "ms a tile" if self.device is None else f"ms a tile on the device of {self.device}"
        for value, most, unit, option in (
            (cost.ms, self.max_ms, tile, "--max-ms"),
            (cost.kb, self.max_kb, "kB", "--max-kb"),
            (cost.arena_kb, self.max_arena, "kB of tensors", "--max-arena"),
        ):
            if most is not None and value is not None and value > share * most:
                return f"{value:.4g} {unit}, and {most:g} are allowed ({option})"
        return None

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return any(limit is not None for limit in (self.max_ms, self.max_kb, self.max_arena))


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The settings of a training run.

    Args:
        network: the network, and how images meet it.
        fit: how its weights are fitted.
        data: how the data set is read, varied and weighted.
        limits: what the file may take on the device.

    Raises:
        UsageError: a value that its field does not take, or settings that exclude each other.
    """

    network: NetworkSettings = NetworkSettings()
    fit: FitSettings = FitSettings()
    data: DataSettings = DataSettings()
    limits: LimitSettings = LimitSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        network = self.network
        if self.data.balance and network.image_fit != "crop":
            raise UsageError("--balance is wrong", expected="0, or --fit crop", found=self.data.balance)
        self._check_network()
        if network.name == "fcn" and network.encoder in (*EFFICIENTNETS, NO_ENCODER):
            raise UsageError(
                f"encoder {network.encoder} is of U-Nets",
                fix="drop --network fcn, or take a ResNet such as resnet50",
            )
        if network.crop:
            self._check_unpadded()
        if network.start_weights is not None and network.published_encoder is None and network.name == "unet":
            self._check_start(network.start_weights)
        elif network.weights in STARTS:
            raise UsageError(
                f"--weights {network.weights} is a start of U-Nets without an encoder",
                expected="weights for " + (network.published_encoder or network.name),
                fix=f"drop --encoder and --network, or pass --weights {NO_WEIGHTS}",
            )

    def _check_network(self) -> None:
        """Refuse settings that the network does not take."""
        name, network = self.network.name, find_network(self.network.name)
        given = [(option.word, has) for tag, has in network.lacks.items() for option in self._changed(tag)]
        if not network.task.per_pixel and self.fit.loss not in (FitSettings.loss, "cross_entropy"):
            given.append(("--loss", "segmenters"))
        for word, has in given:
            raise UsageError(
                f"{word} is an option of {has}, and the network is {name}", fix="drop it, or use --network unet"
            )
        if self.network.image_fit not in network.task.fits:
            raise UsageError(
                f"--fit {self.network.fit} is not for a {network.task.noun}",
                expected=" or ".join(network.task.fits),
                found=name,
            )

    def _check_start(self, weights: str) -> None:
        """Refuse a start that is not of the network, and weights of an encoder without one."""
        network = self.network
        if network.start is None and not weights.endswith(".safetensors"):
            raise UsageError(
                f"--weights {weights} are those of an encoder",
                expected=f"{', '.join(STARTS)}, or the .safetensors file of such a start",
                fix="pass --encoder, such as resnet50",
            )
        given = {"--residual": network.residual, "--padding valid": network.padding != "same"}
        given[f"--upsampling {network.upsampling}"] = network.upsampling != "transpose"
        given[f"--search {self.fit.search}"] = self.fit.search != "none"
        for word, is_given in given.items():
            if is_given:
                raise UsageError(
                    f"{word} is of another network than that of --weights {weights}",
                    fix=f"drop it, or pass --weights {NO_WEIGHTS}",
                )
        if network.start is not None:
            network.start.check(f"--weights {weights}", network.filters, network.depth)

    def _check_unpadded(self) -> None:
        """Refuse what does not go with a network without padding."""
        if self.network.published_encoder is not None:
            raise UsageError(
                "--padding valid is of the U-Net's own contracting path", fix="drop --encoder or --padding"
            )
        if self.network.image_fit != "crop":
            raise UsageError("--padding valid sees crops of images", fix=f"drop --fit {self.network.fit}")
        if self.fit.deep_supervision:
            raise UsageError("--padding valid trains the output alone", fix="drop --deep-supervision")

    def _changed(self, tag: str) -> Iterator[Option]:
        """Return the fields with a tag that do not have their default."""
        for option in all_options(TrainSettings):
            if tag in option.setting.tags and get(self, option) != option.default:
                yield option

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the values by section, as `run.json` keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, file: str | os.PathLike[str] | None = None) -> TrainSettings:
        """Return settings as `run.json` keeps them: by section, or flat as earlier versions wrote them.

        Args:
            values: JSON values.
            file: the file or folder that they are of, for errors.

        Raises:
            RunFolderError: there are settings of another version among them.
            UsageError: a value is none that its field takes.
        """
        if any(isinstance(value, Mapping) for value in values.values()):
            by_path: dict[tuple[str, ...], Any] = {
                (section, name): value for section, part in values.items() for name, value in part.items()
            }
        else:
            paths = {name: option.path for name, option in flat_options().items()}
            by_path = {paths.get(name, (name,)): value for name, value in values.items()}
        unknown = by_path.keys() - {option.path for option in all_options(cls)}
        if unknown:
            named = ", ".join(sorted(".".join(path) for path in unknown))
            raise RunFolderError(f"settings of another version: {named}", file=file)
        return make(cls, {**_BEFORE, **by_path})

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Return settings named without their section; `network` is the network's name, `fit` how images meet it.

        Raises:
            UsageError: a name is no setting, or a value is none that its field takes.
        """
        return cls().with_flat(values)

    def with_flat(self, values: Mapping[str, Any]) -> TrainSettings:
        """Return settings some of which, named as in `from_flat`, have other values.

        Raises:
            UsageError: there is no setting of a name.
        """
        options = flat_options()
        unknown = sorted(values.keys() - options.keys())
        if unknown:
            raise UsageError("the setting is unknown", expected=", ".join(options), found=unknown[0])
        return change(self, {options[name].path: value for name, value in values.items()})

    def fixed(self) -> dict[tuple[str, ...], Any]:
        """Return the values on which the trained weights depend, by path; those may not differ where a run goes on."""
        chosen = (option for option in all_options(TrainSettings) if _FREE not in option.setting.tags)
        return {option.path: get(self, option) for option in chosen}


def flat_options() -> dict[str, Option]:
    """Return the fields of `TrainSettings` by the names they have without their section."""
    by_path = {option.path: option for option in all_options(TrainSettings)}
    names = {path[-1]: option for path, option in by_path.items() if path not in _FLAT.values()}
    return names | {name: by_path[path] for name, path in _FLAT.items()}


def TrainOptions(**values: Any) -> TrainSettings:  # noqa: N802  # was a class
    """Return `TrainSettings` from flat keywords, as versions before 0.2 took them; see `TrainSettings.from_flat`.

    Raises:
        TypeError: a keyword is no setting.
        UsageError: a value is none that its field takes.
    """
    unknown = values.keys() - flat_options().keys()
    if unknown:
        raise TypeError(f"TrainOptions() got an unexpected keyword argument {min(unknown)!r}")
    return TrainSettings.from_flat(values)
