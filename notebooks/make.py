"""Execute the notebooks and write them back with their outputs.

    python notebooks/make.py [--scale 1] [--out FOLDER] [NAME.ipynb ...]

A notebook is written by hand; what this script writes into it is its first code cell (which installs both distributions
from a checkout where they are missing), and the outputs. A notebook may be opened alone, as in Colab, so it names the
guide's pages and links to none.

Each notebook runs in a kernel of its own, in an empty temporary folder. A warning that comes from our own code is an
error. What is written holds no times, paths or names of the machine that ran it; a notebook that would is refused.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import io
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
MAX_BYTES = 600_000
SECONDS = 1800  # in which a cell must be done

STRICT = """import warnings
warnings.filterwarnings("error", module="keras_unetres|unetres_edge")
"""
INSTALL = """# In Colab, upload the repository as the folder keras-unetres, and run this before TensorFlow is imported.
# Where the packages are installed, it does nothing.
import importlib.util

if importlib.util.find_spec("keras_unetres") is None:
    %pip install -q ./keras-unetres/edge ./keras-unetres"""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What TensorFlow's libraries say of the machine and of their work, whatever the level of its log.
TENSORFLOW_LOG = re.compile(
    r"^(?:WARNING: All log messages before absl::|[IWE]\d{4} \d\d:|INFO:tensorflow:|INFO: Created Tensor).*\n?",
    re.MULTILINE,
)
RELATIVE_LINK = re.compile(r"\]\((?!https?://|#)([^)]+)\)")
SCALE_LINE = re.compile(r"^SCALE = 1\b", re.MULTILINE)


def find_notebooks() -> list[Path]:
    """Return the notebooks of this folder in their order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def prepare(notebook: Any) -> Any:
    """Return the notebook with the install cell and the metadata that it has to have; outputs stay.

    Args:
        notebook: version 4.5, whose cells have ids.
    """
    notebook = nbformat.from_dict(notebook)
    cells = [cell for cell in notebook.cells if cell.id not in ("badge", "install")]
    install = next((cell for cell in notebook.cells if cell.id == "install"), None)
    if install is None:
        install = nbformat.v4.new_code_cell(id="install")
    install.source = INSTALL
    first_code = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    notebook.cells = [*cells[:first_code], install, *cells[first_code:]]
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: Any, scale: float) -> Any:
    """Return the notebook with the outputs of its cells.

    Raises:
        ValueError: not exactly one line `SCALE = 1`.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.from_dict(notebook)
    sources = [cell.source for cell in notebook.cells]
    if sum(len(SCALE_LINE.findall(source)) for source in sources) != 1:
        raise ValueError("a notebook has one line `SCALE = 1`")
    for cell in notebook.cells:
        cell.source = SCALE_LINE.sub(f"SCALE = {scale:g}", cell.source)
    # A network trained for seconds wavers between classes, and its file is said to differ.
    strict = STRICT + ('warnings.filterwarnings("ignore", message="agreement:")\n' if scale < 1 else "")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(strict, id="strict"))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    environment.pop("MPLBACKEND", None)  # of the shell; the kernel draws into the notebook
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        )
        client.execute(env=environment)
    notebook.cells.pop(0)
    count = 0
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
        cell.metadata = {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            outputs = [_tidied(output, count) for output in cell.outputs]
            cell.outputs = [output for output in outputs if output.get("text") != ""]
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def _tidied(output: Any, count: int) -> Any:
    """Return an output without what changes from run to run, its picture with a palette and without metadata."""
    if "execution_count" in output:
        output.execution_count = count
    output.pop("transient", None)
    if output.get("name") == "stderr":
        output.text = TENSORFLOW_LOG.sub("", output.text)
    if "metadata" in output:
        width = output.metadata.get("image/png", {}).get("width")
        output.metadata = {} if width is None else {"image/png": {"width": width}}
    if "image/png" in output.get("data", {}):
        output.data.pop("text/plain", None)  # <Figure size ...>
        with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as picture:
            plain = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        plain.save(buffer, "PNG", optimize=True)
        output.data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return output


def find_faults(notebook: Any) -> list[str]:
    """Return what is wrong with an executed notebook, a line a fault."""
    faults = []
    text = nbformat.writes(notebook)
    if len(text.encode()) > MAX_BYTES:
        faults.append(f"{len(text.encode())} bytes, more than {MAX_BYTES}")
    if [cell.source for cell in notebook.cells] != [cell.source for cell in prepare(notebook).cells]:
        faults.append("the install cell is not what notebooks/make.py writes")
    for cell in notebook.cells:
        links = RELATIVE_LINK.findall(cell.source) if cell.cell_type == "markdown" else []
        away = "which is not there where the notebook is opened alone"
        faults += [f"cell {cell.id} links to {link}, {away}" for link in links]
    lines = "\n".join(_texts(notebook)).splitlines()
    for private in {tempfile.gettempdir(), str(Path.home()), str(FOLDER.parent), platform.node(), getpass.getuser()}:
        if len(private) > 4 or private.startswith("/"):
            faults += [f"names {private}, which is of one machine: {line[:200]}" for line in lines if private in line]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        if cell.execution_count != number:
            faults.append(f"cell {cell.id} was not executed in its turn")
        for output in cell.outputs:
            if output.output_type == "error":
                faults.append(f"cell {cell.id} failed: {output.ename}")
            elif output.get("name") == "stderr":
                faults.append(f"cell {cell.id} wrote to stderr: {output.text[:200]}")
            elif re.search("[\r\b\x1b]", output.get("text", "")):
                faults.append(f"cell {cell.id} printed a progress bar or colours")
    return faults


def _texts(notebook: Any) -> list[str]:
    """Return the source of every cell, and every output that is text."""
    texts = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            texts += [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
    return texts


def main() -> int:
    """Execute the notebooks named, or all, and write those without a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1, help="what the line `SCALE = 1` is set to")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("notebooks", type=Path, nargs="*", default=find_notebooks())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.notebooks:
        start, cpu = time.perf_counter(), os.times()
        notebook = execute(prepare(nbformat.read(path, 4)), options.scale)
        now = os.times()
        spent = now.children_user + now.children_system - cpu.children_user - cpu.children_system
        faults = find_faults(notebook)
        text = nbformat.writes(notebook)
        line = f"{time.perf_counter() - start:.0f} s, {spent:.0f} s of CPU, {len(text) / 1000:.0f} kB"
        print(f"{path.name}: {line}", flush=True)
        if faults:
            kept = Path(tempfile.gettempdir()) / f"refused_{path.name}"
            kept.write_text(text + "\n", encoding="utf-8")
            print(*(f"{path.name}: {fault}" for fault in faults), f"see {kept}", sep="\n", file=sys.stderr)
            return 1
        unfinished = options.out / f".{path.name}.tmp"
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(options.out / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
