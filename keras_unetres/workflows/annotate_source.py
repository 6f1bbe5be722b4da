"""A data set that is opened for correction: its images with what can be read of their masks, and what a check says.

A mask that a training would refuse is no reason to refuse it here, where it can be mended: what is known of it is
kept, the rest is not painted, and the page opens it at the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import DataError
from unetres_edge.images.decode import IMAGE_SUFFIXES
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.terminal import counted

from ..painting.folder import Found
from ..painting.raster import Box
from ..painting.review import OF_VALUES

if TYPE_CHECKING:
    import numpy as np

    from ..data.classes import Classes
    from ..data.dataset import Dataset
    from ..data.sources import Sample
    from ..doctor.check import Checkup


@dataclass(frozen=True)
class Opened:
    """What a project is made of.

    Args:
        found: the pictures.
        classes: names of the data set; None of mere pictures, as are colours and report.
        colors: likewise.
        report: of the check, as its JSON.
        boxes: where values of a mask are no classes, px, by the name of the image.
    """

    found: list[Found]
    classes: tuple[str, ...] | None = None
    colors: Sequence[tuple[int, int, int]] | None = None
    report: Mapping[str, Any] | None = None
    boxes: Mapping[str, Box] = field(default_factory=dict)


def open_to_correct(source: Path, say: Callable[[str], None]) -> Opened:
    """Open a data set with masks, whatever is wrong with some of them.

    Raises:
        DataError: it cannot be opened at all: nothing says what its masks mean.
    """
    from ..data.findings import refuse
    from ..doctor.check import check

    checkup = check(source, hashes="off")
    summary = checkup.summary
    if summary is None or summary.classes is None:
        refuse(checkup.faults, "the data set cannot be opened", source)
        raise DataError("nothing says what the masks mean", file=source, fix="unetres check")
    dataset, classes = summary.dataset, summary.classes
    samples = [(image.part, image.sample) for image in summary.images]
    names = [sample.name for _, sample in samples]
    faults, known = checkup.faults, counted(len(names), "image")
    say(f"note       {source} has masks: those of {known} are copied, to be corrected in the project")
    if faults:
        say(f"note       {counted(len(faults), 'fault')} in it, which the page opens one by one")
    found = []
    for part, sample in samples:
        name = f"{part}/{sample.name}" if names.count(sample.name) > 1 else sample.name
        path, page = _image_file(sample)
        found.append(Found(path, name, page, _mask_of(sample, dataset, classes)))
    found += _without_masks(checkup, dataset)
    found.sort(key=lambda each: each.name)
    boxes = dict(_boxes(checkup, dict(zip(names, (sample for _, sample in samples), strict=True)), dataset, classes))
    return Opened(found, classes.names, classes.colors, checkup.to_dict(), boxes)


def _image_file(sample: Sample) -> tuple[Path, int | None]:
    from ..data.sources import ImageFile

    if not isinstance(sample.image, ImageFile):
        raise DataError(
            "pictures that are no files cannot be linked to", file=sample.image.file, fix="save them as PNG or TIFF"
        )
    return sample.image.file, sample.image.page


def _without_masks(checkup: Checkup, dataset: Dataset) -> Iterator[Found]:
    """Yield the images that have no mask yet."""
    for finding in checkup.faults:
        file = dataset.base / finding.file
        if finding.kind == "missing-mask" and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
            yield Found(file, finding.where.image or finding.file)


def _mask_of(
    sample: Sample, dataset: Dataset, classes: Classes
) -> Callable[[], tuple[np.ndarray, np.ndarray | None] | None]:
    """Return what reads the class ids and the objects of a sample; None for a mask that cannot be read."""

    def read() -> tuple[np.ndarray, np.ndarray | None] | None:
        import numpy as np

        from ..data.records import look_at, record_of

        look = look_at(sample, dataset)
        if look.image is None or look.mask is None:
            return None
        strange = classes.strange(look.mask)
        if strange.any():
            look = replace(look, mask=np.where(strange, next(iter(classes.values or ())), look.mask))
        record = record_of(sample, look, classes)
        mask = np.where(strange, np.uint8(IGNORE), record.mask)
        return mask, None if record.instances is None else _numbered(record.instances)

    return read


def _boxes(
    checkup: Checkup, samples: Mapping[str, Sample], dataset: Dataset, classes: Classes
) -> Iterator[tuple[str, Box]]:
    """Yield the images whose masks have values that are no classes, and where."""
    import numpy as np

    from ..data.records import look_at

    for finding in checkup.findings:
        sample = samples.get(finding.where.image)
        if finding.kind not in OF_VALUES or sample is None:
            continue
        look = look_at(sample, dataset)
        strange = None if look.mask is None else classes.strange(look.mask)
        if strange is not None and strange.any():
            rows, columns = (np.flatnonzero(strange.any(axis)) for axis in (1, 0))
            yield sample.name, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _numbered(numbers: np.ndarray) -> np.ndarray:
    """Return objects numbered from 1 in uint16, whatever their numbers were; 0 and below are none."""
    import numpy as np

    found, places = np.unique(numbers, return_inverse=True)
    made = np.zeros(len(found), np.uint16)
    made[found > 0] = np.arange(1, (found > 0).sum() + 1)
    return made[places].reshape(numbers.shape)
