"""A Keras model of the user's own as what a training begins with: made anew of its layers, with its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge import Card, Preprocessing
from unetres_edge.errors import ModelError, UsageError

from ..choices.tasks import TASK_TRAITS
from ..machine.backend import check_tensorflow
from ..runs import Compilation, Compression, ModelInfo, RunFolder
from ..settings import RETRAIN_EPOCHS, DataSettings, FitSettings, NetworkSettings, TrainSettings
from ..tasks import TASKS
from ..tasks.loading import name_of, open_own
from ..tasks.reading import dataset_of, read_training_data
from ..tasks.task import Loaded

if TYPE_CHECKING:
    import keras

    from ..training.training_data import TrainingData


@dataclass(frozen=True)
class OwnSource:
    """A model of the user's own that a training begins with.

    Args:
        model: flat, in float32, of layers that a run folder keeps; gives logits.
        info: builder and arguments that make it again.
        card: card with its preprocessing and its classes.
        class_names: names of the classes as they were given, or None.
    """

    model: keras.Model
    info: ModelInfo
    card: Card
    class_names: tuple[str, ...] | None


def open_own_source(
    source: str | os.PathLike[str] | keras.Model,
    out: str | os.PathLike[str],
    *,
    preprocessing: Preprocessing | None,
    classes: Sequence[str] | None,
    output: str | None,
    custom_objects: Mapping[str, Any] | None,
    overwrite: bool,
) -> OwnSource:
    """Open a `.keras` file or a model, after checking that a run can be written to `out`.

    Raises:
        UsageError: a layer has no int8 form, or what the scores are is not known.
        ModelError: it cannot be loaded.
        ExistsError: there is a run at `out`, and it is not to be replaced.
    """
    from ..models import build
    from ..models.fake_quant import is_quantization_aware
    from ..models.inference import flat_form
    from ..models.own_code import same_answers
    from ..models.own_network import copy_weights, describe_network
    from ..quantization import fold

    check_tensorflow()
    RunFolder.check_out(out, overwrite=overwrite)
    opened = open_own(source, preprocessing, classes, output=output, custom_objects=custom_objects)
    if not isinstance(opened, Loaded):
        if not Path(name_of(source)).exists():
            raise ModelError("no such model", file=name_of(source), expected="a run folder or a .keras file")
        raise UsageError(
            "only a run or a Keras model can be trained on",
            file=name_of(source),
            expected="a run folder, a .keras file or a keras.Model",
        )
    card, shape = opened.card, (*opened.card.preprocessing.size, opened.card.preprocessing.channels)
    _check_scores(card, source)
    if is_quantization_aware(opened.model):
        raise UsageError("the model is quantized already", file=name_of(source), fix="name what it was made from")
    model = flat_form(opened.model, shape=shape)
    fold(model)  # refuses by name what has no int8 form
    described = {**describe_network(model), "input_shape": list(shape)}
    rebuilt = build("build_own", described)
    copy_weights(model, rebuilt)
    if not same_answers(model, rebuilt, shape):
        raise UsageError(
            "the model made anew of its layers answers otherwise",
            file=name_of(source),
            fix="use quantize_aware and fit in Python",
        )
    return OwnSource(rebuilt, ModelInfo("build_own", described), card, None if classes is None else card.class_names)


def read_own_data(
    source: OwnSource,
    data: Any,
    step: Compression,
    *,
    epochs: int | None,
    minutes: float | None,
    learning_rate: float,
    say: Callable[[str], None],
) -> TrainingData:
    """Read the data that a model of the user's own is trained on with, for a training that is a step of compression.

    Raises:
        DataError: the data has faults.
        UsageError: nothing says which data, or it has another number of classes than the model.
    """
    card, pre = source.card, source.card.preprocessing
    if data is None:
        raise UsageError(
            "a model names no data set to train on",
            fix="pass data=, a data set folder, (images, masks) or what model.fit takes; on the command line --data",
        )
    dataset = dataset_of(data, card)
    settings = _settings(card, epochs, minutes, learning_rate)
    names = card.class_names if dataset is not data else source.class_names
    prepared = read_training_data(
        TASKS[card.task], dataset, settings, say, pre, again=True, model=source.info, class_names=names
    )
    class_names = prepared.info.classes.names
    if len(class_names) != len(card.class_names):
        raise UsageError(
            "the data set has another number of classes than the model",
            expected=len(card.class_names),
            found=f"{len(class_names)}: {', '.join(class_names)}",
            fix="declare the classes of the masks in a dataset.yaml, or name those of the model: --classes",
        )
    return replace(prepared, info=replace(prepared.info, compress=(step,), compilation=Compilation()))


def _settings(card: Card, epochs: int | None, minutes: float | None, learning_rate: float) -> TrainSettings:
    """Return the settings of a short training; those of the network say no more than how images meet it."""
    pre, traits = card.preprocessing, TASK_TRAITS[card.task]
    if not traits.per_pixel and pre.size[0] != pre.size[1]:
        raise UsageError(
            f"a {traits.noun} is trained on square images",
            found=f"{pre.size[0]} x {pre.size[1]} px",
            fix="use quantize_aware and fit in Python",
        )
    network = NetworkSettings(
        size=max(pre.size),
        name=traits.network,
        channels=pre.channels,
        fit=pre.fit,
        per_image=pre.per_image,
    )
    if epochs is None and minutes is None:
        epochs = RETRAIN_EPOCHS
    fit = FitSettings(epochs=epochs, minutes=minutes, learning_rate=learning_rate, plan=False)
    return TrainSettings(network=network, fit=fit, data=DataSettings())


def _check_scores(card: Card, source: Any) -> None:
    """Refuse a model of whose scores the softmax is not what it was trained for."""
    kinds = {
        "none": "its probabilities are made by code that the graph does not tell",
        "sigmoid": "each of its channels is a label of its own (sigmoid), where masks have one class a pixel",
    }
    if card.activation in kinds:
        raise UsageError(
            f"the model cannot be trained on masks of class ids: {kinds[card.activation]}",
            file=name_of(source),
            fix="end it in logits or a softmax; or use quantize_aware, and fit with a loss of your own",
        )
