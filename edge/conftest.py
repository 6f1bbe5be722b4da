"""The tests of the runtime, run by themselves, cannot import what a device does not have."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

ABSENT = ("keras", "keras_unetres", "tensorflow", "tf_keras")
HERE = Path(__file__).parent


class Absent:
    """A finder of modules that refuses those of training."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is not for the runtime to import", name=name)
        return None


def pytest_configure(config: pytest.Config) -> None:
    """Take TensorFlow away, unless the tests of keras-unetres run in the same process."""
    folders = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    if all(folder.is_relative_to(HERE) for folder in folders):
        assert not set(ABSENT) & set(sys.modules), "a plugin of pytest has imported TensorFlow"
        sys.meta_path.insert(0, Absent)
