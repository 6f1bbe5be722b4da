"""How long the runtime takes to import, and how much disk it and what it needs take, by package.

    python benchmarks/edge_footprint.py [--repeats 7]

Each import runs in a fresh interpreter, whose own start is measured beside it. Figures (median s, bytes) to
results/edge_footprint.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median

from _command import given_command

from unetres_edge.files import make_folder, write_json

RESULTS = Path(__file__).resolve().parent / "results"
ROOT = "keras-unetres-edge"


def main() -> None:
    """Measure both and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    codes = {"python alone": "pass", "import unetres_edge": "import unetres_edge"}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(options.repeats + 1):
        for name, code in codes.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds[name].append(time.perf_counter() - start)
    sizes = {name: size_of(name) for name in sorted(needed(ROOT))}
    result = {
        "command": given_command(),
        "median_seconds": {name: round(median(values[1:]), 3) for name, values in seconds.items()},
        "bytes": sizes,
        "all_bytes": sum(sizes.values()),
    }
    write_json(make_folder(RESULTS) / "edge_footprint.json", result)
    print(json.dumps(result, indent=1))


def needed(name: str) -> set[str]:
    """Return a package and all that it needs here, extras left out."""
    found, waiting = set(), [name]
    while waiting:
        one = waiting.pop().lower().replace("_", "-")
        try:
            lines = distribution(one).requires or []
        except PackageNotFoundError:
            continue  # a marker leaves it out on this system
        if one not in found:
            found.add(one)
            names = [re.match(r"[\w.-]+", line) for line in lines if "extra ==" not in line]
            waiting += [match.group() for match in names if match]
    return found


def size_of(name: str) -> int:
    """Return the bytes of a package's files; of one installed in editable form, those of its source."""
    if name == ROOT:
        import unetres_edge

        return sum(path.stat().st_size for path in Path(unetres_edge.__file__).parent.rglob("*.py"))
    paths = [Path(str(file.locate())) for file in distribution(name).files or []]
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


if __name__ == "__main__":
    main()
