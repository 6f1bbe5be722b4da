"""The run folder: what a training writes, and how it is read back."""

from .folder import RunFolder
from .info import (
    CLUSTER,
    PRUNE,
    QUANTIZE_AWARE,
    SCHEMA,
    STEPS,
    ClassInfo,
    Compilation,
    Compression,
    DataInfo,
    Distillation,
    ModelInfo,
    RunInfo,
    Speed,
)
from .names import picture_name
from .plan import TOO_FEW_STEPS, Plan, too_few_steps

__all__ = [
    "CLUSTER",
    "ClassInfo",
    "Compilation",
    "Compression",
    "DataInfo",
    "Distillation",
    "ModelInfo",
    "PRUNE",
    "Plan",
    "QUANTIZE_AWARE",
    "RunFolder",
    "RunInfo",
    "SCHEMA",
    "STEPS",
    "Speed",
    "TOO_FEW_STEPS",
    "picture_name",
    "too_few_steps",
]
