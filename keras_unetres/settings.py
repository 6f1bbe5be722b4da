"""The settings of a training run, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unetres_edge.errors import UsageError

_AUGMENTS = ("auto", "none", "light", "microscopy", "street", "aerial")
_CHOICES = {
    "augment": _AUGMENTS,
    "class_weights": (None, "balanced"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "poly", "constant"),
}
_SEGMENTERS = ("unet", "fcn")
_FOR_MASKS = (  # settings that a classifier has no use for
    *(
        "encoder",
        "filters",
        "depth",
        "residual",
        "upsampling",
        "dropout",
        "deep_supervision",
        "border_weight",
        "balance",
    ),
    *("cache", "masks_are", "target", "ignore"),
)
_ABOVE_ZERO = (
    *("size", "filters", "depth", "batch", "epochs", "minutes"),
    *("learning_rate", "patience", "clip_norm", "devices"),
)


@dataclass(frozen=True)
class TrainOptions:
    """The settings of a run.

    Args:
        size: side of the network's square input, px.
        network: "unet" or "fcn"; or the name of a ResNet, such as "resnet50" or "resnet20_v2", for a classifier.
        encoder: None for U-Net's own contracting path, or a name of `ENCODERS`; None is resnet50 for "fcn".
        weights: None, or published weights for the encoder or the classifier, as `load_published` takes them. They
            also decide how images meet the network.
        filters: channels of the finest level of a U-Net; None for 32, or 16 with an encoder.
        depth: levels below it; None for 4, or as many as the encoder has.
        residual: make the blocks of a U-Net residual.
        upsampling: of a U-Net: "transpose", "bilinear" or "nearest".
        dropout: fraction dropped at the end of the contracting path.
        epochs: passes over the data; None for 40, or what `minutes` allows.
        minutes: wall-clock budget from the start of the command.
        batch: crops a step.
        learning_rate: peak of the schedule.
        loss: names of losses and their factors, as `make_loss` takes them; a classifier's is cross-entropy.
        optimizer: "adamw" or "sgd".
        schedule: how the rate falls after its warm-up: "cosine", "poly" or "constant".
        warmup: steps over which it rises; None for a tenth of all, at most 100.
        weight_decay: of kernels.
        clip_norm: largest norm of all gradients together; None for no limit.
        ema: momentum of a moving average of the weights, which is what is validated and kept; None for none.
        freeze_norm: share of the epochs, at the end, in which BatchNormalization works as at inference; at least one
            epoch if above 0, and never the first.
        deep_supervision: ask coarser levels of a U-Net's decoder for the mask, too, while it is trained.
        patience: validations without a better score after which training ends; None to go on to the end.
        checkpoint_seconds: between two checkpoints.
        tensorboard: also write event files for TensorBoard.
        devices: of this machine to train on; each gets an equal part of every batch.
        seed: of weights, order and augmentation.
        fit: "crop", "resize" or "letterbox"; None for "crop", or "resize" for a classifier, which sees whole images.
        per_image: percentiles (low, high) stretched to full scale in each image, or None.
        channels: of the network's input; None for 1 if every image is grey, else 3.
        augment: a name of `AUGMENTATIONS`, or "auto": microscopy for grey images, street for colour and for
            classifiers.
        class_weights: "balanced", or None; see `Weighting`.
        border_weight: (w0, sigma in px) of the U-Net border weights, or None.
        balance: share of the crops that are chosen by class, each class alike.
        cache: folder for prepared samples, or None.
        masks_are: "classes", "instances", or None for what the data set says.
        target: "semantic", "separated" or "borders", what instances become, or None for what the data set says.
        ignore: mask value that means "not labelled", or None for what the data set says.
        val_from: glob on image names that makes the validation part.
        test_from: glob that makes the test part; "none" for no test part.
    """

    size: int = 256
    network: str = "unet"
    encoder: str | None = None
    weights: str | None = None
    filters: int | None = None
    depth: int | None = None
    residual: bool = False
    upsampling: str = "transpose"
    dropout: float = 0.0
    epochs: int | None = None
    minutes: float | None = None
    batch: int = 4
    learning_rate: float = 1e-3
    loss: str = "cross_entropy + dice"
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: int | None = None
    weight_decay: float = 1e-4
    clip_norm: float | None = 1.0
    ema: float | None = None
    freeze_norm: float = 0.0
    deep_supervision: bool = False
    patience: int | None = None
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False
    devices: int = 1
    seed: int = 0
    fit: str | None = None
    per_image: tuple[float, float] | None = None
    channels: int | None = None
    augment: str = "auto"
    class_weights: str | None = None
    border_weight: tuple[float, float] | None = None
    balance: float = 0.0
    cache: str | None = None
    masks_are: str | None = None
    target: str | None = None
    ignore: int | None = None
    val_from: str | None = None
    test_from: str | None = None

    @property
    def classifies(self) -> bool:
        """Whether the network gives a class for the whole image."""
        return self.network not in _SEGMENTERS

    @property
    def image_fit(self) -> str:
        """The field `fit` of the preprocessing."""
        return self.fit or ("resize" if self.classifies else "crop")

    def model(self, channels: int, num_classes: int) -> tuple[str, dict[str, Any]]:
        """Return the builder's name and its arguments, as `run.json` keeps them."""
        if self.classifies:
            from .models import ENCODERS

            depth, variant = ENCODERS[self.network]
            shape = [self.size, self.size, channels]
            return "build_resnet", {
                "input_shape": shape,
                "num_classes": num_classes,
                "depth": depth,
                "variant": variant,
            }
        arguments = {
            "input_shape": [self.size, self.size, channels],
            "num_classes": num_classes,
            "encoder": self.encoder,
            "dropout": self.dropout,
        }
        if self.network == "fcn":
            return "build_fcn", {**arguments, "encoder": self.encoder or "resnet50"}
        arguments |= {
            "filters": self.filters or (None if self.encoder else 32),
            "depth": self.depth,
            "residual": self.residual,
            "upsampling": self.upsampling,
        }
        return "build_unet", {name: value for name, value in arguments.items() if value is not None}

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                names = " or ".join(str(value) for value in allowed if value is not None)
                raise UsageError(f"--{_option(name)} is unknown", expected=names, found=getattr(self, name))
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"--{_option(name)} is wrong", expected="above 0", found=value)
        for name in ("warmup", "weight_decay", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UsageError(f"--{_option(name)} is wrong", expected="0 or above", found=value)
        if self.epochs is not None and self.minutes is not None:
            raise UsageError("--epochs and --minutes exclude each other")
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**32):
            raise UsageError("--seed is wrong", expected="a whole number 0 .. 2**32 - 1", found=self.seed)
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError("--ema is wrong", expected="a momentum between 0 and 1, such as 0.99", found=self.ema)
        if not 0 <= self.freeze_norm < 1:
            raise UsageError("--freeze-norm is wrong", expected="0 or above, below 1", found=self.freeze_norm)
        if not 0 <= self.balance <= 1 or (self.balance and self.image_fit != "crop"):
            raise UsageError("--balance is wrong", expected="0 to 1, and above 0 with --fit crop", found=self.balance)
        if self.border_weight is not None:
            object.__setattr__(self, "border_weight", tuple(self.border_weight))
            if len(self.border_weight) != 2 or not (self.border_weight[0] >= 0 and self.border_weight[1] > 0):
                raise UsageError("--border-weight is wrong", expected="W0 >= 0 and SIGMA > 0", found=self.border_weight)
        if self.per_image is not None:
            object.__setattr__(self, "per_image", tuple(self.per_image))
        self._check_network()

    def _check_network(self) -> None:
        if self.classifies:
            self._check_classifier()
            return
        if self.network == "fcn":
            given = [name for name in ("filters", "depth", "residual", "deep_supervision") if getattr(self, name)]
            given += ["upsampling"] if self.upsampling != "transpose" else []
            if given:
                raise UsageError(f"--{_option(given[0])} is an option of U-Nets", fix="drop it, or use --network unet")
        if self.weights is not None and self.encoder is None and self.network == "unet":
            raise UsageError("--weights are those of an encoder", fix="pass --encoder, such as resnet50")

    def _check_classifier(self) -> None:
        from .models import ENCODERS

        if self.network not in ENCODERS:
            names = ", ".join([*_SEGMENTERS, *ENCODERS])
            raise UsageError("--network is unknown", expected=names, found=self.network, fix="see: unetres models")
        given = [name for name in _FOR_MASKS if getattr(self, name) != getattr(TrainOptions, name)]
        given += ["loss"] if self.loss not in (TrainOptions.loss, "cross_entropy") else []
        if given:
            raise UsageError(
                f"--{_option(given[0])} is an option of segmenters, and {self.network} is a classifier",
                fix="drop it, or use --network unet",
            )
        if self.fit == "crop":
            raise UsageError(
                "--fit crop is of segmenters", expected="resize or letterbox", found=f"{self.network}, a classifier"
            )


def _option(name: str) -> str:
    return name.replace("_", "-")
