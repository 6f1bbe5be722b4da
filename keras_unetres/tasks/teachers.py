"""The teachers of a distillation: runs whose networks are loaded again, as `run.json` of the student names them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.files import read_bytes

from ..runs import Distillation, RunFolder, RunInfo
from ..training.training_data import TrainingData
from .loading import load_run

if TYPE_CHECKING:
    from ..training.distillation import Teachers

_WEIGHTS = "weights.safetensors"


def name_teachers(runs: Sequence[str | os.PathLike[str]], temperature: float, share: float) -> Distillation:
    """Return what `run.json` keeps of teachers, after a look at whether they can be joined.

    Raises:
        UsageError: none, a run twice, or runs of other classes or of another task than segmentation.
        RunFolderError: not a run folder, or one that is not trained yet.
    """
    paths = [os.path.abspath(run) for run in runs]
    if not paths or len(set(paths)) < len(paths):
        raise UsageError("the teachers are wrong", expected="one run or several different ones", found=", ".join(paths))
    infos = [RunFolder(path).read_info() for path in paths]
    for path, info in zip(paths, infos, strict=True):
        if info.model.builder not in ("build_fcn", "build_unet") or info.model.arguments.get("padding") == "valid":
            raise UsageError("a teacher has to be a padded U-Net or an FCN", file=path, found=info.model.builder)
        if info.model.arguments.get("head_activation") is not None:
            raise UsageError("a teacher has to end in logits", file=path, found="softmax")
        if info.classes.names != infos[0].classes.names:
            raise UsageError(
                "the teachers are of different classes",
                file=path,
                expected=", ".join(infos[0].classes.names),
                found=", ".join(info.classes.names),
            )
    return Distillation(tuple(paths), tuple(_digest(path) for path in paths), temperature, share)


def with_teachers(data: TrainingData, say: Callable[[str], None]) -> TrainingData:
    """Return data with the teachers that its `run.json` names, if it names some; say what they are.

    Raises:
        UsageError, RunFolderError: as `open_teachers`.
    """
    how = data.info.distil
    if how is None:
        return data
    if data.settings.fit.devices > 1:
        raise UsageError("teachers are asked on one device", expected="--devices 1", found=data.settings.fit.devices)
    say(f"teachers  {', '.join(how.teachers)}: {how.share:.0%} of the loss, temperature {how.temperature:g}")
    learned = {name for path in how.teachers for name in RunFolder(path).read_info().data.splits.get("train", ())}
    for part in ("val", "test"):
        names = data.info.data.splits.get(part, ())
        seen = sum(name in learned for name in names)
        if seen:
            say(f"warning   teachers learned from {seen} of {len(names)} {part} images: scores of them say too much")
    return replace(data, teachers=open_teachers(how, data.info))


def open_teachers(how: Distillation, student: RunInfo) -> Teachers:
    """Load the teachers of a student.

    Raises:
        UsageError: a teacher sees images in a way that the student's do not tell.
        RunFolderError: a teacher is gone, or has other weights than when the student began.
    """
    from ..training.distillation import Teachers  # not before: it needs TensorFlow

    networks = []
    for path, digest in zip(how.teachers, how.digests, strict=True):
        if _digest(path) != digest:
            raise RunFolderError("the teacher has changed since the run was begun", file=path, fix="begin anew")
        info = RunFolder(path).read_info()
        scale, offset = _between(student.preprocessing, info.preprocessing, path)
        network = load_run(path).model
        if network.output_shape[-1] != len(student.classes.names):
            raise UsageError(
                "the teacher is of other classes",
                file=path,
                expected=", ".join(student.classes.names),
                found=", ".join(info.classes.names),
            )
        networks.append((network, scale, offset))
    return Teachers(tuple(networks), how.temperature, how.share)


def _between(student: Preprocessing, teacher: Preprocessing, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and offset (C,) float32 that make of a student's images what the teacher sees."""
    for name in ("size", "channels", "color_order", "fit", "per_image"):
        mine, other = getattr(student, name), getattr(teacher, name)
        if mine != other:
            raise UsageError(
                f"teachers see the same images, and {name.replace('_', ' ')} differs",
                file=path,
                expected=mine,
                found=other,
            )
    mine, other = (pre.table().astype(np.float64) for pre in (student, teacher))  # (256, C), straight lines
    scale = (other[255] - other[0]) / (mine[255] - mine[0])
    return scale.astype(np.float32), (other[0] - scale * mine[0]).astype(np.float32)


def _digest(run: str) -> str:
    path = Path(run) / _WEIGHTS
    if not path.is_file():
        raise RunFolderError("the teacher is not trained yet, or gone", file=path, fix="train it, or bring it back")
    return hashlib.sha256(read_bytes(path)).hexdigest()
