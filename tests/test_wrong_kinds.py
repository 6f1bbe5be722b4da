"""Every public function with arguments of every wrong kind: what reaches the caller is an error of this package."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_unetres as ku
from unetres_edge.errors import RunFolderError, UnetresError, UsageError

FUNCTIONS = [name for name in ku.__all__ if inspect.isfunction(getattr(ku, name))]
WRONG: tuple[Any, ...] = (None, 5, -1.5, True, "no such thing", b"bytes", [], ["a", 1], {}, {"a": 1}, object(), len)
WRONG += (Path("none"), np.zeros(3), float("nan"), (1, 2, 3))


def usual(name: str, folder: Path) -> Any:
    """Return a value for an argument that is required, by which a call goes as far as it can."""
    return {
        "out": folder / "out",
        "path": folder / "out.tflite",
        "input_shape": (16, 16, 1),
        "num_classes": 2,
        "depth": 18,
        "images": [np.zeros((8, 8), np.uint8)] * 4,
        "masks": [np.zeros((8, 8), np.uint8)] * 4,
        "chances": np.full((4, 4, 2), 0.5),
        "class_names": ["a", "b"],
        "name": "cross_entropy",
        "preprocessing": ku.Preprocessing(channels=1, size=(16, 16)),
        "model": folder / "none",
        "source": folder / "none",
        "run": folder / "none",
        "data": folder / "none",
    }.get(name, folder / "none")


QUICK = ("evaluate", "inspect", "separate", "read_receipt", "dataset_from_arrays", "export_tflite")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FUNCTIONS]
)
def test_wrong_kinds_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(ku, name)
    parameters = inspect.signature(function).parameters
    needed = {each: usual(each, tmp_path) for each, about in parameters.items() if about.default is about.empty}
    bare = []
    for each in parameters:
        for value in WRONG:
            given = {**needed, each: value}
            if parameters[each].kind is inspect.Parameter.VAR_KEYWORD:
                continue
            try:
                function(**given)
            except UnetresError:
                pass
            except Exception as error:
                bare.append(f"{each}={value!r:.40}: {type(error).__name__}: {str(error)[:90]}")
    assert not bare, "\n".join([f"{len(bare)}", *bare])


def lists_of_text() -> Iterator[tuple[str, str]]:
    """Yield the arguments that take a list of text, and no text, of public functions whose kinds are checked."""
    for name in (each for each in FUNCTIONS if hasattr(getattr(ku, each), "__wrapped__")):
        for each, about in inspect.signature(getattr(ku, name)).parameters.items():
            kinds = str(about.annotation).split(" | ")
            if "Sequence[str]" in kinds and "str" not in kinds and not {"model", "source"} & {each}:
                yield name, each


def test_text_is_no_list_of_its_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(lists_of_text())
    assert {name for name, _ in found} >= {"export", "evaluate", "predict", "quantize", "prune", "export_tflite"}
    for name, each in found:
        parameters = inspect.signature(getattr(ku, name)).parameters
        needed = {each: usual(each, tmp_path) for each, about in parameters.items() if about.default is about.empty}
        with pytest.raises(UnetresError, match=rf"{each} is wrong; expected a list"):
            getattr(ku, name)(**{**needed, each: "ab"})
    with pytest.raises(UsageError, match="teachers is wrong"):
        ku.distil("run", tmp_path / "out")


@pytest.mark.parametrize("name", ["prune", "cluster", "distil"])
def test_what_takes_runs_alone_says_what_takes_a_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "own.keras").write_bytes(b"PK\x03\x04")
    source = tmp_path / "own.keras"
    with pytest.raises(RunFolderError, match="ku.prune_model"):
        getattr(ku, name)([source] if name == "distil" else source, tmp_path / "out")
    image = keras.Input((8, 8, 1))
    model: Any = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    with pytest.raises(UsageError, match="a model in memory is taken by export"):
        getattr(ku, name)([model] if name == "distil" else model, tmp_path / "out")


def test_a_keras_file_that_is_inspected_is_told_the_way_to_a_tflite(tmp_path: Path) -> None:
    (tmp_path / "own.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(UnetresError, match="make a .tflite of it: unetres export"):
        ku.inspect(tmp_path / "own.keras")
