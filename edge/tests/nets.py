"""A small convolutional network as a model file of any input size: two strides deep, random weights, no training."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from models import Graph, add_argmax, finish, make_card

from unetres_edge import Card

HALO, STRIDE = 10, 4
SAME = schema.Padding.SAME
KINDS = schema.BuiltinOptions
OPS = schema.BuiltinOperator


def net_card(size: tuple[int, int], classes: int = 3, **fields) -> Card:
    """Return the card of `make_net`; the true halo and stride unless others are given."""
    return make_card(size, 3, classes, **{"halo": HALO, "stride": STRIDE, **fields})


def make_resize(card: Card) -> bytes:
    """Return 2x2 max pooling and bilinear x2 in int8 with a step of 1: many means lie in the middle of two levels."""
    graph, (height, width), channels = Graph(), card.preprocessing.size, card.preprocessing.channels
    levels = (1.0, -128)
    source = graph.tensor("image", (1, height, width, channels), "int8", levels)
    pooled = graph.tensor("pooled", (1, height // 2, width // 2, channels), "int8", levels)
    pool = schema.Pool2DOptionsT()
    pool.padding, pool.strideW, pool.strideH, pool.filterWidth, pool.filterHeight = SAME, 2, 2, 2, 2
    graph.op(OPS.MAX_POOL_2D, [source], [pooled], KINDS.Pool2DOptions, pool)
    graph.model.operatorCodes[-1].version = 2  # from which on it takes int8
    size = graph.tensor("size", (2,), "int32", values=np.array([height, width]))
    up = graph.tensor("up", (1, height, width, channels), "int8", levels)
    resize = schema.ResizeBilinearOptionsT()
    resize.halfPixelCenters = True
    graph.op(OPS.RESIZE_BILINEAR, [pooled, size], [up], KINDS.ResizeBilinearOptions, resize)
    graph.model.operatorCodes[-1].version = 3
    return finish(graph, card, [source], [up])


def make_unpadded(card: Card, kernels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bytes:
    """Return convolution, pooling, convolution, twice the size, classes, without padding: crop 3, stride 2.

    Args:
        card: with that crop and stride, and sides that are even.
        kernels: (features, 3, 3, channels), (features, 3, 3, features) and (classes, 1, 1, features).
    """
    graph, valid = Graph(), schema.Padding.VALID

    def conv(source: int, kernel: np.ndarray, size: tuple[int, int], name: str) -> int:
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        options.padding = valid
        values = [graph.tensor(f"{name}_kernel", kernel.shape, "float32", values=kernel)]
        values.append(graph.tensor(f"{name}_bias", (len(kernel),), "float32", values=np.zeros(len(kernel))))
        made = graph.tensor(name, (1, *size, len(kernel)), "float32")
        graph.op(OPS.CONV_2D, [source, *values], [made], KINDS.Conv2DOptions, options)
        return made

    first, second, last = kernels
    height, width = card.preprocessing.size
    image = graph.tensor("image", (1, height, width, card.preprocessing.channels), "float32")
    x = conv(image, first, (height - 2, width - 2), "one")
    pool = schema.Pool2DOptionsT()
    pool.strideH = pool.strideW = pool.filterHeight = pool.filterWidth = 2
    pool.padding = valid
    half = (height - 2) // 2, (width - 2) // 2
    pooled = graph.tensor("pooled", (1, *half, len(first)), "float32")
    graph.op(OPS.MAX_POOL_2D, [x], [pooled], KINDS.Pool2DOptions, pool)
    x = conv(pooled, second, (half[0] - 2, half[1] - 2), "two")
    out = card.output_size
    side = graph.tensor("side", (2,), "int32", values=np.array(out))
    wide = graph.tensor("wide", (1, *out, len(second)), "float32")
    resize = schema.ResizeNearestNeighborOptionsT()
    graph.op(OPS.RESIZE_NEAREST_NEIGHBOR, [x, side], [wide], KINDS.ResizeNearestNeighborOptions, resize)
    scores = conv(wide, last, out, "scores")
    return finish(graph, card, [image], [add_argmax(graph, scores, out) if card.head == "argmax" else scores])


def make_net(card: Card, *, seed: int = 0) -> bytes:
    """Return 3x3 conv, max pool, 3x3 conv of stride 2, 3x3 conv, bilinear x4, joined with the first, 3x3 conv.

    The reach to each side is at most 9 px, which `HALO` covers: 1 of the first convolution and 4 * 1 of the deep one,
    and the rest of pooling, of the stride and of the last two.
    """
    rng, graph, pre = np.random.default_rng(seed), Graph(), card.preprocessing
    (height, width), classes, deep = pre.size, len(card.class_names), 8
    source = graph.tensor("image", (1, height, width, pre.channels), "float32")

    def conv(name: str, x: int, shape: tuple[int, int, int], taken: int, made: int, *, stride: int = 1) -> int:
        kernel = rng.normal(0, (9 * taken) ** -0.5, (made, 3, 3, taken)).astype(np.float32)
        weights = graph.tensor(name + "/kernel", kernel.shape, "float32", values=kernel)
        bias = graph.tensor(name + "/bias", (made,), "float32", values=rng.normal(0, 0.1, made).astype(np.float32))
        y = graph.tensor(name, (1, *shape), "float32")
        options = schema.Conv2DOptionsT()
        options.padding, options.dilationWFactor, options.dilationHFactor = SAME, 1, 1
        options.strideW = options.strideH = stride
        if made == deep:
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        graph.op(OPS.CONV_2D, [x, weights, bias], [y], KINDS.Conv2DOptions, options)
        return y

    first = conv("first", source, (height, width, deep), pre.channels, deep)
    pooled = graph.tensor("pooled", (1, height // 2, width // 2, deep), "float32")
    pool = schema.Pool2DOptionsT()
    pool.padding, pool.strideW, pool.strideH, pool.filterWidth, pool.filterHeight = SAME, 2, 2, 2, 2
    graph.op(OPS.MAX_POOL_2D, [first], [pooled], KINDS.Pool2DOptions, pool)
    low = conv("low", pooled, (height // 4, width // 4, deep), deep, deep, stride=2)
    size = graph.tensor("size", (2,), "int32", values=np.array([height, width]))
    up = graph.tensor("up", (1, height, width, deep), "float32")
    resize = schema.ResizeBilinearOptionsT()
    resize.halfPixelCenters = True
    graph.op(OPS.RESIZE_BILINEAR, [low, size], [up], KINDS.ResizeBilinearOptions, resize)
    graph.model.operatorCodes[-1].version = 3
    joined = graph.tensor("joined", (1, height, width, 2 * deep), "float32")
    join = schema.ConcatenationOptionsT()
    join.axis = 3
    graph.op(OPS.CONCATENATION, [first, up], [joined], KINDS.ConcatenationOptions, join)
    scores = conv("scores", joined, (height, width, classes), 2 * deep, classes)
    result = add_argmax(graph, scores, (height, width)) if card.head == "argmax" else scores
    return finish(graph, card, [source], [result])
