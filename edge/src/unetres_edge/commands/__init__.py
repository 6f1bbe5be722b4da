"""The commands of `unetres-edge`."""
