"""From an image of any size to a class for the whole of it: the card and an engine, joined."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..engines.engine import Engine
from ..engines.loaded import LoadedModel
from ..engines.timed import TimedEngine
from ..errors import ModelError, UsageError
from ..files import Contents
from ..images.decode import pixels_of
from ..model.card import Card
from ..results.softmax import probabilities


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
        engine_reason: why "auto" took that engine, in words; "" where it was asked for by name.
    """

    class_id: int
    name: str
    top: tuple[tuple[int, str, float], ...]
    scores: np.ndarray
    timing: dict[str, float] = field(default_factory=dict)
    engine: str = ""
    agreement: float | None = None
    engine_reason: str = ""


class Classifier(LoadedModel):
    """Classifies images with a model file.

    Args:
        model: path or bytes of a `.tflite`, or the file opened with mode "rb".
        card: card of a file that has none of its own. A file with a card must match its digest regardless.
        num_threads: threads of one inference; None for every core this process may use.
        engine: name of what runs the network, as for `Segmenter`; or an `unetres_edge.Engine`, with `card` and without
            `model`.
        fallback: whether to run on LiteRT where the engine named cannot.

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

    task, role = "classify", "classifier"

    def __init__(
        self,
        model: Contents | None,
        *,
        card: Card | None = None,
        num_threads: int | None = None,
        engine: Engine | str | None = None,
        fallback: bool = False,
    ) -> None:
        super().__init__(model, card=card, num_threads=num_threads, engine=engine, fallback=fallback)
        check_classifier(self.card)

    def classify(self, image: Contents | np.ndarray | Image.Image, *, top: int = 5) -> Classification:
        """Give an image a class.

        Args:
            image: an array as `Preprocessing.prepare` takes it, a Pillow image, or a file: its path, its bytes, or the
                file opened with mode "rb".
            top: number of classes that `Classification.top` has; at most all.

        Raises:
            UsageError: `top` is below 1.
            ImageError: the image cannot be read or has a form that is refused.
            ModelError: the classifier is closed, or the model gave scores that are not finite.
        """
        start = time.perf_counter()
        engine = TimedEngine(self.engine)
        if type(top) is not int or top < 1:
            raise UsageError("top is wrong", expected="a whole number, at least 1", found=top)
        pre = self.card.preprocessing
        prepared = pre.prepare(pixels_of(image))
        tile = pre.place(*prepared.shape[:2]).image(prepared)
        ready = time.perf_counter()
        scores = np.array(engine.run(tile), np.float32)
        order = np.argsort(-scores, kind="stable")[:top].tolist()
        shares = probabilities(scores, self.card.activation, self.card.calibration)
        names = self.card.class_names
        best = tuple((class_id, names[class_id], float(shares[class_id])) for class_id in order)
        return Classification(
            order[0],
            names[order[0]],
            best,
            scores,
            engine.timing(start, ready),
            engine.name,
            engine.agreement,
            engine.reason,
        )


def check_classifier(card: Card) -> None:
    """Raise ModelError unless a classifier's card is that of one with scores, of whole images."""
    if card.head != "logits":
        raise ModelError("a classifier gives scores", expected="head 'logits'", found=card.head)
    if card.preprocessing.fit == "crop":
        raise ModelError(
            "a classifier sees the whole image", expected="fit 'resize' or 'letterbox'", found="fit 'crop', by tiles"
        )
