"""Scores of class maps, objects and labels, each derived from counts that are summed over images."""

from .boundaries import BoundaryCounts
from .confusion import Confusion
from .instances import InstanceScores, match_instances
from .partitions import BestScores, PartitionScores, best_over_thresholds, partition_score, segments_of_membrane
from .score import score

__all__ = [
    "BestScores",
    "BoundaryCounts",
    "Confusion",
    "InstanceScores",
    "PartitionScores",
    "best_over_thresholds",
    "match_instances",
    "partition_score",
    "score",
    "segments_of_membrane",
]
