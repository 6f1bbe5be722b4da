"""The model in a browser tab: a folder for any static host, and a server on this machine that shows it.

The page and its modules are those of `edge/web`. LiteRT.js, which runs the network, is not carried by this package: its
npm archives are fetched once, checked against the SHA-512 of `package-lock.json`, and kept in the user's cache.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import unetres_edge
from unetres_edge.errors import ExistsError, FileSystemError, ModelDamagedError, ModelError, UsageError
from unetres_edge.files import make_folder, read_bytes, write_bytes
from unetres_edge.model.card import read_card

from ..settings import ServeDemoSettings

# What a folder holds beside LiteRT.js and the model, each with the modules of `edge/web` that are joined into it.
PAGE_FILES: dict[str, tuple[str, ...]] = {
    "client.js": (),
    "errors.js": (),
    "index.html": (),
    "page.js": ("png.js", "vector.js"),
    "segmenter.d.ts": (),
    "segmenter.js": ("card.js", "pixels.js", "tiles.js", "engine.js"),
    "style.css": (),
    "sw.js": (),
    "worker.js": (),
}
_REGISTRY = "https://registry.npmjs.org/"
_CORE, _HELPER = "node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"
_IMPORT = b'from "@litertjs/wasm-utils"'
_REMARK = re.compile(r"\s+// [^\"'`]*$")  # nothing that may be the inside of a string
_IMPORTS = re.compile(r'^import \{ ([^}]*) \} from "\./([\w.]+)";\n', re.M)
_EXPORT = re.compile(r"^export (?=async |class |const |function)", re.M)
_EXPORTED_FROM = re.compile(r'^(export \{[^}]*\}) from "\./[\w.]+";$', re.M)
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


def write_web(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    litert: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a folder that any static host can serve: the page, LiteRT.js, the model, and a service worker.

    Args:
        model: a `.tflite` of a segmenter with a card, of a head with uint8 or float input and output.
        out: the folder.
        litert: a folder that holds `node_modules` with @litertjs/core; None to fetch it from the npm registry once.
        overwrite: write into a folder that is not empty.
        say: called with lines for the user.

    Returns:
        The folder.

    Raises:
        ModelError: not a model that the page can run.
        ExistsError: the folder is not empty.
        FileSystemError: LiteRT.js cannot be fetched, or the disk refuses.
        UsageError: `litert` has no LiteRT.js of the version that was tested.
    """
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    if card.task != "segment":
        raise ModelError("the page shows segmenters", file=model, expected="task 'segment'", found=card.task)
    folder = Path(out)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ExistsError("the folder is not empty", file=folder, fix="choose another, or pass --overwrite")
    files = {name: page_file(name) for name in PAGE_FILES}
    runtime = _litert_files(litert, say)
    files |= {f"litert/{name}": content for name, content in runtime.items()}
    files["model.tflite"] = data
    files["sw.js"] = _service_worker(files)
    for name in sorted(files, key=lambda name: name == "sw.js"):  # last: a worker is never ahead of its files
        make_folder((folder / name).parent)
        write_bytes(folder / name, files[name])
    size = sum(map(len, files.values()))
    say(f"web        {folder}, {len(files)} files, {size / 1e6:.1f} MB of which a browser loads about a quarter")
    return folder


def serve_demo(
    model: str | os.PathLike[str],
    *,
    port: int = ServeDemoSettings.port,
    browser: bool = ServeDemoSettings.browser,
    litert: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Show a model in the browser of this machine, until Ctrl-C. Only this machine can reach the server.

    Args:
        model: as for `write_web`.
        port: to listen on; 0 for any that is free.
        browser: open the page.
        litert: as for `write_web`.
        say: called with lines for the user.

    Raises:
        UnetresError: as for `write_web`.
        FileSystemError: the port is taken.
    """
    if not 0 <= port <= 65535:
        raise UsageError("no such port", expected="0 to 65535", found=port)
    with tempfile.TemporaryDirectory(prefix="unetres-web-") as folder:
        write_web(model, folder, litert=litert, say=lambda line: None)
        with make_server(folder, port) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            say(f"serving    {address} (Ctrl-C ends it)")
            if browser:
                webbrowser.open(address)
            server.serve_forever()


def make_server(folder: str | os.PathLike[str], port: int = 0) -> ThreadingHTTPServer:
    """Return a server of this folder on loopback, with the headers that threads in a page need."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, directory=os.fspath(folder)))
    except OSError as error:
        raise FileSystemError(f"cannot listen on port {port}: {error.strerror}", fix="choose another --port") from error


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # not of the machine's own tables, which may call .js plain text
        ".css": "text/css",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def web_folder() -> Path:
    """Return where the page's files lie: in the installed package, or in the checkout beside it."""
    package = Path(unetres_edge.__file__).parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parents[1] / "web"


def _service_worker(files: dict[str, bytes]) -> bytes:
    """Return sw.js with the names of the files that every browser needs, and a version that is theirs."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in sorted(files)))
    needed = [
        "./",
        *sorted(
            name for name in files if not name.startswith("litert/wasm/") and name not in ("segmenter.d.ts", "sw.js")
        ),
    ]
    text = files["sw.js"].decode()
    text = text.replace("unetres-VERSION", f"unetres-{digest.hexdigest()[:12]}")
    return text.replace("FILES = [];", f"FILES = {json.dumps(needed)};").encode()


def page_file(name: str) -> bytes:
    """Return a file of PAGE_FILES as it is sent: its modules joined, without comments and indentation."""
    sources = {part: read_bytes(web_folder() / part, "part of the page").decode() for part in (*PAGE_FILES[name], name)}
    if name.endswith(".js"):
        text = re.sub(r"^[ \t]*/\*\*.*?\*/[ \t]*\n", "", _joined(sources), flags=re.M | re.S)
        lines = [_REMARK.sub("", line).strip() for line in text.splitlines() if not line.lstrip().startswith("//")]
    elif name.endswith(".css"):
        lines = [re.sub(r"\s*([{};,]|: )\s*", lambda found: found[1].strip(), sources[name])]
    elif name.endswith(".html"):
        lines = list(map(str.strip, sources[name].splitlines()))
    else:
        lines = sources[name].splitlines()
    return "".join(f"{line}\n" for line in lines if line).encode()


def _joined(sources: dict[str, str]) -> str:
    """Return ES modules as one, those that others need first. No two may give the same name to a thing of their own."""
    imported: dict[str, set[str]] = {}
    bodies = []
    for name, text in sources.items():
        for names, where in _IMPORTS.findall(text):
            if where not in sources:
                imported.setdefault(where, set()).update(map(str.strip, names.split(",")))
        text = _IMPORTS.sub("", text)
        last = name == list(sources)[-1]
        bodies.append(_EXPORTED_FROM.sub(r"\1;", text) if last else _EXPORT.sub("", text))
    lists = {where: ", ".join(sorted(names)) for where, names in sorted(imported.items())}
    heads = (f'import {{ {names} }} from "./{where}";\n' for where, names in lists.items())
    return "".join([*heads, *bodies])


def _litert_files(litert: str | os.PathLike[str] | None, say: Callable[[str], None]) -> dict[str, bytes]:
    """Return LiteRT.js as its npm package lays it out, with its one bare import made relative: workers have no map."""
    root = _fetched(say) if litert is None else Path(litert)
    wanted = _locked()[_CORE]["version"]
    manifest = root / _CORE / "package.json"
    found = json.loads(manifest.read_bytes())["version"] if manifest.is_file() else "none"
    if found != wanted:
        raise UsageError(
            "not the LiteRT.js that was tested",
            file=root,
            expected=wanted,
            found=found,
            fix="npm ci there, or fetch it",
        )
    files = {f"wasm/{path.name}": path.read_bytes() for path in sorted((root / _CORE / "wasm").iterdir())}
    index = (root / _CORE / "dist" / "index.js").read_bytes()
    if index.count(_IMPORT) != 1:
        raise ModelDamagedError(
            "LiteRT.js is not laid out as expected", file=root, found=f"{index.count(_IMPORT)} imports"
        )
    files["dist/index.js"] = index.replace(_IMPORT, b'from "./wasm-utils.js"')
    files["dist/wasm-utils.js"] = (root / _HELPER / "dist" / "index.js").read_bytes()
    return files


def _locked() -> dict[str, dict[str, str]]:
    packages = json.loads(read_bytes(web_folder() / "package-lock.json", "part of the page"))["packages"]
    return {name: packages[name] for name in (_CORE, _HELPER)}


def _fetched(say: Callable[[str], None]) -> Path:
    """Return the cache folder of LiteRT.js, filled where it is not."""
    locked = _locked()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unetres"
    root = home / f"litertjs-{locked[_CORE]['version']}"
    if root.is_dir():
        return root
    make_folder(home)
    with tempfile.TemporaryDirectory(dir=home) as temporary:
        whole = Path(temporary) / "whole"
        for name, package in locked.items():
            say(f"fetching   {name.removeprefix('node_modules/')} {package['version']}")
            _unpack(_download(name.removeprefix("node_modules/"), package), whole / name)
        try:
            os.replace(whole, root)
        except OSError:
            if not root.is_dir():  # another process was quicker
                raise
    return root


def _download(name: str, package: dict[str, str]) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    address = f"{registry.rstrip('/')}/{name}/-/{name.rpartition('/')[2]}-{package['version']}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            data: bytes = answer.read()
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise FileSystemError(
            f"cannot fetch LiteRT.js: {error}", file=address, fix="pass --litert DIR where `npm ci` was run"
        ) from error
    found = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package["integrity"]:
        raise FileSystemError(
            "LiteRT.js is not the archive that was tested",
            file=address,
            expected=package["integrity"][:20],
            found=found[:20],
        )
    return data


def _unpack(data: bytes, folder: Path) -> None:
    """Write the regular files of a verified npm archive, which lie below `package/`."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts[1:]
            content = archive.extractfile(member) if member.isfile() and ".." not in parts else None
            if content is not None:
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
