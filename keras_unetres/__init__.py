"""U-Nets and ResNets for Keras 3, from a folder of masks to a verified int8 `.tflite`.

Names load on first use, so that importing the package pulls in neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unetres_edge.moved import add_moved, keep_names

if TYPE_CHECKING:
    from unetres_edge.errors import UnetresError

    from .data import dataset_from_arrays, dataset_from_tf, open_dataset
    from .objects import Separation, separate
    from .quantization import cluster_model, prune_model, quantize_aware
    from .settings import DataSettings, FitSettings, NetworkSettings, TrainOptions, TrainSettings
    from .tflite import Preprocessing, export_tflite
    from .training.losses import Boundary, CrossEntropy, Dice, Focal, FocalTversky, LovaszSoftmax, Tversky, make_loss
    from .training.metrics import (
        BoundaryF1,
        ClassIoU,
        FrequencyWeightedIoU,
        MeanDice,
        MeanIoU,
        PixelAccuracy,
        SegmentationScores,
    )
    from .training.pixel_loss import WeightedSum
    from .verify.receipt import Receipt, read_receipt
    from .weights import build_fcn, build_resnet, build_unet, load_published
    from .workflows.annotate import annotate
    from .workflows.augment import augment
    from .workflows.calibrate import calibrate
    from .workflows.check import check
    from .workflows.compress import cluster, prune
    from .workflows.distil import distil
    from .workflows.evaluate import evaluate
    from .workflows.export import export
    from .workflows.folds import resume_folds, train_folds
    from .workflows.inspect import inspect
    from .workflows.next_images import next_images
    from .workflows.predict import predict
    from .workflows.quantize import quantize
    from .workflows.report import report
    from .workflows.suspects import suspects
    from .workflows.train import resume, train

__version__ = "0.1.0"  # its one place: pyproject.toml takes it from here

_HOMES = {
    "Boundary": "training.losses",
    "BoundaryF1": "training.metrics",
    "ClassIoU": "training.metrics",
    "CrossEntropy": "training.losses",
    "DataSettings": "settings",
    "Dice": "training.losses",
    "FitSettings": "settings",
    "Focal": "training.losses",
    "FocalTversky": "training.losses",
    "FrequencyWeightedIoU": "training.metrics",
    "LovaszSoftmax": "training.losses",
    "MeanDice": "training.metrics",
    "MeanIoU": "training.metrics",
    "NetworkSettings": "settings",
    "PixelAccuracy": "training.metrics",
    "Preprocessing": "tflite",
    "Receipt": "verify.receipt",
    "SegmentationScores": "training.metrics",
    "Separation": "objects",
    "TrainOptions": "settings",
    "TrainSettings": "settings",
    "Tversky": "training.losses",
    "UnetresError": "unetres_edge.errors",
    "WeightedSum": "training.pixel_loss",
    "annotate": "workflows.annotate",
    "augment": "workflows.augment",
    "build_fcn": "weights",
    "build_resnet": "weights",
    "build_unet": "weights",
    "calibrate": "workflows.calibrate",
    "check": "workflows.check",
    "cluster": "workflows.compress",
    "cluster_model": "quantization",
    "dataset_from_arrays": "data",
    "dataset_from_tf": "data",
    "distil": "workflows.distil",
    "evaluate": "workflows.evaluate",
    "export": "workflows.export",
    "export_tflite": "tflite",
    "inspect": "workflows.inspect",
    "load_published": "weights",
    "make_loss": "training.losses",
    "next_images": "workflows.next_images",
    "open_dataset": "data",
    "predict": "workflows.predict",
    "prune": "workflows.compress",
    "prune_model": "quantization",
    "quantize": "workflows.quantize",
    "quantize_aware": "quantization",
    "read_receipt": "verify.receipt",
    "report": "workflows.report",
    "resume": "workflows.train",
    "resume_folds": "workflows.folds",
    "separate": "objects",
    "suspects": "workflows.suspects",
    "train": "workflows.train",
    "train_folds": "workflows.folds",
}

__all__ = [
    "Boundary",
    "BoundaryF1",
    "ClassIoU",
    "CrossEntropy",
    "DataSettings",
    "Dice",
    "FitSettings",
    "Focal",
    "FocalTversky",
    "FrequencyWeightedIoU",
    "LovaszSoftmax",
    "MeanDice",
    "MeanIoU",
    "NetworkSettings",
    "PixelAccuracy",
    "Preprocessing",
    "Receipt",
    "SegmentationScores",
    "Separation",
    "TrainOptions",
    "TrainSettings",
    "Tversky",
    "UnetresError",
    "WeightedSum",
    "annotate",
    "augment",
    "build_fcn",
    "build_resnet",
    "build_unet",
    "calibrate",
    "check",
    "cluster",
    "cluster_model",
    "dataset_from_arrays",
    "dataset_from_tf",
    "distil",
    "evaluate",
    "export",
    "export_tflite",
    "inspect",
    "load_published",
    "make_loss",
    "next_images",
    "open_dataset",
    "predict",
    "prune",
    "prune_model",
    "quantize",
    "quantize_aware",
    "read_receipt",
    "report",
    "resume",
    "resume_folds",
    "separate",
    "suspects",
    "train",
    "train_folds",
]

_MOVED = {
    "keras_unetres.cells": "keras_unetres.objects",
    "keras_unetres.cells.separate": "unetres_edge.objects.separate",
    "keras_unetres.cells.table": "unetres_edge.objects.table",
    "keras_unetres.compress": "keras_unetres.quantization",
    "keras_unetres.compress.adapters": "keras_unetres.quantization.tfmot.adapters",
    "keras_unetres.compress.bridge": "keras_unetres.quantization.tfmot.bridge",
    "keras_unetres.compress.cluster": "keras_unetres.quantization.tfmot.cluster",
    "keras_unetres.compress.legacy": "keras_unetres.quantization.tfmot.imports",
    "keras_unetres.compress.prune": "keras_unetres.quantization.tfmot.prune",
    "keras_unetres.compress.quantizers": "keras_unetres.quantization.tfmot.quantizers",
    "keras_unetres.compress.tfmot_engine": "keras_unetres.quantization.tfmot.engine",
    "keras_unetres.data.check": "keras_unetres.doctor.check",
    "keras_unetres.data.check_page": "keras_unetres.doctor.check_page",
    "keras_unetres.data.faults": "keras_unetres.data.findings",
    "keras_unetres.data.portrait": "keras_unetres.doctor.summaries",
    "keras_unetres.data.repair": "keras_unetres.doctor.fix",
    "keras_unetres.data.rims": "keras_unetres.doctor.rims",
    "keras_unetres.evaluate": "keras_unetres.scores",
    "keras_unetres.evaluate.diagram": "keras_unetres.pages.diagram",
    "keras_unetres.evaluate.pictures": "keras_unetres.pages.pictures",
    "keras_unetres.export": "keras_unetres.tflite",
    "keras_unetres.export.heads": "keras_unetres.choices.heads",
    "keras_unetres.export.mixed": "keras_unetres.tflite.mixed_precision",
    "keras_unetres.export.process": "keras_unetres.tflite.converter_process",
    "keras_unetres.export.processes": "keras_unetres.tflite.isolated_python",
    "keras_unetres.export.quantizer": "keras_unetres.tflite.weight_quantization",
    "keras_unetres.export.recipes": "keras_unetres.choices.recipes",
    "keras_unetres.export.tflite": "keras_unetres.tflite.export",
    "keras_unetres.models.published": "keras_unetres.weights.published",
    "keras_unetres.models.weights": "keras_unetres.weights.loader",
    "keras_unetres.objects.separate": "unetres_edge.objects.separate",
    "keras_unetres.objects.table": "unetres_edge.objects.table",
    "keras_unetres.tflite.calibrate": "keras_unetres.data.calibration",
    "keras_unetres.tflite.coverage": "keras_unetres.data.coverage",
    "keras_unetres.training.keeper": "keras_unetres.training.checkpoints",
    "keras_unetres.workflows.cluster": "keras_unetres.workflows.compress",
    "keras_unetres.workflows.loading": "keras_unetres.tasks.loading",
    "keras_unetres.workflows.options": "keras_unetres.settings",
    "keras_unetres.workflows.prune": "keras_unetres.workflows.compress",
}
add_moved(_MOVED)


if not TYPE_CHECKING:  # a type checker is to name what does not exist

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if _HOMES[name].startswith("unetres_edge"):
            return getattr(importlib.import_module(_HOMES[name]), name)
        from .machine.backend import check_installed
        from .machine.tensorflow_log import quiet_tensorflow

        check_installed()
        quiet_tensorflow()
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


keep_names(__name__, _HOMES)  # `evaluate` is a function, and was a package
