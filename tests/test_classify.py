"""A classifier from class folders: batches, training, exact resume, scores, export. Pictures are drawn here."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import silent
from lite import assert_int8_between_quantizes, partitions
from PIL import Image
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from keras_unetres.choices.augmentations import AUGMENTATIONS
from keras_unetres.choices.networks import DEPTHS, RESNETS, Depth
from keras_unetres.cli import main
from keras_unetres.data import class_folders_from_arrays, read_records
from keras_unetres.data.pipeline import Order, calibration_crops, training_batches, validation_batches
from keras_unetres.data.samples import Samples
from keras_unetres.data.weighting import Weighting
from keras_unetres.runs import RunFolder
from keras_unetres.scores.classification import score_classes
from keras_unetres.settings import NetworkSettings, TrainSettings
from keras_unetres.tasks import task_of
from keras_unetres.tflite import export_tflite
from keras_unetres.training import fit as fitting
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.train import resume, train
from unetres_edge import Classifier, Preprocessing, read_card
from unetres_edge.errors import (
    ConversionError,
    DataError,
    FileSystemError,
    RunFolderError,
    Stopped,
    UsageError,
)

pytestmark = pytest.mark.usefixtures("without_xla")

SIZE = 16
KINDS = ("disc", "square", "stripes")
SETTINGS: dict[str, Any] = {
    "network": "resnet8",
    "size": SIZE,
    "batch": 16,
    "epochs": 6,
    "learning_rate": 0.01,
    "augment": "light",
    "seed": 3,
    "checkpoint_seconds": 0.0,
}


def picture(kind: str, rng: np.random.Generator, side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    image = rng.integers(0, 60, (side, side, 3))
    middle, reach = rng.integers(side // 2 - 2, side // 2 + 3, 2), rng.integers(side // 4, side // 3 + 1)
    down, right = rows - middle[0], columns - middle[1]
    shape = {
        "disc": down**2 + right**2 < reach**2,
        "square": np.maximum(abs(down), abs(right)) < 2 * reach,
        "stripes": ((columns + middle[0]) // (side // 6)) % 2 == 0,
    }[kind]
    image[shape] += rng.integers(120, 190, 3)
    return image.astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Any:
    """A ResNet of 8 layers, n = 1 in He 2015 section 4.2, which compiles quickly."""
    patch = pytest.MonkeyPatch()
    patch.setitem(DEPTHS, 8, Depth((1, 1, 1), filters=(8, 16, 32), size=32))
    patch.setitem(RESNETS, "resnet8", (8, "v1"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three shapes, 40 each, of different sizes and formats."""
    root, rng = tmp_path_factory.mktemp("shapes") / "shapes", np.random.default_rng(0)
    for kind in KINDS:
        (root / kind).mkdir(parents=True)
        for number in range(40):
            values = picture(kind, rng, int(rng.integers(18, 30)))
            Image.fromarray(values).save(root / kind / f"{number:02d}{('.png', '.bmp')[number % 2]}")
    return root


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    told = train(shapes, folder, TrainSettings.from_flat(SETTINGS), say=silent)
    assert told["best_accuracy"] > 0.6
    return folder


@pytest.fixture(scope="module")
def files(run: Path) -> dict[str, Path]:
    made = {recipe: run.parent / f"{recipe}.tflite" for recipe in ("float32", "static_wi8_ai8")}
    for recipe, path in made.items():
        export(run, path, recipe=recipe, say=silent)
    return made


def numbered(count: int, channels: int = 3, *, balanced: bool = False) -> Samples:
    """Images of one value each, which is 10 times the label, all for training."""
    labels = np.arange(count) % 5
    values = np.broadcast_to(10 * labels[:, None, None, None], (count, 8, 8, channels)).astype(np.uint8)
    dataset = class_folders_from_arrays(
        np.concatenate([values, values[:5]]), np.append(labels, range(5)), splits=["train"] * count + ["val"] * 5
    )
    pre = Preprocessing(channels=channels, fit="resize", size=(8, 8), value_range=(0, 255))
    records = read_records(dataset, ["train"], scaled=pre, progress=False)
    return Samples(records["train"], pre, weighting=Weighting(float(balanced)))


def gather(data: Any) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*((np.array(x), np.array(y)) for x, y, *_ in data), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_go_with_their_images(channels: int) -> None:
    images = numbered(20, channels)
    order = Order(images, 4, 0)
    pixels, labels = gather(training_batches(order, AUGMENTATIONS["none"], last_step=10))
    assert pixels.shape == (40, 8, 8, channels)
    np.testing.assert_allclose(pixels, np.broadcast_to(10.0 * labels[:, None, None, None], pixels.shape), rtol=1e-6)
    for epoch in (labels[:20], labels[20:]):
        assert Counter(epoch.tolist()) == dict.fromkeys(range(5), 4)
    assert labels[:20].tolist() != labels[20:].tolist()
    for step in (0, 3, 7):
        places = {sample.name: place for place, sample in enumerate(images.samples)}
        chosen = [places[name] for name in order.names(step)]
        assert images.class_ids is not None
        assert images.class_ids[chosen].tolist() == labels[4 * step : 4 * step + 4].tolist()
    pixels, labels = gather(validation_batches(images, batch_size=7))
    np.testing.assert_array_equal(labels, images.class_ids)
    np.testing.assert_array_equal(pixels[:, 0, 0, 0], 10.0 * labels)


@pytest.mark.slow
def test_batches_hang_on_the_seed_and_the_step_alone() -> None:
    images = numbered(21)
    order = Order(images, 4, 7)
    assert images.steps(4) == 6
    whole = gather(training_batches(order, AUGMENTATIONS["street"], last_step=13))
    for first in (1, 6, 11):
        rest = gather(training_batches(order, AUGMENTATIONS["street"], first_step=first, last_step=13))
        for part, of_whole in zip(rest, whole, strict=True):
            np.testing.assert_array_equal(part, of_whole[4 * first :])
    shards = [
        gather(training_batches(order, AUGMENTATIONS["street"], last_step=13, shard=(n, 2)))[0].reshape(13, 2, -1)
        for n in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(shards, 1).reshape(whole[0].shape), whole[0])
    other = gather(training_batches(Order(images, 4, 8), AUGMENTATIONS["street"], last_step=13))
    assert not np.array_equal(other[1], whole[1])
    with pytest.raises(UsageError, match="multiple of 3"):
        training_batches(order, AUGMENTATIONS["street"], last_step=13, shard=(0, 3))


def test_what_comes_from_beyond_the_border_is_the_image_mirrored() -> None:
    """An image of one value stays of one value however it is turned and scaled; only its light changes."""
    images = numbered(10)
    turned = gather(training_batches(Order(images, 5, 0), AUGMENTATIONS["aerial"], last_step=8))[0]
    assert float(np.ptp(turned, axis=(1, 2)).max()) < 1e-3
    assert float(np.ptp(turned)) > 20


def test_rare_classes_can_weigh_more() -> None:
    """Of 12 images 3, 3, 2, 2 and 2 are of the classes: 12 / (5 n) each."""
    images = numbered(12, balanced=True)
    for _, labels, given in training_batches(Order(images, 6, 0), AUGMENTATIONS["none"], last_step=2):
        np.testing.assert_allclose(given, np.where(labels.numpy() < 2, 12 / 15, 12 / 10), rtol=1e-6)


def test_calibration_is_spread_over_the_images() -> None:
    images = numbered(20)
    assert calibration_crops(images, count=5)[:, 0, 0, 0].tolist() == [0, 40, 40, 40, 40]
    assert calibration_crops(images, count=99).shape == (20, 8, 8, 3)
    assert len(calibration_crops(images, count=99, max_bytes=8 * 8 * 3 * 2)) == 2


def test_it_learns(run: Path, shapes: Path) -> None:
    info = RunFolder(run).read_info()
    assert info.task == "classify"
    assert info.model.builder == "build_resnet"
    assert info.preprocessing.fit == "resize"
    scores = evaluate(run, shapes, split="all", say=silent)
    assert scores["top1"] > 0.8  # chance is a third
    assert scores["top5"] is None
    assert scores["num_images"] == 120
    with (run / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 6
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(rows[0])
    assert (run / "samples" / "curves.png").stat().st_size > 1000


def test_the_score_of_training_is_that_of_evaluation(run: Path, shapes: Path) -> None:
    checkpoint = RunFolder(run).read_checkpoint()
    assert checkpoint is not None
    scores = evaluate(run, shapes, split="val", say=silent)
    assert scores["top1"] == pytest.approx(checkpoint[1]["best"], abs=1e-6)


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(
    run: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(keras.callbacks.Callback):
        """SIGTERM comes in the second step of the third epoch."""

        def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            if int(np.asarray(self.model.optimizer.iterations)) == 2 * 6 + 1:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = fitting.fit
    with monkeypatch.context() as patch:

        def stopped(model: Any, plan: Any, batches: Any, validation: Any, callbacks: list[Any], **named: Any) -> None:
            assert plan.steps_per_epoch == 6
            whole(model, plan, batches, validation, [Stop(), *callbacks], **named)

        patch.setattr(fitting, "fit", stopped)
        with pytest.raises(Stopped):
            train(shapes, tmp_path / "run", TrainSettings.from_flat(SETTINGS), say=silent)
    said: list[str] = []
    told = resume(tmp_path / "run", say=said.append)
    assert any("after step 14 of 36" in line for line in said)
    for name in ("weights.safetensors", "history.csv", "calibration.npz", "checkpoints/last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes(), name
    assert told["epochs"] == 6
    Image.new("RGB", (20, 20)).save(shapes / "disc" / "late.png")
    try:
        with pytest.raises(RunFolderError, match="data set is not the one"):
            resume(tmp_path / "run", say=silent)
    finally:
        (shapes / "disc" / "late.png").unlink()


def test_files_answer_like_keras(run: Path, files: dict[str, Path], shapes: Path, tmp_path: Path) -> None:
    own = evaluate(run, shapes, split="all", say=silent)
    plain = evaluate(files["float32"], shapes, split="all", say=silent, json_file=tmp_path / "scores.json")
    assert plain["confusion"] == own["confusion"]
    assert json.loads((tmp_path / "scores.json").read_text()) == plain
    small = evaluate(files["static_wi8_ai8"], shapes, split="all", say=silent)
    assert abs(small["top1"] - own["top1"]) <= 0.05
    data = files["static_wi8_ai8"].read_bytes()
    card = read_card(data)
    assert (card.task, card.head, card.class_names, card.halo) == ("classify", "logits", KINDS, 0)
    ops = assert_int8_between_quantizes(data)
    assert {"CONV_2D", "MEAN", "FULLY_CONNECTED"} <= set(ops)
    assert partitions(data) == 3  # the shortcuts without parameters of the CIFAR form leave the partition twice
    assert len(data) < len(files["float32"].read_bytes()) / 2
    image = next((shapes / "stripes").iterdir())
    assert Classifier(files["static_wi8_ai8"]).classify(image).top[0][1] in KINDS


@pytest.mark.slow
def test_another_size_can_be_exported(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.tflite"
    export(run, path, recipe="static_wi8_ai8", size=(24, 32), say=silent)
    with Classifier(path) as classifier:
        assert classifier.card.preprocessing.size == (24, 32)
        assert classifier.classify(np.zeros((50, 40, 3), np.uint8)).scores.shape == (3,)


def test_export_refuses_what_a_classifier_has_not(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gives scores"):
        export(run, tmp_path / "a.tflite", head="argmax", say=silent)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    pre = Preprocessing(channels=1, size=(8, 8))
    with pytest.raises(UsageError, match="sees the whole image"):
        export_tflite(model, tmp_path / "a.tflite", recipe="float32", preprocessing=pre)
    whole = Preprocessing(channels=1, size=(8, 8), fit="letterbox")
    with pytest.raises(UsageError, match="number of class names"):
        export_tflite(model, tmp_path / "a.tflite", recipe="float32", preprocessing=whole, classes=["a", "b"])
    one = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(ConversionError, match="or \\(1, classes >= 2\\) of a classifier"):
        export_tflite(one, tmp_path / "a.tflite", recipe="float32", preprocessing=whole)
    assert list(tmp_path.iterdir()) == []
    done = export_tflite(model, tmp_path / "a.tflite", recipe="float32", preprocessing=whole, classes=["a", "b", "c"])
    assert (done.card.task, done.agreement) == ("classify", 1.0)
    image = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    expected = np.asarray(model(image[None, ..., None] / np.float32(255)))[0]
    np.testing.assert_allclose(Classifier(tmp_path / "a.tflite").classify(image).scores, expected, atol=1e-5)


@pytest.mark.parametrize("classes", [3, 12])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes - 1, 200)  # the last class is absent
    scores = rng.normal(size=(200, classes)) + 1.5 * np.eye(classes)[labels]
    names = [f"class {n}" for n in range(classes)]
    guesses, ids = scores.argmax(1), list(range(classes))
    found = score_classes(labels, scores, names)
    assert found["top1"] == pytest.approx(accuracy_score(labels, guesses))
    if classes > 5:
        assert found["top5"] == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=ids))
    else:
        assert found["top5"] is None
    np.testing.assert_array_equal(found["confusion"], confusion_matrix(labels, guesses, labels=ids))
    with np.errstate(all="ignore"):
        recall = recall_score(labels, guesses, labels=ids, average=None, zero_division=np.nan)
        precision = precision_score(labels, guesses, labels=ids, average=None, zero_division=np.nan)
    for value, key in ((recall, "accuracy"), (precision, "precision")):
        row = [found["per_class"][name][key] for name in names]
        np.testing.assert_allclose([np.nan if v is None else v for v in row], value)
    present = np.unique(labels)
    own = [r for label, r in enumerate(recall) if label in present]
    assert found["mean_class_accuracy"] == pytest.approx(np.mean(own))
    assert found["per_class"][names[-1]]["images"] == 0
    kept = np.isin(guesses, present)  # scikit-learn wants every guess to be of a class that is there
    assert score_classes(labels[kept], scores[kept], names)["mean_class_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels[kept], guesses[kept])
    )


def test_of_no_images_there_is_no_score() -> None:
    found = score_classes(np.zeros(0, np.int64), np.zeros((0, 7)), list("abcdefg"))
    assert (found["top1"], found["top5"], found["mean_class_accuracy"]) == (None, None, None)


def test_evaluation_goes_by_the_names_of_the_classes(run: Path, shapes: Path, tmp_path: Path) -> None:
    """A set with two of the three classes, which have other numbers there."""
    for kind in ("square", "stripes"):
        (tmp_path / "some" / kind).mkdir(parents=True)
        for path in sorted((shapes / kind).iterdir())[:5]:
            (tmp_path / "some" / kind / path.name).write_bytes(path.read_bytes())
    scores = evaluate(run, tmp_path / "some", split="all", say=silent)
    confusion = np.array(scores["confusion"])
    assert confusion.sum(1).tolist() == [0, 5, 5]
    assert scores["top1"] > 0.5
    assert scores["per_class"]["disc"]["accuracy"] is None
    (tmp_path / "some" / "stripes").rename(tmp_path / "some" / "zebra")
    with pytest.raises(DataError, match="classes that the model does not know.*zebra"):
        evaluate(run, tmp_path / "some", split="all", say=silent)


def test_models_and_data_of_the_other_task_are_refused(
    run: Path, files: dict[str, Path], shapes: Path, cells: Path, run_folder: Path, tmp_path: Path
) -> None:
    assert task_of(run).name == task_of(files["float32"]).name == "classify"
    assert task_of(run_folder).name == "segment"
    with pytest.raises(UsageError, match="teach a segmenter"):
        evaluate(run, cells, say=silent)
    with pytest.raises(UsageError, match="teach a classifier"):
        evaluate(run_folder, shapes, say=silent)
    with pytest.raises(UsageError, match="pass --network resnet50"):
        train(shapes, tmp_path / "run", TrainSettings(NetworkSettings(size=32)), say=silent)
    with pytest.raises(UsageError, match="pass --network unet"):
        train(cells, tmp_path / "run", TrainSettings.from_flat(SETTINGS), say=silent)
    with pytest.raises(UsageError, match="as it is"):
        evaluate(run, shapes, overlap=3, say=silent)
    with pytest.raises(UsageError, match="classes given for a model that says it itself"):
        evaluate(run, shapes, classes=["a"], say=silent)
    with pytest.raises(FileSystemError, match="no such model file"):
        evaluate(run.parent / "nothing.tflite", shapes, say=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ({"network": "resnet51"}, "--network is unknown"),
        ({"encoder": "resnet50"}, "--encoder is an option of segmenters"),
        ({"deep_supervision": True}, "--deep-supervision is an option of segmenters"),
        ({"border_weight": (10, 5)}, "--border-weight is an option of segmenters"),
        ({"ignore": 255}, "--ignore is an option of segmenters"),
        ({"loss": "dice"}, "--loss is an option of segmenters"),
        ({"fit": "crop"}, "--fit crop is not for a classifier; expected resize or letterbox"),
        ({"dropout": 0.1}, "--dropout is an option of segmenters"),
    ],
)
def test_settings_of_segmenters_are_refused(setting: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        TrainSettings.from_flat({**SETTINGS, **setting})


def test_a_network_is_named_as_everywhere() -> None:
    builder, arguments = NetworkSettings(name="resnet50_v1.5", size=224).model(3, 7)
    assert builder == "build_resnet"
    assert arguments == {"input_shape": [224, 224, 3], "num_classes": 7, "depth": 50, "variant": "v1.5"}
    assert NetworkSettings(name="resnet50").image_fit == "resize"
    assert NetworkSettings(name="resnet50", fit="letterbox").image_fit == "letterbox"
    assert NetworkSettings().image_fit == "crop"


@pytest.mark.slow
def test_arrays_train_with_their_copies_named(tmp_path: Path) -> None:
    """Six grey classes by brightness, one epoch: five best classes are scored, and what is twice in the set is said."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 6
    images = (40 * labels[:, None, None] + rng.integers(0, 20, (48, 8, 8))).astype(np.uint8)
    images[47] = images[5]
    images[46] = images[6]
    parts = ["train"] * 36 + ["val"] * 12
    data = class_folders_from_arrays(images, labels, splits=parts)
    said: list[str] = []
    options = TrainSettings.from_flat(
        {**SETTINGS, "size": 8, "epochs": 1, "class_weights": "balanced", "augment": "auto"}
    )
    train(data, tmp_path / "run", options, say=said.append)
    assert any("1 pictures are in two parts" in line and "00047" in line for line in said)
    assert any("1 pictures are in two classes" in line and "00046" in line for line in said)
    info = RunFolder(tmp_path / "run").read_info()
    assert info.data.path is None
    assert info.augment == "street"
    assert info.model.arguments["input_shape"] == [8, 8, 1]
    assert "val_top5" in (tmp_path / "run" / "history.csv").read_text().splitlines()[0]
    scores = evaluate(tmp_path / "run", data, split="val", say=silent)
    assert scores["top5"] is not None
    with pytest.raises(UsageError, match="trained on arrays"):
        resume(tmp_path / "run", say=silent)


def test_the_commands(run: Path, files: dict[str, Path], shapes: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["evaluate", str(files["float32"]), str(shapes), "--split", "val"]) == 0
    shown = capsys.readouterr().out
    assert "top-1" in shown
    assert "6 images  stripes" in shown
    assert main(["predict", str(run), str(shapes / "disc"), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "classes.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 40
    assert Counter(row["class_1"] for row in rows).most_common(1)[0][0] == "disc"
    assert main(["inspect", str(files["static_wi8_ai8"])]) == 0
    assert "task       classify" in capsys.readouterr().out
    assert main(["train", str(shapes), "--network", "resnet8", "--size", "16", "--out", str(run)]) == 2
    assert "exists already" in capsys.readouterr().err
