"""The run folder: what a training writes, and how it is read back."""

from .folder import RunFolder
from .info import SCHEMA, ClassInfo, Compression, DataInfo, Engine, ModelInfo, RunInfo, Speed
from .plan import Plan

__all__ = [
    "ClassInfo",
    "Compression",
    "DataInfo",
    "Engine",
    "ModelInfo",
    "Plan",
    "RunFolder",
    "RunInfo",
    "SCHEMA",
    "Speed",
]
