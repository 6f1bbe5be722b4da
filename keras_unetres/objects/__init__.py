"""Cells, not only pixels: from scores to single objects, and what is written down of them (`unetres_edge.objects`).

Objects that touch are parted by watershed; nothing here runs a network or scores a result.
"""

from unetres_edge.moved import keep_names
from unetres_edge.objects.separate import Instances, Separation, find_instances, object_classes
from unetres_edge.objects.separate import separate as _separate
from unetres_edge.objects.table import (
    LabelFormat,
    Row,
    describe,
    encode_counts,
    encode_label_map,
    encode_table,
    outline_instances,
)

from ..choices.arguments import checks_kinds

separate = checks_kinds(_separate)
keep_names(__name__, ("separate",))  # it was a module, too

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
