"""From an image of any size to a class for the whole of it.

`Classifier` joins the card and an engine, as `Segmenter` does for a class for every pixel.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from PIL import Image

from .engines.watched import Watched
from .errors import ModelError, UsageError
from .model.card import Card
from .segment.ensemble import probabilities
from .segment.segmenter import Engine, load_model, pixels_of


@dataclass(frozen=True)
class Classification:
    """A classified image.

    Args:
        class_id: the most likely class; of equal scores, the lower id.
        name: its name.
        top: (class id, name, probability) of the most likely classes, the first first.
        scores: (classes,) float32 scores before the softmax.
        timing: milliseconds by stage: "prepare", "infer", "post", "total".
        engine: name of what ran the network; "" for an engine of the caller's own.
        agreement: share of images of the self-test, and the first one, for which another engine than LiteRT gave
            LiteRT's class; None where LiteRT ran.
    """

    class_id: int
    name: str
    top: tuple[tuple[int, str, float], ...]
    scores: np.ndarray
    timing: dict[str, float] = field(default_factory=dict)
    engine: str = ""
    agreement: float | None = None


class Classifier:
    """Classifies images with a model file.

    Args:
        model: path or bytes of a `.tflite`.
        card: how to feed a file that has no card of its own. A file with a card must match its digest regardless.
        num_threads: threads of one inference; None for every core this process may use.
        engine: name of what runs the network, as for `Segmenter`; or an engine of your own, with `card` and without
            `model`.
        fallback: run on LiteRT where the engine named cannot.

    Raises:
        EngineError: the engine named is not installed, or cannot run the file.
        FileSystemError: the file cannot be read.
        ModelDamagedError: the file is not the one that was sealed.
        CardMissingError: the file has no card and none was given.
        ModelError: the file cannot be run, or is not a classifier of whole images.

    Example:
        >>> with Classifier("m.tflite") as classifier:        # doctest: +SKIP
        ...     print(classifier.classify("flower.jpg").name)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None,
        *,
        card: Card | None = None,
        num_threads: int | None = None,
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
        check_classifier(card)
        self.card = card
        self._engine: Engine | None = engine

    def classify(self, image: str | os.PathLike[str] | np.ndarray | Image.Image, *, top: int = 5) -> Classification:
        """Give an image a class.

        Args:
            image: a path, a Pillow image, or an array as `Preprocessing.prepare` takes it.
            top: how many classes `Classification.top` has; at most all.

        Raises:
            UsageError: `top` is below 1.
            ImageError: the image cannot be read or has a form that is refused.
            ModelError: the classifier is closed, or the model gave scores that are not finite.
        """
        start = time.perf_counter()
        if self._engine is None:
            raise ModelError("the classifier is closed")
        engine = Watched(self._engine)
        if type(top) is not int or top < 1:
            raise UsageError("top is wrong", expected="a whole number, at least 1", found=top)
        pre = self.card.preprocessing
        prepared = pre.prepare(pixels_of(image))
        tile = pre.place(*prepared.shape[:2]).image(prepared)
        ready = time.perf_counter()
        scores = np.array(engine.run(tile), np.float32)
        ran = time.perf_counter()
        order = np.argsort(-scores, kind="stable")[:top].tolist()
        shares = probabilities(scores)
        names = self.card.class_names
        best = tuple((place, names[place], float(shares[place])) for place in order)
        end = time.perf_counter()
        timing = {"prepare": ready - start, "infer": ran - ready, "post": end - ran, "total": end - start}
        return Classification(
            order[0],
            names[order[0]],
            best,
            scores,
            {stage: 1e3 * value for stage, value in timing.items()},
            engine.name,
            engine.agreement,
        )

    def close(self) -> None:
        """Free the model; `classify` raises ModelError from then on."""
        engine, self._engine = self._engine, None
        if self._closes and engine is not None:
            getattr(engine, "close", lambda: None)()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_classifier(card: Card) -> None:
    """Raise ModelError unless a card is that of a classifier of whole images with scores."""
    if card.task != "classify":
        raise ModelError("the model is not a classifier", expected="task 'classify'", found=card.task)
    if card.head != "logits":
        raise ModelError("a classifier gives scores", expected="head 'logits'", found=card.head)
    if card.preprocessing.fit == "crop":
        raise ModelError(
            "a classifier sees the whole image", expected="fit 'resize' or 'letterbox'", found="fit 'crop', by tiles"
        )
