"""Classification: a class for the whole image, learned from class folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Classifier, Preprocessing
from unetres_edge.errors import UsageError
from unetres_edge.files import write_bytes

from ..choices.tasks import CLASSIFY
from ..runs import RunFolder, RunInfo
from ..scores.baseline import Baseline, baseline_of_share
from ..settings import TrainSettings
from ..training.training_data import TrainingData
from .foreign import ForeignFile
from .keras_engine import KerasEngine
from .loading import build_network, load_run, name_of, open_own, refuse_for_own
from .task import Loaded, Model, Opening, Outputs

if TYPE_CHECKING:
    import keras

    from unetres_edge.segment.inputs import Inputs

    from ..data import Dataset, Records
    from ..objects import Separation

_SHOWN = 2  # copies named on a line
_MANY = 5  # classes above which the best five are scored, too


class Classify:
    """A class for the whole image."""

    name = CLASSIFY.name
    monitor = "val_accuracy"
    score_key = "top1"
    planned = False
    biased = False  # the first of the likeliest classes is the answer

    def scaled(self, settings: TrainSettings) -> Preprocessing | None:
        """Return how whole images are brought to the network's size; three channels where the images decide."""
        network = settings.network
        return Preprocessing(
            channels=network.channels or 3,
            per_image=network.stretch,
            fit=network.image_fit,
            size=(network.input_size, network.input_size),
        )

    def usual_augment(self, channels: int) -> str:
        """Return "street", the random changes for photographs."""
        return "street"

    def notes(self, dataset: Dataset, records: Mapping[str, Records], settings: TrainSettings) -> list[str]:
        """Return copies that make scores better or worse than they are, and classes that are not there."""
        from ..data.copies import find_copies

        copies = find_copies(dataset, {part: each.contents for part, each in records.items()})
        titles = {"leak": "are in two parts, so scores are too good", "two-classes": "are in two classes"}
        notes = []
        for kind, title in titles.items():
            files = [f"{fault.file} ({fault.found})" for fault in copies if fault.kind == kind]
            if files:
                more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
                notes.append(f"{len(files)} pictures {title}: {'; '.join(files[:_SHOWN])}{more}")
        return [*notes, *dataset.notes] + [f"{fault.file}: {fault.found}" for fault in dataset.warnings]

    def build_network(self, info: RunInfo) -> keras.Model:
        """Return the network of a run."""
        return build_network(info)

    def loss(self, settings: TrainSettings) -> keras.losses.Loss:
        """Return cross-entropy."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self, class_names: tuple[str, ...]) -> list[keras.metrics.Metric]:
        """Return the share of right answers, and of those among the best five where there are more classes."""
        import keras

        metrics: list[keras.metrics.Metric] = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if len(class_names) > _MANY:
            metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5"))
        return metrics

    def callbacks(self, data: TrainingData, run: RunFolder, model: keras.Model) -> list[keras.callbacks.Callback]:
        """Return the callback that writes figures for TensorBoard, if it is wanted."""
        from ..training.boards import TensorBoard

        wanted = data.settings.fit.tensorboard
        return [TensorBoard(run.path / "tensorboard", list(data.info.classes.names))] if wanted else []

    def finish(
        self,
        data: TrainingData,
        run: RunFolder,
        model: keras.Model,
        history: list[dict[str, float]],
        say: Callable[[str], None],
    ) -> None:
        """Write the curves."""
        from ..pages.pictures import curves

        write_bytes(run.samples / "curves.png", curves(history, "accuracy"))

    def open_model(self, model: Model, how: Opening) -> Classifier:
        """Open a classifier, which sees the whole image once, as it is."""
        refuse_for_own(model, preprocessing=how.preprocessing, classes=how.classes)
        if how.overlap is not None or how.tta != "none" or how.others or how.separation is not None:
            raise UsageError(
                "a classifier gives one class for the whole image, as it is",
                file=name_of(model),
                fix="drop the options for tiles, test-time augmentation, other models and objects",
            )
        opened = open_own(model, how.preprocessing, how.classes)
        if isinstance(opened, Loaded):
            return self.run_keras(opened)
        if isinstance(opened, ForeignFile):
            return Classifier(opened.file, card=opened.card)
        return self.run_keras(load_run(opened)) if RunFolder.is_run(opened) else self.open_file(opened)

    def open_file(self, file: str | os.PathLike[str] | bytes) -> Classifier:
        """Open a `.tflite`."""
        return Classifier(file)

    def run_keras(self, loaded: Loaded) -> Classifier:
        """Return a classifier that runs a Keras model."""
        return Classifier(None, card=loaded.card, engine=KerasEngine(loaded.model, loaded.card.preprocessing))

    def score(
        self, opened: Any, records: Records, *, name: str = "scoring", separation: Separation | None = None
    ) -> dict[str, Any]:
        """Return the shares of right answers."""
        from ..scores.classification import score_classifier

        pairs = ((record.image, record.class_id) for record in records)
        return score_classifier(opened, pairs, name=name, total=len(records))

    def labelled_scores(self, opened: Any, record: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores and the class of the image."""
        return opened.classify(record.image).scores[None], np.array([record.class_id])

    def baseline(self, counts: np.ndarray, class_names: Sequence[str]) -> Baseline | None:
        """Return the share of right answers of one class for every image."""
        return baseline_of_share(counts, class_names)

    def score_lines(self, scores: Mapping[str, Any]) -> list[str]:
        """Return a line for each class and score."""
        lines = []
        for name, row in scores["per_class"].items():
            recall, precision = ("absent" if row[k] is None else f"{row[k]:.4f}" for k in ("accuracy", "precision"))
            lines.append(f"class      accuracy {recall}, precision {precision}, {row['images']} images  {name}")
        titles = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class"}
        return lines + [f"{title:10} {scores[key]:.4f}" for key, title in titles.items() if scores[key] is not None]

    def predict(
        self,
        opened: Any,
        inputs: Inputs,
        out: str | os.PathLike[str],
        outputs: Outputs,
        say: Callable[[str], None],
    ) -> list[Path]:
        """Write the likeliest classes of each image as a table, and return it."""
        from unetres_edge.classify.classifier import Classification
        from unetres_edge.classify.files import TABLE, predict_classes

        for name in ("overlay", "geojson", "instances"):
            if getattr(outputs, name):
                raise UsageError(f"--{name} is for masks, and the model is a classifier", fix="drop it")

        def progress(done: int, total: int, image: Path, answer: Classification) -> None:
            best = ", ".join(f"{name} {share:.3f}" for _, name, share in answer.top[:3])
            say(f"[{done}/{total}] {image.name}  {best}  {answer.timing['total']:.0f} ms")

        alone = inputs.images_alone("a classifier")
        for note in alone.notes[len(inputs.notes) :]:
            say(f"note  {note}")
        predict_classes(
            opened,
            alone.images,
            out,
            overwrite=outputs.overwrite,
            progress=progress,
            json_file=outputs.json_file,
        )
        return [Path(out) / TABLE]
