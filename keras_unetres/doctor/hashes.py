"""Files that are not what they were at an earlier check, by the hashes that it kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from unetres_edge.errors import Fix, UnetresError
from unetres_edge.files import write_bytes
from unetres_edge.terminal import counted

from ..data.findings import Finding, Where, relative
from .summaries import DatasetSummary

HASHES = ".unetres-hashes.json"
_FIX = Fix("restore the file; or, if it was changed on purpose: unetres check --rehash")


def find_changed(summary: DatasetSummary, mode: str, faulty: Collection[str]) -> tuple[list[Finding], str]:
    """Compare files with what they were at earlier checks, and remember those that are without fault.

    Args:
        mode: "keep", "renew" or "off", see `check`.
        faulty: files that are not remembered, as findings call them.

    Returns:
        (files that changed, what became of the hashes, in words)
    """
    base = summary.dataset.base
    if mode == "off" or not base.is_dir():
        return [], ""
    file = base / HASHES
    known, lost = _read(file) if mode == "keep" and file.exists() else ({}, "")
    now = {relative(path, base): digest for image in summary.images for path, digest in image.files}
    changed = sorted(name for name in now.keys() & known.keys() if now[name] != known[name])
    names = _samples_of(changed, summary)
    findings = [
        Finding("changed", Where(name, names[name]), {"sha256": now[name][:12], "earlier": known[name][:12]}, _FIX)
        for name in changed
    ]
    sound = {name: digest for name, digest in now.items() if name not in {*faulty, *changed}}
    kept = known | sound
    if kept == known and mode == "keep":
        return findings, f"{counted(len(now), 'file')} compared with {HASHES}, {len(changed)} changed"
    try:
        _write(file, kept)
    except UnetresError as error:
        return findings, f"no hashes are kept: {error.message}"
    return findings, f"{counted(len(kept), 'hash', 'hashes')} in {HASHES}; later checks compare with them{lost}"


def forget(base: Path, files: Collection[str]) -> None:
    """Forget the hashes of files that were changed on purpose, by their names below `base`; later checks take them new.

    Raises:
        FileSystemError: the hashes cannot be written.
    """
    file = base / HASHES
    if not file.is_file():
        return
    known, _ = _read(file)
    kept = {name: digest for name, digest in known.items() if name not in files}
    if kept != known:
        _write(file, kept)


def _samples_of(files: Collection[str], summary: DatasetSummary) -> dict[str, str]:
    """Return file -> name of the sample that it belongs to."""
    wanted, base = set(files), summary.dataset.base
    paths = ((relative(path, base), image) for image in summary.images if wanted for path, _ in image.files)
    return {name: image.sample.name for name, image in paths if name in wanted}


def _write(file: Path, hashes: Mapping[str, str]) -> None:
    """Write hashes as JSON, a line a file; so many take little more memory than the text."""
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(hashes[name])}" for name in sorted(hashes))
    write_bytes(file, f'{{\n  "version": 1,\n  "files": {{\n{lines}\n  }}\n}}\n'.encode())


def _read(file: Path) -> tuple[dict[str, str], str]:
    """Return the hashes of earlier checks, or none and a note that they are lost."""
    try:
        files = json.loads(file.read_text(encoding="utf-8"))["files"]
        if isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values()):
            return files, ""
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return {}, ", written anew: those of earlier checks cannot be read"
