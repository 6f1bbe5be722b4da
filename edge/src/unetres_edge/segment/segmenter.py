"""From an image of any size to a class for every pixel: the card, an engine and the tiling, joined."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from ..engines.engine import Engine
from ..engines.loaded import LoadedModel
from ..engines.timed import TimedEngine
from ..errors import UsageError
from ..files import Contents
from ..images.decode import pixels_of
from ..images.preprocessing import IGNORE
from ..model.card import Card
from ..model.familiarity import Verdict
from ..results.doubt import SURE, Doubt
from ..results.result import Result
from ..results.softmax import largest_probability, probabilities
from .large import Source, Target, segment_large
from .tiles import blended_rows, joined_rows, pad_to_tile, resize_scores, unpadded_rows

__all__ = ["Result", "Segmenter"]

_ROWS = 256  # full-size scores of a scaled image are made this many rows at a time


class Segmenter(LoadedModel):
    """Segments images with a model file.

    Args:
        model: path or bytes of a `.tflite`, or the file opened with mode "rb".
        card: card of a file that has none of its own. A file with a card must match its digest regardless.
        num_threads: threads of one inference; None for every core this process may use.
        overlap: px shared by neighbouring tiles; None for the halo, at most a quarter of the tile. Those of an unpadded
            network share none.
        engine: name of what runs the network, one of `engines.table.NAMES`; "auto" takes the fastest that computes the
            same labels as LiteRT; None for "litert". Or an `unetres_edge.Engine`, which stays open when the segmenter
            is closed; `model` is None then, and `card` is needed.
        fallback: whether to run LiteRT where the engine of this name cannot run here, instead of raising.
            `Result.engine` says so.

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

    task, role = "segment", "segmenter"

    def __init__(
        self,
        model: Contents | None,
        *,
        card: Card | None = None,
        num_threads: int | None = None,
        overlap: int | None = None,
        engine: Engine | str | None = None,
        fallback: bool = False,
    ) -> None:
        super().__init__(model, card=card, num_threads=num_threads, engine=engine, fallback=fallback)
        size = self.card.preprocessing.size
        if self.card.crop:
            if overlap:
                raise UsageError("tiles of an unpadded network meet, and share no pixels", found=f"overlap {overlap}")
            overlap = 0
        if overlap is None:
            overlap = min(self.card.halo or min(size), min(size) // 4)
        if type(overlap) is not int or not 0 <= overlap < min(size):
            raise UsageError("overlap is wrong", expected=f"0 to {min(size) - 1} px", found=overlap)
        self.overlap = overlap
        self._arguments["overlap"] = overlap

    def segment(
        self,
        image: Contents | np.ndarray | Image.Image,
        *,
        scores: bool = False,
        confidence: bool = False,
        abstain: bool = False,
    ) -> Result:
        """Give every pixel of an image a class.

        Args:
            image: an array as `Preprocessing.prepare` takes it, a Pillow image, or a file: its path, its bytes, or the
                file opened with mode "rb".
            scores: whether to return the scores, too, (H, W, classes) float32.
            confidence: whether to return the probability of each pixel's class, (H, W) float32.
            abstain: whether to give up the pixels that the card's promises give up: they are 255 in the class map.

        Raises:
            ImageError: the image cannot be used.
            UsageError: scores or confidence asked from an argmax head, pixels to give up of a card that promises
                nothing, or something that is no image.
            ModelError: the segmenter is closed, or the model gave scores that are not finite.
        """
        start = time.perf_counter()
        engine = TimedEngine(self.engine)
        if (scores or confidence) and self.card.head == "argmax":
            raise UsageError("a model with an argmax head has no scores", fix="export it with head='logits'")
        if abstain and not self.card.promises:
            raise UsageError(
                "the model file promises nothing for which pixels are given up",
                fix='run `unetres calibrate` on it with --risk, such as --risk "miss<=0.05"',
            )
        prepared = self.card.preprocessing.prepare(pixels_of(image, stacked=self.card.stacked))
        placed = self._placed(prepared)
        features = self._features(prepared if placed is None else placed)
        ready = time.perf_counter()
        height, width = prepared.shape[:2]
        doubt = self._doubt(height, width)
        kept = np.empty((height, width, len(self.card.class_names)), np.float32) if scores else None
        sure = np.empty((height, width), np.float32) if confidence else None
        if not (scores or confidence or abstain) and self._is_one_tile(height, width):
            if doubt is None:
                class_map = engine.run_labels(prepared)
            else:
                class_map, seen = engine.run_sampled(prepared, doubt.step)
                doubt.add_seen(seen)
        else:
            class_map = np.empty((height, width), np.uint8)
            for row, values in self._rows(prepared, placed, engine):
                values = values[: height - row, :width]
                if values.ndim == 3:
                    if doubt is not None:
                        doubt.add(row, values)
                    if kept is not None:
                        kept[row : row + len(values)] = values
                    if sure is not None:
                        sure[row : row + len(values)] = largest_probability(
                            values, self.card.activation, self.card.calibration
                        )
                    values = self._given_up(values) if abstain else values.argmax(-1)
                class_map[row : row + len(values)] = values
        verdict = self._judge(features, doubt)
        return Result(
            class_map,
            kept,
            self.card.class_names,
            self.card.class_colors,
            engine.timing(start, ready),
            confidence=sure,
            engine=engine.name,
            agreement=engine.agreement,
            engine_reason=engine.reason,
            background=self.card.background,
            activation=self.card.activation,
            calibration=self.card.calibration,
            familiarity=verdict and verdict.familiarity,
            warnings=() if verdict is None else verdict.warnings,
            doubt=None if doubt is None else doubt.value / SURE,
            quality=verdict and verdict.quality,
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
            progress: callback, called after each tile with (tiles done, all tiles).
            cancel: callback, asked before each tile; true ends the work. `out` then holds the rows that were done.

        Returns:
            The result, whose class map is `out`, without scores.

        Raises:
            UsageError: the source does not slice like an image, `out` has another shape or dtype, or this model cannot
                work in this mode; the error says what it would need.
            ImageError: values that `segment` refuses too; or floats, where percentiles of the whole image are asked.
            CancelledError: `cancel` was true.
            ModelError: the segmenter is closed, or the model gave scores that are not finite.
        """
        return segment_large(
            self.engine,
            self.card,
            source,
            out=out,
            mode=mode,
            overlap=self.overlap if overlap is None and mode != "exact" else overlap,
            progress=progress,
            cancel=cancel,
        )

    def _is_one_tile(self, height: int, width: int) -> bool:
        """Return whether an image goes through the network as it is, neither cut, padded nor scaled."""
        pre = self.card.preprocessing
        if (height, width) != pre.size or self.card.crop:
            return False
        placement = pre.place(height, width) if pre.fit != "crop" else None
        return placement is None or placement.scaled == placement.canvas == (height, width)

    def _given_up(self, scores: np.ndarray) -> np.ndarray:
        """Return the labels of scores (h, w, classes), 255 where a promise gives them up."""
        labels = scores.argmax(-1).astype(np.uint8)
        chances = probabilities(scores, self.card.activation, self.card.calibration)
        doubtful = [promise.doubt(chances, labels) > promise.threshold for promise in self.card.promises]
        labels[np.any(doubtful, 0)] = IGNORE
        return labels

    def _placed(self, image: np.ndarray) -> np.ndarray | None:
        """Return a prepared image scaled onto the network's input; None where the network sees parts of it as it is."""
        pre = self.card.preprocessing
        return None if pre.fit == "crop" else pre.place(*image.shape[:2]).image(image)

    def _features(self, seen: np.ndarray) -> np.ndarray | None:
        """Return the features of what the network sees; None where the card cannot judge them."""
        known, pre = self.card.familiarity, self.card.preprocessing
        if known is None or not known.known:
            return None
        return known.features_of(seen[..., ::-1] if pre.color_order == "bgr" and pre.channels == 3 else seen)

    def _doubt(self, height: int, width: int) -> Doubt | None:
        """Return what adds up the network's doubt of an image; None where the card does not know what is usual."""
        known = self.card.familiarity
        if known is None or not known.known or not known.doubts or self.card.head == "argmax":
            return None
        return Doubt(height, width, self.card.activation, self.card.calibration)

    def _judge(self, features: np.ndarray | None, doubt: Doubt | None) -> Verdict | None:
        """Return what is told of an image; None where the card cannot tell."""
        known = self.card.familiarity
        if known is None or features is None:
            return None
        return known.judge(features, None if doubt is None else doubt.values)

    def _rows(
        self, image: np.ndarray, placed: np.ndarray | None, engine: TimedEngine
    ) -> Iterator[tuple[int, np.ndarray]]:
        pre = self.card.preprocessing
        if placed is not None:
            yield from _scaled_rows(image, placed, self.card, engine)
            return
        if self.card.crop:
            yield from unpadded_rows(image, pre.size, self.card.crop, self.card.stride, engine.run)
            return
        image = pad_to_tile(image, pre.size)
        if self.card.head == "argmax":
            yield from joined_rows(image, pre.size, self.overlap, engine.run)
        else:
            yield from blended_rows(image, pre.size, self.overlap, len(self.card.class_names), engine.run)


def _scaled_rows(
    image: np.ndarray, placed: np.ndarray, card: Card, engine: TimedEngine
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rows of a whole image that was scaled to the network's input and back."""
    height, width = image.shape[:2]
    placement = card.preprocessing.place(height, width)
    values = engine.run(placed)[: placement.scaled[0], : placement.scaled[1]]
    if card.head == "argmax":
        rows = ((np.arange(height) + 0.5) * (placement.scaled[0] / height)).astype(int)
        columns = ((np.arange(width) + 0.5) * (placement.scaled[1] / width)).astype(int)
        yield 0, values[rows[:, None], columns[None, :]]
        return
    scores = resize_scores(values, height, placement.scaled[1])
    for row in range(0, height, _ROWS):
        yield row, resize_scores(scores[row : row + _ROWS], min(_ROWS, height - row), width)
