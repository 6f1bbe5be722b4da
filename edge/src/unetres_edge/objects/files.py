"""The files of the objects in images, for `predict_files`: label map, table, outlines; and the counts of all images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..results.draw import encode_png
from ..results.result import Result
from ..terminal import shown
from .imagej import encode_rois
from .separate import Separation, find_instances, object_classes
from .table import (
    LabelFormat,
    describe,
    encode_label_map,
    encode_table,
    geojson_of_objects,
    outline_instances,
)

COUNTS = "counts.csv"  # in the folder of all outputs
_NAMED = 20  # images that lines name


class InstanceFiles:
    """What `predict_files` writes of the objects in each image.

    `<name>_instances.tif` or `.png`, the label map; `<name>_objects.csv`, a row an object; and if asked for
    `<name>_objects.geojson`, an outline an object, `<name>_rois.zip`, the same for ImageJ, and
    `<name>_instances_overlay.png`, each object outlined in a colour of its own. An image's status tells how many
    objects of which class there are.

    Args:
        form: "tif" or "png", of the label map.
        how: the way pixels become objects.
        overlay: whether to draw them.
        geojson: whether to write their outlines.
        rois: whether to write them for ImageJ.

    Attributes:
        counts: image -> class -> number of objects, of the images so far.
    """

    def __init__(
        self,
        form: LabelFormat = "tif",
        how: Separation | None = None,
        *,
        overlay: bool = False,
        geojson: bool = False,
        rois: bool = False,
    ) -> None:
        self._form = form
        self._how = how or Separation()
        self._endings = [f"_instances.{form}", "_objects.csv"]
        self._endings += ["_instances_overlay.png"] * overlay + ["_objects.geojson"] * geojson + ["_rois.zip"] * rois
        self.counts: dict[str, dict[str, int]] = {}

    def names(self, stem: str) -> Sequence[str]:
        """Return the names of the files for an image of this name."""
        return [stem + ending for ending in self._endings]

    def make(self, stem: str, image: np.ndarray, result: Result) -> tuple[Mapping[str, bytes], Mapping[str, Any]]:
        """Return the content of these files and, for the status, what was found.

        Raises:
            DataError: more objects than a PNG can number, or an image too large for ImageJ.
        """
        objects = find_instances(result, self._how)
        encode = {
            f"_instances.{self._form}": lambda: encode_label_map(objects.labels, self._form),
            "_objects.csv": lambda: encode_table(describe(objects)),
            "_instances_overlay.png": lambda: encode_png(outline_instances(image, objects.labels)),
            "_objects.geojson": lambda: json.dumps(geojson_of_objects(objects, result.class_colors)).encode(),
            "_rois.zip": lambda: encode_rois(objects),
        }
        ids = object_classes(objects.class_names, self._how, result.background)
        self.counts[stem] = objects.counts([objects.class_names[number] for number in ids])
        said = {"num_objects": len(objects.class_ids), "objects_by_class": self.counts[stem]}
        return {stem + ending: encode[ending]() for ending in self._endings}, said

    def lines(self, table: Path) -> Iterator[str]:
        """Return lines for the user: the objects of the first images, and of all.

        Args:
            table: the file that names every image.
        """
        totals = {stem: sum(counts.values()) for stem, counts in self.counts.items()}
        for stem in list(totals)[:_NAMED]:
            yield shown(f"{totals[stem]:9}  objects in {stem}")
        if len(totals) > _NAMED:
            yield f"           and {len(totals) - _NAMED} more images"
        yield shown(f"objects    {sum(totals.values())} in {len(totals)} images; by image and class: {table}")
