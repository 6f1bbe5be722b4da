"""The frame of an HTML page that is one file: it opens without a network, in light and dark, and runs no script."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import numpy as np

from unetres_edge.results import draw

_STYLE = Path(__file__).with_name("page.css")


def make_page(title: str, body: str, *, style: str = "") -> bytes:
    """Return a whole page.

    Args:
        title: in plain text.
        body: HTML, in which every text has gone through `escape`.
        style: CSS that comes after the style that all pages share.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{_STYLE.read_text(encoding='utf-8')}{style}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'.encode()


def escape(value: object) -> str:
    """Return the text of anything as HTML, fit for an element or a quoted attribute.

    File names can hold bytes that are no text (lone surrogates in Python) and control characters, which no page may
    hold; each becomes a question mark.
    """
    text = str(value).encode("utf-8", "replace").decode()
    return html.escape("".join("?" if ord(c) < 32 and c not in "\t\n\r" else c for c in text))


def embed_png(picture: np.ndarray) -> str:
    """Return an (H, W), (H, W, 3) or (H, W, 4) uint8 picture as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(draw.encode_png(picture)).decode()
