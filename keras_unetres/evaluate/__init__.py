"""Evaluation: one confusion count, from which every score is derived, for whatever segments images."""

from .confusion import Confusion
from .keras_engine import KerasEngine
from .pictures import sample_sheet
from .score import score

__all__ = ["Confusion", "KerasEngine", "sample_sheet", "score"]
