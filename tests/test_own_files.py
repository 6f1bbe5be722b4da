"""Models of other makers by the command line and in Python: `.keras` and `.h5` files, a `.tflite` without a card."""

from __future__ import annotations

import json
import shlex
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_unetres as ku
from keras_unetres.cli import main
from unetres_edge import Card, Segmenter, read_card
from unetres_edge.errors import ModelError
from unetres_edge.model.card import default_colors

SIZE = 16
PRE = ku.Preprocessing(channels=3, size=(SIZE, SIZE))
FEEDING = ["--size", str(SIZE), "--channels", "3", "--value-range", "0", "1"]
OWN_LAYERS = """
import keras

class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x

@keras.saving.register_keras_serializable(package="mine")
def shifted(x):
    return x + 1
"""


def says(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str]:
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    return code, (out.out if code == 0 else out.err.strip().splitlines()[-1])


def command_in(line: str) -> list[str]:
    """Return the words of the command that an error names, for `main`."""
    return shlex.split(line.partition("; fix: unetres ")[2])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with masks of two classes, bright and dark, and class folders of the same."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(6):
        small = rng.integers(0, 256, (4, 4), np.uint8)
        grey = np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        bright = (grey > 127).astype(np.uint8)
        name = "bright" if bright.mean() > 0.5 else "dark"
        for place, values in (("set/images", np.repeat(grey[..., None], 3, -1)), ("set/masks", bright)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / place / f"{number}.png")
        for each, level in (("dark", 40), ("bright", 200)):
            (folder / "classes" / each).mkdir(parents=True, exist_ok=True)
            shade = np.full((SIZE, SIZE, 3), level + number, np.uint8)
            Image.fromarray(shade).save(folder / "classes" / each / f"{number}_{name}.png")
    return folder


def by_brightness(end: Any) -> keras.Model:
    """Return a model whose one channel is 20 times the brightness above a half, and then `end`."""
    image, head = keras.Input((SIZE, SIZE, 3)), layers.Conv2D(1, 1)
    model = keras.Model(image, end(head(image)))
    head.set_weights([np.full((1, 1, 3, 1), 20 / 3, np.float32), np.float32([-10])])
    return model


def foreign(function: Any) -> bytes:
    import tensorflow as tf

    traced = tf.function(function, input_signature=[tf.TensorSpec((1, SIZE, SIZE, 3))])
    return tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()]).convert()


@pytest.fixture(scope="module")
def selfie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as MediaPipe's selfie segmentation: one sigmoid channel, no card."""
    import tensorflow as tf

    path = tmp_path_factory.mktemp("foreign") / "selfie.tflite"
    path.write_bytes(foreign(lambda x: tf.sigmoid(20 * (tf.reduce_mean(x, -1, keepdims=True) - 0.5))))
    return path


def test_one_channel_of_a_file_tells_two_classes_apart(selfie: Path) -> None:
    ramp = np.repeat(np.tile(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, 1))[..., None], 3, -1)
    share = 1 / (1 + np.exp(-20 * (ramp[..., 0] / 255 - 0.5)))

    def card(*names: str, **more: str) -> Card:
        return Card(names, default_colors(len(names)), PRE, **more)

    with Segmenter(selfie, card=card("background", "person", activation="none")) as segmenter:
        result = segmenter.segment(ramp, confidence=True)
        np.testing.assert_array_equal(segmenter.segment(ramp).class_map, share > 0.5)
    np.testing.assert_array_equal(result.class_map, share > 0.5)
    np.testing.assert_allclose(result.confidence, np.maximum(share, 1 - share), atol=1e-5)
    with pytest.raises(ModelError, match=r'softmax says nothing; expected .*activation "none"'):
        Segmenter(selfie, card=card("background", "person"))
    with pytest.raises(ModelError, match="expected two class names, such as background and person"):
        Segmenter(selfie, card=card("person", activation="none"))


def test_a_file_without_a_card_is_inspected_scored_and_run(
    selfie: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = says(capsys, "inspect", selfie)
    assert code == 0 and "card       none" in said and f"--size {SIZE} --channels 3 --value-range LOW HIGH" in said
    code, line = says(capsys, "evaluate", selfie, photos / "set", "--split", "all")
    assert code == 2
    words = [{"LOW": "0", "HIGH": "1"}.get(word, word) for word in command_in(line)]
    code, said = says(capsys, *words, "--json", tmp_path / "scores.json")
    assert code == 0 and json.loads((tmp_path / "scores.json").read_text())["miou"] > 0.99
    code, said = says(capsys, "predict", selfie, photos / "set" / "images", "--out", tmp_path / "maps", *FEEDING)
    assert code == 0
    mask = np.asarray(Image.open(tmp_path / "maps" / "0.png"))
    np.testing.assert_array_equal(mask, np.asarray(Image.open(photos / "set" / "masks" / "0.png")))
    code, line = says(capsys, "export", selfie, "--out", tmp_path / "x.tflite", *FEEDING)
    assert code == 2 and "only a run or a Keras model can be exported" in line


def test_the_command_for_a_keras_file_is_said_with_what_the_file_tells(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one.keras"
    by_brightness(keras.activations.sigmoid).save(file)
    code, line = says(capsys, "export", file)
    assert code == 2
    assert command_in(line)[:2] == ["export", str(file)]
    chosen = {"LOW": "0", "HIGH": "1", "CLASS1": "bright", "DIR": str(photos / "set" / "images")}
    words = [chosen.get(word, word) for word in command_in(line)]
    assert says(capsys, *words)[0] == 0
    card = read_card((tmp_path / "one.tflite").read_bytes())
    assert card.class_names == ("background", "bright") and card.recipe == "static_wi8_ai8"
    code, said = says(capsys, "evaluate", file, photos / "set", "--split", "all", *FEEDING)
    assert code == 0 and "mIoU       1.0000" in said


def test_a_classifier_in_a_keras_file(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "classifier.keras"
    image, dense = keras.Input((SIZE, SIZE, 3)), layers.Dense(2, activation="softmax")
    model = keras.Model(image, dense(layers.GlobalAveragePooling2D()(image)))
    dense.set_weights([np.float32([[20, -20], [0, 0], [0, 0]]), np.float32([-10, 10])])
    model.save(file)
    feeding = [*FEEDING, "--fit", "resize", "--classes", "bright", "dark"]
    code, said = says(capsys, "evaluate", file, photos / "classes", "--split", "all", *feeding)
    assert code == 0 and "top-1      1.0000" in said
    out = tmp_path / "c.tflite"
    options = ["--calibration", photos / "set" / "images", "--data", photos / "classes", "--split", "all"]
    code, said = says(capsys, "export", file, "--out", out, *options, *feeding)
    assert code == 0, said
    assert read_card(out.read_bytes()).task == "classify"
    code, line = says(capsys, "evaluate", file, photos / "classes", *FEEDING)
    assert code == 2 and "sees the whole image; expected fit 'resize' or 'letterbox'" in line
    code, line = says(capsys, "evaluate", file, photos / "classes")
    assert command_in(line)[-3:] == ["--classes", "CLASS0", "CLASS1"] and "--fit resize" in line


def test_layers_of_your_own_are_imported_where_you_name_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_layers.py").write_text(OWN_LAYERS)
    names: dict[str, Any] = {}
    exec(OWN_LAYERS, names)
    by_brightness(lambda x: layers.Activation("sigmoid")(names["Doubled"]()(x))).save("own.keras")
    for name in list(keras.saving.get_custom_objects()):  # all come back after the test
        monkeypatch.delitem(keras.saving.get_custom_objects(), name)
    scored = ["evaluate", "own.keras", photos / "set", "--split", "all", *FEEDING]
    code, line = says(capsys, *scored)
    assert code == 4 and "holds 'Doubled', of your own code" in line and "--import FILE.py" in line
    for module in ("my_layers.py", "my_layers"):
        code, said = says(capsys, *scored, "--import", module)
        assert code == 0 and "mIoU       1.0000" in said
    for module in ("no_such_module", "none.py"):
        code, line = says(capsys, *scored, "--import", module)
        assert code == 2 and f"found {module}" in line
    scores = ku.evaluate(
        "own.keras",
        photos / "set",
        split="all",
        preprocessing=PRE,
        custom_objects={"Doubled": names["Doubled"]},
        say=lambda line: None,
    )
    assert scores["miou"] == 1


def test_the_old_format_of_keras_is_named_with_a_line_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "old.h5"
    model = by_brightness(layers.Activation("sigmoid"))
    model.compile("adam", "mse")
    model.save(file)
    for words in (["export", file], ["evaluate", file, "data"], ["export", file, *FEEDING]):
        code, line = says(capsys, *words)
        assert code == 4 and "old format" in line
    exec(line.partition("in Python: ")[2], {"keras": keras})
    assert file.with_suffix(".keras").is_file()


def test_other_forms_of_keras_are_named_with_the_line_that_makes_a_model_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = by_brightness(layers.Activation("sigmoid"))
    model.save_weights(tmp_path / "old.weights.h5")
    code, line = says(capsys, "export", tmp_path / "old.weights.h5")
    assert code == 4 and "weights alone" in line
    exec(line.partition("in Python: ")[2], {"model": model})
    assert (tmp_path / "old.keras").is_file()
    model.export(tmp_path / "saved", verbose=False)
    for words in (["export", tmp_path / "saved"], ["evaluate", tmp_path / "saved", "data"]):
        code, line = says(capsys, *words)
        assert code == 4 and "a SavedModel is not read" in line
    monkeypatch.chdir(tmp_path)
    text = line.partition("without training: ")[2].replace("height, width, channels", f"{SIZE}, {SIZE}, 3")
    given = '"saved.tflite", preprocessing=PRE, recipe="float32")'
    exec(text.replace("...)", given), {"ku": ku, "keras": keras, "PRE": PRE})
    assert (tmp_path / "saved.tflite").is_file()


def test_one_of_several_outputs(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    keras.Model(
        image, {"mask": layers.Conv2D(2, 1, name="a")(image), "depth": layers.Conv2D(3, 1, name="b")(image)}
    ).save(tmp_path / "two.keras")
    how = ["export", tmp_path / "two.keras", *FEEDING, "--recipe", "float32"]
    code, line = says(capsys, *how)
    assert code == 2 and 'output="depth" or output="mask"' in line
    code, said = says(capsys, *how, "--output", "mask")
    assert code == 0 and len(read_card((tmp_path / "two.tflite").read_bytes()).class_names) == 2


class Arguments(keras.Model):
    """With a constructor that takes less than Keras keeps, as without `get_config`."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = keras.layers.Conv2D(2, 1)

    def call(self, x: Any) -> Any:
        return self.scores(x)


@pytest.mark.parametrize("kind", ["a lambda", "no get_config"])
def test_what_keras_makes_no_model_of_is_told_the_way_by_its_weights(kind: str, tmp_path: Path) -> None:
    image = keras.Input((16, 16, 3))
    model: keras.Model = Arguments()
    if kind == "a lambda":
        model = keras.Model(image, keras.layers.Conv2D(2, 1, activation=lambda x: x * 2)(image))
    expected = np.asarray(model(np.ones((1, 16, 16, 3), np.float32)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
        model.save(tmp_path / "own.keras")
    with pytest.raises(ModelError, match=r"model.load_weights\('.*own.keras'\)") as caught:
        ku.export(
            tmp_path / "own.keras",
            tmp_path / "m.tflite",
            preprocessing=ku.Preprocessing(channels=3, size=(16, 16)),
            custom_objects={"Arguments": Arguments},
        )
    assert kind == "a lambda" or "unexpected keyword argument" in str(caught.value)
    for weight in model.weights:
        weight.assign(weight * 0)
    model.load_weights(tmp_path / "own.keras")  # as it says
    np.testing.assert_array_equal(model(np.ones((1, 16, 16, 3), np.float32)), expected)
