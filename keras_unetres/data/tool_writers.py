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
LABELME_UNKNOWN = "__ignore__"  # label of what is not labelled


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
        corner = np.array([self.left, self.top])
        return polygon.exterior + corner, [hole + corner for hole in polygon.holes]


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
        names: names of the classes, by id.
        background: the class that is not drawn.
    """
    drawn = regions_of(class_map, _drawn(names, background))
    shapes = [_labelme_shape(region, names[region.class_id]) for region in drawn]
    unlabelled = class_map >= len(names)
    shapes += [_labelme_shape(region, LABELME_UNKNOWN) for region in regions_of(unlabelled.astype(np.uint8), [1])]
    return labelme_content(image, shapes, class_map.shape)


def labelme_content(image: str, shapes: Sequence[dict[str, Any]], size: tuple[int, ...]) -> dict[str, Any]:
    """Return the JSON values of a labelme file of an image of (height, width) px, of its shapes."""
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def labelme_mask(region: Region, label: str, group: int | None = None) -> dict[str, Any]:
    """Return a shape of labelme that is a mask: the pixels of a region in its box, whose last ones are its corner."""
    height, width = region.inside.shape
    corners = ((region.left, region.top), (region.left + width - 1, region.top + height - 1))
    return {
        "label": label,
        "group_id": group,
        "description": "",
        "flags": {},
        "shape_type": "mask",
        "points": [[float(x), float(y)] for x, y in corners],
        "mask": base64.b64encode(encode_png(255 * region.inside.astype(np.uint8))).decode(),
    }


def coco_annotation(
    numbers: tuple[int, int, int], region: Region, size: tuple[int, ...], *, crowd: bool = False
) -> dict[str, Any]:
    """Return an annotation of COCO, as run lengths.

    Args:
        numbers: its own, the image's and the category's.
        region: its pixels.
        size: (height, width) of the image, px.
        crowd: whether it is many, or not known.
    """
    height, width = region.inside.shape
    whole = np.zeros(size, bool)
    whole[region.top : region.top + height, region.left : region.left + width] = region.inside
    annotation_id, image, category = numbers
    return {
        "id": annotation_id,
        "image_id": image,
        "category_id": category,
        "segmentation": encode_rle(whole),
        "area": int(region.inside.sum()),
        "bbox": [region.left, region.top, width, height],
        "iscrowd": int(crowd),
    }


def label_studio_row(
    region_id: str, kind: tuple[str, str, str], value: dict[str, Any], size: tuple[int, ...]
) -> dict[str, Any]:
    """Return a region of a task of Label Studio.

    Args:
        region_id: its id.
        kind: the type, such as "brushlabels", the name of the control in the labelling interface, and the label.
        value: description of its shape.
        size: (height, width) of the image, px.
    """
    form, control, label = kind
    return {
        "id": region_id,
        "type": form,
        "from_name": control,
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": {**value, form: [label]},
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
            numbers = (len(annotations) + 1, number, region.class_id)
            annotations.append(coco_annotation(numbers, region, class_map.shape))
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
        model: name of what made the predictions.
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
    mask = labelme_mask(region, label)
    if not holes and len(points) > 2:
        canvas = Image.new("1", (width, height))
        ImageDraw.Draw(canvas).polygon([(x - region.left, y - region.top) for x, y in points], outline=1, fill=1)
        if np.array_equal(np.array(canvas, bool), region.inside):
            drawn = [[float(x), float(y)] for x, y in points]
            return {**mask, "shape_type": "polygon", "points": drawn, "mask": None}
    return mask


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
        label_studio_row(
            f"r{number}",
            ("polygonlabels", "label", names[class_id]),
            {"points": [[100 * x / width, 100 * y / height] for x, y in ring.tolist()], "closed": True},
            class_map.shape,
        )
        for number, (class_id, ring) in enumerate(rings)
    ]
