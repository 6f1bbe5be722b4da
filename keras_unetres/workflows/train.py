"""`unetres train`: from a data set to a run folder."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing, draw
from unetres_edge.errors import RunFolderError, TrainingError, UsageError
from unetres_edge.files import write_bytes

from ..runs import RunFolder
from .loading import Loaded, card_of_run, keras_segmenter, package_versions

if TYPE_CHECKING:
    import keras

    from ..data import Classes, Dataset, Records
    from ..data.samples import Samples
    from ..training.fit import Plan

_AUGMENTS = ("auto", "none", "light", "microscopy", "street", "aerial")
_DEFAULT_EPOCHS = 40
_CHECKPOINT_SECONDS = 5.0
_CALIBRATION_CROPS = 128
_SAMPLES = 4
_FORWARD_SHARE = 1 / 3  # of the time of a training step that the forward pass takes, roughly
_RESERVE = 10.0  # seconds of a --minutes budget kept for pictures


@dataclass(frozen=True)
class TrainOptions:
    """The settings of a run.

    Args:
        size: side of the network's square input, px.
        network: "unet" or "fcn".
        encoder: None for U-Net's own contracting path, or a name of `ENCODERS`; None is resnet50 for "fcn".
        weights: None, or published weights for the encoder, as `load_published` takes them. They also decide how
            images meet the network.
        filters: channels of the finest level of a U-Net; None for 32, or 16 with an encoder.
        depth: levels below it; None for 4, or as many as the encoder has.
        residual: make the blocks of a U-Net residual.
        upsampling: of a U-Net: "transpose", "bilinear" or "nearest".
        dropout: fraction dropped at the end of the contracting path.
        epochs: passes over the data; None for 40, or what `minutes` allows.
        minutes: wall-clock budget from the start of the command.
        batch: crops a step.
        learning_rate: peak of the schedule.
        seed: of weights, order and augmentation.
        fit: "crop", "resize" or "letterbox".
        per_image: percentiles (low, high) stretched to full scale in each image, or None.
        channels: of the network's input; None for 1 if every image is grey, else 3.
        augment: a name of `AUGMENTATIONS`, or "auto": microscopy for grey images, street for colour.
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
    seed: int = 0
    fit: str = "crop"
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

    def model(self, channels: int, num_classes: int) -> tuple[str, dict[str, Any]]:
        """Return the builder's name and its arguments, as `run.json` keeps them."""
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
        if self.epochs is not None and self.minutes is not None:
            raise UsageError("--epochs and --minutes exclude each other")
        for name in ("size", "filters", "depth", "batch", "epochs", "minutes", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"--{name.replace('_', '-')} is wrong", expected="above 0", found=value)
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**32):
            raise UsageError("--seed is wrong", expected="a whole number 0 .. 2**32 - 1", found=self.seed)
        if self.augment not in _AUGMENTS:
            raise UsageError("--augment is unknown", expected=" or ".join(_AUGMENTS), found=self.augment)
        if self.class_weights not in (None, "balanced"):
            raise UsageError("--class-weights is unknown", expected="balanced", found=self.class_weights)
        if not 0 <= self.balance <= 1 or (self.balance and self.fit != "crop"):
            raise UsageError("--balance is wrong", expected="0 to 1, and above 0 with --fit crop", found=self.balance)
        if self.border_weight is not None:
            object.__setattr__(self, "border_weight", tuple(self.border_weight))
            if len(self.border_weight) != 2 or not (self.border_weight[0] >= 0 and self.border_weight[1] > 0):
                raise UsageError("--border-weight is wrong", expected="W0 >= 0 and SIGMA > 0", found=self.border_weight)
        if self.network not in ("unet", "fcn"):
            raise UsageError("--network is unknown", expected="unet or fcn", found=self.network)
        if self.network == "fcn":
            given = [name for name in ("filters", "depth", "residual") if getattr(self, name)]
            given += ["upsampling"] if self.upsampling != "transpose" else []
            if given:
                raise UsageError(f"--{given[0]} is an option of U-Nets", fix="drop it, or use --network unet")
        if self.weights is not None and self.encoder is None and self.network == "unet":
            raise UsageError("--weights are those of an encoder", fix="pass --encoder, such as resnet50")
        if self.per_image is not None:
            object.__setattr__(self, "per_image", tuple(self.per_image))


def train(
    data: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    options: TrainOptions | None = None,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a network on a data set and write a run folder.

    Args:
        data: what `open_dataset` takes: a folder, a `dataset.yaml`, an annotation file, `tfds:NAME`, or a `Dataset`.
        out: the run folder to make.
        options: settings.
        overwrite: replace an earlier run folder, once the data has been read without fault.
        say: called with lines for the user.

    Returns:
        "run" (folder), "best_miou" (validation), "epochs", "steps", "seconds".

    Raises:
        DataError: the data set has faults; nothing was written.
        UsageError, WeightsError: the settings or the published weights do not fit; nothing was written.
        ExistsError: the run folder exists and `overwrite` is false.
        TrainingError: the loss became NaN or infinite.
    """
    start = time.perf_counter()
    options = options or TrainOptions()
    if not overwrite:
        RunFolder.check_new(out)
    material = _read(data, options, say)
    run = RunFolder.create(out, overwrite=overwrite)
    with run.lock():
        run.write_info(material.info)
        run.write_calibration(material.calibration)
        return _train(run, material, start, say)


def resume(
    run_path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | Dataset | None = None,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Go on with a run from its last epoch, with the settings it was started with.

    Args:
        run_path: the run folder.
        data: where its data set is now; None for where it was.
        settings: fields of `TrainOptions` that must be those of the run.
        say: called with lines for the user.

    Returns:
        As `train`.

    Raises:
        UsageError: a setting differs from that of the run.
        RunFolderError: not a run folder, its data changed, or a process is writing to it.
    """
    start = time.perf_counter()
    run = RunFolder(run_path)
    info = run.read_info()
    with run.lock():
        try:
            options = TrainOptions(**info["settings"])
        except TypeError as error:
            raise RunFolderError(f"run.json has settings of another version: {error}", file=run.path) from error
        for name, value in (settings or {}).items():
            if value != getattr(options, name):
                raise UsageError(
                    f"the run was started with another --{name.replace('_', '-')}",
                    file=run.path,
                    expected=getattr(options, name),
                    found=value,
                    fix="drop the option, or start a new run",
                )
        started = run.read_checkpoint() is not None  # and needs no published weights any more
        pre = Preprocessing.from_dict(info["preprocessing"]) if started else None
        data = data if data is not None else info["data"]["path"]
        if data is None:
            raise UsageError("the run was trained on arrays", file=run.path, fix="pass data= with the same ones")
        material = _read(data, options, say, pre)
        if material.info["data"]["fingerprint"] != info["data"]["fingerprint"]:
            raise RunFolderError(
                "the data set is not the one the run was started with",
                file=data if isinstance(data, (str, os.PathLike)) else run.path,
                expected=info["data"]["fingerprint"][:12],
                found=material.info["data"]["fingerprint"][:12],
                fix="restore the files, or start a new run",
            )
        return _train(run, replace(material, info={k: v for k, v in info.items() if k != "schema"}), start, say)


@dataclass(frozen=True)
class _Material:
    """The data, ready for the network, and what `run.json` says of it."""

    options: TrainOptions
    info: dict[str, Any]
    train: Samples
    validation: Samples
    records: Records
    calibration: np.ndarray
    initial: dict[str, np.ndarray]


def _read(
    data: str | os.PathLike[str] | Dataset,
    options: TrainOptions,
    say: Callable[[str], None],
    pre: Preprocessing | None = None,
) -> _Material:
    """Read the data, and the published weights unless `pre` says that a run has them behind it."""
    from ..data import open_dataset, read_records

    fields = ("masks_are", "target", "ignore", "val_from", "test_from", "seed")
    dataset = open_dataset(data, changes={name: getattr(options, name) for name in fields})
    splits = [name for name in ("train", "val", "test") if dataset.splits.get(name)]
    records = read_records(dataset, splits)
    # Not before: a fault of the data is found and named without waiting for TensorFlow.
    from ..data.pipeline import calibration_crops
    from ..data.samples import Samples
    from ..data.weighting import Weighting

    classes = records["train"].classes
    channels = options.channels or (1 if all(part.grey for part in records.values()) else 3)
    builder, arguments = options.model(channels, len(classes.names))
    initial: dict[str, np.ndarray] = {}
    if pre is None:
        pre, initial = _start(builder, arguments, options)  # refuses wrong arguments before anything is written
    augment = options.augment
    if augment == "auto":
        augment = "microscopy" if channels == 1 else "street"
    say(f"data      {', '.join(f'{len(part)} {name}' for name, part in records.items())} images, {channels} channels")
    say(f"classes   {', '.join(f'{i} {name}' for i, name in enumerate(classes.names))}")
    if classes.note:
        say(f"note      {classes.note}")
    for note in dataset.notes:
        say(f"note      {note}")
    say(f"augment   {augment}")
    info = {
        "model": {"builder": builder, "arguments": arguments},
        "classes": {
            "names": list(classes.names),
            "colors": [list(c) for c in classes.colors],
            "note": classes.note,
            "ignored": classes.ignores,
        },
        "preprocessing": pre.to_dict(),
        "reading": dataset.reading.to_dict(),
        "data": {
            "path": _path_of(dataset),
            "fingerprint": _fingerprint(dataset, classes),
            "splits": {name: [pair.name for pair in dataset.split(name)] for name in splits},
        },
        "settings": asdict(options),
        "augment": augment,
        "seed": options.seed,
        "versions": package_versions(),
        "plan": None,
    }
    weighting = Weighting(options.class_weights == "balanced", options.border_weight)
    train_samples = Samples(records["train"], pre, weighting=weighting, cache=options.cache)
    if options.border_weight and dataset.reading.masks_are == "instances" and dataset.reading.target == "semantic":
        say("note      objects that touch are joined in the masks; --target separated parts them, as in the paper")
    if train_samples.class_weights:
        weights = zip(classes.names, train_samples.class_weights, strict=True)
        say("weights   " + ", ".join(f"{name} {weight:.3g}" for name, weight in weights))
    return _Material(
        options,
        info,
        train_samples,
        Samples(records["val"], pre),
        records["val"],
        calibration_crops(train_samples, count=_CALIBRATION_CROPS),
        initial,
    )


def _start(
    builder: str, arguments: dict[str, Any], options: TrainOptions
) -> tuple[Preprocessing, dict[str, np.ndarray]]:
    """Return how images meet the network, and the published weights it starts from, by variable."""
    from ..models import build, load_published

    model = build(builder, arguments)
    pre = Preprocessing(channels=arguments["input_shape"][-1], value_range=(-1.0, 1.0))
    initial = {}
    if options.weights is not None:
        before = {v.path: np.array(v) for v in model.weights}
        pre = load_published(model, options.weights, encoder=arguments["encoder"])
        initial = {v.path: np.array(v) for v in model.weights if not np.array_equal(before[v.path], np.asarray(v))}
    return replace(pre, per_image=options.per_image, fit=options.fit, size=(options.size, options.size)), initial


def _path_of(dataset: Dataset) -> str | None:
    """Return where a data set can be opened again, or None for one of arrays."""
    if dataset.format == "arrays":
        return None
    return str(dataset.root) if dataset.format == "tfds" else os.path.abspath(dataset.root)


def _fingerprint(dataset: Dataset, classes: Classes) -> str:
    """Return a digest of the names and bytes of every file, by split, and of what mask values mean."""
    values = None if classes.values is None else sorted(classes.values.items())
    digest = hashlib.sha256(repr((classes.names, values, classes.ignore, classes.target)).encode())
    for split, samples in dataset.splits.items():
        for sample in samples:
            digest.update(f"{split}/{sample.name}/".encode("utf-8", "surrogateescape"))
            digest.update("/".join(sample.digests()).encode())
    return digest.hexdigest()


def _train(run: RunFolder, material: _Material, start: float, say: Callable[[str], None]) -> dict[str, Any]:
    import keras

    from ..data.augment import AUGMENTATIONS
    from ..data.pipeline import training_batches, validation_batches
    from ..models import build
    from ..training import CrossEntropyDice, MeanIoU
    from ..training import fit as fitting

    options, info = material.options, material.info
    validation = validation_batches(material.validation, batch_size=options.batch)
    with fitting.precision_policy():
        keras.utils.set_random_seed(options.seed)
        model = build(info["model"]["builder"], info["model"]["arguments"])
        for variable in model.weights:
            if variable.path in material.initial:
                variable.assign(material.initial[variable.path])
        fitting.compile_model(model, CrossEntropyDice(), MeanIoU(len(info["classes"]["names"])))

        def batches(first_epoch: int, epochs: int) -> Any:
            return training_batches(
                material.train,
                AUGMENTATIONS[info["augment"]],
                batch_size=options.batch,
                seed=options.seed,
                first_epoch=first_epoch,
                epochs=epochs,
                balance=options.balance,
            )

        encoder = info["model"]["arguments"].get("encoder")
        on = f" on {encoder}" + (f" ({options.weights})" if options.weights else "") if encoder else ""
        say(f"model     {model.name}{on}, {model.count_params() / 1e6:.2f} M parameters")
        if info["plan"] is None:
            plan, speed = _plan(model, material, batches, validation, start, say)
            info = {**info, "plan": plan.to_dict(), "speed": speed}
            run.write_info(info)
        else:
            plan = fitting.Plan(**info["plan"])
        keeper = _Keeper(run, model)
        first_epoch = keeper.restore()
        if first_epoch:
            say(f"resume    after epoch {first_epoch} of {plan.epochs}")
        say(f"plan      {plan.epochs} epochs of {plan.steps_per_epoch} steps, batch {options.batch}")
        try:
            fitting.fit(model, plan, batches, validation, keeper.callbacks(), first_epoch=first_epoch)
        except KeyboardInterrupt:
            say(f"stopped; go on with: unetres train --resume {run.path}")
            raise
    if keeper.best < 0:
        raise TrainingError("no epoch gave a valid score", file=run.path, fix="look at history.csv")
    _draw(run, model, info, material.records, keeper)
    seconds = time.perf_counter() - start
    say(f"best      validation mIoU {keeper.best:.4f} (epoch {keeper.best_epoch}), {seconds / 60:.1f} min, {run.path}")
    return {
        "run": str(run.path),
        "best_miou": keeper.best,
        "epochs": plan.epochs,
        "steps": plan.steps,
        "seconds": round(seconds, 1),
    }


def _plan(
    model: keras.Model,
    material: _Material,
    batches: Callable[[int, int], Any],
    validation: Any,
    start: float,
    say: Callable[[str], None],
) -> tuple[Plan, dict[str, float] | None]:
    """Return the plan, and the speed if it was measured, which only a time budget needs."""
    from ..training import fit as fitting

    options = material.options
    per_epoch = material.train.steps(options.batch)
    if options.minutes is None:
        # Nothing measured goes into this plan, so the same command gives the same weights.
        return fitting.make_plan(
            per_epoch,
            options.learning_rate,
            epochs=options.epochs or _DEFAULT_EPOCHS,
            validation_seconds=int(validation.cardinality()) * _FORWARD_SHARE,
        ), None
    say("compile   ...")
    step, whole_validation = fitting.probe_speed(model, batches(0, 1_000_000), validation)
    say(f"speed     {step:.3f} s a step, {whole_validation:.1f} s a validation")
    plan = fitting.make_timed_plan(
        per_epoch,
        options.learning_rate,
        seconds=60 * options.minutes - (time.perf_counter() - start) - _RESERVE,
        step_seconds=step,
        validation_seconds=whole_validation,
    )
    return plan, {"step_seconds": round(step, 4), "validation_seconds": round(whole_validation, 3)}


class _Keeper:
    """Keeps the best weights, the history and the state of the last epoch in the run folder."""

    def __init__(self, run: RunFolder, model: keras.Model) -> None:
        self._run, self._model = run, model
        self._saved = time.perf_counter()
        self.history: list[dict[str, float]] = []
        self.best, self.best_epoch = -1.0, 0

    def restore(self) -> int:
        """Set the state of the last checkpoint, if there is one, and return the number of epochs done."""
        from ..models import assign
        from ..training.fit import state_variables

        checkpoint = self._run.read_checkpoint()
        if checkpoint is None:
            return 0
        tensors, state = checkpoint
        assign(state_variables(self._model), tensors, file=self._run.path / "checkpoints")
        self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]
        return int(state["epoch"])

    def callbacks(self) -> list[keras.callbacks.Callback]:
        from ..training.callbacks import AfterEpoch, KeepBest, StopNonFinite

        highest = max((row["val_miou"] for row in self.history if "val_miou" in row), default=-1.0)
        return [StopNonFinite(), KeepBest(self._keep_best, highest), AfterEpoch(self._after_epoch)]

    def _keep_best(self, epoch: int, score: float) -> None:
        self.best, self.best_epoch = score, epoch
        self._run.write_weights({v.path: np.asarray(v) for v in self._model.weights})

    def _after_epoch(self, epoch: int, last: bool, figures: dict[str, float]) -> None:
        from ..training.fit import state_variables

        self.history.append({"epoch": epoch, **figures})
        if last or time.perf_counter() - self._saved > _CHECKPOINT_SECONDS:
            state = {"epoch": epoch, "history": self.history, "best": self.best, "best_epoch": self.best_epoch}
            tensors = {name: np.asarray(variable) for name, variable in state_variables(self._model).items()}
            self._run.write_checkpoint(tensors, state)
            self._run.write_history(self.history)
            self._saved = time.perf_counter()


def _draw(run: RunFolder, model: keras.Model, info: dict[str, Any], records: Records, keeper: _Keeper) -> None:
    """Write curves and sample pictures, made with the best weights."""
    from ..evaluate import sample_sheet
    from ..evaluate.pictures import curves
    from ..models import assign, receptive_halo

    assign({v.path: v for v in model.weights}, run.read_weights())
    write_bytes(run.samples / "curves.png", curves(keeper.history))
    segmenter = keras_segmenter(Loaded(model, card_of_run(info, halo=receptive_halo(model))))
    for index in range(min(_SAMPLES, len(records))):
        record = records[index]
        sheet = sample_sheet(record.image, record.mask, {"prediction": segmenter})
        name = os.path.splitext(record.name)[0].replace("/", "_")
        write_bytes(run.samples / f"{name}.png", draw.encode_png(sheet))
