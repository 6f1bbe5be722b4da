"""Checks of a Keras model before it is converted: finite weights, and the input and output of a supported task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import ConversionError, ModelError, UsageError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import MAX_CLASSES

from ..choices.tasks import CLASSIFY, SEGMENT, TASK_TRAITS
from .convert import first_line

if TYPE_CHECKING:
    import keras


def check_model(model: keras.Model, shape: tuple[int, int, int]) -> tuple[int, str]:
    """Return (number of classes, task) of a model, or refuse it.

    Args:
        shape: (h, w, C) of one image.

    Returns:
        The task is "segment" where the output is (1, h, w, classes), or of an unpadded network as much smaller as its
        convolutions take; "classify" where it is (1, classes).

    Raises:
        UsageError: not a Keras 3 model.
        ConversionError: a weight is not finite, or input or output have another form.
    """
    import keras

    from ..models.inference import check_finite

    if not isinstance(model, keras.Model):
        raise UsageError("not a Keras 3 model", expected="keras.Model", found=type(model).__name__)
    check_finite(model)
    try:
        output = tuple(getattr(model.compute_output_spec(keras.KerasTensor((1, *shape))), "shape", ()))
    except Exception as error:  # layers raise what they like
        fix = _size_fix(model, shape)
        raise ConversionError(f"the model does not take (1, {shape}): {first_line(error)}", fix=fix) from error
    if len(output) == 4 and output[-1] > MAX_CLASSES:
        raise ConversionError(
            "the model has more classes than a map of uint8 can hold",
            expected=f"at most {MAX_CLASSES}",
            found=output[-1],
            fix="join classes that need not be told apart, before the softmax",
        )
    if len(output) == 2 and output[1] >= 2:
        return int(output[1]), CLASSIFY.name
    crop = find_crop(model) if len(output) == 4 else 0
    if len(output) != 4 or tuple(output[1:3]) != (shape[0] - 2 * crop, shape[1] - 2 * crop) or output[3] < 2:
        raise ConversionError(
            "the model gives no score for every class at every pixel",
            expected=f"(1, {shape[0]}, {shape[1]}, classes >= 2), or (1, classes >= 2) of a classifier",
            found=output,
            fix=_end_fix(output, shape),
        )
    return int(output[3]), SEGMENT.name


def find_crop(model: keras.Model) -> int:
    """Return how many px of each side of the input have no output; 0 where the graph does not tell."""
    from ..models import crop_offset

    if getattr(model, "outputs", None) is None or len(model.output_shape) != 4:
        return 0
    try:
        return crop_offset(model)
    except ModelError:
        return 0


def _end_fix(output: tuple[Any, ...], shape: tuple[int, int, int]) -> str:
    """Return the advice how a model is to end instead."""
    if tuple(output[1:]) in (shape[:2], (*shape[:2], 1)):
        return (
            "of one class's logits, end with keras.layers.Activation('sigmoid')(logits), one channel; of labels, leave "
            "out the argmax at the end, and pass head='argmax'"
        )
    if len(output) == 2 and output[1] == 1:
        return "of one class's logit, end with keras.layers.Activation('sigmoid')(logit), one number an image"
    if len(output) == 3 and shape[0] * shape[1] in output[1:]:
        return (
            "end it with the map, (N, h, w, classes), and a softmax over its last axis; leave out Reshape and Permute"
        )
    if len(output) == 4 and tuple(output[1:3]) == (1, 1) and output[3] >= 2:
        return "end a classifier with keras.layers.Flatten(), so that it gives (N, classes)"
    if len(output) == 4 and tuple(output[2:]) == shape[:2]:
        return "put the classes last: keras.layers.Permute((2, 3, 1))(scores)"
    sides = list(zip(shape[:2], output[1:3], strict=True)) if len(output) == 4 and output[3] >= 2 else []
    larger = _factor((full, side) for full, side in sides)
    if larger:
        return f"make its scores larger: keras.layers.UpSampling2D({larger}, interpolation='bilinear')(scores)"
    smaller = _factor((side, full) for full, side in sides)
    if smaller:
        return f"make its scores smaller: keras.layers.AveragePooling2D({smaller})(scores)"
    return "end the model at full size with one channel a class, or with one channel and a sigmoid"


def _factor(pairs: Iterable[tuple[int, int]]) -> int | None:
    """Return the whole number above 1 by which the first of each pair is the second, or None."""
    factors = {large // small if small and large % small == 0 else 1 for large, small in pairs}
    return factors.pop() if len(factors) == 1 and factors != {1} else None


def check_names(names: tuple[str, ...]) -> None:
    """Raise UsageError if two classes have one name, by which their areas could not be told apart."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError("two classes have one name", found=", ".join(twice), fix="give each class a name of its own")


def check_fit(preprocessing: Preprocessing, task: str, crop: int = 0) -> None:
    """Raise UsageError if images become inputs in a way that is not for the task: a classifier is to see no tiles.

    A network without padding, which leaves out `crop` px of each side, is to see nothing else.
    """
    if crop and preprocessing.fit != "crop":
        raise UsageError(
            "an unpadded network sees tiles with a border around them",
            expected="fit 'crop'",
            found=f"fit {preprocessing.fit!r}",
        )
    traits = TASK_TRAITS[task]
    if preprocessing.fit not in traits.fits:
        raise UsageError(
            f"a {traits.noun} sees the whole image",
            expected="fit " + " or ".join(map(repr, traits.fits)),
            found=f"fit {preprocessing.fit!r}, by tiles",
        )


def _size_fix(model: keras.Model, shape: tuple[int, int, int]) -> str | None:
    """Return the advice which input size to use instead, where the size is what is wrong."""
    from ..models import check_size

    try:
        check_size(model, shape[:2])
    except UsageError as error:
        return error.fix
    except ModelError:
        pass
    return None
