"""Putting the card into a `.tflite` and sealing it with the digest: the last step of making a file."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from unetres_edge.card import CARD_NAME, Card, seal


def add_card(data: bytes, card: Card) -> bytes:
    """Return the file with the card in its metadata, in place of an earlier one, sealed."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    model.metadata = [entry for entry in model.metadata or [] if entry.name != CARD_NAME.encode()]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(card.to_json().encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = CARD_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata.append(entry)
    return seal(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
