"""What can be watched while a network is trained: event files for TensorBoard, and pictures now and then.

Event files are written by TensorFlow alone; the `tensorboard` package is needed to look at them, not to write them.

A run that was killed has events of epochs after its last checkpoint, and goes through these epochs once more. Before
anything is written, the events of epochs that are to come are therefore taken out of the folder's files, so that every
epoch is there once, whatever reads them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from unetres_edge.errors import FileSystemError
from unetres_edge.files import make_folder
from unetres_edge.results import draw

if TYPE_CHECKING:
    import tensorflow as tf

_PARTS = ("train", "validation")
_SHARE = 0.02  # of the time since training began; what the first drawing compiles is needed at its end anyway

Pictures = Mapping[str, np.ndarray]


class TensorBoard(keras.callbacks.Callback):
    """Write the figures of every epoch, and pictures, for TensorBoard.

    Figures of the training and of the validation part have the same tag and are in the folders `train` and
    `validation`, so that TensorBoard draws them in one chart. The step is the epoch, counted from 1.

    Args:
        folder: folder that TensorBoard is pointed at, as in `tensorboard --logdir RUN/tensorboard`.
        names: class names; a figure "iou_<name>" has the tag "iou/<name>".
        truths: name -> (H, W, 3) uint8 that `show` puts on the left of the picture of that name.
    """

    def __init__(self, folder: str | os.PathLike[str], names: Sequence[str], truths: Pictures | None = None) -> None:
        super().__init__()
        self._truths = dict(truths or {})
        self._folder = Path(folder)
        self._tags = {f"iou_{name}": f"iou/{name}" for name in names}
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the figures of an epoch."""
        import tensorflow as tf

        metadata = _metadata("scalars")
        figures = dict(logs or {})
        if "learning_rate" not in figures:
            figures["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        for name, value in figures.items():
            part, score = ("validation", name.removeprefix("val_")) if name.startswith("val_") else ("train", name)
            tag = _text(self._tags.get(score, score))
            with self._writer(part, epoch).as_default():
                tf.summary.write(tag, tf.constant(float(value), tf.float32), step=epoch + 1, metadata=metadata)
        self._flush()

    def show(self, epoch: int, pictures: Pictures) -> None:
        """Write pictures (H, W, 3) uint8 of an epoch counted from 1, by name."""
        import tensorflow as tf

        with self._writer("validation", epoch - 1).as_default():
            for name, picture in pictures.items():
                if name in self._truths:
                    picture = draw.panels([self._truths[name], picture], ["truth", "prediction"], height=len(picture))
                size = [str(picture.shape[1]).encode(), str(picture.shape[0]).encode()]
                data = tf.constant([*size, draw.encode_png(picture)], tf.string)
                tf.summary.write(f"pictures/{_text(name)}", data, step=epoch, metadata=_metadata("images"))
        self._flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the files; another `fit` opens new ones."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, part: str, epochs_done: int) -> tf.summary.SummaryWriter:
        import tensorflow as tf

        if not self._writers:
            for name in _PARTS:
                forget_events(make_folder(self._folder / name), epochs_done)
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(os.fspath(self._folder / part))
        return self._writers[part]

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


def forget_events(folder: Path, last_step: int) -> None:
    """Take the events after a step out of the event files of a folder; a file without others goes."""
    import tensorflow as tf

    for path in sorted(folder.glob("events.out.tfevents.*")):
        kept, dropped, has_summary = [], False, False
        try:
            for data in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(data)
                if event.step > last_step:
                    dropped = True
                else:
                    kept.append(data)
                    has_summary = has_summary or event.HasField("summary")
        except tf.errors.DataLossError:  # the write that a kill cut off
            dropped = True
        try:
            if not has_summary:
                path.unlink()
            elif dropped:
                whole = path.with_name(f".{path.name}.tmp")
                with tf.io.TFRecordWriter(os.fspath(whole)) as writer:
                    for data in kept:
                        writer.write(data)
                os.replace(whole, path)
        except OSError as error:
            raise FileSystemError(f"cannot write: {error.strerror or error}", file=path) from error


class DrawPictures(keras.callbacks.Callback):
    """Have pictures drawn after validations, as often as costs at most a small share of the time.

    Args:
        make: () -> pictures (H, W, 3) uint8 by name, drawn with the weights of the moment.
        receivers: callback, called with (epoch counted from 1, the pictures), such as `TensorBoard.show`.
        clock: seconds.
    """

    def __init__(
        self,
        make: Callable[[], Pictures],
        receivers: Sequence[Callable[[int, Pictures], None]],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._make, self._receivers, self._clock = make, list(receivers), clock
        self._begun, self._spent, self._last = clock(), 0.0, 0.0
        self._compiled = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draw if the epoch was validated and there is time."""
        now = self._clock()
        if not any(name.startswith("val_") for name in logs or {}):
            return
        if self._spent + self._last > _SHARE * (now - self._begun):
            return
        pictures = self._make()
        for receive in self._receivers:
            receive(epoch + 1, pictures)
        if self._compiled:
            self._last = self._clock() - now
            self._spent += self._last
        self._compiled = True


def _metadata(plugin: str) -> Any:
    import tensorflow as tf

    data = tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin)
    return tf.compat.v1.SummaryMetadata(plugin_data=data)


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
