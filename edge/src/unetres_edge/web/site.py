"""A folder for any static host: the page's modules, LiteRT.js, the model, and what a service worker keeps of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..engines.litert import LiteRTEngine
from ..errors import ExistsError, ModelError
from ..files import building, check_folder_writable, make_folder, read_bytes, write_bytes
from ..images.decode import count_pages, read_image
from ..model.card import Card, read_card
from ..temporaries import remove_left_over
from .litertjs import runtime_files

PAGE_FILES = (
    "background.js",
    "card.d.ts",
    "card.js",
    "client.d.ts",
    "client.js",
    "engine.js",
    "errors.d.ts",
    "errors.js",
    "familiarity.d.ts",
    "familiarity.js",
    "files.js",
    "index.html",
    "node.js",
    "page.js",
    "pixels.js",
    "png.js",
    "regions.js",
    "segmenter.d.ts",
    "segmenter.js",
    "sha256.js",
    "style.css",
    "sw.js",
    "tiff.js",
    "tiles.js",
    "vector.js",
    "worker.js",
)
MODEL = "model.tflite"
SAMPLE = "sample.json"
_MARK = b"unetres_edge"  # in the head of modules of the page
# What the page may load, from where it came alone; what its worker may, too, which fetches a model by its address.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
WORKER = "worker.js"
WORKER_POLICY = POLICY.replace("connect-src 'self'", "connect-src 'self' https: http:")
_NO_WORKER = b"""// Takes the place of a worker of an earlier page at this address, and goes.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.registration.unregister()));
"""
_NOT_OF_THE_PAGE = (".d.ts", "node.js", "sw.js")  # what no browser loads, or keeps by itself


def web_folder() -> Path:
    """Return the folder in which the page's files lie."""
    return Path(__file__).parent


def page_file(name: str) -> bytes:
    """Return the content of a file of the page, one of PAGE_FILES."""
    return read_bytes(web_folder() / name, "part of the page")


def write_web(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    litert: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    offline: bool = True,
    sample: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a folder that any static host can serve: the page, LiteRT.js, the model, and a service worker.

    Args:
        model: a `.tflite` of a segmenter with a card, of a head with uint8 or float input and output.
        out: the folder.
        litert: a folder that holds `node_modules` with @litertjs/core; None to fetch it from the npm registry once.
        overwrite: whether to write into a folder that is not empty.
        offline: whether browsers keep the page for use without a network; without, a worker that they have kept of an
            earlier page at this address is taken away.
        sample: an image that the page offers to try.
        say: callback for lines to the user.

    Returns:
        The folder.

    Raises:
        ModelError: not a model that the page can run.
        ExistsError: the folder is not empty, or holds another page.
        FileSystemError: LiteRT.js cannot be fetched, or the disk refuses.
        UsageError: `litert` has no LiteRT.js of the version that was tested.
    """
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    if not card.per_pixel:
        raise ModelError("the page shows segmenters", file=model, expected="task 'segment'", found=card.task)
    codec = LiteRTEngine(data, card, num_threads=1).codec
    if np.int8 in (codec.dtype, codec.input_dtype):
        raise ModelError("the page takes no int8 ends", file=model, fix="export it with --head logits")
    folder = check_folder(out, overwrite=overwrite)
    files = {name: page_file(name) for name in PAGE_FILES}
    files |= {f"litert/{name}": content for name, content in runtime_files(litert, say).items()}
    files[MODEL] = data
    files |= _sample_files(sample, card)
    files["sw.js"] = service_worker(files) if offline else _NO_WORKER
    new = not folder.is_dir() or not any(folder.iterdir())
    with building(folder) if new else contextlib.nullcontext(folder) as place:
        for name in sorted(files, key=lambda name: name == "sw.js"):  # last: no worker is ahead of its files
            make_folder((place / name).parent)
            write_bytes(place / name, files[name])
    size = sum(map(len, files.values()))
    say(f"web        {folder}, {len(files)} files, {size / 1e6:.1f} MB of which a browser loads about a quarter")
    return folder


def _sample_files(sample: str | os.PathLike[str] | None, card: Card) -> dict[str, bytes]:
    """Return the sample image and what names it.

    Raises:
        ImageError: it is no image.
    """
    if sample is None:
        return {SAMPLE: b'{"name": null}\n'}
    read_image(sample, 0 if count_pages(sample) > 1 else None, stacked=card.stacked)
    name = f"sample{Path(sample).suffix.lower()}"
    return {SAMPLE: f"{json.dumps({'name': name})}\n".encode(), name: read_bytes(sample, "sample")}


def check_folder(out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the folder of a page that is to be written.

    Raises:
        ExistsError: it is not empty, or with `overwrite` holds files of these names that no `write_web` wrote.
        FileSystemError: it cannot be written.
    """
    folder = Path(out)
    if os.path.lexists(folder) and not folder.is_dir():
        raise ExistsError("not a folder", file=folder, fix="choose another")
    check_folder_writable(folder)
    remove_left_over(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder
    if not overwrite:
        raise ExistsError("the folder is not empty", file=folder, fix="choose another, or pass --overwrite")
    foreign = [name for name in (*PAGE_FILES, MODEL, "litert") if os.path.lexists(folder / name)]
    if foreign and not _is_page(folder):
        raise ExistsError("not a page of ours, so it is not replaced", file=folder / foreign[0], fix="choose another")
    return folder


def _is_page(folder: Path) -> bool:
    """Whether `write_web` wrote to a folder: it holds this package's engine and worker beside the page."""
    try:
        return all(_MARK in (folder / name).read_bytes()[:4096] for name in ("segmenter.js", "card.js"))
    except OSError:
        return False


def service_worker(files: Mapping[str, bytes]) -> bytes:
    """Return `sw.js` of a page of these files: it begins with what it keeps, a version that is theirs, and policies.

    Of LiteRT.js's WebAssembly there are several, of which a browser takes one; the page names that.
    """
    digest = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in sorted(files)))
    needed = [name for name in sorted(files) if not name.startswith("litert/wasm/")]
    kept = ["./", *(name for name in needed if not name.endswith(_NOT_OF_THE_PAGE))]
    policies = {"page": POLICY, WORKER: WORKER_POLICY}
    offline = {"version": digest.hexdigest()[:12], "files": kept, "policies": policies}
    return f"self.OFFLINE = {json.dumps(offline)};\n".encode() + files["sw.js"]
