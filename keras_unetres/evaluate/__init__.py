"""Evaluation: one confusion count, from which every score is derived, for whatever segments images."""

from .boundaries import BoundaryCounts
from .confusion import Confusion
from .instances import InstanceScores, match_instances
from .keras_engine import KerasEngine
from .partitions import BestScores, PartitionScores, best_over_thresholds, partition_score, segments_of_membrane
from .pictures import sample_sheet
from .score import score

__all__ = [
    "BestScores",
    "BoundaryCounts",
    "Confusion",
    "InstanceScores",
    "KerasEngine",
    "PartitionScores",
    "best_over_thresholds",
    "match_instances",
    "partition_score",
    "sample_sheet",
    "score",
    "segments_of_membrane",
]
