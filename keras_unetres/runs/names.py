"""Names of files that a run writes about images."""

from __future__ import annotations

import os
import re

_LONGEST = 40
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


def picture_name(index: int, image: str) -> str:
    """Return the name, without its ending, of the picture of an image in `samples/`.

    It is short, and differs from that of every other image and from the other pictures there, by its number. Of the
    image's name it has the end, in letters that every system takes.
    """
    end = _OTHER.sub("_", os.path.splitext(image)[0])[-_LONGEST:].strip("._")
    return f"image_{index + 1}_{end}".rstrip("_")
