"""`unetres predict --instances`: the files of single objects beside the class maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unetres_edge.results.draw import encode_png
from unetres_edge.results.result import Result

from ..objects import (
    LabelFormat,
    Separation,
    describe,
    encode_label_map,
    encode_table,
    find_instances,
    object_classes,
    outline_instances,
)


class InstanceFiles:
    """What `predict_files` writes of the objects in each image.

    `<stem>_instances.tif` or `.png`, the label map; `<stem>_objects.csv`, a row an object; and if asked for
    `<stem>_instances_overlay.png`, each object outlined in a colour of its own. An image's status tells how
    many objects of which class there are.

    Args:
        form: "tif" or "png", of the label map.
        how: the way pixels become objects.
        overlay: whether to draw them.
    """

    def __init__(self, form: LabelFormat = "tif", how: Separation | None = None, *, overlay: bool = False) -> None:
        self._form = form
        self._how = how or Separation()
        self._overlay = overlay
        self.num_objects = 0  # of all images so far

    def names(self, stem: str) -> Sequence[str]:
        """Return the names of the files for an image of this stem."""
        drawn = [f"{stem}_instances_overlay.png"] if self._overlay else []
        return [f"{stem}_instances.{self._form}", f"{stem}_objects.csv", *drawn]

    def make(self, stem: str, image: np.ndarray, result: Result) -> tuple[Mapping[str, bytes], Mapping[str, Any]]:
        """Return the content of these files and, for the status, what was found.

        Raises:
            DataError: more objects than a PNG can number.
        """
        found = find_instances(result, self._how)
        content = [encode_label_map(found.labels, self._form), encode_table(describe(found))]
        if self._overlay:
            content.append(encode_png(outline_instances(image, found.labels)))
        names = self.names(stem)
        among = [found.class_names[number] for number in object_classes(found.class_names, self._how)]
        self.num_objects += len(found.class_ids)
        said = {"num_objects": len(found.class_ids), "objects_by_class": found.counts(among)}
        return dict(zip(names, content, strict=True)), said
