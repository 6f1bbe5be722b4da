"""Whether limits of milliseconds and kB are kept: random ones, planned and measured; figures to results/budgets.json.

    python benchmarks/budgets.py [--count 40] [--size 128]

For each budget `unetres plan` chooses a network for drawn cells, or refuses before anything is trained. The network
that it chose is then exported and timed anew, as `unetres export` does. Budgets are drawn on a logarithmic scale from
half of what the smallest network takes to twice what the largest takes. Nothing else should run beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from real_data import ROOT, machine

from keras_unetres.data.synthetic import write_cells
from keras_unetres.planning.files import measure_files
from keras_unetres.planning.rules import LIMITED
from keras_unetres.settings import FileCost, LimitSettings, TrainSettings
from keras_unetres.tasks import TASKS
from keras_unetres.tasks.reading import open_records, prepare_data
from keras_unetres.workflows.plan import plan
from unetres_edge.errors import UsageError
from unetres_edge.files import make_folder, write_json

RESULTS = ROOT / "benchmarks" / "results" / "budgets.json"


def main() -> None:
    """Draw budgets, plan, measure, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=40, help="budgets")
    parser.add_argument("--size", type=int, default=128, help="side of the input, px")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        data = write_cells(Path(temporary) / "cells", num_images=12, size=(options.size, options.size))
        settings = TrainSettings.from_flat({"size": options.size, "max_ms": 1e6})
        costs = measured(data, settings, LIMITED)
        rows = []
        for number in range(options.count):
            budget = draw_budget(rng, costs)
            row = budget | kept(data, settings.with_flat(budget))
            rows.append(row)
            print(f"{number + 1}/{options.count}  {json.dumps(row)}", flush=True)
    chosen = [row for row in rows if not row["refused"]]
    figures = {
        "budgets": len(rows),
        "refused": len(rows) - len(chosen),
        "kept": sum(row["kept"] for row in chosen),
        "needlessly_refused": sum(row["refused"] and fits(costs[min(costs)], row, 0.8) for row in rows),
    }
    print(figures)
    sizes = {str(filters): asdict(cost) for filters, cost in costs.items()}
    head = {"command": given_command(), "machine": machine(), **figures, "networks": sizes}
    write_json(make_folder(RESULTS.parent) / RESULTS.name, {**head, "rows": rows})


def draw_budget(rng: np.random.Generator, costs: dict[int, FileCost]) -> dict[str, float]:
    """Return limits of milliseconds and kB."""
    budget = {}
    for name, values in (
        ("max_ms", [cost.ms or 0.0 for cost in costs.values()]),
        ("max_kb", [cost.kb for cost in costs.values()]),
    ):
        low, high = math.log(min(values) / 2), math.log(2 * max(values))
        budget[name] = float(f"{math.exp(rng.uniform(low, high)):.3g}")
    return budget


def kept(data: Path, settings: TrainSettings) -> dict[str, Any]:
    """Return which network was chosen, what its file takes, and whether that is within the limits."""
    try:
        decisions = plan(data, options=settings, say=lambda line: None)["decisions"]
    except UsageError as error:
        return {"refused": True, "why": str(error)}
    filters = next(made["value"] for made in decisions if made["setting"] == "filters")
    (cost,) = measured(data, settings, (filters,)).values()
    return {"refused": False, "filters": filters, **asdict(cost), "kept": fits(cost, asdict(settings.limits), 1.0)}


def fits(cost: FileCost, limits: dict[str, Any], share: float) -> bool:
    """Return whether a file takes no more than a share of the limits."""
    return LimitSettings(limits["max_ms"], limits["max_kb"]).exceeded_by(cost, share) is None


def measured(data: Path, settings: TrainSettings, sizes: tuple[int, ...]) -> dict[int, FileCost]:
    """Return what the files of networks of some filters take, each exported and timed."""
    task = TASKS["segment"]
    dataset, records, settings = open_records(task, data, settings)
    return measure_files(sizes, settings, prepare_data(task, dataset, records, settings, None))


if __name__ == "__main__":
    main()
