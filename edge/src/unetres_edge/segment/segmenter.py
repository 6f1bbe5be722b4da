"""From an image of any size to a class for every pixel.

`Segmenter` joins the card, an engine and the tiling. Anything with a `run(tile)` can be the engine: LiteRT on the
device, a Keras model during training and evaluation. So every score is made by the same pre- and post-processing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from ..engines.watched import Watched
from ..errors import CardMissingError, ModelError, UnetresError, UsageError
from ..files import read_bytes
from ..images.decode import image_array, read_image
from ..model.card import Card, read_card
from ..results.result import Result
from .tiles import blended_rows, joined_rows, pad_to_tile, resize_scores

if TYPE_CHECKING:
    from .large import Source, Target

__all__ = ["Engine", "Result", "Segmenter", "load_model", "pixels_of"]

_ROWS = 256  # full-size scores of a scaled image are made this many rows at a time


class Engine(Protocol):
    """What runs the network on one tile."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Map (h, w, channels) uint8 to scores (h, w, classes) float32, or to labels (h, w) uint8 (argmax head).

        A classifier's scores are (classes,) float32.
        """
        ...


class Segmenter:
    """Segments images with a model file.

    Args:
        model: path or bytes of a `.tflite`.
        card: how to feed a file that has no card of its own. A file with a card must match its digest regardless.
        num_threads: threads of one inference; None for every core this process may use.
        overlap: px shared by neighbouring tiles; None for the halo, at most a quarter of the tile.
        engine: name of what runs the network, one of `engines.NAMES`; "auto" takes the fastest that computes the same
            labels as LiteRT; None for "litert". Or something with a `run`; `model` is None then, and `card` is needed.
        fallback: run LiteRT where the engine of this name cannot run here, instead of raising. `Result.engine` says so.

    Raises:
        FileSystemError: the file cannot be read.
        ModelDamagedError: the file is not the one that was sealed.
        CardMissingError: the file has no card and none was given.
        EngineError: the engine is not installed, or cannot run the file.
        ModelError: the file cannot be run.

    Example:
        >>> with Segmenter("m.tflite") as segmenter:        # doctest: +SKIP
        ...     class_map = segmenter.segment("cells.png").class_map
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None,
        *,
        card: Card | None = None,
        num_threads: int | None = None,
        overlap: int | None = None,
        engine: Engine | str | None = None,
        fallback: bool = False,
    ) -> None:
        if (model is None) == (engine is None or isinstance(engine, str)):
            raise UsageError("give a model or an engine", expected="exactly one of the two")
        self._closes = engine is None or isinstance(engine, str)
        if engine is None or isinstance(engine, str):
            card, engine = load_model(model, card, num_threads, engine or "litert", fallback)
        if card is None:
            raise UsageError("an engine needs a card")
        if card.task != "segment":
            raise ModelError("the model is not a segmenter", expected="task 'segment'", found=card.task)
        size = card.preprocessing.size
        if overlap is None:
            overlap = min(card.halo or min(size), min(size) // 4)
        if type(overlap) is not int or not 0 <= overlap < min(size):
            raise UsageError("overlap is wrong", expected=f"0 to {min(size) - 1} px", found=overlap)
        self.card = card
        self.overlap = overlap
        self._engine: Engine | None = engine

    @property
    def engine(self) -> Engine:
        """What runs the network on one prepared tile; raises ModelError when the segmenter is closed."""
        if self._engine is None:
            raise ModelError("the segmenter is closed")
        return self._engine

    def segment(
        self,
        image: str | os.PathLike[str] | np.ndarray | Image.Image,
        *,
        scores: bool = False,
        confidence: bool = False,
    ) -> Result:
        """Give every pixel of an image a class.

        Args:
            image: a path, a Pillow image, or an array as `Preprocessing.prepare` takes it.
            scores: also return the scores, (H, W, classes) float32.
            confidence: also return the softmax probability of each pixel's class, (H, W) float32.

        Raises:
            ImageError: the image cannot be used.
            UsageError: scores or confidence asked from an argmax head, or something that is no image.
            ModelError: the segmenter is closed, or the model gave scores that are not finite.
        """
        start = time.perf_counter()
        engine = Watched(self.engine)
        if (scores or confidence) and self.card.head == "argmax":
            raise UsageError("a model with an argmax head has no scores", fix="export it with head='logits'")
        prepared = self.card.preprocessing.prepare(pixels_of(image))
        ready = time.perf_counter()
        height, width = prepared.shape[:2]
        kept = np.empty((height, width, len(self.card.class_names)), np.float32) if scores else None
        sure = np.empty((height, width), np.float32) if confidence else None
        if not scores and not confidence and self._is_one_tile(height, width):
            class_map = engine.labels(prepared)
        else:
            class_map = np.empty((height, width), np.uint8)
            for row, values in self._rows(prepared, engine):
                values = values[: height - row, :width]
                if values.ndim == 3:
                    if kept is not None:
                        kept[row : row + len(values)] = values
                    if sure is not None:
                        sure[row : row + len(values)] = _confidence(values)
                    values = values.argmax(-1)
                class_map[row : row + len(values)] = values
        return Result(
            class_map,
            kept,
            self.card.class_names,
            self.card.class_colors,
            engine.timing(start, ready),
            confidence=sure,
            engine=engine.name,
            agreement=engine.agreement,
        )

    def segment_large(
        self,
        source: Source,
        *,
        out: Target | None = None,
        mode: str = "blend",
        overlap: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Result:
        """Give every pixel of an image a class, while no more of it than a strip as high as a tile is in memory.

        Args:
            source: (H, W) or (H, W, C), whatever has a shape and slices like an array: a memmap, zarr, HDF5, a dask
                array, `unetres_edge.segment.large.WindowSource`. Values are those that `segment` takes.
            out: (H, W) uint8, what the class map is written into: an array, a memmap, zarr. None makes an array.
            mode: "blend" averages the scores where tiles overlap. "exact" gives in every pixel what the network gives
                of the whole image, mirrored outwards to a multiple of the card's stride; it takes more tiles.
            overlap: px shared by neighbouring tiles in the mode "blend"; None for the segmenter's.
            progress: called after each tile with (tiles done, all tiles).
            cancel: asked before each tile; true ends it. `out` then holds the rows that were done.

        Returns:
            The result, whose class map is `out`, without scores.

        Raises:
            UsageError: the source does not slice like an image, `out` has another shape or dtype, or this model cannot
                work in this mode; the error says what it would need.
            ImageError: values that `segment` refuses too; or floats, where percentiles of the whole image are asked.
            CancelledError: `cancel` was true.
            ModelError: the segmenter is closed, or the model gave scores that are not finite.
        """
        from .large import segment_large

        return segment_large(self, source, out=out, mode=mode, overlap=overlap, progress=progress, cancel=cancel)

    def _is_one_tile(self, height: int, width: int) -> bool:
        """Return whether an image goes through the network as it is, neither cut, padded nor scaled."""
        pre = self.card.preprocessing
        if (height, width) != pre.size:
            return False
        place = pre.place(height, width) if pre.fit != "crop" else None
        return place is None or place.scaled == place.canvas == (height, width)

    def _rows(self, image: np.ndarray, engine: Engine) -> Iterator[tuple[int, np.ndarray]]:
        pre = self.card.preprocessing
        if pre.fit != "crop":
            yield from _scaled_rows(image, self.card, engine)
            return
        image = pad_to_tile(image, pre.size)
        if self.card.head == "argmax":
            yield from joined_rows(image, pre.size, self.overlap, engine.run)
        else:
            yield from blended_rows(image, pre.size, self.overlap, len(self.card.class_names), engine.run)

    def close(self) -> None:
        """Free the model; a call under way ends right or raises ModelError, and a later one raises it."""
        engine, self._engine = self._engine, None
        if self._closes and engine is not None:
            getattr(engine, "close", lambda: None)()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _confidence(scores: np.ndarray) -> np.ndarray:
    """Return the largest softmax probability of (h, w, classes) scores, (h, w) float32."""
    raised = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float32)
    return 1 / raised.sum(-1)


def load_model(
    model: str | os.PathLike[str] | bytes | None,
    card: Card | None,
    num_threads: int | None,
    engine: str = "litert",
    fallback: bool = False,
) -> tuple[Card, Engine]:
    """Verify a model file and load it; `card` is for a file that has none, `engine` one of `engines.NAMES`."""
    from ..engines.table import open_engine

    file = None if isinstance(model, bytes) else os.fspath(model or "")
    data = model if isinstance(model, bytes) else read_bytes(model or "", "model file")
    try:
        own = read_card(data, file=file)
    except CardMissingError:
        if card is None:
            raise
        own = card
    try:
        return own, open_engine(engine, data, own, num_threads=num_threads, fallback=fallback)
    except UnetresError as error:
        error.file = error.file or file
        raise


def pixels_of(image: str | os.PathLike[str] | np.ndarray | Image.Image) -> np.ndarray:
    """Return the pixels of whatever stands for an image."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return image_array(image)
    if not isinstance(image, (str, os.PathLike)):
        raise UsageError("not an image", expected="a path, a Pillow image or an array", found=type(image).__name__)
    return read_image(image)


def _scaled_rows(image: np.ndarray, card: Card, engine: Engine) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rows of a whole image that was scaled to the network's input and back."""
    height, width = image.shape[:2]
    place = card.preprocessing.place(height, width)
    values = engine.run(place.image(image))[: place.scaled[0], : place.scaled[1]]
    if card.head == "argmax":
        rows = ((np.arange(height) + 0.5) * (place.scaled[0] / height)).astype(int)
        columns = ((np.arange(width) + 0.5) * (place.scaled[1] / width)).astype(int)
        yield 0, values[rows[:, None], columns[None, :]]
        return
    scores = resize_scores(values, height, place.scaled[1])
    for row in range(0, height, _ROWS):
        yield row, resize_scores(scores[row : row + _ROWS], min(_ROWS, height - row), width)
