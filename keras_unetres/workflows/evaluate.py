"""`unetres evaluate`: the score of any model on any part of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unetres_edge import Preprocessing
from unetres_edge.files import check_output, write_report
from unetres_edge.moved import renamed_argument

from ..choices.arguments import checks_kinds
from ..settings import EvaluateSettings
from ..tasks import task_of
from ..tasks.loading import name_of, open_own, refuse_for_own
from ..tasks.reading import read_for
from ..tasks.task import Model, Opening

if TYPE_CHECKING:
    from ..objects import Separation


@renamed_argument(turns="tta")
@checks_kinds
def evaluate(
    model: Model,
    data: Any,
    *,
    split: str = EvaluateSettings.split,
    json_file: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    overlap: int | None = None,
    say: Callable[[str], None] = print,
    reading: Mapping[str, Any] | None = None,
    tta: str = EvaluateSettings.tta,
    others: Sequence[Model] = (),
    separation: Separation | None = None,
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a model on labelled images.

    Args:
        model: run folder, `.tflite` or `.keras` file, or a Keras model.
        data: data set, as `open_dataset` takes it; or (images, labels), a `tf.data.Dataset`, a `keras.utils.PyDataset`
            or an iterable of such, in batches or one by one, all of which is the part "test". Images are pixels, floats
            in [0, 1], or what the network sees, which is undone by its preprocessing; labels are class ids or one-hot.
        split: "train", "val", "test" or "all".
        json_file: file for the scores, too.
        preprocessing: preparation of images for the network; for `.keras` files, models, and `.tflite` files without a
            card.
        classes: class names; for the same.
        overlap: px shared by neighbouring tiles.
        reading: fields of `Reading` that differ from how the model's training data was read.
        tta: test-time augmentation: "none", or the mean over the "flips" of each tile or "all" its flips and turns.
        others: more models, whose mean with the first is scored.
        separation: settings by which pixels become objects, if objects are scored too.
        output: name of the output that is scored, of a model of your own with several.
        custom_objects: name -> layer, model or function of your own code that a `.keras` file names.

    Returns:
        JSON values. Of a segmenter: "miou", "per_class_iou" (None for a class absent from the masks), "pixel_accuracy",
        "num_images", "ms_per_image", "model", "split"; "turns" and "others" if given; "instances" with a separation. Of
        a classifier: as `score_classes` gives them, and "ms_per_image", "model" and "split".

    Raises:
        DataError: the data set has faults, does not have this part, or names no objects to score.
        ModelError: the model cannot be used.
    """
    if json_file is not None:
        check_output(json_file, ".json")
    refuse_for_own(model, *others, preprocessing=preprocessing, classes=classes)
    models = [
        open_own(each, preprocessing, classes, output=output, custom_objects=custom_objects)
        for each in (model, *others)
    ]
    task = task_of(models[0])
    how = Opening(overlap=overlap, tta=tta, others=models[1:], separation=separation)
    with task.open_model(models[0], how) as opened:
        records = read_for(opened.card, data, split, reading)
        name = f"scoring {os.path.basename(name_of(model))}"
        figures = task.score(opened, records, name=name, separation=separation)
    scores = {**figures, "model": name_of(model), "split": split}
    if tta != "none":
        scores["turns"] = tta
    if others:
        scores["others"] = [name_of(other) for other in others]
    for line in task.score_lines(scores):
        say(line)
    say(f"images     {scores['num_images']} ({split}), {scores['ms_per_image']} ms each")
    if json_file is not None:
        write_report(json_file, scores)
    return scores
