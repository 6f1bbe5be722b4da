"""Keras losses from logits that honour ignored pixels, class weights and weight maps, and sums of them.

The formulas are in `terms`; here is what makes each of them a `keras.losses.Loss`. Losses add up and scale:

    model.compile("adam", loss=CrossEntropy() + 0.5 * Dice())
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from unetres_edge.images.preprocessing import IGNORE

from ..choices.arguments import checks_kinds
from ..choices.losses import parse_loss
from . import terms
from .pixel_loss import PixelLoss, WeightedSum, check


@keras.saving.register_keras_serializable("keras_unetres")
class CrossEntropy(PixelLoss):
    """Softmax cross-entropy, a weighted mean over pixels (Ronneberger 2015 eq. 1-2); see `PixelLoss`.

    Args:
        label_smoothing: share of each target that is spread over all classes, in [0, 1].
        class_weights: factors on the weights of pixels, by their class.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "cross_entropy",
    ) -> None:
        super().__init__(ignore_index, class_weights, name)
        check(0 <= label_smoothing <= 1, "label_smoothing", "a number in [0, 1]", label_smoothing)
        self.label_smoothing = label_smoothing

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.cross_entropy`."""
        return terms.cross_entropy(masks, logits, weights, self.class_weights, label_smoothing=self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("keras_unetres")
class Focal(PixelLoss):
    """Cross-entropy times (1 - score)^gamma, a weighted mean over pixels (Lin 2017 eq. 5); see `PixelLoss`.

    Args:
        gamma: exponent by which a pixel that is nearly right counts less; 0 for cross-entropy.
        class_weights: factors on the weights of pixels, by their class.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "focal",
    ) -> None:
        super().__init__(ignore_index, class_weights, name)
        check(0 <= gamma < math.inf, "gamma", "a number >= 0", gamma)
        self.gamma = gamma

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.focal`."""
        return terms.focal(masks, logits, weights, self.class_weights, gamma=self.gamma)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("keras_unetres")
class Dice(PixelLoss):
    """1 - soft Dice over the batch, a mean over the classes in it (Milletari 2016); see `PixelLoss`.

    Args:
        squared: the denominator sums squares of scores, as in the paper, and not the scores.
        smooth: pixels added to numerator and denominator.
        class_weights: weights of the mean over the classes.
    """

    def __init__(
        self,
        squared: bool = False,
        smooth: float = 1.0,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "dice",
    ) -> None:
        super().__init__(ignore_index, class_weights, name)
        check(0 <= smooth < math.inf, "smooth", "a number of pixels >= 0", smooth)
        self.squared, self.smooth = squared, smooth

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.dice`."""
        return terms.dice(masks, logits, weights, self.class_weights, squared=self.squared, smooth=self.smooth)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "squared": self.squared, "smooth": self.smooth}


@keras.saving.register_keras_serializable("keras_unetres")
class Tversky(PixelLoss):
    """1 - Tversky index over the batch, a mean over the classes in it (Salehi 2017); see `PixelLoss`.

    Args:
        alpha: cost of a pixel claimed wrongly.
        beta: cost of a pixel missed. With 0.5 and 0.5 it is Dice.
        smooth: pixels added to numerator and denominator.
        class_weights: weights of the mean over the classes.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 0.5,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "tversky",
    ) -> None:
        super().__init__(ignore_index, class_weights, name)
        for argument, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
            check(0 <= value < math.inf, argument, "a number >= 0", value)
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.tversky`."""
        arguments = {"alpha": self.alpha, "beta": self.beta, "smooth": self.smooth}
        return terms.tversky(masks, logits, weights, self.class_weights, **arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta, "smooth": self.smooth}


@keras.saving.register_keras_serializable("keras_unetres")
class FocalTversky(Tversky):
    """(1 - Tversky index)^gamma over the batch, a mean over the classes in it (Abraham 2018); see `PixelLoss`.

    Args:
        alpha: cost of a pixel claimed wrongly.
        beta: cost of a pixel missed.
        gamma: the exponent; the paper's is 1 / gamma, at best 3/4. Below 1 it stresses classes that are nearly right.
        smooth: pixels added to numerator and denominator of the index.
        class_weights: weights of the mean over the classes.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 0.5,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "focal_tversky",
    ) -> None:
        super().__init__(alpha, beta, smooth, ignore_index=ignore_index, class_weights=class_weights, name=name)
        check(0 < gamma < math.inf, "gamma", "a number > 0", gamma)
        self.gamma = gamma

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.tversky` with an exponent."""
        arguments = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma, "smooth": self.smooth}
        return terms.tversky(masks, logits, weights, self.class_weights, **arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("keras_unetres")
class LovaszSoftmax(PixelLoss):
    """The Lovasz extension of the Jaccard loss by image (Berman 2018); see `PixelLoss` and `terms.lovasz_softmax`.

    Args:
        class_weights: weights of the mean over the classes in an image.
    """

    def __init__(
        self,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "lovasz_softmax",
    ) -> None:
        super().__init__(ignore_index, class_weights, name)

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.lovasz_softmax`."""
        return terms.lovasz_softmax(masks, logits, weights, self.class_weights)


@keras.saving.register_keras_serializable("keras_unetres")
class Boundary(PixelLoss):
    """Scores far from the outline on the wrong side, by distance (Kervadec 2019); see `PixelLoss` and `terms.boundary`.

    It knows nothing of class sizes and is meant as a part of a sum, such as `Dice() + Boundary()`.

    Args:
        reach: px beyond which distances count alike. Compiled code and time grow with it.
        class_weights: weights of the mean over the classes.
    """

    def __init__(
        self,
        reach: int = 16,
        *,
        ignore_index: int | None = IGNORE,
        class_weights: Sequence[float] | None = None,
        name: str = "boundary",
    ) -> None:
        super().__init__(ignore_index, class_weights, name)
        check(isinstance(reach, int) and 1 <= reach <= 1000, "reach", "a whole number of px from 1 to 1000", reach)
        self.reach = reach

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return `terms.boundary`."""
        return terms.boundary(masks, logits, weights, self.class_weights, reach=self.reach)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "reach": self.reach}


LOSSES: dict[str, Callable[..., PixelLoss]] = {
    "boundary": Boundary,
    "cross_entropy": CrossEntropy,
    "dice": Dice,
    "focal": Focal,
    "focal_tversky": FocalTversky,
    "lovasz": LovaszSoftmax,
    "tversky": Tversky,
}


@checks_kinds
def make_loss(
    text: str, *, ignore_index: int | None = IGNORE, class_weights: Sequence[float] | None = None
) -> PixelLoss | WeightedSum:
    """Return the loss that a text such as "cross_entropy + 0.5*dice" names, each part with its default arguments.

    Raises:
        UsageError: a part is not a name from `LOSSES`, or a factor is not a number above 0.
    """
    terms = parse_loss(text)
    losses = [LOSSES[name](ignore_index=ignore_index, class_weights=class_weights) for name, _ in terms]
    factors = [factor for _, factor in terms]
    return losses[0] if factors == [1.0] else WeightedSum(losses, factors)
