"""What a type checker knows of the two packages' front doors."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_unetres
import unetres_edge

ROOT = Path(__file__).resolve().parents[1]
DOORS = [
    (Path(keras_unetres.__file__), keras_unetres._HOMES, keras_unetres.__all__),
    (Path(unetres_edge.__file__), unetres_edge._MODULES, unetres_edge.__all__),
]


@pytest.mark.parametrize(("file", "homes", "names"), DOORS, ids=["keras_unetres", "unetres_edge"])
def test_a_type_checker_sees_each_public_name_where_it_is_loaded_from(
    file: Path, homes: dict[str, str], names: list[str]
) -> None:
    seen = {}
    for block in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                assert isinstance(node, ast.ImportFrom)
                seen |= {alias.name: node.module for alias in node.names}
    assert seen == homes
    assert sorted(seen) == names


@pytest.mark.slow
def test_mypy_names_what_is_mistyped(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import keras_unetres as ku\n"
        "import unetres_edge\n"
        "ku.build_unet(input_shape=(64, 64, 1), num_clases=2)\n"
        "ku.build_unett\n"
        "unetres_edge.Segmenterr\n"
        "ku.build_unet(input_shape=(64, 64, 1), num_classes=2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(script)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    faults = [line.partition(".py:")[2] for line in done.stdout.splitlines() if ": error:" in line]
    assert [fault.partition(":")[0] for fault in faults] == ["3", "4", "5"]
    assert "num_clases" in faults[0]
