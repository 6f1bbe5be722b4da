"""Segmentation of image files: many images in, one indexed PNG each out."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import DataError, ExistsError, FileSystemError, Fix, ImageError, UnetresError, UsageError
from ..files import check_report, check_writable, has_no_room, make_folder, name_key, write_bytes, write_json
from ..frames.source import FrameSource, open_frames, shown_word
from ..frames.video import written_video
from ..images.decode import read_image
from ..images.preprocessing import IGNORE
from ..images.view import to_view
from ..model.familiarity import Familiarity
from ..results import draw
from ..results.result import Result
from .drift import Drift, DriftTest
from .inputs import find_images
from .segmenter import Segmenter
from .stacks import output_files, page_name, segment_stack, stack_pages
from .stream import Stream
from .unfamiliar import ON_UNFAMILIAR

__all__ = ["MoreFiles", "find_images", "predict_files", "refuse_collisions", "say_faults", "written_status"]

_NAMED = 20  # faults that an error spells out
_FRAME = re.compile(r"(\d{6}|[1-9]\d{6})[._]")  # how the files of a frame begin; a date has more digits
_ANY = "any"  # name of an output, whichever it is
_SECONDS = 5  # between two words of how far a source of frames is


class MoreFiles(Protocol):
    """What else `predict_files` writes for each image, made from its scores."""

    def names(self, stem: str) -> Sequence[str]:
        """Return the names of the files for an image whose outputs begin so."""
        ...

    def make(self, stem: str, image: np.ndarray, result: Result) -> tuple[Mapping[str, bytes], Mapping[str, Any]]:
        """Return the content of each of these files, and JSON values for the image's status.

        Args:
            image: (H, W, 3) uint8, to draw on.
            result: a result with scores.

        Raises:
            DataError: this image cannot be written so; the others go on.
        """
        ...


@dataclass(frozen=True)
class Wanted:
    """What is written of an image beside its class map.

    Args:
        folder: the folder of all outputs.
        overlay, geojson, more: as `predict_files` takes them.
    """

    folder: Path
    overlay: bool = False
    geojson: bool = False
    more: MoreFiles | None = None


def predict_files(
    segmenter: Segmenter,
    images: Sequence[Path | FrameSource],
    out: str | os.PathLike[str],
    *,
    overlay: bool = False,
    geojson: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int, Path, dict[str, float]], None] | None = None,
    json_file: str | os.PathLike[str] | None = None,
    more: MoreFiles | None = None,
    names: Sequence[str] | None = None,
    every: int = 1,
    count: int | None = None,
    on_unfamiliar: str = "warn",
    warn: Callable[[str, Result], None] | None = None,
    drifted: Callable[[str, Drift], None] | None = None,
    abstain: bool = False,
    failed: Callable[[int, int, UnetresError], None] | None = None,
) -> list[Path]:
    """Segment image files and write `<name>.png`, an indexed PNG of the class ids at the image's own size.

    Of a TIFF of several pages that are no channels, `<name>.tif` has a page of class ids for each; more files of a page
    lie in the folder `<name>`. Of a video, a camera or an address, the folder `<name>` has a class map for each frame
    that was taken, by its number: `000000.png`.

    Args:
        images: files of images, and sources of frames.
        names: names of the outputs of each image, without an ending, perhaps in folders below `out`; None for the
            stems.
        overlay: whether to write `<name>_overlay.png`, too; of frames `<name>_overlay.mp4`, which needs PyAV.
        geojson: whether to write `<name>.geojson`, too, the polygons of every class but the background, in px.
        overwrite: whether to replace files that exist; without it, any collision is refused before the first image.
        progress: callback, called after each image with (done, all, image, milliseconds by stage); of frames now and
            then, too, with the sums, and their number as "frames".
        json_file: file for what became of each image: {"images": [{"image", "class_map", "ms", "error"}]},
            and of more files "files" and what `more` says; of frames "frames", their number, and "ms" in the mean.
            Where the model can tell, "familiarity", "doubt", "quality" and "warnings" of a result, and "drift", what
            `DriftTest` says of the images so far; of frames, how many are "unfamiliar", and their "drift" by the last
            one.
        more: makes more files of each image's scores.
        every: step from one frame that is taken to the next.
        count: number of frames that are taken; None for all, of a camera until Ctrl-C.
        on_unfamiliar: treatment of an image unlike the training images: "warn", "skip" (nothing is written of it) or
            "fail" (nothing is written of it, and it is an error once all others are done).
        warn: callback, called with the name of such an image and its result.
        drifted: callback, called with the name of an image, or a source of frames, at which images became unlike the
            held-out ones, all in all, and with since when.
        abstain: whether to give up the pixels that the model's promises give up; the status has "given_up", their
            share.
        failed: callback, called with (done, all, error) where an image fails; the error at the end then only counts.

    Returns:
        The class map files.

    Raises:
        ExistsError: an output exists already, or is one of the images.
        UsageError: two outputs of one name, such as a.png's overlay and the class map of a_overlay.png; or more files
            of a model with an argmax head, which has no scores; or what reads a video is not installed.
        DataError: images that could not be read, or that fail; all others are done, and the status file is there.
        FileSystemError: outputs that the system does not take, likewise, such as a name that is too long; a full disk,
            which ends the work.
    """
    wanted = Wanted(Path(out), overlay, geojson, more)
    names = (
        [image.name if isinstance(image, FrameSource) else image.stem for image in images] if names is None else names
    )
    pages = [1 if isinstance(i, FrameSource) else stack_pages(i, stacked=segmenter.card.stacked) for i in images]
    if more and segmenter.card.head == "argmax":
        raise UsageError("a model with an argmax head has no scores", fix="export it with --head logits")
    _refuse_unfamiliar(segmenter, images, pages, on_unfamiliar)
    if abstain:
        _single_images(images, pages, "--abstain")
    targets, outputs = _outputs(images, names, pages, wanted)
    status_files = [] if json_file is None else [Path(json_file)]
    paths = [image.file if isinstance(image, FrameSource) else image for image in images]
    said = [shown_word(image.word) if isinstance(image, FrameSource) else os.fspath(image) for image in images]
    refuse_collisions(paths, [*targets, *outputs, *status_files], overwrite)
    for folder in dict.fromkeys(target.parent for target in targets):
        check_writable(make_folder(folder) / _ANY)
    written: list[Path] = []
    faults: list[UnetresError] = []
    judge = _Judge(segmenter.card.familiarity, on_unfamiliar, warn, drifted)

    def one(number: int) -> dict[str, object]:
        image, name, target = images[number], names[number], targets[number]

        def tell(timing: dict[str, float], done: int = 1) -> None:
            if progress:
                progress(number + done, len(images), paths[number], timing)

        def say_drift(latest: Drift) -> None:
            if drifted:
                drifted(said[number], latest)

        extra: dict[str, Any] = {}
        if isinstance(image, FrameSource):
            extra, timing = segment_frames(
                segmenter, image, name, wanted, written, every, count, overwrite, tell, say_drift
            )
            tell(timing)
            timing = {stage: value / timing["frames"] for stage, value in timing.items() if stage != "frames"}
        elif pages[number] > 1:
            files = output_files(wanted.folder, name, pages[number])
            drawn, shapes = files[1] if overlay else None, files[2] if geojson else None
            extra = {"files": []} if more else {}
            each = None if more is None else _page_writer(more, name, wanted.folder, extra["files"])
            timing = segment_stack(segmenter, image, pages[number], target, drawn, shapes, each)
            written.append(target)
            tell(timing)
        else:
            pixels = read_image(image, stacked=segmenter.card.stacked)
            result = segmenter.segment(pixels, scores=more is not None, abstain=abstain)
            extra, timing = judge.look(said[number], result), result.timing
            if abstain:
                extra["given_up"] = round(float((result.class_map == IGNORE).mean()), 5)
            if result.warnings and on_unfamiliar == "skip":
                return {"image": said[number], "class_map": None, "ms": _rounded(timing), "error": None, **extra}
            extra |= write_result(name, to_view(pixels, segmenter.card.show), result, wanted, written)
            tell(timing)
        return {
            "image": said[number], "class_map": os.fspath(target), "ms": _rounded(timing), "error": None, **extra
        }  # fmt: skip

    with written_status(json_file, said, {"class_map": None, "ms": None}) as status:
        for number, image in enumerate(said):
            try:
                status.append(one(number))
            except (DataError, FileSystemError) as error:
                error.file = error.file or image
                faults.append(error)
                if failed:
                    failed(number + 1, len(images), error)
                map_file = os.fspath(targets[number]) if written[-1:] == [targets[number]] else None
                status.append({"image": image, "class_map": map_file, "ms": None, "error": str(error)})
                if has_no_room(error):
                    done = number + 1 - len(faults)
                    error.remedy = Fix(f"make room; {done} of {len(images)} images are done, the others were not begun")
                    raise
    say_faults(faults, len(images), "segmented", told=failed is not None)
    return written


def _rounded(timing: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in timing.items()}


class _Judge:
    """Tells of one image after the other how like the training images it is, and refuses one that is to fail.

    Args:
        known: statistics of the training images, from the card; None where the file has none.
        on_unfamiliar, warn, drifted: as `predict_files` takes them.
    """

    def __init__(
        self,
        known: Familiarity | None,
        on_unfamiliar: str,
        warn: Callable[[str, Result], None] | None,
        drifted: Callable[[str, Drift], None] | None,
    ) -> None:
        self._on_unfamiliar, self._warn, self._drifted = on_unfamiliar, warn, drifted
        self._test = None if known is None or not known.known else DriftTest(known)

    def look(self, name: str, result: Result) -> dict[str, Any]:
        """Return what the status of an image says of it.

        Raises:
            ImageError: it is unlike the training images, and such an image is to fail.
        """
        figures = _familiarity(result)
        if self._test is not None and result.familiarity is not None:
            if self._test.add(result.familiarity) and self._drifted:
                self._drifted(name, self._test.drift)
            figures["drift"] = self._test.drift.to_dict()
        if result.warnings and self._warn:
            self._warn(name, result)
        if result.warnings and self._on_unfamiliar == "fail":
            raise ImageError(
                "unlike the training images",
                found=f"{'; '.join(result.warnings)} (familiarity {result.familiarity:.3f})",
                fix="look at it; --on-unfamiliar warn or skip lets it pass",
            )
        return figures


def _familiarity(result: Result) -> dict[str, Any]:
    """Return what the status of an image says of its being like the training images; nothing where nothing is known."""
    if result.familiarity is None:
        return {}
    told = {"familiarity": result.familiarity, "doubt": result.doubt, "quality": result.quality}
    figures = {key: round(value, 5) for key, value in told.items() if value is not None}
    return {**figures, "warnings": list(result.warnings)}


def _refuse_unfamiliar(
    segmenter: Segmenter, images: Sequence[Path | FrameSource], pages: Sequence[int], on_unfamiliar: str
) -> None:
    """Refuse what cannot be done with images unlike the training images."""
    if on_unfamiliar not in ON_UNFAMILIAR:
        raise UsageError("on_unfamiliar is wrong", expected=" or ".join(ON_UNFAMILIAR), found=on_unfamiliar)
    if on_unfamiliar == "warn":
        return
    known = segmenter.card.familiarity
    if known is None or not known.known:
        raise UsageError(
            "the model file cannot tell images unlike its training images",
            fix="run `unetres calibrate` on it, with its data set, or drop --on-unfamiliar",
        )
    _single_images(images, pages, f"--on-unfamiliar {on_unfamiliar}")


def _single_images(images: Sequence[Path | FrameSource], pages: Sequence[int], what: str) -> None:
    """Refuse stacks and sources of frames."""
    several = next((i for i, n in zip(images, pages, strict=True) if n > 1 or isinstance(i, FrameSource)), None)
    if several is not None:
        raise UsageError(
            f"{what} is for single images",
            found=several.word if isinstance(several, FrameSource) else several,
            fix="save each as its own file, or drop it",
        )


def _outputs(
    images: Sequence[Path | FrameSource], names: Sequence[str], pages: Sequence[int], wanted: Wanted
) -> tuple[list[Path], list[Path]]:
    """Return the class map of each image, of frames their folder, and all other files that can be told before."""
    targets, others = [], []
    for image, name, count in zip(images, names, pages, strict=True):
        if isinstance(image, FrameSource):
            targets.append(wanted.folder / name)
            others += [wanted.folder / f"{name}_overlay.mp4"] * wanted.overlay
            continue
        target, overlay, shapes = output_files(wanted.folder, name, count)
        targets.append(target)
        others += [overlay] * wanted.overlay + [shapes] * wanted.geojson
        called = [name] if count == 1 else [page_name(name, page) for page in range(count)]
        others += [wanted.folder / file for each in called for file in (wanted.more.names(each) if wanted.more else ())]
    return targets, others


def _page_writer(
    more: MoreFiles, name: str, folder: Path, written: list[str]
) -> Callable[[int, np.ndarray, Result], None]:
    """Return what writes more files of a page of a stack, and adds them to `written`."""

    def write(page: int, view: np.ndarray, result: Result) -> None:
        files, _ = more.make(page_name(name, page), view, result)
        for file, data in files.items():
            make_folder((folder / file).parent)
            write_bytes(folder / file, data)
            written.append(os.fspath(folder / file))

    return write


def write_result(name: str, view: np.ndarray, result: Result, wanted: Wanted, written: list[Path]) -> dict[str, Any]:
    """Write the files of one image; return what its status says of them.

    Args:
        name: of the outputs.
        view: (H, W, 3) uint8, the image to draw on.
        result: its result, with scores if more is wanted.
        written: gets the class map's file as soon as it is there.
    """
    more, folder = wanted.more, wanted.folder
    target, overlay, shapes = output_files(folder, name, 1)
    files, said = more.make(name, view, result) if more else ({}, {})
    write_bytes(target, draw.encode_class_map(result.class_map, result.class_colors))
    written.append(target)
    if wanted.overlay:
        write_bytes(overlay, draw.encode_png(result.overlay(view)))
    if wanted.geojson:
        write_json(shapes, result.geojson())
    for file, data in files.items():
        write_bytes(folder / file, data)
    return {**said, "files": [os.fspath(folder / file) for file in files]} if more else {}


def segment_frames(
    segmenter: Segmenter,
    source: FrameSource,
    name: str,
    wanted: Wanted,
    written: list[Path],
    every: int,
    count: int | None,
    overwrite: bool,
    tell: Callable[[dict[str, float], int], None],
    say_drift: Callable[[Drift], None],
) -> tuple[dict[str, object], dict[str, float]]:
    """Write the files of a source's frames; return what its status says, and the sums of their times in ms.

    Ctrl-C ends a camera as its last frame does. What was done before a video breaks off stays.

    Raises:
        UnetresError: as `open_frames`, `write_result` and `written_video` say.
    """
    frames = open_frames(source.word, every=every, count=count)
    make_folder(wanted.folder / name)
    video = written_video(wanted.folder / f"{name}_overlay.mp4") if wanted.overlay else contextlib.nullcontext()
    sums: dict[str, float] = {"frames": 0}
    unfamiliar = 0
    drift: Drift | None = None
    ended: BaseException | None = None
    each = replace(wanted, overlay=False)
    begin = said = time.monotonic()
    with contextlib.closing(frames), video as writer:
        try:
            for frame in Stream(segmenter, frames, drop=frames.live, scores=wanted.more is not None):
                seconds = frame.index / frames.rate if frames.rate else time.monotonic() - begin
                view = to_view(frame.image)
                unfamiliar += bool(frame.result.warnings)
                drift = frame.drift
                if frame.drifts and drift is not None:
                    say_drift(drift)
                write_result(f"{name}/{frame.index * every:06d}", view, frame.result, each, written)
                if writer:
                    writer.write(frame.result.overlay(view), seconds)
                for stage, ms in {"frames": 1.0, **frame.result.timing}.items():
                    sums[stage] = sums.get(stage, 0.0) + ms
                if time.monotonic() - said > _SECONDS:
                    said = time.monotonic()
                    tell(sums, 0)
        except (KeyboardInterrupt, DataError, FileSystemError) as error:
            ended = error
        if ended is not None and not sums["frames"]:
            raise ended
    if ended is not None and not (isinstance(ended, KeyboardInterrupt) and frames.live):
        raise ended
    if overwrite:
        _remove_others(wanted.folder / name, written)
    known = {} if drift is None else {"unfamiliar": unfamiliar, "drift": drift.to_dict()}
    return {"frames": int(sums["frames"]), **known}, sums


def _remove_others(folder: Path, written: Sequence[Path]) -> None:
    """Remove files of frames that an earlier run wrote and this one did not take."""
    now = {path.stem for path in written if path.parent == folder}
    for path in folder.iterdir():
        number = _FRAME.match(path.name)
        if number and number[1] not in now:
            path.unlink()


@contextlib.contextmanager
def written_status(
    file: str | os.PathLike[str] | None, images: Sequence[str | Path], nothing: Mapping[str, object]
) -> Iterator[list[dict[str, object]]]:
    """Yield the list of what became of each image, and write it whatever ends the work.

    Args:
        file: the JSON file; None for none.
        images: files, or what they are called, in the order of the list.
        nothing: further keys of an image that was not reached.

    Raises:
        ExistsError, UsageError: something else than an earlier list is in its place, or it has another ending.
    """
    status: list[dict[str, object]] = []
    if file is not None:
        make_folder(Path(file).parent)
        check_report(file, {"images": [dict.fromkeys(("image", "ms", "error"))]})
    try:
        yield status
    finally:
        if file is not None:
            left = ({"image": os.fspath(i), **nothing, "error": "not reached"} for i in images[len(status) :])
            write_json(file, {"images": [*status, *left]})


def say_faults(faults: Sequence[UnetresError], count: int, done: str, *, told: bool = False) -> None:
    """Raise what kept images of `count` from being done, as one error, or return if nothing did.

    Args:
        done: what was to be done with the images.
        told: whether each fault was said where it happened, so that their number is enough.
    """
    if len(faults) == 1:
        raise faults[0]
    if faults:
        kind = DataError if any(isinstance(fault, DataError) for fault in faults) else FileSystemError
        more = f" | {len(faults) - _NAMED} more, in the file of --json" if len(faults) > _NAMED else ""
        why = "" if told else ": " + " | ".join(map(str, faults[:_NAMED])) + more
        above = "the lines above say why; " if told else ""
        raise kind(
            f"{len(faults)} of {count} images could not be {done}{why}",
            fix=f"{above}replace or remove them; the others are done",
        )


def refuse_collisions(images: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse outputs that exist, that are inputs, or that two images would share.

    Raises:
        ExistsError, UsageError: as `predict_files` says.
    """
    inputs = {os.path.realpath(image) for image in images}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise ExistsError("the output would replace an input image", file=target, fix="choose another --out")
    places = Counter((target.parent, name_key(target.name)) for target in targets)
    twins = sorted(str(target) for target in targets if places[target.parent, name_key(target.name)] > 1)
    if twins:
        raise UsageError("two outputs would be written to one file", file=twins[0], fix="rename one of the images")
    existing = [target for target in targets if os.path.exists(target)]  # False for a name that is too long
    if existing and not overwrite:
        raise ExistsError(
            f"{len(existing)} of {len(targets)} output files exist already",
            file=existing[0],
            fix="choose another --out, or pass --overwrite",
        )
