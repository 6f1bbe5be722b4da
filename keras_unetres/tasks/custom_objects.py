"""Layers and functions of your own code, of modules that a person names: no file can make this package import one."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from unetres_edge.errors import UsageError


def import_objects(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules, and return the classes and functions that are theirs, by name.

    Args:
        modules: names of modules, which are looked for in this folder too, or paths of .py files.

    Raises:
        UsageError: one cannot be imported.
    """
    objects: dict[str, Any] = {}
    for name in modules:
        module = _imported(name)
        public = {each: value for each, value in vars(module).items() if callable(value) and not each.startswith("_")}
        objects |= {
            each: value for each, value in public.items() if getattr(value, "__module__", "") == module.__name__
        }
    return objects


def _imported(name: str) -> ModuleType:
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)  # last, so that nothing that is installed is hidden
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(os.path.realpath(name))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise FileNotFoundError("no such file")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # of the user's own code
        raise UsageError(
            f"--import cannot be followed: {type(error).__name__}: {error}",
            found=name,
            fix="name a module that Python finds, or the path of a .py file",
        ) from error
    finally:
        if added:
            sys.path.remove(here)
