"""LiteRT.js, which runs the network in a browser and is not carried by this package.

Its npm archives are fetched once, checked against the SHA-512 of `package-lock.json`, and kept in the user's cache.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..errors import FileSystemError, ModelDamagedError, UsageError
from ..files import make_folder, read_bytes

_REGISTRY = "https://registry.npmjs.org/"
_CORE, _HELPER = "node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"
_IMPORT = b'from "@litertjs/wasm-utils"'


def runtime_files(litert: str | os.PathLike[str] | None, say: Callable[[str], None]) -> dict[str, bytes]:
    """Return the files of LiteRT.js by their names below the folder of its npm package.

    Its one bare import is made relative: a worker has no import map.

    Args:
        litert: a folder that holds `node_modules` with @litertjs/core; None for the user's cache, filled where needed.
        say: callback for lines to the user.

    Raises:
        UsageError: another version than the one that was tested.
        FileSystemError: it cannot be fetched.
    """
    root = _fetched(say) if litert is None else Path(litert)
    wanted = _locked()[_CORE]["version"]
    manifest = root / _CORE / "package.json"
    version = _version(manifest) if manifest.is_file() else "none"
    if version != wanted:
        raise UsageError(
            "not the LiteRT.js that was tested",
            file=root,
            expected=wanted,
            found=version,
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


def _version(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_bytes())["version"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return "a damaged package.json"


def _locked() -> dict[str, dict[str, str]]:
    packages = json.loads(read_bytes(Path(__file__).with_name("package-lock.json"), "part of the page"))["packages"]
    return {name: packages[name] for name in (_CORE, _HELPER)}


def _fetched(say: Callable[[str], None]) -> Path:
    """Return the cache folder of LiteRT.js, filled where it is not."""
    locked = _locked()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unetres"
    root = home / f"litertjs-{locked[_CORE]['version']}"
    if root.is_dir():
        return root
    make_folder(home)
    try:
        with tempfile.TemporaryDirectory(dir=home) as temporary:
            whole = Path(temporary) / "whole"
            for name, package in locked.items():
                say(f"fetching   {name.removeprefix('node_modules/')} {package['version']}")
                _unpack(_download(name.removeprefix("node_modules/"), package), whole / name)
            os.replace(whole, root)
    except OSError as error:
        if not root.is_dir():  # else another process was quicker
            raise FileSystemError(
                f"cannot keep LiteRT.js: {error.strerror or error}",
                file=home,
                fix="free the disk, set XDG_CACHE_HOME, or pass --litert DIR where `npm ci` was run",
            ) from error
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
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != package["integrity"]:
        raise FileSystemError(
            "LiteRT.js is not the archive that was tested",
            file=address,
            expected=package["integrity"][:20],
            found=digest[:20],
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
