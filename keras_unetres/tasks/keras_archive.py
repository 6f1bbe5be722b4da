"""What a `.keras` file is, as an archive, before Keras unpacks it into memory and makes what its config says."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from pathlib import Path

from unetres_edge.errors import ModelError

MOST_MEMBERS = 10_000
MOST_TEXT = 64 << 20  # bytes of config.json; that of a network of 1,000 layers has 1 MB
MOST_EXPANSION = 200  # times as large as it is packed, of a member of more than MOST_TEXT
_NEEDED = "config.json"


def check_archive(path: str | os.PathLike[str]) -> None:
    """Look at the list of what is in a `.keras` file.

    Raises:
        ModelError: it is no sound archive, holds a name twice or one that leads out of it, or takes far more memory
            than its size says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        found = "an empty file" if not Path(path).stat().st_size else "no archive, or one that was cut short"
        raise ModelError("not a .keras file", file=path, expected="a sound .keras file", found=found) from error
    names = [member.filename for member in members]
    if _NEEDED not in names:
        raise ModelError("not a .keras file", file=path, expected=f"an archive with {_NEEDED}", found=_listed(names))
    if len(names) > MOST_MEMBERS:
        raise _refused("it holds too many files", path, f"at most {MOST_MEMBERS}", len(names))
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise _refused("a name stands twice in it, of which readers take one or the other", path, "each once", name)
    for member in members:
        if re.match(r"[/\\]|[A-Za-z]:", member.filename) or ".." in re.split(r"[/\\]", member.filename):
            raise _refused("a name in it leads out of it", path, "names below it", member.filename)
        most = MOST_TEXT if member.filename.endswith(".json") else max(MOST_TEXT, MOST_EXPANSION * member.compress_size)
        if member.file_size > most:
            found = f"{member.file_size} of {member.compress_size}"
            raise _refused(f"{member.filename} in it is too large", path, f"at most {most} bytes", found)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) or "an empty archive"


def _refused(message: str, path: str | os.PathLike[str], expected: str, found: object) -> ModelError:
    return ModelError(message, file=path, expected=expected, found=found, fix="save the model again with Keras")
