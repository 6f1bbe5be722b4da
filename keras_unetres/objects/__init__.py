"""Cells, not only pixels: from scores to single objects, and what is written down of them.

Objects that touch are parted by watershed; nothing here runs a network or scores a result.
"""

from .separate import Instances, Separation, find_instances, object_classes, separate
from .table import LabelFormat, Row, describe, encode_counts, encode_label_map, encode_table, outline_instances

__all__ = [
    "Instances",
    "LabelFormat",
    "Row",
    "Separation",
    "describe",
    "encode_counts",
    "encode_label_map",
    "encode_table",
    "find_instances",
    "object_classes",
    "outline_instances",
    "separate",
]
