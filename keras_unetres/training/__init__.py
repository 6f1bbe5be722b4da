"""Training: losses and metrics for any `model.fit`, callbacks, and the fit loop of `unetres train`."""
