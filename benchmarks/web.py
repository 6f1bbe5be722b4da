"""The browser runtime: bytes over the wire, time to the first mask, and ms an image beside Python on the same file.

    python benchmarks/web.py [MODEL IMAGE]

Needs Chromium and `npm ci` in edge/src/unetres_edge/web. Both sides run on this machine, in turns, each the median of
its images.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from unetres_edge import Segmenter
from unetres_edge.files import write_json
from unetres_edge.images.decode import read_image
from unetres_edge.web import PAGE_FILES, make_server, page_file, web_folder, write_web

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "edge" / "tests" / "golden"
COUNT = 9


def main(model: Path, picture: Path) -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None or not (web_folder() / "node_modules" / "playwright-core").is_dir():
        print("skipped: needs Chromium and `npm ci` in edge/src/unetres_edge/web")
        return
    sizes = {n: len(gzip.compress(page_file(n), 9)) for n in PAGE_FILES if not n.endswith((".d.ts", "node.js"))}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        site = write_web(model, folder / "site", litert=web_folder(), say=lambda line: None)
        wasm = {
            name: len(gzip.compress((site / "litert" / name).read_bytes(), 9))
            for name in (
                "dist/index.js",
                "wasm/litert_wasm_threaded_internal.js",
                "wasm/litert_wasm_threaded_internal.wasm",
            )
        }
        with make_server(site) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                job = {
                    "url": f"http://127.0.0.1:{server.server_address[1]}/",
                    "chromium": chromium,
                    "image": os.fspath(picture),
                    "count": COUNT,
                }
                (folder / "job.json").write_text(json.dumps(job))
                command = ["node", web_folder() / "test" / "bench.mjs", folder / "job.json"]
                seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            finally:
                server.shutdown()
                thread.join()
    python = {threads: _python(model, picture, threads) for threads in (None, 1)}
    result = {
        "browser": f"Chromium {seen['version']}",
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "image": list(read_image(picture).shape[:2]),
        "model_bytes": model.stat().st_size,
        "gzip_bytes": {
            "own_modules": sum(size for name, size in sizes.items() if name.endswith(".js")),
            "own_code": sum(sizes.values()),
            "own_files": sizes,
            "litert_js": sum(wasm.values()),
        },
        "ms": {
            "ready": round(seen["ready"]),
            "first_mask": round(seen["first"]),
            "browser_threads": _median(seen["threads"], "total"),
            "browser_threads_network": _median(seen["threads"], "infer"),
            "browser_one_thread": _median(seen["single"], "total"),
            "browser_one_thread_network": _median(seen["single"], "infer"),
            "python_all_cores": python[None],
            "python_one_thread": python[1],
        },
    }
    result["browser_to_python"] = {
        "all_cores": round(result["ms"]["browser_threads"] / python[None], 2),
        "one_thread": round(result["ms"]["browser_one_thread"] / python[1], 2),
    }
    write_json(ROOT / "benchmarks" / "results" / "web.json", result)
    print(json.dumps(result, indent=2))


def _python(model: Path, picture: Path, threads: int | None) -> float:
    image, found = read_image(picture), []
    with Segmenter(model, num_threads=threads) as segmenter:
        for _ in range(COUNT + 2):
            start = time.perf_counter()
            segmenter.segment(image)
            found.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(found[2:]), 1)


def _median(found: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(one[name] for one in found), 1)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]] or [GOLDEN / "web_cells.tflite", GOLDEN / "web_cells.png"]
    main(*given)
