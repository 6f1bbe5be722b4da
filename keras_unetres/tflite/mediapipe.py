"""The metadata by which MediaPipe's Image Segmenter takes a file, written by its schema.

The schema is mediapipe/tasks/metadata/{metadata_schema,image_segmenter_metadata_schema}.fbs. Numbers of fields and of
members of unions below are those of that schema. The names of the classes are a text file in a zip archive that is
appended to the flatbuffer. Nothing here needs MediaPipe, and nothing here converts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from unetres_edge.errors import ConversionError

METADATA_NAME = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_MODEL_ID, _SEGMENTER_ID = b"M001", b"V001"
_ACTIVATIONS = {"none": 0, "sigmoid": 1, "softmax": 2}
_AXIS_LABELS = 2
_IMAGE_PROPERTIES, _RGB = 2, 1
_NORMALIZATION = 1
_PARSER_VERSION = "1.0.0"


def segmenter_metadata(size: tuple[int, int], *, activation: str, author: str) -> bytes:
    """Return the metadata of a file whose input is RGB pixels 0..255 and whose output is scores.

    Args:
        size: (height, width) of the input, px.
        activation: function that makes probabilities of the scores, as the card says it.
        author: name of what made the file.
    """
    build = flatbuffers.Builder(1024)
    metadata = _table(
        build,
        {
            0: build.CreateString("ImageSegmenter"),
            1: build.CreateString("A class for every pixel"),
            3: _vector(build, [_graph_metadata(build, size, activation)]),
            4: build.CreateString(author),
            7: build.CreateString(_PARSER_VERSION),
        },
    )
    build.Finish(metadata, _MODEL_ID)
    return bytes(build.Output())


def labels_text(class_names: Sequence[str]) -> bytes:
    """Return the names of the classes, one a line."""
    return "".join(" ".join(name.split()) + "\n" for name in class_names).encode()


def take_pixels(data: bytes) -> bytes:
    """Return the file with an input whose uint8 steps are the pixels themselves, as MediaPipe fills it.

    The first op takes uint8 to int8, and the one after it multiplies, which reads its step off the tensor.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    graph = model.subgraphs[0]
    first, second = graph.operators[:2]
    names = [str(flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)) for op in (first, second)]
    if names != ["QUANTIZE", "MUL"]:
        raise ConversionError(
            "the converter changed how pixels enter", expected="QUANTIZE, MUL", found=", ".join(names)
        )
    for tensor, zero_point in ((first.inputs[0], 0), (first.outputs[0], -128)):
        quantization = graph.tensors[tensor].quantization
        quantization.scale, quantization.zeroPoint = np.array([1], np.float32), np.array([zero_point], np.int64)
        quantization.min = quantization.max = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _graph_metadata(build: flatbuffers.Builder, size: tuple[int, int], activation: str) -> int:
    options = flatbuffers.Builder(64)
    version = options.CreateString(_PARSER_VERSION)
    root = _table(options, {1: version}, small={0: _ACTIVATIONS[activation]})
    options.Finish(root, _SEGMENTER_ID)
    name, data = build.CreateString("SEGMENTER_METADATA"), _aligned(build, bytes(options.Output()))
    custom = _table(build, {0: name, 1: data})
    return _table(
        build,
        {
            2: _vector(build, [_image_metadata(build, size)]),
            3: _vector(build, [_scores_metadata(build)]),
            9: _vector(build, [custom]),
        },
    )


def _image_metadata(build: flatbuffers.Builder, size: tuple[int, int]) -> int:
    default = _table(build, {}, numbers={0: size[1], 1: size[0]})
    properties = _table(build, {1: default}, small={0: _RGB})
    content = _table(build, {1: properties}, small={0: _IMAGE_PROPERTIES})
    normalization = _table(build, {0: _floats(build, [0.0]), 1: _floats(build, [1.0])})
    unit = _table(build, {1: normalization}, small={0: _NORMALIZATION})
    stats = _table(build, {0: _floats(build, [255.0]), 1: _floats(build, [0.0])})
    return _table(build, {0: build.CreateString("image"), 3: content, 4: _vector(build, [unit]), 5: stats})


def _scores_metadata(build: flatbuffers.Builder) -> int:
    labels = _table(build, {0: build.CreateString(LABELS_FILE)}, small={2: _AXIS_LABELS})
    content = _table(build, {1: _table(build, {})}, small={0: _IMAGE_PROPERTIES})
    return _table(build, {0: build.CreateString("segmentation_masks"), 3: content, 6: _vector(build, [labels])})


def _table(
    build: flatbuffers.Builder,
    offsets: dict[int, int],
    *,
    small: dict[int, int] | None = None,
    numbers: dict[int, int] | None = None,
) -> int:
    """Return a table: fields that are offsets, bytes and unsigned numbers, by their place in the schema."""
    build.StartObject(1 + max((*offsets, *(small or {}), *(numbers or {})), default=-1))
    for slot, value in offsets.items():
        build.PrependUOffsetTRelativeSlot(slot, value, 0)
    for slot, value in (numbers or {}).items():
        build.PrependUint32Slot(slot, value, 0)
    for slot, value in (small or {}).items():
        build.PrependUint8Slot(slot, value, 0)
    return int(build.EndObject())


def _vector(build: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    return _filled(build, 4, offsets, build.PrependUOffsetTRelative)


def _floats(build: flatbuffers.Builder, values: Sequence[float]) -> int:
    return _filled(build, 4, values, build.PrependFloat32)


def _aligned(build: flatbuffers.Builder, data: bytes) -> int:
    """Return bytes that begin at a multiple of 16, as the schema asks of data with a structure of its own."""
    build.StartVector(1, len(data), 16)
    build.head = build.head - len(data)
    build.Bytes[build.head : build.head + len(data)] = data
    return int(build.EndVector())


def _filled(build: flatbuffers.Builder, size: int, values: Sequence[float], prepend: Callable[[float], None]) -> int:
    build.StartVector(size, len(values), size)
    for value in reversed(values):
        prepend(value)
    return int(build.EndVector())
