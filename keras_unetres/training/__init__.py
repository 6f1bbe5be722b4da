"""Training: losses and metrics for any `model.fit`, callbacks, and the fit loop of `unetres train`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Return a loss, a metric or what makes one, which live in `losses`, `metrics` and `pixel_loss`."""
    if name[:1].isupper() or name == "make_loss":
        from . import losses, metrics, pixel_loss

        for module in (losses, metrics, pixel_loss):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
