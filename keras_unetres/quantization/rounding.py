"""Learned rounding of kernels: up or down as brings a layer's sums nearest to the float ones.

Each weight lies between two levels. Rounding all to the nearest is not best for their sums, whose squared error is a
quadratic function of which of the two each takes (Nagel 2020, equation 13). AdaRound relaxes that problem and descends
by gradients; here single weights change sides, always the one that gains most, until none gains (coordinate descent, as
in Behdin 2023). That needs no rates, and of a layer no more than the products of its inputs. A filter takes what was
found if that is nearer on inputs from which it was not learned, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_INPUTS = 8192  # of a filter, whose products are held; one of more is rounded to the nearest
_MOST_CHANGES = 400  # of a filter


@dataclass(frozen=True)
class Sums:
    """What a kernel is to give: samples of a layer's inputs, and the float sums there.

    Args:
        inputs: (P, K) float32, the K values that meet a filter; of a depthwise kernel (P, K, C).
        targets: (P, C) float32, without bias.
    """

    inputs: np.ndarray
    targets: np.ndarray

    def part(self, start: int, step: int) -> Sums:
        """Return every `step`-th sample."""
        return Sums(self.inputs[start::step], self.targets[start::step])

    def of(self, kernel: np.ndarray) -> np.ndarray:
        """Return (P, C) the sums of a kernel (K, C)."""
        return self.inputs @ kernel if self.inputs.ndim == 2 else np.einsum("pkc,kc->pc", self.inputs, kernel)

    def error(self, kernel: np.ndarray) -> np.ndarray:
        """Return (C,) the mean square by which the sums of a kernel are off."""
        return np.square(self.of(kernel) - self.targets).mean(0)

    def products(self) -> np.ndarray:
        """Return the mean products of inputs, (K, K); of a depthwise kernel (C, K, K)."""
        if self.inputs.ndim == 2:
            return self.inputs.T @ self.inputs / len(self.inputs)
        channels = np.ascontiguousarray(self.inputs.transpose(2, 1, 0))
        return channels @ channels.transpose(0, 2, 1) / len(self.inputs)

    def slopes(self, kernel: np.ndarray) -> np.ndarray:
        """Return (K, C) half the derivative of the error by the kernel."""
        wrong = (self.of(kernel) - self.targets) / len(self.inputs)
        return self.inputs.T @ wrong if self.inputs.ndim == 2 else np.einsum("pkc,pc->kc", self.inputs, wrong)


def learn_rounding(kernel: np.ndarray, step: np.ndarray, sums: Sums) -> np.ndarray:
    """Return a kernel (K, C) of whole multiples of a step, each one of the two around the weight.

    Args:
        kernel: (K, C) float32.
        step: (C,) float32, the step of each filter; |kernel| <= 127 steps.
        sums: sums that it is to give.
    """
    levels = kernel / step
    nearest = np.clip(np.rint(levels), -127, 127)
    other = np.where(nearest > levels, nearest - 1, nearest + 1)
    stays = (np.abs(nearest) == 127) | (nearest == levels)  # the largest weight of a filter makes its step
    rounded = np.where(stays, nearest, _descend(nearest * step, other * step, stays, sums.part(0, 2)) / step)
    judges = sums.part(1, 2)
    return np.where(judges.error(rounded * step) < judges.error(nearest * step), rounded, nearest) * step


def _descend(kernel: np.ndarray, other: np.ndarray, stays: np.ndarray, sums: Sums) -> np.ndarray:
    """Return (K, C) with weights exchanged for their other value, one a filter at a time, while the error falls."""
    products, slopes = sums.products(), sums.slopes(kernel)
    curvature = np.diagonal(products, axis1=-2, axis2=-1).T
    curvature = curvature if curvature.ndim == 2 else curvature[:, None]
    kernel, change = kernel.copy(), np.where(stays, 0, other - kernel)
    filters = np.arange(kernel.shape[1])
    for _ in range(min(2 * len(kernel), _MOST_CHANGES)):
        gain = -(2 * slopes + curvature * change) * change
        best = gain.argmax(0)
        gains = gain[best, filters] > 0
        if not gains.any():
            break
        moved = np.where(gains, change[best, filters], 0)
        kernel[best, filters] += moved
        change[best, filters] = np.where(gains, -change[best, filters], change[best, filters])
        columns = products[:, best] if products.ndim == 2 else products[filters, :, best].T
        slopes += columns * moved
    return kernel
