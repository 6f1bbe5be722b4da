"""`unetres quantize`: from a run or a Keras model to a run whose network was trained on as its int8 file computes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import look_up

from ..choices.arguments import checks_kinds
from ..runs import QUANTIZE_AWARE, Compression, RunFolder
from ..settings import QuantizeSettings
from ..tasks.loading import refuse_for_own
from .own_source import open_own_source, read_own_data
from .retraining import new_run, open_source, read_data
from .tf_keras_training import TfKerasNetwork, train_in_tf_keras

if TYPE_CHECKING:
    import keras

    from ..quantization import Folded
    from ..training.training_data import TrainingData

_RANGES_FROM = 64  # calibration crops


@checks_kinds
def quantize(
    source: str | os.PathLike[str] | keras.Model,
    out: str | os.PathLike[str],
    *,
    data: Any = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    engine: str = QuantizeSettings.engine,
    ranges: str = QuantizeSettings.ranges,
    keep_zeros: bool = QuantizeSettings.keep_zeros,
    epochs: int | None = None,
    minutes: float | None = None,
    learning_rate: float = QuantizeSettings.learning_rate,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a network on with fake quantization, and write it as a run of its own.

    What is validated, kept and scored is what the int8 file will compute; the quantized network before any training
    counts as a candidate for the weights that are kept. `unetres train --resume OUT` goes on after a stop (not with the
    engine "tfmot").

    Args:
        source: a run folder, a `.keras` file or a `keras.Model`, (N, h, w, C) -> (N, h, w, classes) or (N, classes);
            it is not changed. The run that is made of a model keeps its layers, and needs no code of yours any more.
        out: the run folder to make.
        data: present place of the data set of the run; None for where it was. A model needs one: what `open_dataset`
            takes, or (images, labels), a `tf.data.Dataset`, a `keras.utils.PyDataset` or an iterable of such, as for
            `evaluate`, of which seeded parts are trained on, validate, and are kept for the receipt.
        preprocessing: preparation of images for the network; for `.keras` files and models. Nothing is guessed.
        classes: class names, for `.keras` files and models; None for those of the data set.
        output: name of the output that is trained, of a model of your own with several.
        custom_objects: name -> layer, model or function of your own code that a `.keras` file names.
        engine: "native" or "tfmot", see `keras_unetres.quantization.quantize_aware`.
        ranges: way in which ranges are found, see `keras_unetres.quantization.find_ranges`.
        keep_zeros: weights that are 0 stay 0.
        epochs: passes over the data; 5 if `minutes` is not given either.
        minutes: wall-clock budget instead of `epochs`.
        learning_rate: peak of the schedule.
        overwrite: whether to replace an earlier run folder.
        say: callback for lines to the user.

    Returns:
        As `train`.

    Raises:
        UsageError: a layer has no int8 form, it is named; or unknown settings. Nothing was written.
        RunFolderError: not a run, one that is quantized already, or its data changed.
    """
    from ..quantization import ENGINES, build_native, find_ranges, fold, set_ranges
    from ..training.devices import find_devices
    from ..training.trainer import train_run

    begun = time.perf_counter()
    if engine not in ENGINES:
        raise UsageError("the engine is unknown", expected=" or ".join(ENGINES), found=engine)
    model_options: dict[str, Any] = {"preprocessing": preprocessing, "classes": classes}
    model_options |= {"output": output, "custom_objects": custom_objects}
    refuse_for_own(source, **model_options)
    step = Compression(QUANTIZE_AWARE, engine, ranges, keep_zeros)
    budget: dict[str, Any] = {"epochs": epochs, "minutes": minutes, "learning_rate": learning_rate}
    if isinstance(source, (str, os.PathLike)) and RunFolder.is_run(source):
        opened = open_source(source, out, overwrite=overwrite)
        folded = fold(opened.model)  # refuses what has no int8 form before the data is read
        prepared = read_data(opened, data, step, **budget, say=say)
    else:
        model = open_own_source(source, out, **model_options, overwrite=overwrite)
        folded = fold(model.model)
        prepared = read_own_data(model, data, step, **budget, say=say)
    crops = prepared.calibration
    chosen = crops[np.unique(np.linspace(0, len(crops) - 1, _RANGES_FROM).astype(int))]
    say(f"ranges    {ranges}, of {len(chosen)} crops ...")
    limits = find_ranges(folded, look_up(prepared.info.preprocessing.table(), chosen), method=ranges)
    quantized = build_native(folded, keep_zeros=keep_zeros)
    set_ranges(quantized, limits)
    prepared = replace(prepared, initial={v.path: np.asarray(v) for v in quantized.weights})
    with new_run(out, prepared, overwrite=overwrite) as run:
        if engine == "native":
            return train_run(run, prepared, find_devices(prepared.settings.fit.devices, say), begun, say)
        return _train_by_tfmot(run, prepared, folded, limits, keep_zeros, begun, say)


def _train_by_tfmot(
    run: RunFolder,
    data: TrainingData,
    folded: Folded,
    ranges: dict[str, tuple[float, float]],
    keep_zeros: bool,
    begun: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train by tensorflow-model-optimization, and keep the native form of the best epoch."""
    from ..quantization.tfmot.engine import quantize_tfmot, to_native

    def make(steps: int) -> TfKerasNetwork:
        model = quantize_tfmot(folded, ranges, keep_zeros=keep_zeros)
        return TfKerasNetwork(model, lambda: to_native(model, folded, keep_zeros=keep_zeros))

    return train_in_tf_keras(run, data, make, begun=begun, say=say)
