"""The kinds of findings: what each is called, what follows from it, how bad it is, and how it is worded.

A kind's name is stable: it stands in errors, in the JSON of `unetres check` and in the guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_MASKS = "tasks/masks.md"
_VALUES = (
    ("{values}, ... {last} ({count} values) in {pixels} px", "values {known}"),
    ("{values} in {pixels} px", "values {known}"),
)
_TWO_PARTS = "in {part}: the pixels of {twin} in {twin_part}"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Args:
        title: name of the kind for people.
        meaning: consequence, a sentence.
        wordings: (what was found, what was expected) as templates of the figures; the first whose figures are there
            counts. Where none fits, it is the words of the error that was met.
        severity: "fault" keeps a data set from being used, "warning" does not.
        anchor: page and heading of the guide that say more, from `docs/`.
        expected: values that are right, where neither wording nor error says it.
        fix: remedy where nothing more is known.
    """

    title: str
    meaning: str
    wordings: tuple[tuple[str, str], ...] = ()
    severity: Literal["fault", "warning"] = "fault"
    anchor: str = "formats/errors.md#what-check-finds"
    expected: str = "a file that decodes"
    fix: str = "replace the file"


KINDS = {
    "missing-mask": Kind(
        "an image without a mask",
        "nothing can be learned from it",
        (
            ("no file {stem}.* in {folder}/", "a mask of the same name"),
            ("line {line} of {list} names {named}, which is not there", "the file"),
            ("maps in {annotations}: {maps}", "one map, below {folder}/"),
            ("{pictures} pictures and {masks} masks of objects", "one picture, and one file for each object"),
        ),
        anchor="formats/dataset.md#what-check-looks-for",
    ),
    "missing-image": Kind(
        "a mask without an image",
        "nothing can be learned from it",
        (
            ("no file {stem}.* in {folder}/", "an image of the same name"),
            ("line {line} of {list} names {named}, which is not there", "the file"),
            (
                "named by {annotations}, found in none of the usual folders",
                "the image below images/, beside the annotations, or where `images:` says",
            ),
            ("no file {named}", "the image it names"),
        ),
        anchor="formats/dataset.md#what-check-looks-for",
    ),
    "ambiguous-names": Kind(
        "several files that belong to one name",
        "it is not known which of them is meant",
        (
            (
                "files that belong to one name: {files:and}",
                "one file for each name, also where case and accents do not count",
            ),
            ("{names:and} are both {named}", "a file for each"),
            ("several images of one part are called {name}", "different names"),
            ("classes {classes:and}", "different names"),
        ),
    ),
    "unreadable": Kind("a file that cannot be decoded", "it is damaged; its pixels are not known"),
    "empty-file": Kind("a file of zero bytes", "a copy or a download was cut", expected="an image"),
    "not-a-file": Kind(
        "a folder, a dangling link, a pipe or a device where a file should be",
        "there is nothing to read",
        fix="put the file itself there",
    ),
    "not-an-image": Kind("a file that is no image, whatever its ending says", "there are no pixels in it"),
    "too-large": Kind(
        "more pixels than are decoded", "it would take too much memory", fix="cut it into smaller pictures"
    ),
    "frames": Kind(
        "several frames or pages in one file",
        "it is not known which of them is meant",
        (("{pages} pages, {stack} has {slices}", "as many masks as images"),),
    ),
    "transparent": Kind(
        "an image with transparent pixels", "what they show depends on the viewer", expected="opaque pixels alone"
    ),
    "unsupported-mode": Kind(
        "pixels in a form that is refused, such as CMYK",
        "a conversion would change them",
        fix="save it as PNG, grey or RGB",
    ),
    "not-finite": Kind(
        "an image with NaN or infinite values", "one such value spoils a whole batch", expected="finite numbers"
    ),
    "value-range": Kind("a float image outside 0..1", "what is black and what is white is not known"),
    "lossy-mask": Kind(
        "a mask in a format that smears values",
        "classes at the edges are no longer those that were drawn",
        anchor=f"{_MASKS}#colours",
        expected="PNG or TIFF",
    ),
    "float-mask": Kind(
        "a mask of fractions",
        "which class a fraction stands for is not known",
        anchor=_MASKS,
        fix="save the masks as PNG of whole numbers",
    ),
    "color-mask": Kind(
        "a mask of colours where no colour table is declared",
        "which class a colour stands for is not known",
        anchor=f"{_MASKS}#colours",
    ),
    "rotated-mask": Kind(
        "a mask that EXIF turns",
        "it may or may not lie on the image as it is meant to",
        expected="a mask stored upright",
    ),
    "size-differs": Kind(
        "an image and a mask of different sizes",
        "they do not lie on each other",
        (("image {width} x {height}, {other} {other_width} x {other_height}", "one size for both"),),
    ),
    "turned-image": Kind(
        "an image that EXIF turns, whose mask fits both ways",
        "half of the masks may lie wrong",
        (
            (
                "{others} others lie on the pixels as stored; edges on outlines: {stored} as stored, {seen} as seen",
                "masks_on: stored or seen",
            ),
        ),
    ),
    "turned-masks": Kind(
        "masks that lie mirrored, upside down or transposed on their images",
        "the network learns from the wrong pixels",
        (
            (
                "edges of {images} images on outlines, over those there by chance: {seen}; of masks turned: {turned}",
                "masks_turned: {way}, or none where they are right",
            ),
        ),
    ),
    "unknown-values": Kind(
        "mask values that are no class",
        "what these pixels show is not known",
        _VALUES,
        anchor=f"{_MASKS}#other-numbers",
    ),
    "unknown-colors": Kind(
        "mask colours that are not in the colour table",
        "what these pixels show is not known",
        _VALUES,
        anchor=f"{_MASKS}#colours",
    ),
    "smeared-mask": Kind(
        "mask values between the classes, left by interpolation or anti-aliasing",
        "the edges are of a class that was never drawn there",
        (
            *_VALUES,
            (
                "{rim_pixels} px of a class that lie between two others, {direct_steps} direct steps over a class",
                "direct steps, as in the other masks",
            ),
            ("{found}", "{expected}"),
        ),
        anchor=f"{_MASKS}#colours",
    ),
    "instance-ids": Kind(
        "masks that number objects, read as classes",
        "every object would be a class of its own",
        (*_VALUES, ("{found}", "{expected}")),
        anchor=f"{_MASKS}#instance-ids-a-number-for-each-object",
    ),
    "not-contiguous": Kind(
        "mask values that are not 0, 1, 2, ... and nothing that names them",
        "which class a value stands for is not known",
        (("{found}", "{expected}"),),
        anchor=f"{_MASKS}#other-numbers",
    ),
    "palettes-differ": Kind(
        "palette masks in which one colour has different indices",
        "one class has two numbers",
        (("{colors}", "one palette for all masks"),),
    ),
    "bad-annotation": Kind(
        "an annotation that cannot be drawn as it stands",
        "its object would be missing",
        (
            ("{part}: {found}", "{expected}"),
            ("{height} x {width}", "height and width in px, at most {most} px in all"),
        ),
    ),
    "leak": Kind(
        "the same picture in two parts of the data set",
        "scores are too good",
        ((_TWO_PARTS, "every picture once"),),
    ),
    "two-classes": Kind(
        "the same picture in the folders of two classes",
        "one of the two is wrong",
        ((_TWO_PARTS, "every picture once"),),
        anchor="tasks/classify.md",
    ),
    "empty-class": Kind(
        "a class without an image to train on",
        "it cannot be learned",
        (
            (
                "class {class_name}: {objects} objects, all of them crowds (iscrowd 1) or boxes without an outline, "
                "which are not labelled",
                "outlines of single objects",
            ),
            ("no class but {only} in any of {images} masks", "pixels of two classes or more"),
            ("no image", "images of the class"),
        ),
    ),
    "no-class": Kind(
        "an image that lies in no class folder",
        "what it shows is not known",
        (("no class folder above it", "a class"),),
        anchor="tasks/classify.md",
    ),
    "mask-like": Kind(
        "masks among the images of a classifier",
        "it would learn to tell masks from pictures",
        anchor="formats/dataset.md",
    ),
    "changed": Kind(
        "a file whose bytes are not those of an earlier check",
        "it was changed on purpose, or it has rotted",
        (("SHA-256 {sha256}", "{earlier}, as at an earlier check"),),
        anchor="formats/dataset.md#what-check-looks-for",
    ),
    "declaration": Kind(
        "a declaration that does not fit the files",
        "the data set cannot be opened",
        (("{name!r}", "every class folder on one line"),),
        anchor="formats/dataset.md",
        expected="a data set, see the README",
        fix="correct it in the file that is named",
    ),
    # Warnings
    "box-only": Kind(
        "an object with a box but no outline; its box is not labelled",
        "nothing is learned from the pixels of the box",
        (("{part} has a box but no outline", "polygons or run lengths"),),
        "warning",
    ),
    "flat-outline": Kind(
        "an object whose outline encloses nothing",
        "its pixels are taken for the background",
        (("all corners of {part} are on one line", "a polygon with an area"),),
        "warning",
    ),
    "near-duplicate": Kind(
        "nearly the same picture in two parts of the data set",
        "scores may be too good",
        (("in {part}: nearly {twin} in {twin_part}", "pictures of their own in every part"),),
        "warning",
    ),
    "duplicate": Kind(
        "the same picture twice in one part",
        "it counts twice",
        ((_TWO_PARTS, "every picture once"),),
        "warning",
    ),
    "all-ignored": Kind(
        "a mask without a labelled pixel",
        "nothing is learned from it",
        (("no labelled pixel", "some"),),
        "warning",
        "tasks/unlabelled.md",
    ),
    "constant-image": Kind(
        "an image of one value",
        "it shows nothing; a camera or a copy may have failed",
        (("one value in all pixels", "a picture"),),
        "warning",
    ),
    "wrong-ending": Kind(
        "a file whose ending is not that of its format",
        "other programs may not open it",
        (("a {format} file", "{ending}"),),
        "warning",
    ),
    "absent-class": Kind(
        "a class without a pixel in a part",
        "scores of it are absent there, or it is not learned",
        (
            ("class {class_id} ({class_name}) has no pixel in {part}", "pixels of every class"),
            ("no {class_name}", "every class"),
        ),
        "warning",
        "tasks/unbalanced.md",
    ),
    "rare-class": Kind(
        "a class with very few pixels",
        "it is hardly learned unless its pixels are drawn more often",
        (
            (
                "class {class_id} ({class_name}) has {pixels} px in {images} images",
                "a share of {least:g} or more",
            ),
        ),
        "warning",
        "tasks/unbalanced.md",
    ),
    "few-levels": Kind(
        "images that use a small part of their scale",
        "the network sees 8 bits, in which they are nearly flat",
        (
            ("{kept} of {stored} grey levels are left at 8 bits (median of {images} images)", "{least} or more"),
            ("{dark} of {images} images of 8 bits hold no value but 0 and 1", "0 to 255"),
        ),
        "warning",
    ),
    "unread-file": Kind(
        "files of a format that is not read, among those that are",
        "they are passed over",
        (("{count} files *{ending}, such as {example}", "{endings}"),),
        "warning",
    ),
    "no-mask": Kind(
        "a part without any mask, left out", "it cannot be scored", (("no masks", "masks"),), severity="warning"
    ),
    "mixed-modes": Kind(
        "grey and colour images in one data set",
        "grey images are read as colour",
        (("{modes}", "one kind"),),
        "warning",
    ),
}
