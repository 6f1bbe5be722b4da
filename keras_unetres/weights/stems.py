"""The first convolution of trained weights for pictures of another number of channels than they have seen."""

from __future__ import annotations

import numpy as np


def adapt_stem(
    kernel: np.ndarray, channels: int, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Adapt the kernel of a colour network's first convolution.

    One channel: the kernel is summed over the colours, weighted so that a grey picture gives what it would give as a
    colour picture. More channels: the colours' kernels are repeated in turn and scaled by 3 / channels.

    Args:
        kernel: (height, width, 3, filters).
        channels: that pictures have, other than 3.
        mean, std: (3,) what is subtracted from the colours, and what they are divided by after that.

    Returns:
        The kernel (height, width, channels, filters), what is added to the outputs' (filters,) beside it, and mean and
        standard deviation, (channels,) each.
    """
    none = np.zeros(kernel.shape[-1])
    if channels > 1:
        turn = np.arange(channels) % 3
        return kernel[:, :, turn] * np.float32(3 / channels), none, mean[turn], std[turn]
    # Colour c would be (g - mean_c) / std_c = std / std_c * x + (mean - mean_c) / std_c for x = (g - mean) / std.
    one_mean, one_std = float(mean.mean()), float(std.mean())
    shift = (kernel.astype(np.float64) * ((one_mean - mean) / std)[:, None]).sum((0, 1, 2))
    summed = (kernel * (one_std / std)[:, None]).sum(2, keepdims=True)
    return summed, shift, np.array([one_mean]), np.array([one_std])
