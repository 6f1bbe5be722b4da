"""Images for a classifier: each decoded once, brought to the network's size, and kept where they fit in memory."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unetres_edge.errors import Fix, UnetresError
from unetres_edge.images.preprocessing import Preprocessing

from .class_folders import ClassFolders, LabelledImage
from .findings import Finding, Where, finding_of, refuse, relative
from .records import in_parallel

_MEMORY = 2 << 30  # bytes of images at the network's size; beyond, they are decoded again when they are needed
_MOST_LEVELS = 1024  # sizes told apart in a report


@dataclass(frozen=True)
class ImageLook:
    """What one decoding of an image told.

    Args:
        size: (height, width) in px.
        mode: "grey uint8", "colour uint8", ...
        grey: whether the image has no colour.
        content: SHA-256 of the decoded pixels.
        small: (h, w, 1 or 3) uint8, the image at the network's size before its channels are made; None if not kept.
        fault: why the image cannot be used, or None.
    """

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    grey: bool = True
    content: str = ""
    small: np.ndarray | None = None
    fault: Finding | None = None


class LabelledImages:
    """The images of one part at the network's size: `images[i]` gives (h, w, channels) uint8 as `prepare` makes them.

    `samples` says where each comes from, `labels` holds (N,) int64 class ids, `names` the names.

    Args:
        dataset: what they are of.
        samples: the images.
        looks: what decoding them told.
        pre: how they meet the network; "resize" or "letterbox".
    """

    def __init__(
        self, dataset: ClassFolders, samples: Sequence[LabelledImage], looks: Sequence[ImageLook], pre: Preprocessing
    ) -> None:
        self.samples = tuple(samples)
        self.class_names = dataset.class_names
        self.labels = np.array([sample.label for sample in samples], np.int64)
        self.names = tuple(sample.name for sample in samples)
        self.pre = pre
        self._kept = [None if look.small is None else _with_channels(look.small, pre) for look in looks]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> np.ndarray:
        kept = self._kept[index]
        if kept is not None:
            return kept
        image = self.samples[index].image.read()
        return self.pre.place(*image.shape[:2]).image(self.pre.prepare(image))

    def class_weights(self) -> tuple[float, ...]:
        """Return N / (K n_c) for each class: N images in all and n_c of the class, of K classes that are present."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        present = int((counts > 0).sum())
        return tuple(len(self) / (present * int(n)) if n else 1.0 for n in counts)


@dataclass(frozen=True)
class LooksOf:
    """What decoding a data set told: `looks[part]` in the order of `dataset.splits[part]`, and copies among them."""

    dataset: ClassFolders
    looks: dict[str, tuple[ImageLook, ...]]
    copies: tuple[Finding, ...]

    @property
    def grey(self) -> bool:
        """Whether no image has colour."""
        return all(look.grey for part in self.looks.values() for look in part)

    @property
    def faults(self) -> list[Finding]:
        """Return the images that cannot be used."""
        return [look.fault for part in self.looks.values() for look in part if look.fault]

    def images(self, part: str, pre: Preprocessing) -> LabelledImages:
        """Return the images of a part."""
        return LabelledImages(self.dataset, self.dataset.splits[part], self.looks[part], pre)

    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """Return ((height, width), images), the most frequent first."""
        return Counter(look.size for part in self.looks.values() for look in part if not look.fault).most_common(
            _MOST_LEVELS
        )

    def modes(self) -> dict[str, int]:
        """Return mode -> images."""
        return dict(Counter(look.mode for part in self.looks.values() for look in part if not look.fault).most_common())


def look_at_images(
    dataset: ClassFolders, pre: Preprocessing | None, *, strict: bool = True, progress: bool = True
) -> LooksOf:
    """Decode every image of a data set once.

    Args:
        pre: how images meet the network; its channels are those that are asked for, and where the images shall
            decide, 3. None to keep no pixel.
        strict: raise on images that cannot be used.
        progress: show a progress bar on standard error.

    Raises:
        DataError: every image that cannot be decoded or has a form that is refused, in one error.
    """
    pairs = [(part, image) for part, images in dataset.splits.items() for image in images]
    kept = 0
    looks: dict[str, list[ImageLook]] = defaultdict(list)

    def look(pair: tuple[str, LabelledImage]) -> ImageLook:
        return _look(pair[1], dataset, pre)

    for (part, _), found in zip(pairs, in_parallel(look, pairs, progress=progress), strict=True):
        kept += 0 if found.small is None else found.small.nbytes
        looks[part].append(found if kept <= _MEMORY else replace(found, small=None))
    every = [look for of_part in looks.values() for look in of_part]
    copies = tuple(_find_copies(dataset, pairs, every))
    made = LooksOf(dataset, {part: tuple(of_part) for part, of_part in looks.items()}, copies)
    if strict:
        faults = made.faults
        refuse(faults, f"{len(faults)} of {len(pairs)} images cannot be used", dataset.root)
    return made


def _look(sample: LabelledImage, dataset: ClassFolders, pre: Preprocessing | None) -> ImageLook:
    try:
        image = sample.image.read()
        grey = image.ndim == 2 or bool((image == image[..., :1]).all())
        flat = image.ndim == 2 or image.shape[-1] == 1
        # The colour order and the channels follow when all images are known; neither changes how one is scaled.
        channels = 1 if flat or (pre is not None and pre.channels == 1) else 3
        form = replace(pre or Preprocessing(fit="resize"), channels=channels, color_order="rgb", mean=(0,), std=(1,))
        prepared = form.prepare(image)
        small = None if pre is None else form.place(*image.shape[:2]).image(prepared)
    except UnetresError as error:
        return ImageLook(fault=finding_of(error, sample.image.file, dataset.root))
    digest = hashlib.sha256(f"{image.dtype}{image.shape}".encode() + np.ascontiguousarray(image).tobytes())
    mode = f"{'grey' if flat else 'colour'} {image.dtype}"
    return ImageLook((image.shape[0], image.shape[1]), mode, grey, digest.hexdigest(), small)


def _with_channels(small: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """Return a scaled image in the network's channels and colour order."""
    return replace(pre, per_image=None).prepare(small)


def _find_copies(
    dataset: ClassFolders, pairs: Iterable[tuple[str, LabelledImage]], looks: Iterable[ImageLook]
) -> Iterator[Finding]:
    """Yield a fault for each image whose pixels are those of one in another class, another part, or the same."""
    first: dict[str, tuple[str, LabelledImage]] = {}
    for (part, image), look in zip(pairs, looks, strict=True):
        if look.fault or not look.content:
            continue
        if look.content not in first:
            first[look.content] = (part, image)
            continue
        other_part, other = first[look.content]
        same_class = "leak" if part != other_part else "duplicate"
        kind = same_class if image.label == other.label else "two-classes"
        file, known = (relative(i.image.file, dataset.root) for i in (image, other))
        figures = {"part": part, "twin": known, "twin_part": other_part}
        fix = Fix(f"remove {file}" + (f", or {known}" if kind == "two-classes" else ""))
        yield Finding(kind, Where(file), figures, fix)
