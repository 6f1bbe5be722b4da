"""Every setting once: frozen dataclasses whose fields carry help, choices, bounds and default.

The command line, the checks, `run.json`, the commands in reports and the option tables of the guide come from them.
"""

from .commands import (
    MAX_DROP,
    QUANTIZE_EPOCHS,
    AugmentSettings,
    CheckSettings,
    DemoSettings,
    EvaluateSettings,
    ExportSettings,
    GateSettings,
    InspectSettings,
    KerasFileSettings,
    ModelsSettings,
    ObjectSettings,
    PredictCommand,
    QuantizeSettings,
    ReportSettings,
    ServeDemoSettings,
    TrainCommand,
)
from .train import (
    EPOCHS,
    DataSettings,
    FitSettings,
    NetworkSettings,
    ReadingSettings,
    TrainOptions,
    TrainSettings,
    flat_options,
)

__all__ = [
    "AugmentSettings",
    "CheckSettings",
    "DataSettings",
    "DemoSettings",
    "EPOCHS",
    "EvaluateSettings",
    "ExportSettings",
    "FitSettings",
    "GateSettings",
    "InspectSettings",
    "KerasFileSettings",
    "MAX_DROP",
    "ModelsSettings",
    "NetworkSettings",
    "ObjectSettings",
    "PredictCommand",
    "QUANTIZE_EPOCHS",
    "QuantizeSettings",
    "ReadingSettings",
    "ReportSettings",
    "ServeDemoSettings",
    "TrainCommand",
    "TrainOptions",
    "TrainSettings",
    "flat_options",
]
