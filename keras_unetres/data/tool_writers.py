"""Class maps as files of annotation tools, to be corrected there and read back: labelme, COCO, Label Studio.

Every region that hangs together is a shape of its own. What is written draws the class map again to the pixel, as the
readers of `forms` draw it: where a tool's outline cannot, the region is written as a mask or as run lengths.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from unetres_edge.results.draw import encode_png
from unetres_edge.results.vector import encode_rle, find_polygons

LABELME_VERSION = "5.5.0"


@dataclass(frozen=True)
class Region:
    """Pixels of a class that hang together by their sides.

    Args:
        class_id: the class.
        top, left: px, where its box begins.
        inside: (h, w) bool, the pixels in the box.
    """

    class_id: int
    top: int
    left: int
    inside: np.ndarray

    def rings(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the outline and the holes, (N, 2) px (x, y) each, along the borders between pixels."""
        (polygon,) = find_polygons(self.inside.astype(np.uint8), [1])
        place = np.array([self.left, self.top])
        return polygon.exterior + place, [hole + place for hole in polygon.holes]


def regions_of(class_map: np.ndarray, class_ids: Sequence[int]) -> Iterator[Region]:
    """Yield the regions of an (H, W) class map, class by class."""
    for class_id in class_ids:
        numbers, _ = ndimage.label(class_map == class_id)
        for number, box in enumerate(ndimage.find_objects(numbers), 1):
            yield Region(class_id, box[0].start, box[1].start, numbers[box] == number)


def labelme_file(image: str, class_map: np.ndarray, names: Sequence[str], background: int) -> dict[str, Any]:
    """Return the JSON values of a labelme file: polygons, and masks of what a polygon does not draw.

    Args:
        image: path of the image from where the file will lie.
        class_map: (H, W) class ids; ids without a name are not labelled.
        names: one a class.
        background: the class that is not drawn.
    """
    drawn = regions_of(class_map, _drawn(names, background))
    shapes = [_labelme_shape(region, names[region.class_id]) for region in drawn]
    unlabelled = class_map >= len(names)
    shapes += [_labelme_shape(region, "__ignore__") for region in regions_of(unlabelled.astype(np.uint8), [1])]
    height, width = class_map.shape
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def coco_file(images: Sequence[tuple[str, np.ndarray]], names: Sequence[str], background: int) -> dict[str, Any]:
    """Return the JSON values of a COCO file of instances, as run lengths; the ids of categories are those of classes.

    Args:
        images: the file name of each image, and its (H, W) class map.
        names, background: as `labelme_file`.
    """
    annotations: list[dict[str, Any]] = []
    for number, (_, class_map) in enumerate(images, 1):
        for region in regions_of(class_map, _drawn(names, background)):
            whole = np.zeros(class_map.shape, bool)
            height, width = region.inside.shape
            whole[region.top : region.top + height, region.left : region.left + width] = region.inside
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": region.class_id,
                    "segmentation": encode_rle(whole),
                    "area": int(region.inside.sum()),
                    "bbox": [region.left, region.top, width, height],
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": number, "file_name": name, "height": class_map.shape[0], "width": class_map.shape[1]}
            for number, (name, class_map) in enumerate(images, 1)
        ],
        "categories": [{"id": class_id, "name": names[class_id]} for class_id in _drawn(names, background)],
        "annotations": annotations,
    }


def label_studio_tasks(
    images: Sequence[tuple[str, np.ndarray]], names: Sequence[str], background: int, model: str
) -> list[dict[str, Any]]:
    """Return the JSON values of Label Studio tasks with predictions: polygons, of which smaller ones are on top.

    A hole is a polygon of the background.

    Args:
        images: the address of each image, as Label Studio will find it, and its (H, W) class map.
        names, background: as `labelme_file`.
        model: what made the predictions.
    """
    return [
        {
            "data": {"image": address},
            "annotations": [],
            "predictions": [{"model_version": model, "result": _label_studio_rows(class_map, names, background)}],
        }
        for address, class_map in images
    ]


def label_studio_config(names: Sequence[str], colors: Sequence[tuple[int, int, int]]) -> str:
    """Return the labelling interface that the tasks are for, as Label Studio's settings take it."""
    from xml.sax.saxutils import quoteattr

    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(color).hex()}"/>\n'
        for name, color in zip(names, colors, strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <PolygonLabels name="label" toName="image">\n{labels}  </PolygonLabels>\n</View>\n'
    )


def _drawn(names: Sequence[str], background: int) -> list[int]:
    return [class_id for class_id in range(len(names)) if class_id != background]


def _labelme_shape(region: Region, label: str) -> dict[str, Any]:
    outline, holes = region.rings()
    points = _through_pixels(outline)
    height, width = region.inside.shape
    shape: dict[str, Any] = {"label": label, "group_id": None, "description": "", "flags": {}, "mask": None}
    if not holes and len(points) > 2:
        canvas = Image.new("1", (width, height))
        ImageDraw.Draw(canvas).polygon([(x - region.left, y - region.top) for x, y in points], outline=1, fill=1)
        if np.array_equal(np.array(canvas, bool), region.inside):
            return {**shape, "shape_type": "polygon", "points": [[float(x), float(y)] for x, y in points]}
    corners = [[region.left, region.top], [region.left + width - 1, region.top + height - 1]]
    stored = base64.b64encode(encode_png(255 * region.inside.astype(np.uint8))).decode()
    return {
        **shape,
        "shape_type": "mask",
        "points": [[float(x), float(y)] for x, y in corners],
        "mask": stored,
    }


def _through_pixels(ring: np.ndarray) -> list[tuple[int, int]]:
    """Return the way through the outermost pixels, as labelme draws outlines, of a ring along their borders."""
    points: list[tuple[int, int]] = []
    for (x, y), (to_x, to_y) in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True):
        if to_y == y:  # above the pixels to the right, below those to the left
            ends = [(x, y), (to_x - 1, y)] if to_x > x else [(x - 1, y - 1), (to_x, y - 1)]
        else:  # right of the pixels downwards, left of those upwards
            ends = [(x - 1, y), (x - 1, to_y - 1)] if to_y > y else [(x, y - 1), (x, to_y)]
        points += [each for each in ends if points[-1:] != [each]]
    return points[:-1] if len(points) > 1 and points[0] == points[-1] else points


def _label_studio_rows(class_map: np.ndarray, names: Sequence[str], background: int) -> list[dict[str, Any]]:
    height, width = class_map.shape
    rings: list[tuple[int, np.ndarray]] = []
    for region in regions_of(class_map, _drawn(names, background)):
        outline, holes = region.rings()
        rings += [(region.class_id, outline), *((background, hole) for hole in holes)]
    return [
        {
            "id": f"r{number}",
            "type": "polygonlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "points": [[100 * x / width, 100 * y / height] for x, y in ring.tolist()],
                "closed": True,
                "polygonlabels": [names[class_id]],
            },
        }
        for number, (class_id, ring) in enumerate(rings)
    ]
