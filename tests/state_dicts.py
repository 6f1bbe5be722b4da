"""State dicts of PyTorch's networks, with random numbers in place of weights."""

from __future__ import annotations

import numpy as np

State = dict[str, np.ndarray]


class RandomState:
    """Makes a state dict, tensor after tensor.

    Args:
        seed: of the numbers.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.state: State = {}

    def conv(self, name: str, before: int, after: int, kernel: int) -> None:
        """Add a convolution without a bias, (out, in, height, width)."""
        scale = np.float32(np.sqrt(2 / (before * kernel * kernel)))
        weights = self.rng.standard_normal((after, before, kernel, kernel), np.float32)
        self.state[f"{name}.weight"] = scale * weights

    def norm(self, name: str, channels: int) -> None:
        """Add a batch normalization."""
        self.state[f"{name}.weight"] = self.rng.uniform(0.5, 1.5, channels).astype(np.float32)
        self.state[f"{name}.bias"] = self.rng.normal(0, 0.3, channels).astype(np.float32)
        self.state[f"{name}.running_mean"] = self.rng.normal(0, 0.3, channels).astype(np.float32)
        self.state[f"{name}.running_var"] = self.rng.uniform(0.5, 1.5, channels).astype(np.float32)
        self.state[f"{name}.num_batches_tracked"] = np.array(7, np.int64)
