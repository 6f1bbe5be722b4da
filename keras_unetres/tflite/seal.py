"""Putting the card into a `.tflite` and sealing it with the digest: the last step of making a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.model.card import CARD_NAME, Card, seal
from unetres_edge.model.selftest import SELFTEST_NAME, make_selftest

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the same model gives the same bytes at any time


def add_card(
    data: bytes, card: Card, *, metadata: Mapping[str, bytes] | None = None, files: Mapping[str, bytes] | None = None
) -> bytes:
    """Return the file with the card and a self-test in its metadata, in place of earlier ones, sealed.

    The self-test holds the labels that LiteRT gives here for images made from a seed: `unetres-edge verify`.

    The digest covers all bytes, appended files too.

    Args:
        metadata: further entries of `Model.metadata`, in place of earlier ones of the same name.
        files: files to append as a zip archive, beside those that are there.

    Raises:
        ModelError: LiteRT refuses the file, or it is not what the card says.
    """
    engine = LiteRTEngine(data, card)
    entries = {
        CARD_NAME: card.to_json().encode(),
        SELFTEST_NAME: make_selftest(engine, card),
        **(metadata or {}),
    }
    engine.close()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    known = {entry.name.decode(): entry.buffer for entry in model.metadata or []}
    model.metadata = model.metadata or []
    for name, content in entries.items():
        if name not in known:
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, len(model.buffers)
            model.metadata.append(entry)
            model.buffers.append(schema.BufferT())
            known[name] = entry.buffer
        model.buffers[known[name]].data = np.frombuffer(content, np.uint8)
    packed = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return seal(_append({**appended_files(data), **(files or {})}, packed))


def appended_files(data: bytes) -> dict[str, bytes]:
    """Return the files of the zip archive behind the flatbuffer; none for most files."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return {}


def _append(files: Mapping[str, bytes], data: bytes) -> bytes:
    if not files:
        return data
    whole = io.BytesIO(data)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_DATE), content)
    return whole.getvalue()
