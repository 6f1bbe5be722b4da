"""A project that is served to a real browser, and a script that looks at its page."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from node import need_package, node_path

TOKEN = "a-token-of-the-test"
_HERE = Path(__file__).parent


def find_browser() -> str:
    """Return the browser; the test is skipped where there is none, or no server."""
    pytest.importorskip("starlette", reason="needs pip install -e '.[annotate]'")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium, or name it in CHROMIUM")
    return chromium


def look_at_page(script: str, project: Path, folder: Path, timeout: float, **more: Any) -> dict[str, Any]:
    """Return what a script of this folder saw of a project's page.

    Args:
        script: a module of node, which gets the path of its job and writes report.json beside it.
        project: that is served.
        folder: of the job; pictures that the script leaves in it go to the folder UNETRES_SCREENSHOTS, if that is set.
        timeout: of all of it, s.
        more: what else the script is to know.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "playwright": f"{need_package('playwright-core') / 'index.mjs'}",
        "axe": f"{need_package('axe-core') / 'axe.min.js'}",
        "chromium": find_browser(),
        "serve": [sys.executable, f"{_HERE / 'annotate_server.py'}", f"{project}", f"{port}", TOKEN],
        "url": f"http://127.0.0.1:{port}/?token={TOKEN}",
        "token": TOKEN,
        "out": f"{folder}",
        **more,
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [node_path(), f"{_HERE / script}", f"{folder / 'job.json'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    keep = os.environ.get("UNETRES_SCREENSHOTS")
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        for path in (*folder.glob("*.png"), *folder.glob("*.jpg")):
            shutil.copy(path, Path(keep) / f"annotate_{path.name}")
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report
