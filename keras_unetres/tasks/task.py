"""What a task is, as one protocol: its data, its training, its models, its scores and its predictions.

`keras_unetres.tasks.TASKS` has a row for each. A data set, a run and a model file say which task is theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unetres_edge import Card, Classifier, Preprocessing, Segmenter
from unetres_edge.commands.predict_settings import PredictSettings

from ..settings import TrainSettings
from ..training.training_data import TrainingTask

if TYPE_CHECKING:
    import keras
    import numpy as np

    from unetres_edge.segment.files import MoreFiles
    from unetres_edge.segment.inputs import Inputs

    from ..data import Dataset, Records
    from ..objects import Separation
    from ..scores.baseline import Baseline

Opened = Segmenter | Classifier


@dataclass(frozen=True)
class Loaded:
    """A Keras model with the card that says how to feed it."""

    model: keras.Model
    card: Card


Model = Any  # a path of a run folder, a .tflite or a .keras file; a keras.Model; or what is loaded of one


@dataclass(frozen=True)
class Opening:
    """The options with which a model is opened.

    Args:
        preprocessing: preparation of images for the network; for models that do not say it.
        classes: class names; for models that do not say it.
        overlap: px shared by neighbouring tiles; None for what the model needs.
        tta: test-time augmentation: "none", or the mean over the "flips" of each tile or "all" its flips and turns.
        others: more models, whose mean with the first is the answer.
        separation: settings by which pixels become objects, where they shall.
    """

    preprocessing: Preprocessing | None = None
    classes: Sequence[str] | None = None
    overlap: int | None = None
    tta: str = "none"
    others: Sequence[Model] = ()
    separation: Separation | None = None


@dataclass(frozen=True)
class Outputs:
    """What is written of each image beside its class map, or of all beside the table of a classifier.

    Args:
        overlay: the image with its classes, or its objects, laid over it.
        geojson: outlines of the classes.
        instances: writer of its objects, or None.
        overwrite: whether files that exist are replaced.
        json_file: file for what became of each image, or None.
        every: step from one frame of a video or a camera that is taken to the next.
        frames: number of frames of a video or a camera that are taken; None for all.
        on_unfamiliar: treatment of images unlike the training images.
        abstain: whether pixels are given up as the model promises.
    """

    overlay: bool = False
    geojson: bool = False
    instances: MoreFiles | None = None
    overwrite: bool = False
    json_file: str | os.PathLike[str] | None = None
    every: int = 1
    frames: int | None = None
    on_unfamiliar: str = PredictSettings.on_unfamiliar
    abstain: bool = False


class Task(TrainingTask, Protocol):
    """A class for every pixel, or one for the whole image: what differs between the two is here and nowhere else.

    Attributes:
        score_key: the score that counts, among those that `score` returns.
        planned: whether what settings leave open is decided from the data and the minutes.
        biased: whether calibrated probabilities may rank classes otherwise than the scores do.
    """

    score_key: str
    planned: bool
    biased: bool

    def scaled(self, settings: TrainSettings) -> Preprocessing | None:
        """Return how images are scaled as they are decoded, or None where they are kept as they are."""

    def usual_augment(self, channels: int) -> str:
        """Return the name of the random changes for images of 1 or 3 channels."""

    def notes(self, dataset: Dataset, records: Mapping[str, Records], settings: TrainSettings) -> list[str]:
        """Return what has to be said of a data set before training, in sentences."""

    def open_model(self, model: Model, how: Opening) -> Opened:
        """Open a run folder, a `.tflite` or `.keras` file, or a Keras model.

        Raises:
            UsageError: something is given that this model or task does not take.
            ModelError: the model cannot be used.
        """

    def open_file(self, file: str | os.PathLike[str] | bytes) -> Opened:
        """Open a `.tflite`, or the bytes of one."""

    def run_keras(self, loaded: Loaded) -> Opened:
        """Return what runs a Keras model with the pre- and post-processing of the device."""

    def score(
        self, opened: Opened, records: Records, *, name: str = "scoring", separation: Separation | None = None
    ) -> dict[str, Any]:
        """Return the scores of a model on labelled images, JSON values."""

    def labelled_scores(self, opened: Opened, record: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores (n, classes) float32 of what is labelled in an image, pixels or all of it, and the labels.

        Args:
            opened: a model that gives scores.
            record: the image with its mask or its class.
        """

    def baseline(self, counts: np.ndarray, class_names: Sequence[str]) -> Baseline | None:
        """Return the score of always answering one class, or None where fewer than two classes are there.

        Args:
            counts: (classes,) labelled pixels, or images, of each class.
            class_names: names of the classes, by id.
        """

    def score_lines(self, scores: Mapping[str, Any]) -> list[str]:
        """Return scores as lines for the user."""

    def predict(
        self,
        opened: Opened,
        inputs: Inputs,
        out: str | os.PathLike[str],
        outputs: Outputs,
        say: Callable[[str], None],
    ) -> list[Path]:
        """Write what a model says of images, with a line for each, and return the class maps or the table."""
