"""A project in napari: what is painted there is an action of the journal, and the widget goes through its images."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import keras_unetres
from keras_unetres.painting.folder import find_pictures, make_project
from keras_unetres.painting.napari_plugin import from_labels, get_reader, layers, make_widget, save, to_labels
from keras_unetres.painting.project import Project
from unetres_edge.errors import UsageError

SHAPE = (30, 40)


def silent(line: str) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(pictures / f"p{number}.png")
    made = tmp_path / "project"
    make_project(made, pictures, ("background", "cell"), None, find_pictures(pictures, silent), silent)
    return made


def test_labels_of_napari_are_classes_plus_one() -> None:
    classes = np.array([[0, 1, 255]], np.uint8)
    assert to_labels(classes).tolist() == [[1, 2, 0]]
    np.testing.assert_array_equal(from_labels(to_labels(classes).astype(np.int64), 2), classes)
    with pytest.raises(UsageError, match="no classes"):
        from_labels(np.array([[3]]), 2)


def test_what_is_saved_is_an_action_that_is_undone(folder: Path) -> None:
    with Project(folder, silent) as project:
        project.stroke(0, {"id": "a", "tool": "brush", "class": 1, "object": 0, "size": 9, "points": [[8, 8]]})
        before = project.canvas(0).classes.copy()
        labels = layers(project, 0)[1][0].copy()
        np.testing.assert_array_equal(from_labels(labels, 2), before)
        assert not save(project, 0, labels), "nothing is new"
        labels[5:8, 5:20] = 1
        labels[8, 8] = 0
        assert save(project, 0, labels)
        np.testing.assert_array_equal(project.canvas(0).classes, from_labels(labels, 2))
        project.undo(0, {"id": "u"})
        np.testing.assert_array_equal(project.canvas(0).classes, before)
        with pytest.raises(UsageError, match="another size"):
            save(project, 0, labels[1:])


def test_the_reader_takes_projects_alone(folder: Path, tmp_path: Path) -> None:
    assert get_reader(f"{tmp_path}") is None
    read = get_reader([f"{folder}"])
    assert read is not None
    (picture, about, kind), (labels, _, labels_kind) = read(f"{folder}")
    assert (kind, labels_kind, about["rgb"]) == ("image", "labels", True)
    np.testing.assert_array_equal(picture, np.asarray(Image.open(folder / "images" / "p0.png")))
    assert labels.shape == SHAPE and not labels.any()


def test_the_manifest_names_what_there_is() -> None:
    manifest = yaml.safe_load((Path(keras_unetres.__file__).parent / "napari.yaml").read_text())
    for command in manifest["contributions"]["commands"]:
        module, name = command["python_name"].split(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what napari depends on
def test_the_widget_goes_through_a_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("napari", reason="needs pip install -e '.[napari]' and a Qt such as PyQt6")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    viewer: Any = ViewerModel()
    widget = make_widget(viewer)
    place, number, opens, saves, complete, network, says = list(widget)
    saves.clicked.emit(True)
    assert "no project is open" in says.value
    place.value = folder
    opens.clicked.emit(True)
    assert [layer.name for layer in viewer.layers] == ["picture", "classes"] and says.value.startswith("p0.png")
    number.value = 2
    assert says.value.startswith("p1.png")
    viewer.layers["classes"].data[3:6, 3:9] = 2
    saves.clicked.emit(True)
    assert says.value == "Saved."
    complete.clicked.emit(True)
    assert "p1.png, complete" in says.value
    network.clicked.emit(True)
    assert "model.tflite" in says.value, "there is none yet"
    widget.native.deleteLater()
    application.processEvents()
    opens.clicked.emit(True)  # the project is opened anew, its lock given back
    mask = np.asarray(Image.open(folder / "masks" / "p1.png"))
    assert (mask[3:6, 3:9] == 1).all() and (mask == 0).sum() == mask.size - 18
    place.value = folder.parent
    opens.clicked.emit(True)
    assert "project" in says.value
