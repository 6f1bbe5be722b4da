"""Class maps on a Dask cluster: of one dask array, block by block, and of many files, file by file.

An array is cut along the cores of the mode "exact", and each block is made by the tiles that one machine alone would
lay there. So the map is that of `Segmenter.segment_large`, in every pixel. Workers get the model file's bytes, verify
them, and keep the loaded model for the next block. Needs dask.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, FileSystemError, UnetresError, UsageError
from ..files import Contents, check_writable, make_folder, read_bytes, read_contents
from ..model.card import Card, read_card
from .files import predict_files, refuse_collisions, say_faults, written_status
from .large import Strips, image_shape, level_counts, padded_size, percentiles_of, plan
from .segmenter import Segmenter
from .stacks import output_files, stack_pages
from .tiles import Core, cut_rows

_COLUMNS = 8  # tiles side by side in a block


def segment_dask(model: Contents, image: Any, *, num_threads: int | None = 1) -> Any:
    """Return the class map of a dask array as a dask array (H, W) uint8, in the mode "exact"; nothing is run yet.

    Args:
        model: path or bytes of a `.tflite` with a card that tells halo and stride.
        image: (H, W) or (H, W, C) dask array, as `Segmenter.segment_large` takes sources.
        num_threads: threads of one inference; a worker runs as many at a time as it has threads of its own.

    Raises:
        UsageError: dask is not installed, or this model cannot work in tiles that are exact.
        ImageError: floats, where percentiles of the whole image are asked.
        ModelDamagedError, CardMissingError: as `read_card` says.
    """
    array, delayed = _dask()
    data, file = read_contents(model, "model file")
    card = read_card(data, file=file)
    shape = image_shape(image)
    size = shape[0], shape[1]
    high, wide = plan(card, size, "exact", None)
    padded = padded_size(card, size, "exact")
    limits = _limits(image, card, delayed)
    bytes_once = delayed(data, pure=True)
    tile = card.preprocessing.size
    rows = []
    for core in high:
        if core.first >= size[0]:
            break
        blocks = []
        for at in range(0, len(wide), _COLUMNS):
            group = wide[at : at + _COLUMNS]
            if group[0].first >= size[1]:
                break
            spot = slice(core.origin, core.origin + tile[0]), slice(group[0].origin, group[-1].origin + tile[1])
            part = delayed(_block, pure=True)(bytes_once, image[spot], core, group, size, padded, limits, num_threads)
            block = min(core.end, size[0]) - core.first, min(group[-1].end, size[1]) - group[0].first
            blocks.append(array.from_delayed(part, block, np.uint8))
        rows.append(array.concatenate(blocks, axis=1))
    return array.concatenate(rows, axis=0)


def _block(
    data: bytes,
    part: np.ndarray,
    core: Core,
    group: Sequence[Core],
    size: tuple[int, int],
    padded: tuple[int, int],
    limits: tuple[float, float] | None,
    num_threads: int | None,
) -> np.ndarray:
    """Return the labels of one row of tiles, from the part of the image below them."""
    segmenter = _segmenter(data, num_threads)
    pre = segmenter.card.preprocessing
    left, top = group[0].origin, core.origin
    width = min(padded[1], group[-1].origin + pre.size[1]) - left
    strips = Strips(part, pre, (pre.size[0], width), pre.size[0], limits)
    moved = [Core(each.origin - left, each.first - left, each.end - left) for each in group]
    here = Core(0, core.first - top, core.end - top)
    ((_, labels),) = cut_rows(strips, pre.size, ([here], moved), segmenter.engine.run_labels)
    return labels[: size[0] - core.first, : size[1] - group[0].first]


@functools.lru_cache(maxsize=2)
def _segmenter(data: bytes, num_threads: int | None) -> Segmenter:
    return Segmenter(data, num_threads=num_threads)


def _limits(image: Any, card: Card, delayed: Callable[..., Any]) -> tuple[float, float] | None:
    """Return the percentiles that are stretched, counted by the workers."""
    pre = card.preprocessing
    if pre.per_image is None:
        return None
    starts = range(0, image.shape[0], 4 * pre.size[0])
    counts = [delayed(level_counts)(image[row : row + 4 * pre.size[0]], pre.channels) for row in starts]
    return percentiles_of(delayed(sum)(counts).compute(), pre.per_image)


def predict_on_cluster(
    model: str | os.PathLike[str],
    images: Sequence[Path],
    out: str | os.PathLike[str],
    address: str,
    *,
    overlay: bool = False,
    geojson: bool = False,
    overwrite: bool = False,
    overlap: int | None = None,
    progress: Callable[[int, int, Path, dict[str, float]], None] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[Path]:
    """Do what `predict_files` does with many files, each on the next free worker of a cluster.

    The workers see the images, and the folder `out`, under the same paths.

    Args:
        address: address of the scheduler, such as tcp://10.0.0.1:8786.
        overlap: px shared by neighbouring tiles; None for the segmenter's own choice.
        names: names of the outputs, as `predict_files` takes them.

    Raises:
        UsageError: dask.distributed is not installed, or no scheduler answers.
        UnetresError: as `predict_files` says.
    """
    distributed = _distributed()
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    folder = Path(out)
    names = [image.stem for image in images] if names is None else names
    pages = [stack_pages(image, stacked=card.stacked) for image in images]
    outputs = [output_files(folder, name, count) for name, count in zip(names, pages, strict=True)]
    targets = [each[0] for each in outputs]
    overlays = [each[1] for each in outputs] if overlay else []
    shapes = [each[2] for each in outputs] if geojson else []
    refuse_collisions(images, [*targets, *overlays, *shapes, *([Path(json_file)] if json_file else [])], overwrite)
    check_writable(make_folder(folder) / targets[0].name)
    try:
        client = distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError("no Dask scheduler answers", expected="such as tcp://10.0.0.1:8786", found=address) from error
    with client:
        shared = client.scatter(data, broadcast=True)
        where = str(folder.absolute())
        futures = [
            client.submit(
                _predict_one, shared, str(image.absolute()), name, where, overlay, geojson, overlap, pure=False
            )
            for image, name in zip(images, names, strict=True)
        ]
        numbers = {future.key: number for number, future in enumerate(futures)}
        answers: list[tuple[dict[str, float], UnetresError | None] | None] = [None] * len(images)
        with written_status(json_file, images, {"class_map": None, "ms": None}) as status:
            try:
                for done, (future, answer) in enumerate(distributed.as_completed(futures, with_results=True), 1):
                    number = numbers[future.key]
                    answers[number] = answer
                    if progress and answer[1] is None:
                        progress(done, len(images), images[number], answer[0])
            finally:
                status += [_status(*each) for each in zip(images, targets, answers, strict=True)]
    faults = [answer[1] for answer in answers if answer is not None and answer[1] is not None]
    say_faults(faults, len(images), "segmented")
    return targets


def _status(image: Path, target: Path, answer: Any) -> dict[str, object]:
    timing, error = answer or ({}, "not reached")
    if error is not None:
        return {"image": os.fspath(image), "class_map": None, "ms": None, "error": str(error)}
    ms = {stage: round(value, 3) for stage, value in timing.items()}
    return {"image": os.fspath(image), "class_map": os.fspath(target), "ms": ms, "error": None}


def _predict_one(
    data: bytes, image: str, name: str, folder: str, overlay: bool, geojson: bool, overlap: int | None
) -> tuple[dict[str, float], UnetresError | None]:
    """Predict one file on a worker; return its times, and what was wrong with it."""
    times: dict[str, float] = {}
    loaded = _segmenter(data, None)
    segmenter = loaded if overlap is None else Segmenter(None, card=loaded.card, engine=loaded.engine, overlap=overlap)
    try:
        predict_files(
            segmenter,
            [Path(image)],
            folder,
            overlay=overlay,
            geojson=geojson,
            overwrite=True,  # what is there was refused before, or may be replaced
            progress=lambda done, total, path, timing: times.update(timing),
            names=[name],
        )
    except (DataError, FileSystemError) as error:
        return times, error
    return times, None


def _dask() -> tuple[Any, Any]:
    try:
        import dask.array
        from dask import delayed
    except ImportError as error:
        raise UsageError("dask is not installed", fix="pip install 'dask[array]' distributed") from error
    return dask.array, delayed


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError("dask.distributed is not installed", fix="pip install 'dask[array]' distributed") from error
    return distributed
