"""What the int8 file of each size of network takes: networks that nobody trained are exported and timed."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetres_edge.files import read_bytes

from ..runs import ModelInfo
from ..settings import FileCost, LimitSettings, TrainSettings
from ..training.training_data import TrainingData

_CALIBRATION = 8  # crops; what the ranges are changes neither size nor time


def measure_files(sizes: Sequence[int], settings: TrainSettings, data: TrainingData) -> dict[int, FileCost]:
    """Return what the files of networks of some sizes take.

    Args:
        sizes: filters of each; 0 stands for the network that the settings name.
        settings: settings that name the rest of the network.
        data: ready for the network.
    """
    shape = data.info.model.arguments
    costs = {}
    for filters in sizes:
        network = replace(settings.network, filters=filters) if filters else settings.network
        model = ModelInfo(*network.model(shape["input_shape"][-1], shape["num_classes"]))
        costs[filters] = measure_file(replace(data, info=replace(data.info, model=model)), settings.limits)
    return costs


def measure_file(data: TrainingData, limits: LimitSettings) -> FileCost:
    """Return what the file of a network takes; the weights, which nobody trained, change neither size nor time.

    Args:
        data: ready for the network.
        limits: limits that the file is to be held to; it is timed only where there is one to that.
    """
    from ..tflite import export_tflite
    from ..tflite.cost import file_cost
    from ..training.compilation import precision_policy

    pre = data.info.preprocessing
    with (
        tempfile.TemporaryDirectory(prefix="unetres-") as folder,
        precision_policy("float32"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # an untrained network is sure of nothing
        file = Path(folder) / "untrained.tflite"
        export_tflite(
            data.task.build_network(data.info),
            file,
            recipe="static_wi8_ai8",
            preprocessing=pre,
            calibration=pre.normalise(data.calibration[:_CALIBRATION]),
            classes=data.info.classes.names,
            allow_disagreement=True,
        )
        return file_cost(read_bytes(file), limits, limits.read_profile())
