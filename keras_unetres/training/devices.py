"""Where a network is trained: one device, or what `distribution` makes of several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import keras
import numpy as np

from .state import put


class Devices(Protocol):
    """What the fit loop asks of the devices; see `distribution.Distribution` for what each does with several."""

    @property
    def shard(self) -> tuple[int, int]:
        """(number of this machine, number of machines)."""

    @property
    def is_chief(self) -> bool:
        """Whether this machine is the one that writes files."""

    @property
    def xla(self) -> bool:
        """Whether XLA compiles a step."""

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which a model is compiled."""

    def build(self, make: Callable[[], keras.Model]) -> keras.Model:
        """Return the model that `make` makes, with its weights on every device."""

    def replicate(self, model: keras.Model) -> keras.Model:
        """Return a model of the same layers that is trained on every device."""

    def spread(self, batches: Any, *, whole: bool = False) -> Any:
        """Return batches of which each device gets its part."""

    def guard(self) -> AbstractContextManager[None]:
        """Return the context in which a lost machine is a named error."""

    def any_machine(self, flag: bool) -> bool:
        """Return whether a flag is set on any machine."""

    def check_same(self, text: str, what: str) -> None:
        """Refuse texts that differ from machine to machine."""

    def put_sums(self, variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
        """Set what metrics have summed up."""

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch that cannot be shared equally."""


class OneDevice:
    """The one device that Keras uses anyway."""

    shard = (0, 1)
    is_chief = True
    xla = True

    def scope(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def build(self, make: Callable[[], keras.Model]) -> keras.Model:
        """Return what `make` makes."""
        return make()

    def replicate(self, model: keras.Model) -> keras.Model:
        """Return the model itself."""
        return model

    def spread(self, batches: Any, *, whole: bool = False) -> Any:
        """Return the batches themselves."""
        return batches

    def guard(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def any_machine(self, flag: bool) -> bool:
        """Return the flag."""
        return flag

    def check_same(self, text: str, what: str) -> None:
        """Do nothing: there is no other machine."""

    def put_sums(self, variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
        """Set what metrics have summed up."""
        put(variables, values)

    def check_batch(self, batch_size: int) -> None:
        """Do nothing: one device takes every batch."""


def find_devices(count: int = 1, say: Callable[[str], None] = print) -> Devices:
    """Return the devices to train on. Call it before anything else uses TensorFlow.

    Args:
        count: devices of this machine. Other machines are those of the environment variable `TF_CONFIG`.
        say: callback for a line to the user before waiting for other machines.

    Raises:
        UsageError: more devices than there are, or a `TF_CONFIG` that does not say who takes part.
    """
    if count == 1 and not os.environ.get("TF_CONFIG"):
        return OneDevice()
    from .distribution import find_distribution

    return find_distribution(count, say) or OneDevice()
