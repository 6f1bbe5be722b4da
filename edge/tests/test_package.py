"""The package's front door: what it names, what each name costs, and names of the version before."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import unetres_edge
from unetres_edge.moved import MOVED

SOURCE = Path(unetres_edge.__file__)


def names_for_type_checkers() -> dict[str, str]:
    """Return what the TYPE_CHECKING block imports: name -> module."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_type_checkers_see_what_programs_get() -> None:
    names = names_for_type_checkers()
    assert sorted(names) == unetres_edge.__all__ == sorted(unetres_edge._MODULES)
    for name, module in names.items():
        value = getattr(unetres_edge, name)
        assert (value.__name__, value.__module__) == (name, f"unetres_edge.{module}")
    assert set(unetres_edge.__all__) <= set(dir(unetres_edge))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Segmentor'"):
        _ = unetres_edge.Segmentor


def test_the_version_is_that_of_the_distribution() -> None:
    assert version("keras-unetres-edge") == unetres_edge.__version__


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import unetres_edge", {"numpy", "PIL", "tifffile", "ai_edge_litert", "http.server"}),
        ("import unetres_edge.cli", {"numpy", "PIL", "tifffile", "ai_edge_litert", "http.server"}),
        ("from unetres_edge import Card, Preprocessing, read_card", {"ai_edge_litert", "tifffile", "openvino"}),
        ("from unetres_edge import Classifier, Segmenter", {"ai_edge_litert", "dask", "openvino", "http.server"}),
    ],
)
def test_importing_loads_no_more_than_is_used(code: str, absent: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & absent == set()


@pytest.mark.parametrize("old", MOVED)
def test_modules_are_found_by_their_old_names(old: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        sys.modules.pop(old, None)
        module = __import__(old, fromlist=["_"])
    assert module is sys.modules[MOVED[old]]


def test_the_old_home_of_the_engine_has_its_class() -> None:
    sys.modules.pop("unetres_edge.engine", None)
    with pytest.warns(DeprecationWarning):
        from unetres_edge.engine import LiteRTEngine
    assert LiteRTEngine.__module__ == "unetres_edge.engines.litert"
