"""`.keras` files without options: the command that is printed works as it is pasted, or the reason comes at once."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from PIL import Image

from keras_unetres.cli import main

WORDS = {"LOW": "0", "HIGH": "1", "PX": "32", "N": "3"}  # what a person types for them


def image(*shape: int | None) -> Any:
    return keras.Input(shape or (32, 32, 3))


def conv(x: Any, filters: int = 8, **more: Any) -> Any:
    return L.Conv2D(filters, 3, padding="same", **more)(x)


def pooled(x: Any, classes: int = 3) -> Any:
    return L.Dense(classes, name="label")(L.GlobalAveragePooling2D()(x))


def of(end: Callable[[Any], Any], *shape: int | None) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        i = image(*shape)
        return keras.Model(i, end(i))

    return build


def shared_head() -> keras.Model:
    i, head = image(), L.Conv2D(3, 1)
    return keras.Model(i, [head(conv(i)), head(conv(i))])


def with_a_number() -> keras.Model:
    i, number = image(), keras.Input((1,))
    return keras.Model([i, number], conv(i) * L.Reshape((1, 1, 8))(L.Dense(8)(number)))


TAKEN: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "logits": (of(lambda i: conv(i, 3)), "--size 32 --channels 3"),
    "one sigmoid": (of(lambda i: conv(i, 1, activation="sigmoid")), "--classes background CLASS1 --"),
    "any size": (of(lambda i: conv(i, 3), None, None, 3), "--size PX"),
    "a wide image of one channel": (of(lambda i: conv(i, 3), 32, 64, 1), "--size 32 64 --channels 1"),
    "two maps": (of(lambda i: [conv(i, 3, name="mask"), conv(i, 2, name="edge")]), "--output mask --classes back"),
    "a label and a map": (of(lambda i: [pooled(conv(i)), conv(i, 2, name="mask")]), "--output mask"),
    "a small and a full map": (of(lambda i: [conv(i, 3, strides=2, name="aux"), conv(i, 3, name="a b")]), "'a b'"),
    "a dictionary": (of(lambda i: {"m": conv(i, 3), "e": conv(i, 2)}), "--output"),
    "a name like an option": (of(lambda i: [conv(i, 3, name="-m"), conv(i, 2, name="e")]), "--output=-m"),
    "features and a map": (of(lambda i: [conv(i, 64, name="far"), conv(i, 2, name="seg")]), "--output seg"),
    "a head used twice": (shared_head, "--output 0"),
    "a classifier": (of(lambda i: pooled(conv(i), 4)), "--fit resize --classes CLASS0 CLASS1 CLASS2 CLASS3"),
    "60 classes": (of(lambda i: conv(i, 60)), "--value-range LOW HIGH --calibration"),
}
REFUSED: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "one logit": (of(lambda i: conv(i, 1)), "Activation('sigmoid')"),
    "one logit of an image": (of(lambda i: pooled(conv(i), 1)), "Activation('sigmoid')(logit)"),
    "two maps of half size": (of(lambda i: [conv(i, 3, strides=2, name=n) for n in "ab"]), "UpSampling2D(2"),
    "half size": (of(lambda i: conv(i, 3, strides=2)), "UpSampling2D(2"),
    "half of any size": (of(lambda i: conv(i, 3, strides=2), None, None, 3), "UpSampling2D(2"),
    "double size": (of(lambda i: L.UpSampling2D()(conv(i, 3))), "AveragePooling2D(2)"),
    "classes first": (of(lambda i: L.Permute((3, 1, 2))(conv(i, 3))), "keras.layers.Permute((2, 3, 1))(scores)"),
    "channels first": (of(lambda i: conv(L.Permute((2, 3, 1))(i), 3), 3, 32, 32), "keras.layers.Permute((3, 1, 2))"),
    "labels": (of(lambda i: keras.ops.argmax(conv(i, 3), -1)), "leave out the argmax"),
    "300 classes": (of(lambda i: conv(i, 300)), "join classes"),
    "two inputs": (with_a_number, "a model of one input"),
    "a table": (of(lambda i: L.Dense(3)(i), 7), "does not take images"),
    "a video": (of(lambda i: L.Conv3D(3, 1)(i), 4, 32, 32, 3), "does not take images"),
}
QUICK = ("a label and a map", "half of any size", "channels first")


def names(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in table]


def typed(words: list[str], capsys: Any) -> tuple[int, str]:
    """Return the exit code of a command and what it writes to stderr."""
    code = main(words)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", names(TAKEN))
def test_the_printed_command_works_as_it_is_pasted(name: str, tmp_path: Path, capsys: Any) -> None:
    build, part = TAKEN[name]
    file, pictures = tmp_path / "own model.keras", tmp_path / "pictures"
    model = build()
    model.save(file)
    code, said = typed(["export", str(file)], capsys)
    command = said.partition("fix: ")[2].strip()
    assert code == 2 and part in command
    if name in QUICK:
        return
    pictures.mkdir()
    shape = (64, 64) if model.inputs[0].shape[-1] == 1 else (64, 64, 3)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    words = [{**WORDS, "DIR": str(pictures)}.get(word, word) for word in shlex.split(command)[1:]]
    assert typed(words, capsys) == (0, "")
    assert file.with_suffix(".tflite").is_file()


@pytest.mark.parametrize("name", names(REFUSED))
@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_what_no_option_mends_is_said_at_once(name: str, command: str, tmp_path: Path, capsys: Any) -> None:
    build, reason = REFUSED[name]
    build().save(tmp_path / "own.keras")
    more = [] if command == "export" else [str(tmp_path)]
    code, said = typed([command, str(tmp_path / "own.keras"), *more], capsys)
    assert code in (2, 4) and reason in said and f"unetres {command}" not in said
