"""`ku.predict` and `unetres predict`: what a model says of images, as files; single objects too, if asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetres_edge import Preprocessing
from unetres_edge.errors import UsageError
from unetres_edge.files import write_bytes
from unetres_edge.objects.files import COUNTS, InstanceFiles
from unetres_edge.terminal import shown

from ..choices.arguments import checks_kinds
from ..objects import LabelFormat, Separation, encode_counts
from ..settings import PredictCommand
from ..tasks import task_of
from ..tasks.loading import open_own, refuse_for_own
from ..tasks.task import Model, Opening, Outputs


@checks_kinds
def predict(
    model: Model,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    overlay: bool = False,
    geojson: bool = False,
    instances: LabelFormat | None = None,
    rois: bool = PredictCommand.rois,
    separation: Separation | None = None,
    overwrite: bool = False,
    json_file: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    overlap: int | None = None,
    tta: str = PredictCommand.tta,
    others: Sequence[Model] = (),
    say: Callable[[str], None] = print,
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    every: int = PredictCommand.every,
    frames: int | None = None,
    on_unfamiliar: str = PredictCommand.on_unfamiliar,
    abstain: bool = PredictCommand.abstain,
) -> list[Path]:
    """Write what a model says of images: a class map of each, or of a classifier one table of all.

    Args:
        model: run folder, `.tflite` or `.keras` file, or a Keras model.
        images: an image file, a folder of images, with those below it, a pattern such as "photos/*.png", a video, the
            number of a camera, an address of one, or several of these. What is not read is said.
        out: folder for the class maps, `<name>.png`, in folders as the images are: indexed PNGs of the class ids at the
            image's own size; of frames in a folder `<name>`. Of a classifier for `classes.csv`.
        overlay: whether also to write each image with its classes, or its objects, laid over it, `<name>_overlay.png`.
        geojson: whether also to write `<name>.geojson`, the outlines of every class but the background, in px.
        instances: whether also to write each object: "tif" or "png", of the label map; with `geojson`, an outline an
            object, too.
        rois: whether also to write, of instances, `<name>_rois.zip`, which ImageJ's ROI manager opens.
        separation: settings by which pixels become objects; None for the usual way.
        overwrite: whether to replace files that exist.
        json_file: file for what became of each image.
        preprocessing: preparation of images for the network; for `.keras` files, models, and `.tflite` files without a
            card.
        classes: class names; for the same.
        overlap: px shared by neighbouring tiles; None for what the model needs.
        tta: test-time augmentation: "none", or the mean over the "flips" of each tile or "all" its flips and turns.
        others: more models, whose mean with the first is the answer.
        say: callback for lines to the user.
        output: name of the output that is meant, of a model of your own with several.
        custom_objects: name -> layer, model or function of your own code that a `.keras` file names.
        every: step from one frame of a video or a camera that is taken to the next.
        frames: number of frames of a video or a camera that are taken; None for all, of a camera until Ctrl-C.
        on_unfamiliar: treatment of images unlike the training images, where a model file can tell: "warn" is a line,
            "skip" writes nothing of them, "fail" is an error beside that. Of segmenters.
        abstain: whether to give up pixels, which are 255 then, as a model file promises.

    Returns:
        The files of the class maps, or the one table of a classifier.

    Raises:
        DataError: images that could not be read; all others are done.
        ExistsError: an output exists already, or is one of the images.
        UsageError: no image, or an option that the model does not take.
        ModelError: the model cannot be used.
    """
    from unetres_edge.segment.files import refuse_collisions
    from unetres_edge.segment.inputs import find_inputs

    if instances is not None:
        separation = separation or Separation()
    elif rois:
        raise UsageError("regions of objects are asked for, but no objects", fix="add --instances")
    elif separation is not None:
        raise UsageError("a separation is given, but no objects are asked for", fix="add --instances")
    refuse_for_own(model, *others, preprocessing=preprocessing, classes=classes)
    inputs = find_inputs([images] if isinstance(images, (str, os.PathLike)) else images, out)
    for note in inputs.notes:
        say(shown(f"note  {note}"))
    models = [
        open_own(each, preprocessing, classes, output=output, custom_objects=custom_objects)
        for each in (model, *others)
    ]
    task = task_of(models[0])
    how = Opening(overlap=overlap, tta=tta, others=models[1:], separation=separation)
    with task.open_model(models[0], how) as opened:
        more = None
        if instances is not None:
            more = InstanceFiles(instances, separation, overlay=overlay, geojson=geojson, rois=rois)
        counts = Path(out) / COUNTS
        if more is not None:
            refuse_collisions(inputs.images, [counts], overwrite)
        try:
            outputs = Outputs(overlay, geojson, more, overwrite, json_file, every, frames, on_unfamiliar, abstain)
            written = task.predict(opened, inputs, out, outputs, say)
        finally:  # some images may be done, whatever ended it
            if more is not None and more.counts:
                write_bytes(counts, encode_counts(more.counts))
    if more is not None:
        for line in more.lines(counts):
            say(line)
    return written
