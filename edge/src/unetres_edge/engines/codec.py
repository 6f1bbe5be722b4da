"""From a tile's pixels to the numbers of a network's input tensor, and from its output tensor to scores or labels.

The same for every runtime that reads the file, so that engines differ in their arithmetic alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ModelError
from ..model.card import Card

_HAIR = 1e-3  # in steps of the tensor


class TensorCodec:
    """Writes the pixels of a tile into a network's input tensor, and reads scores or labels from its output tensor.

    Args:
        card: card of the file.
        source: the input tensor's "shape", "dtype" and "quantization", (scale, zero point).
        target: the output tensor's, likewise.

    Attributes:
        input_shape: (h, w, channels) of the input tensor.
        input_dtype: its numpy scalar type: float32, int8 or uint8.
        output_shape: shape of the output tensor without the batch, (h, w, classes) or (classes,).
        dtype: its numpy scalar type.

    Raises:
        ModelError: they are not what the card says.
    """

    def __init__(self, card: Card, source: dict[str, Any], target: dict[str, Any]) -> None:
        self._check(card, source, target)
        self._table = _input_table(card.preprocessing.table(), source)
        self._argmax, self._classes = card.head == "argmax", len(card.class_names)
        self._binary = card.head == "logits" and self._classes == 2 and int(target["shape"][-1]) == 1
        self._is_share = card.activation == "none"
        self._scale, self._zero_point = _quantization(target)
        self.dtype, self.input_dtype = target["dtype"], source["dtype"]
        self.input_shape, self.output_shape = (
            tuple(int(n) for n in tensor["shape"][1:]) for tensor in (source, target)
        )
        if card.head == "logits" and self.dtype != np.float32 and self._scale <= 0:
            raise ModelError("model output has no quantization", found=f"scale {self._scale}")

    @staticmethod
    def _check(card: Card, source: dict[str, Any], target: dict[str, Any]) -> None:
        pre, classes = card.preprocessing, len(card.class_names)
        expected = [1, *pre.size, pre.channels]
        if list(source["shape"]) != expected:
            raise ModelError("model input is not what the card says", expected=expected, found=list(source["shape"]))
        leading = [1, *card.output_size] if card.per_pixel else [1]
        shapes = {"logits": [[*leading, classes]], "argmax": [leading, [*leading, 1]]}[card.head]
        if card.head == "logits" and list(target["shape"]) == [*leading, 1]:
            _check_one_channel(card)
            shapes.append([*leading, 1])
        if list(target["shape"]) not in shapes:
            raise ModelError("model output is not what the card says", expected=shapes[0], found=list(target["shape"]))
        kinds = {"logits": (np.float32, np.int8, np.uint8), "argmax": (np.uint8, np.int32)}[card.head]
        if target["dtype"] not in kinds:
            raise ModelError(
                "model output dtype is not supported",
                expected=" or ".join(k.__name__ for k in kinds),
                found=target["dtype"].__name__,
            )

    @property
    def step(self) -> float | None:
        """How far apart neighbouring scores of a quantized output are; None for float scores and for labels."""
        return self._scale if not self._argmax and self.dtype != np.float32 else None

    def write(self, tile: np.ndarray, view: np.ndarray) -> None:
        """Look up a tile (h, w, channels) uint8 straight into the input tensor (h, w, channels)."""
        if self._table.shape[1] == 1:
            np.take(self._table[:, 0], tile, out=view, mode="clip")
        else:
            for channel in range(view.shape[-1]):
                view[..., channel] = self._table[tile[..., channel], channel]

    def values(self, output: np.ndarray) -> np.ndarray:
        """Return a copy of the output: scores (h, w, classes) or (classes,) float32, or labels (h, w) uint8."""
        if self._argmax:
            return self.labels(output)
        if output.dtype == np.float32:
            _check_finite(output)
            return self._of_two(output) if self._binary else output.copy()
        scores = output.astype(np.float32)
        scores -= np.float32(self._zero_point)
        scores *= np.float32(self._scale)
        return self._of_two(scores) if self._binary else scores

    def _of_two(self, scores: np.ndarray) -> np.ndarray:
        """Return scores of two classes, of the one channel (..., 1) that a binary network gives of the second."""
        return np.concatenate([1 - scores if self._is_share else -scores, scores], axis=-1)

    def labels(self, output: np.ndarray) -> np.ndarray:
        """Return labels (h, w) uint8; of equal scores the lower id.

        All classes share one scale, so the largest level is the largest score.
        """
        if not self._argmax:
            if self._binary:
                scores = self.values(output)
                return (scores[..., 1] > scores[..., 0]).view(np.uint8)
            if output.dtype == np.float32:
                _check_finite(output)
            if self._classes == 2:
                return (output[..., 1] > output[..., 0]).view(np.uint8)
            return output.argmax(-1).astype(np.uint8)
        if not 0 <= output.min() <= output.max() < self._classes:
            raise ModelError("the model gave a class id that the card does not name", found=output.max())
        return output.reshape(output.shape[:2]).astype(np.uint8)


def _check_one_channel(card: Card) -> None:
    """Raise ModelError unless a card says what one channel of scores means."""
    if len(card.class_names) != 2:
        raise ModelError(
            "the model gives one channel, which tells two classes apart",
            expected="two class names, such as background and " + card.class_names[-1],
            found=", ".join(card.class_names),
        )
    if card.activation == "softmax":
        raise ModelError(
            "the model gives one channel, of which a softmax says nothing",
            expected='a card with activation "none", if the channel is a probability, or "sigmoid", if it is a logit',
            found='activation "softmax"',
            fix='Card(..., activation="none")',
        )


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ModelError("the model gave scores that are not finite", fix="export it again from a sound run")


def _quantization(detail: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = detail["quantization"]
    if detail["dtype"] in (np.int8, np.uint8) and not (np.isfinite(scale) and scale >= 0):
        raise ModelError("model has an impossible quantization", found=f"scale {scale}")
    return float(scale), int(zero_point)


def _input_table(table: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Return the (256, 1 or channels) entries of the input tensor's dtype for the uint8 levels."""
    if (table == table[:, :1]).all():
        table = table[:, :1]
    dtype = detail["dtype"]
    if dtype == np.float32:
        return np.ascontiguousarray(table)
    if dtype not in (np.int8, np.uint8):
        raise ModelError("model input dtype is not supported", expected="float32, int8 or uint8", found=dtype.__name__)
    scale, zero_point = _quantization(detail)
    if scale <= 0:
        raise ModelError("model input has no quantization", found=f"scale {scale}")
    limits = np.iinfo(dtype)
    # Where 0 lies in the middle of the range, the levels of a pixel fall halfway between two steps. Rounding halves to
    # even would give every second pair of levels the same step, and float rounding errors any pair. So halves are
    # rounded up, and with them what lies less than `_HAIR` below a half.
    steps = np.floor(table.astype(np.float64) / scale + 0.5 + _HAIR)
    return np.clip(steps + zero_point, limits.min, limits.max).astype(dtype)
