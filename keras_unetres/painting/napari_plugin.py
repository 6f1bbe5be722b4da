"""A project in napari: a reader of its folder, and a widget that goes through its images and keeps what is painted.

In napari a label 0 is nothing, so a class is its number plus 1 there, and what is not painted is 0. What is saved is an
action of the project's journal, like a stroke of the page: it is undone there, and nothing is overwritten.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import UnetresError, UsageError
from unetres_edge.images.preprocessing import IGNORE

from .folder import FOLDER, is_project
from .predictions import predict
from .project import Project

if TYPE_CHECKING:
    import napari

PICTURE, CLASSES, NETWORK = "picture", "classes", "network"
LayerData = tuple[np.ndarray, dict[str, Any], str]


def to_labels(classes: np.ndarray) -> np.ndarray:
    """Return class ids (H, W) uint8 as napari's labels: 0 for what is not painted."""
    return np.where(classes == IGNORE, 0, classes + 1).astype(np.uint8)


def from_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Return napari's labels as class ids (H, W) uint8, 255 for what is not painted.

    Args:
        count: number of classes.

    Raises:
        UsageError: a label is no class.
    """
    strange = sorted(set(np.unique(labels).tolist()) - set(range(count + 1)))
    if strange:
        raise UsageError(
            "labels are no classes", expected=f"0 for not painted, or 1 to {count}", found=strange[:8], fix="erase them"
        )
    return np.where(labels == 0, IGNORE, labels.astype(np.int64) - 1).astype(np.uint8)


def layers(project: Project, index: int) -> list[LayerData]:
    """Return the picture of an image and what is painted on it, as napari's reader gives layers."""
    picture = project.pictures.level(project.picture_file(index), 0)
    channels = picture.shape[2]
    about = {"name": PICTURE, "metadata": {"image": project.image(index).picture.name}}
    if channels == 3:
        shown: LayerData = (picture, {**about, "rgb": True}, "image")
    else:
        axis = {"channel_axis": 2, "name": [f"{PICTURE} {number + 1}" for number in range(channels)]}
        shown = (picture[..., 0], about, "image") if channels == 1 else (picture, about | axis, "image")
    with project.lock:
        labels = to_labels(project.canvas(index).classes)
    return [shown, (labels, {"name": CLASSES, "opacity": 0.5, "colormap": colormap(project)}, "labels")]


def colormap(project: Project) -> dict[int | None, tuple[float, ...]]:
    """Return the colours of napari's labels: those of the classes, and nothing for what is not painted."""
    colors: dict[int | None, tuple[float, ...]] = {None: (0.0, 0.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0, 0.0)}
    for number, color in enumerate(project.about.colors):
        colors[number + 1] = (*(value / 255 for value in color), 1.0)
    return colors


def save(project: Project, index: int, labels: np.ndarray) -> bool:
    """Keep what is painted in napari; return whether it was something new.

    Raises:
        UsageError: a label is no class, or the layer has another size.
        DataError: the picture was replaced.
        FileSystemError: it could not be written; nothing has changed.
    """
    classes = from_labels(labels, len(project.classes))
    with project.lock:
        known = project.canvas(index).classes
        if known.shape != classes.shape:
            raise UsageError("the labels have another size", expected=known.shape, found=classes.shape)
        if (known == classes).all():
            return False
        box = (0, 0, classes.shape[1], classes.shape[0])
        project.accept(index, {"id": f"napari-{secrets.token_hex(8)}"}, classes, None, box, of="napari", over=True)
    return True


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return what reads a project's folder, or None for anything else (napari's hook)."""
    folder = path[0] if isinstance(path, list) else path
    return read_first if is_project(Path(folder)) else None


def read_first(path: str | list[str]) -> list[LayerData]:
    """Return the layers of the first image; the widget opens the others."""
    with Project(Path(path[0] if isinstance(path, list) else path)) as project:
        return layers(project, 0)


def make_widget(viewer: napari.Viewer) -> Any:
    """Return the widget: a folder, the number of an image, and buttons (napari's hook)."""
    from magicgui.widgets import Container, FileEdit, Label, PushButton, SpinBox

    folder = FileEdit(mode="d", label="project")
    number = SpinBox(min=1, max=1, label="image")
    buttons = {name: PushButton(text=name) for name in ("Open", "Save", "Complete", "Network")}
    says = Label(value="Open a project of `unetres annotate`.")
    held: dict[str, Project] = {}

    def attempt(work: Callable[[], str]) -> None:
        try:
            says.value = work()
        except UnetresError as error:
            says.value = str(error)

    def close() -> None:
        project = held.pop("project", None)
        if project is not None:
            project.close()

    def open_project() -> str:
        close()
        held["project"] = Project(Path(folder.value))
        number.max = len(held["project"].images)
        return show()

    def show() -> str:
        project = _of(held)
        viewer.layers.clear()
        for data, about, kind in layers(project, number.value - 1):
            getattr(viewer, f"add_{kind}")(data, **about)
        state = project.image(number.value - 1)
        return f"{state.picture.name}{', complete' if state.complete else ''}: {', '.join(project.classes)}"

    def keep() -> str:
        new = save(_of(held), number.value - 1, np.asarray(viewer.layers[CLASSES].data))
        return "Saved." if new else "Nothing is new."

    def complete() -> str:
        keep()
        project, index = _of(held), number.value - 1
        project.complete(index, {"complete": not project.image(index).complete})
        return show()

    def network() -> str:
        from unetres_edge import Segmenter

        project = _of(held)
        with Segmenter(project.folder / FOLDER / "model.tflite") as segmenter:
            prediction = predict(segmenter, project.picture_file(number.value - 1))
        viewer.add_labels(to_labels(prediction.classes), name=NETWORK, opacity=0.3, colormap=colormap(project))
        return f"The network expects an IoU of {prediction.opinion.expected_iou:.2f}."

    works = {"Open": open_project, "Save": keep, "Complete": complete, "Network": network}
    for name, work in works.items():
        buttons[name].clicked.connect(lambda *_, work=work: attempt(work))
    number.changed.connect(lambda *_: attempt(show) if held else None)
    widget = Container(widgets=[folder, number, *buttons.values(), says])
    widget.native.destroyed.connect(close)
    return widget


def _of(held: dict[str, Project]) -> Project:
    if "project" not in held:
        raise UsageError("no project is open", fix="choose its folder, and Open")
    return held["project"]
