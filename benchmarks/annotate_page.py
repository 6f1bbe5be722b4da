"""The page for painting: frames while one paints, the work of each, and the forest's answer, beside a training.

    python benchmarks/annotate_page.py [--seconds 20] [--strokes 20] [--no-learn] [--out FILE]

Chromium, without a GPU, shows a picture of 512 x 512 px in a window of 1280 x 820, and one of 3840 x 2160 px in a
window of 4K. A mouse paints `--seconds` without a pause: ms from frame to frame, pixels that are drawn in one, and
pixels of the canvases that are drawn on, which a browser copies whole. Then, with the forest shown, `--strokes` strokes
one by one: ms from the release of the button until the last part of the answer is drawn. A network is trained
meanwhile. Needs Chromium and `npm ci` in edge/src/unetres_edge/web. Figures to results/annotate_page.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from PIL import Image

from keras_unetres.data.synthetic import make_cells
from unetres_edge.files import make_folder, write_json
from unetres_edge.web import web_folder

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "annotate_page.json"
VIEWS = {
    "512 px": {"image": 1, "width": 1280, "height": 820, "size": 12},
    "4k": {"image": 2, "width": 3840, "height": 2160, "size": 40},
}
SIZES = ((512, 512), (2160, 3840))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of painting in each view")
    parser.add_argument("--strokes", type=int, default=20, help="that the forest answers, in each view; 0 for none")
    parser.add_argument("--no-learn", action="store_true", help="without a training")
    parser.add_argument("--out", type=Path, default=RESULT, help="file of the figures")
    given = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None or not (web_folder() / "node_modules" / "playwright-core").is_dir():
        print("skipped: needs Chromium and `npm ci` in edge/src/unetres_edge/web")
        return
    with tempfile.TemporaryDirectory() as place:
        seen = look(Path(place), chromium, given)
    rows = {name: row_of(seen[name]) for name in VIEWS}
    learner = seen["learner"]
    result = {"command": given_command(), "browser": f"Chromium {seen['version']}", "cores": os.cpu_count()}
    result |= {"load_average": round(os.getloadavg()[1], 1), "training": learner and learner["state"], "views": rows}
    print(json.dumps(result, indent=2))
    write_json(given.out, result)


def look(folder: Path, chromium: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return what the script saw of a project of two pictures."""
    pictures = make_folder(folder / "pictures")
    for number, (height, width) in enumerate(SIZES):
        Image.fromarray(cells(height, width)).save(pictures / f"{number}.png")
    words = ["annotate", str(pictures), "--out", str(folder / "project"), "--no-browser", "--minutes", "30"]
    words += ["--no-learn"] if given.no_learn else []
    server = subprocess.Popen([sys.executable, "-m", "keras_unetres.cli", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        lines = (re.match(r"serving +(\S+token=(\S+))", line) for line in server.stdout)
        found = next(match for match in lines if match)
        paint_first(found[1], found[2])
        modules = web_folder() / "node_modules"
        job = {"playwright": f"{modules / 'playwright-core' / 'index.mjs'}", "chromium": chromium, "out": f"{folder}"}
        job |= {"url": found[1], "token": found[2], "views": VIEWS, "learn": not given.no_learn}
        job |= {"seconds": given.seconds, "strokes": given.strokes}
        (folder / "job.json").write_text(json.dumps(job))
        subprocess.run(["node", f"{ROOT / 'tests' / 'annotate_frames.mjs'}", f"{folder / 'job.json'}"], check=True)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    seen: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return seen


def cells(height: int, width: int) -> np.ndarray:
    """Return (height, width, 3) uint8: drawn cells, side by side."""
    row = np.concatenate([make_cells(n, size=(270, 480)).image for n in range(-(-width // 480))], axis=1)
    return np.concatenate([row] * -(-height // 270))[:height, :width]


def paint_first(url: str, token: str) -> None:
    """Paint both classes, on which a training can begin."""
    from urllib.request import Request, urlopen

    headers = {"X-Unetres-Token": token, "Content-Type": "application/json"}
    for number in range(8):
        points = [[20 + 30 * number, 20], [40 + 30 * number, 60]]
        body = {"id": f"s{number}", "tool": "brush", "class": number % 2, "object": 0, "size": 9, "points": points}
        address = f"{url.partition('/?')[0]}/api/images/{number % 2}/strokes"
        urlopen(Request(address, json.dumps(body).encode(), headers)).read()


def row_of(seen: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a view."""
    ms, drawn, held = np.array(seen["frames"][1:]).T
    worked = drawn > 0
    row: dict[str, Any] = {"pixels of the view": round(seen["view"]), "frames": len(ms)}
    row["frames/s"] = round(1000 * len(ms) / ms.sum(), 1)
    row["ms of a frame"] = spread(ms)
    row["frames with work"] = int(worked.sum())
    row["pixels drawn in one of them"] = spread(drawn[worked])
    row["pixels of the canvases drawn on"] = spread(held[worked])
    composed = seen["composed"]
    for name, key in (("quads composed", "quads"), ("tiles of the page painted anew", "painted")):
        row[f"{name}, a frame drawn"] = round(composed[key] / max(1, composed["draws"]), 1)
    row["ms of processor time in Chromium, a frame drawn"] = round(composed["ms"] / max(1, composed["draws"]), 1)
    if seen["answers"]:
        row["ms to the forest's answer"] = spread(np.array(seen["answers"]))
    return row


def spread(values: np.ndarray) -> dict[str, int]:
    """Return the median, the 95th percentile and the largest value."""
    median, late = np.percentile(values, (50, 95))
    return {"median": round(float(median)), "p95": round(float(late)), "most": round(float(values.max()))}


if __name__ == "__main__":
    main()
