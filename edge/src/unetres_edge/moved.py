"""Modules and arguments of a new name are still found under their first one, with a DeprecationWarning.

Scripts written for the first layout import by these names, so they stay until version 1 is out. No home for new code.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

MOVED = {
    "unetres_edge.bench": "unetres_edge.commands.bench",
    "unetres_edge.classifier": "unetres_edge.classify.classifier",
    "unetres_edge.card": "unetres_edge.model.card",
    "unetres_edge.dask_maps": "unetres_edge.segment.dask_maps",
    "unetres_edge.draw": "unetres_edge.results.draw",
    "unetres_edge.engine": "unetres_edge.engines.litert",
    "unetres_edge.ensemble": "unetres_edge.segment.ensemble",
    "unetres_edge.image": "unetres_edge.images.decode",
    "unetres_edge.large": "unetres_edge.segment.large",
    "unetres_edge.predict": "unetres_edge.segment.files",
    "unetres_edge.preprocessing": "unetres_edge.images.preprocessing",
    "unetres_edge.result": "unetres_edge.results.result",
    "unetres_edge.segmenter": "unetres_edge.segment.segmenter",
    "unetres_edge.selftest": "unetres_edge.model.selftest",
    "unetres_edge.stream": "unetres_edge.segment.stream",
    "unetres_edge.tiles": "unetres_edge.segment.tiles",
    "unetres_edge.vector": "unetres_edge.results.vector",
}


def keep_names(package: str, names: Container[str]) -> None:
    """Keep functions of a package in their place, where importing a moved module of their name would replace them.

    Args:
        package: its name; it is imported.
        names: names of the functions.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in names and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Package


class _Alias(Loader):
    """Gives the module of the new name where the old one is imported."""

    def __init__(self, new: str) -> None:
        self._new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # which the import system has just replaced by that of the old name


class MovedFinder(MetaPathFinder):
    """Finds modules by the names that they had.

    Args:
        moved: old name -> new name; what lies inside a package goes with it.
    """

    def __init__(self, moved: Mapping[str, str]) -> None:
        self._moved = moved

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec that loads the module of the new name, or None for any other name."""
        package, _, leaf = fullname.rpartition(".")
        if fullname in self._moved:
            new = self._moved[fullname]
        elif package in self._moved:
            new = f"{self._moved[package]}.{leaf}"
        else:
            return None
        warnings.warn(f"{fullname} is now {new}", DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, _Alias(new), is_package=False)


def add_moved(moved: Mapping[str, str]) -> None:
    """Let old names of modules be imported."""
    sys.meta_path.insert(0, MovedFinder(moved))  # before the one that would load a package's files a second time


def renamed_argument(**names: str) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Return a decorator of functions that also take keyword arguments by their former names.

    Args:
        names: former name -> new name.
    """

    def decorate(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        @functools.wraps(function)
        def call(*values: Parameters.args, **named: Parameters.kwargs) -> Returned:
            arguments: dict[str, Any] = dict(named)
            for former, new in names.items():
                if former in arguments and new not in arguments:
                    text = f"argument {former} of {function.__name__} is now {new}"
                    warnings.warn(text, DeprecationWarning, stacklevel=2)
                    arguments[new] = arguments.pop(former)
            return function(*values, **arguments)

        return call

    return decorate
