"""Every setting once: frozen dataclasses whose fields carry help, choices, bounds and default.

The command line, the checks, `run.json`, the commands in reports and the option tables of the guide come from them.
"""

from .train import DataSettings, FitSettings, NetworkSettings, TrainOptions, TrainSettings, flat_options

__all__ = [
    "DataSettings",
    "FitSettings",
    "NetworkSettings",
    "TrainOptions",
    "TrainSettings",
    "flat_options",
]
