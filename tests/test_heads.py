"""Heads: one checkpoint in every form of image and answer, and the same labels from each; MediaPipe's metadata."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from lite import partitions
from small_models import INT8, make_calibration, make_levels, user_model

from keras_unetres.choices.heads import check_head
from keras_unetres.tflite import HEADS, Exported, Preprocessing, export_tflite, find_head, find_recipe
from keras_unetres.tflite.inspect import Graph, read_ops
from keras_unetres.tflite.mediapipe import segmenter_metadata
from keras_unetres.tflite.seal import add_card, appended_files
from unetres_edge import Segmenter, read_card
from unetres_edge.errors import ModelDamagedError, UsageError

PRE = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(16, 16))  # one for every channel
CLASSES = ["sky", "the sea", "land"]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(4)
    return user_model(channels=3)


@pytest.fixture(scope="module")
def make(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Exported]]:
    """The checkpoint with any head, converted once."""
    done: dict[tuple[str, str], tuple[Path, Exported]] = {}
    folder = tmp_path_factory.mktemp("heads")

    def made(head: str, recipe: str = INT8) -> tuple[Path, Exported]:
        if (head, recipe) not in done:
            path = folder / f"{head}_{recipe}.tflite"
            found = export_tflite(
                model,
                path,
                recipe=recipe,
                head=head,
                preprocessing=PRE,
                calibration=make_calibration(PRE),
                classes=CLASSES,
            )
            done[head, recipe] = path, found
        return done[head, recipe]

    return made


def ends(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    interpreter = Interpreter(model_content=data)
    return interpreter.get_input_details()[0], interpreter.get_output_details()[0]


def labels(path: Path, images: np.ndarray) -> np.ndarray:
    with Segmenter(path) as segmenter:
        return np.stack([segmenter.segment(image).class_map for image in images])


@pytest.mark.parametrize("head", ["logits", "logits_int8", "logits_float", "argmax"])
def test_each_head_takes_and_gives_what_its_row_says(head: str, make: Callable) -> None:
    path, done = make(head)
    data = path.read_bytes()
    row = HEADS[head]
    image, answer = ends(data)
    assert (image["dtype"], answer["dtype"]) == (np.dtype(row.image), np.dtype(row.answer))
    assert list(image["shape"]) == [1, 16, 16, 3]
    assert list(answer["shape"]) == ([1, 16, 16] if row.argmax else [1, 16, 16, 3])
    card = read_card(data)
    assert (card.head, card.preprocessing) == ("argmax" if head == "argmax" else "logits", PRE)
    assert done.head == head
    assert partitions(data) == 1
    inner = {kind for op in read_ops(data) for kind in op.outputs if "CONV" in op.name}
    assert inner == {"INT8"}


def test_every_head_of_a_checkpoint_gives_the_same_labels(make: Callable) -> None:
    images = make_levels(20, channels=3)
    expected = labels(make("logits")[0], images)
    assert len(np.unique(expected)) == 3
    for head in ("logits_int8", "logits_float", "argmax"):
        np.testing.assert_array_equal(labels(make(head)[0], images), expected, err_msg=head)


def test_scores_of_the_three_forms_are_the_same_numbers(make: Callable) -> None:
    image = make_levels(1, channels=3)[0]
    scores = []
    for head in ("logits", "logits_int8", "logits_float"):
        with Segmenter(make(head)[0]) as segmenter:
            scores.append(segmenter.segment(image, scores=True).scores)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-6)


def test_where_activations_are_float_a_head_changes_only_what_it_must(make: Callable) -> None:
    path, _ = make("argmax", "float32")
    image, answer = ends(path.read_bytes())
    assert (image["dtype"], answer["dtype"]) == (np.float32, np.uint8)
    images = make_levels(8, channels=3)
    found = labels(make("mediapipe", "float32")[0], images)
    assert (labels(path, images) == found).mean() > 0.999


@pytest.mark.parametrize(
    ("head", "recipe", "pre", "task", "words"),
    [
        (
            "logits_int8",
            "float32",
            PRE,
            "segment",
            "recipe float32 has no int8 at its ends; expected recipe static_wi8",
        ),
        ("logits_int8", "static_wi8_ai16", PRE, "segment", "recipe static_wi8_ai16 has no int8"),
        (
            "argmax",
            INT8,
            PRE,
            "classify",
            "a classifier gives scores; expected head 'logits' or 'logits_int8' or 'logits",
        ),
        ("mediapipe", INT8, PRE, "classify", "a classifier gives scores"),
        ("mediapipe", INT8, Preprocessing(channels=1), "segment", "MediaPipe cannot .*; expected 3 channels; found 1"),
        (
            "mediapipe",
            INT8,
            Preprocessing(color_order="bgr"),
            "segment",
            "colour order 'rgb'; found bgr; fix: .*float'",
        ),
        ("mediapipe", INT8, Preprocessing(per_image=(1, 99)), "segment", "no percentiles of each image; found .1"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(
    head: str, recipe: str, pre: Preprocessing, task: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check_head(find_head(head), find_recipe(recipe), pre, task)


# --------------------------------------------------------------------------------------------------- mediapipe


@pytest.mark.parametrize("recipe", [INT8, "float32"])
def test_a_mediapipe_file_takes_pixels_as_they_are(recipe: str, make: Callable, model: keras.Model) -> None:
    path, done = make("mediapipe", recipe)
    data = path.read_bytes()
    image, answer = ends(data)
    assert image["dtype"] == (np.uint8 if recipe == INT8 else np.float32)
    assert answer["dtype"] == np.float32
    if recipe == INT8:
        assert image["quantization"] == (1.0, 0)
    card = read_card(data)
    assert (card.preprocessing.value_range, card.preprocessing.mean, card.preprocessing.std) == ((0, 255), (0,), (1,))
    assert (card.preprocessing.table() == np.arange(256)[:, None]).all()
    assert card.class_names == tuple(CLASSES)
    assert partitions(data) == 1

    images = make_levels(20, channels=3)
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    found = []
    for pixels in images:  # as MediaPipe does: bytes, or floats of them
        interpreter.set_tensor(image["index"], pixels[None].astype(image["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(answer["index"])[0].argmax(-1))
    np.testing.assert_array_equal(np.stack(found), labels(path, images))
    expected = np.asarray(model(PRE.normalise(images))).argmax(-1)
    assert (np.stack(found) == expected).mean() > (0.9 if recipe == INT8 else 0.999)


def test_class_names_are_a_file_behind_the_graph_which_the_digest_covers(make: Callable) -> None:
    data = make("mediapipe")[0].read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED  # MediaPipe inflates nothing
        assert archive.read("labels.txt").decode().splitlines() == CLASSES
    at = data.index(b"the sea\n")
    with pytest.raises(ModelDamagedError, match="changed since it was sealed"):
        read_card(data[:at] + b"tge sea\n" + data[at + 8 :])
    again = add_card(data, read_card(data))
    assert appended_files(again) == appended_files(data)
    names = [entry.name for entry in Graph(again).model.metadata]
    assert names.count(b"TFLITE_METADATA") == names.count(b"KERAS_UNETRES_CARD") == 1
    assert appended_files(make("logits")[0].read_bytes()) == {}


def test_metadata_is_byte_for_byte_what_mediapipe_has_read() -> None:
    """Golden bytes. MediaPipe 1.2.2 read files with them: its ImageSegmenter named the classes in order and gave, on 40
    images, for float32, float16 and int8 files, every label as `Segmenter` did; its own schema classes listed an image
    input of 64 x 64 in RGB with mean 0 and std 1, `labels.txt` for the axis of the output, and a softmax.
    """
    data = segmenter_metadata((64, 64), activation="softmax", author="keras-unetres")
    assert data[4:8] == b"M001"
    assert len(data) == 592
    assert hashlib.sha256(data).hexdigest() == "9e218b69a9d149a557c6a54ffb9a5279a3b17ce52c00d2de49928a65e35b678a"
    others = [segmenter_metadata((64, 64), activation=each, author="keras-unetres") for each in ("sigmoid", "none")]
    assert len({data, *others}) == 3


def test_mediapipe_itself_gives_the_same_labels(make: Callable) -> None:
    mediapipe = pytest.importorskip("mediapipe", reason="needs MediaPipe: pip install mediapipe")
    vision = mediapipe.tasks.vision
    images = make_levels(8, channels=3)
    for recipe in (INT8, "float32"):
        path, _ = make("mediapipe", recipe)
        options = vision.ImageSegmenterOptions(
            base_options=mediapipe.tasks.BaseOptions(model_asset_buffer=path.read_bytes()), output_category_mask=True
        )
        with vision.ImageSegmenter.create_from_options(options) as segmenter:
            assert list(segmenter.labels) == CLASSES
            found = [
                segmenter.segment(
                    mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(i))
                )
                for i in images
            ]
        masks = np.stack([each.category_mask.numpy_view().reshape(16, 16) for each in found])
        np.testing.assert_array_equal(masks, labels(path, images))
