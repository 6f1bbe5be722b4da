"""What other engines than LiteRT cost an exported file: its score on the same held-out images, where one is there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from unetres_edge import Card
from unetres_edge.engines.agreement import compare_on_selftest
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.engines.table import open_engine
from unetres_edge.errors import EngineError
from unetres_edge.model.engine_cost import EngineCost

from .held_out import Scored
from .rows import Row, file_row

ENGINES = ("openvino",)  # which "auto" may take; each has the name of its package


def other_engines(
    scored: Scored, images: int, data: bytes, card: Card
) -> tuple[tuple[Row, ...], tuple[EngineCost, ...]]:
    """Return a row for each other engine that is installed and runs the file, and what it costs.

    Args:
        scored: the scores of the file.
        images: number of images.
        data: bytes of the sealed file.
        card: its card.
    """
    rows, costs = [], []
    litert = file_row(scored.rows)
    for name in ENGINES:
        try:
            package = version(name)
            row, least = scored.engine(data, name)
        except (PackageNotFoundError, EngineError):
            continue
        rows.append(row)
        if row.score is not None and litert.score is not None and row.labels_as_file is not None:
            points, equal = 100 * (litert.score - row.score), _equal_on_selftest(data, card, name)
            costs.append(EngineCost(name, package, images, round(points, 6), row.labels_as_file, least, equal))
    return tuple(rows), tuple(costs)


def _equal_on_selftest(data: bytes, card: Card, name: str) -> float:
    litert, other = LiteRTEngine(data, card), open_engine(name, data, card)
    equal = min(one.equal for one in compare_on_selftest(litert, other, card))
    litert.close()
    other.close()
    return equal
