"""What the int8 file of each size of network takes: networks that nobody trained are exported and timed."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetres_edge.files import read_bytes

from ..runs import ModelInfo
from ..settings import FileCost, TrainSettings
from ..training.training_data import TrainingData

_CALIBRATION = 8  # crops; what the ranges are changes neither size nor time


def measure_files(sizes: Sequence[int], settings: TrainSettings, data: TrainingData) -> dict[int, FileCost]:
    """Return what the files of some networks take; the weights, which nobody trained, change neither size nor time.

    Args:
        sizes: filters of each; 0 stands for the network that the settings name.
        settings: that name the rest of the network.
        data: ready for the network.
    """
    from ..tflite import export_tflite
    from ..tflite.cost import file_cost
    from ..training.compilation import precision_policy

    shape, pre = data.info.model.arguments, data.info.preprocessing
    crops = pre.normalise(data.calibration[:_CALIBRATION])
    profile = settings.limits.read_profile()
    costs = {}
    with tempfile.TemporaryDirectory(prefix="unetres-") as folder, precision_policy("float32"):
        for filters in sizes:
            network = replace(settings.network, filters=filters) if filters else settings.network
            model = ModelInfo(*network.model(shape["input_shape"][-1], shape["num_classes"]))
            built = data.task.build_network(replace(data.info, model=model))
            file = Path(folder) / f"{filters}.tflite"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an untrained network is sure of nothing
                export_tflite(
                    built,
                    file,
                    recipe="static_wi8_ai8",
                    preprocessing=pre,
                    calibration=crops,
                    classes=data.info.classes.names,
                    allow_disagreement=True,
                )
            costs[filters] = file_cost(read_bytes(file), settings.limits, profile)
    return costs
