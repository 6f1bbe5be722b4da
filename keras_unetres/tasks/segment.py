"""Segmentation: a class for every pixel, learned from images and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.errors import DataError, FileSystemError
from unetres_edge.files import write_bytes
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.results import draw
from unetres_edge.terminal import counted

from ..choices.tasks import SEGMENT
from ..runs import RunFolder, RunInfo, picture_name
from ..scores.baseline import Baseline, baseline_of_miou
from ..settings import TrainSettings
from ..training.training_data import TrainingData
from .loading import build_network, card_of_run, keras_segmenter, open_segmenter
from .task import Loaded, Model, Opening, Outputs

if TYPE_CHECKING:
    import keras

    from unetres_edge.segment.inputs import Inputs

    from ..data import Dataset, Records
    from ..objects import Separation

_SAMPLES = 4
_WATCHED = 3  # validation images that are looked at while a network is trained
_OF_OBJECTS = {"ap50": "AP@0.5", "map": "mean AP", "pq": "PQ", "v_rand": "V_rand", "v_info": "V_info"}


class Segment:
    """A class for every pixel."""

    name = SEGMENT.name
    monitor = "val_miou"
    score_key = "miou"
    planned = True
    biased = True

    def scaled(self, settings: TrainSettings) -> Preprocessing | None:
        """Return None: images are kept as they are, and crops cut from them."""
        return None

    def usual_augment(self, channels: int) -> str:
        """Return "microscopy" for grey images, else "street", the random changes for photographs."""
        return "microscopy" if channels == 1 else "street"

    def notes(self, dataset: Dataset, records: Mapping[str, Records], settings: TrainSettings) -> list[str]:
        """Return what masks were taken for, and what joins objects."""
        note = records["train"].classes.note
        notes = [note] * bool(note) + list(dataset.notes)
        reading = dataset.reading
        if settings.data.border_weight and reading.masks_are == "instances" and reading.target == "semantic":
            notes.append("objects that touch are joined in the masks; --target separated parts them, as in the paper")
        return notes

    def build_network(self, info: RunInfo) -> keras.Model:
        """Return the network of a run."""
        return build_network(info)

    def loss(self, settings: TrainSettings) -> keras.losses.Loss:
        """Return the sum of losses that the settings name."""
        from ..training.losses import make_loss

        return make_loss(settings.fit.loss)

    def metrics(self, class_names: tuple[str, ...]) -> list[keras.metrics.Metric]:
        """Return the scores of every class."""
        from ..training.metrics import SegmentationScores

        scores = SegmentationScores(len(class_names), list(class_names))
        scores.warns = False  # the check tells which classes a part lacks
        return [scores]

    def callbacks(self, data: TrainingData, run: RunFolder, model: keras.Model) -> list[keras.callbacks.Callback]:
        """Return callbacks that draw the predictions of some validation images now and then."""
        from ..pages.pictures import Filmstrip
        from ..training.boards import DrawPictures, TensorBoard
        from .review import Watched

        records = data.records["val"]
        places = np.unique(np.linspace(0, len(records) - 1, _WATCHED).astype(int))
        watched = Watched(_segmenter(data.info, model), records, places.tolist())
        strip = Filmstrip(run.samples, *next(iter(watched.truths.items())))
        if not data.settings.fit.tensorboard:
            return [DrawPictures(watched, [strip.add])]
        board = TensorBoard(run.path / "tensorboard", list(data.info.classes.names), watched.truths)
        return [DrawPictures(watched, [strip.add, board.show]), board]

    def finish(
        self,
        data: TrainingData,
        run: RunFolder,
        model: keras.Model,
        history: list[dict[str, float]],
        say: Callable[[str], None],
    ) -> None:
        """Write curves, sample pictures and the report."""
        from ..pages.pictures import curves, sample_sheet
        from .reports import make_report

        write_bytes(run.samples / "curves.png", curves(history))
        segmenter, records = _segmenter(data.info, model), data.records
        for index in range(min(_SAMPLES, len(records["val"]))):
            record = records["val"][index]
            class_map = segmenter.segment(record.image).class_map
            predictions, card = {"prediction": class_map}, segmenter.card
            sheet = sample_sheet(
                record.image, record.mask, predictions, card.class_colors, background=card.background, show=card.show
            )
            try:
                write_bytes(run.samples / f"{picture_name(index, record.name)}.png", draw.encode_png(sheet))
            except FileSystemError as error:  # of a picture, which costs neither the others nor the report
                say(f"note      {error}")
            del record, class_map, predictions  # before the next one is decoded
        split = "test" if "test" in records else "val"
        make_report(run, segmenter, records[split], split, say)

    def open_model(self, model: Model, how: Opening) -> Segmenter:
        """Open one segmenter, or the mean of several; a class of objects that it does not know is refused."""
        segmenter = open_segmenter(
            model,
            preprocessing=how.preprocessing,
            classes=how.classes,
            overlap=how.overlap,
            tta=how.tta,
            others=how.others,
        )
        if how.separation is not None:
            from ..objects import object_classes

            object_classes(segmenter.card.class_names, how.separation, segmenter.card.background)
        return segmenter

    def open_file(self, file: str | os.PathLike[str] | bytes) -> Segmenter:
        """Open a `.tflite`."""
        return Segmenter(file)

    def run_keras(self, loaded: Loaded) -> Segmenter:
        """Return a segmenter that runs a Keras model."""
        return keras_segmenter(loaded)

    def score(
        self, opened: Any, records: Records, *, name: str = "scoring", separation: Separation | None = None
    ) -> dict[str, Any]:
        """Return the scores of pixels, and with a separation of objects."""
        from ..scores import score

        each = _with_objects(records) if separation else ((record.image, record.mask) for record in records)
        return score(opened, each, name=name, total=len(records), separation=separation)

    def labelled_scores(self, opened: Any, record: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores and labels of the labelled pixels."""
        labelled = record.mask != IGNORE
        return opened.segment(record.image, scores=True).scores[labelled], record.mask[labelled]

    def baseline(self, counts: np.ndarray, class_names: Sequence[str]) -> Baseline | None:
        """Return the mIoU of one class everywhere."""
        return baseline_of_miou(counts, class_names)

    def score_lines(self, scores: Mapping[str, Any]) -> list[str]:
        """Return a line for each class and score."""

        def shown(value: float | None) -> str:
            return "absent" if value is None else f"{value:.4f}"

        lines = [f"IoU        {shown(value)}  {name}" for name, value in scores["per_class_iou"].items()]
        titles = {"miou": "mIoU", "pixel_accuracy": "accuracy"}
        lines += [f"{title:10} {shown(scores[key])}" for key, title in titles.items()]
        objects = scores.get("instances")
        if not objects:
            return lines
        lines += [f"{title:10} {shown(objects[key])}" for key, title in _OF_OBJECTS.items()]
        error = objects["count_error"]
        off = "" if error is None else f"; the count of an image is off by {error:.1f}"
        return [*lines, f"count      {objects['num_proposed']} of {counted(objects['num_objects'], 'object')}{off}"]

    def predict(
        self,
        opened: Any,
        inputs: Inputs,
        out: str | os.PathLike[str],
        outputs: Outputs,
        say: Callable[[str], None],
    ) -> list[Path]:
        """Write a class map of each image, and what else is asked for; return the class maps."""
        from unetres_edge.commands.predict import drift_line, progress_line, warning_line
        from unetres_edge.segment.files import predict_files

        def progress(done: int, total: int, image: Path, timing: dict[str, float]) -> None:
            say(progress_line(done, total, image, timing))

        return predict_files(
            opened,
            inputs.all,
            out,
            overlay=outputs.overlay,
            geojson=outputs.geojson,
            overwrite=outputs.overwrite,
            progress=progress,
            json_file=outputs.json_file,
            more=outputs.instances,
            names=inputs.all_names,
            every=outputs.every,
            count=outputs.frames,
            on_unfamiliar=outputs.on_unfamiliar,
            abstain=outputs.abstain,
            warn=lambda image, result: say(warning_line(image, result)),
            drifted=lambda image, drift: say(drift_line(image, drift)),
        )


def _segmenter(info: RunInfo, model: keras.Model) -> Segmenter:
    from ..models import crop_offset, deepest_stride, receptive_halo

    card = card_of_run(info, halo=receptive_halo(model), stride=deepest_stride(model), crop=crop_offset(model))
    return keras_segmenter(Loaded(model, card))


def _with_objects(records: Records) -> Iterator[tuple[np.ndarray, ...]]:
    for record in records:
        if record.instances is None:
            raise DataError(
                "the data set does not tell objects apart",
                file=record.name,
                expected="masks of instances, or a folder instances/ beside the masks",
                fix="pass --masks instances if each number in a mask is an object",
            )
        yield record.image, record.mask, record.instances
