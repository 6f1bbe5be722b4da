"""The run folder: what each file in it is called, and how it is written, read and locked.

    run.json              how to rebuild the model, how the data was read, the plan, versions, seed
    plan.json             what was decided for it and why, where settings were left open
    search.json           the networks that were compared for it, where that was asked for
    search/               their runs, until one of them is chosen
    device.json           profile of the device that it was planned for, where one was given
    weights.safetensors   the best weights by validation mIoU
    history.csv           one row an epoch
    checkpoints/last.safetensors   everything needed to go on from the last epoch
    calibration.npz       training crops (N, H, W, C) uint8 as they are before normalisation
    samples/              pictures
    report.html, report.json   what was learned, as a page and as figures
    tensorboard/          event files, where they are wanted
    replaced/             an earlier run that this one replaces as soon as it has weights

A run folder never holds code: loading rebuilds the model by this package and checks every tensor's name and shape.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import shlex
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from unetres_edge.command_line import option_words
from unetres_edge.errors import ExistsError, RunFolderError
from unetres_edge.files import (
    check_folder_writable,
    make_folder,
    parse_json,
    parse_state,
    read_bytes,
    write_bytes,
    write_json,
)
from unetres_edge.temporaries import is_temporary

from . import replacement
from .info import RunInfo
from .lock import hold
from .search import Search

_OF_KERAS = (
    "name what train wrote; a Keras model is taken by quantize, export, evaluate and predict, and in Python by "
    "ku.prune_model and ku.cluster_model"
)
_NO_RUN = {".keras": _OF_KERAS, ".h5": _OF_KERAS, ".tflite": "name the run that the file was made from"}

FOLDS = "folds.json"  # in the folder above runs that are folds
_METADATA = "keras_unetres"
_MOST_CALIBRATION = 2 << 30  # bytes, unpacked
_MOST_CROPS = 10_000  # of which each becomes an image of floats; a training keeps 128


class RunFolder:
    """The files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.samples = self.path / "samples"
        self.device = self.path / "device.json"
        self._begins = self._replaces = False

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool = False) -> RunFolder:
        """Make a new run folder, or take one whose files are put aside as soon as it is locked.

        An earlier run stays in `replaced/` until the new one has weights, and comes back if that ends before it has
        anything to go on from. Files that no run has are left where they are.

        Raises:
            ExistsError: the folder exists and is not empty, and `overwrite` is false, or it is not a run folder.
        """
        run = cls(path)
        cls._refuse_taken(path, overwrite)
        run._begins, run._replaces = True, overwrite
        run._make_folders()
        return run

    def _make_folders(self) -> None:
        for folder in (self.path, self.path / "checkpoints", self.samples):
            make_folder(folder)

    @classmethod
    def check_out(cls, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Raise what `create` and `lock` would raise, before any work is done for the run.

        Raises:
            ExistsError: as `create` says.
            FileSystemError: it cannot be written.
            RunFolderError: a living process holds the run that is to be replaced.
        """
        cls._refuse_taken(path, overwrite)
        check_folder_writable(path)
        if os.path.isdir(path):
            with hold(Path(path)):
                pass

    @classmethod
    def _refuse_taken(cls, path: str | os.PathLike[str], overwrite: bool) -> None:
        if not overwrite:
            cls.check_new(path)
        elif _taken(Path(path)) and not replacement.is_run(Path(path)):
            raise ExistsError("not a run folder, so it is not replaced", file=path, fix="choose another --out")

    @staticmethod
    def check_new(path: str | os.PathLike[str]) -> None:
        """Raise ExistsError if there is something at `path` already, other than an empty folder."""
        if _taken(Path(path)):
            raise ExistsError("the run folder exists already", file=path, fix=_instead_of(RunFolder(path)))

    @staticmethod
    def is_run(path: str | os.PathLike[str]) -> bool:
        """Return whether `path` is a folder (and so can only be a run folder where a model is asked for)."""
        return Path(path).is_dir()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing.

        Raises:
            RunFolderError: a living process holds it.
            ExistsError: the folder was new, and another process has written a run to it in the meantime.
        """
        with hold(self.path):
            for left in filter(is_temporary, self.path.rglob(".*.tmp")):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
            begins, self._begins = self._begins, False
            if begins and not self._replaces:
                self.check_new(self.path)
            with replacement.replacing(self.path) if begins and self._replaces else contextlib.nullcontext():
                self._make_folders()
                yield

    def write_info(self, info: RunInfo) -> None:
        """Write `run.json`."""
        write_json(self.path / "run.json", info.to_dict())

    def read_info(self) -> RunInfo:
        """Read `run.json`.

        Raises:
            RunFolderError: the folder is not a run folder, or `run.json` lacks something or is wrong: the key is named.
        """
        path = self.path / "run.json"
        if not path.is_file():
            if self.is_searching:
                raise RunFolderError(
                    "its network is still sought", file=self.path, fix=f"unetres train --resume {self.path}"
                )
            fix = _NO_RUN.get(self.path.suffix, "name what train wrote")
            if (self.path / "fold1").is_dir():
                fix = f"name a run of its folds, such as {self.path / 'fold1'}, and the others after --with"
            raise RunFolderError("not a run folder: it has no run.json", file=self.path, fix=fix)
        try:
            values = parse_json(path.read_bytes())  # whose numbers are judged by name
        except (OSError, RecursionError, ValueError) as error:
            raise RunFolderError(f"run.json is not readable: {error}", file=path) from error
        return RunInfo.from_dict(values, file=path)

    def write_decisions(self, plan: Mapping[str, Any]) -> None:
        """Write `plan.json`: what was decided for the run, and why."""
        write_json(self.path / "plan.json", dict(plan))

    @property
    def whole(self) -> Path:
        """The folder that goes on after a stop: of the folds or the search that this run is a part of, or its own."""
        above = self.path.parent
        if (above / FOLDS).is_file():
            return above
        if above.name == "search" and (above.parent / replacement.SEARCH).is_file():
            return RunFolder(above.parent).whole
        return self.path

    @property
    def resumed_by(self) -> str:
        """The command that goes on after a stop."""
        return shlex.join(["unetres", "train", *option_words("--resume", [os.fspath(self.whole)])])

    @property
    def is_searching(self) -> bool:
        """Whether networks are compared here, and none is chosen yet."""
        return (self.path / replacement.SEARCH).is_file() and not self.is_begun

    @property
    def is_begun(self) -> bool:
        """Whether there is a `run.json`."""
        return (self.path / "run.json").is_file()

    def candidate(self, name: str) -> RunFolder:
        """Return the run of a network that is compared here."""
        return RunFolder(self.path / "search" / name)

    def write_search(self, search: Search) -> None:
        """Write `search.json`: the networks that are compared, and how each does."""
        write_json(self.path / replacement.SEARCH, search.to_dict())

    def read_search(self) -> Search | None:
        """Read `search.json`, or None where nothing was searched.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self.path / replacement.SEARCH
        if not path.is_file():
            return None
        try:
            values = parse_state(path.read_bytes())
        except (OSError, RecursionError, ValueError) as error:
            raise RunFolderError(f"search.json is not readable: {error}", file=path, fix="train anew") from error
        return Search.from_dict(values, file=path)

    def take_candidate(self, name: str) -> None:
        """Make the run of a network that was compared here the run of this folder, and remove those of the others.

        It may be called again where a process was killed while it did so.
        """
        chosen = self.candidate(name).path
        entries = sorted(chosen.iterdir(), key=lambda entry: entry.name == "run.json") if chosen.is_dir() else []
        for entry in entries:  # run.json, with which this folder is a run, is the last one
            target = self.path / entry.name
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            os.replace(entry, target)
        replacement.drop_replaced(self.path)
        shutil.rmtree(self.path / "search", ignore_errors=True)

    def write_weights(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Write the best weights; an earlier run that these replace is then removed."""
        write_bytes(self.path / replacement.WEIGHTS, _pack(tensors, {}))
        replacement.drop_replaced(self.path)

    def read_weights(self) -> dict[str, np.ndarray]:
        """Read the best weights.

        Raises:
            RunFolderError: there are none yet, or the file is damaged.
        """
        return self._read_tensors(self.path / "weights.safetensors")[0]

    def write_checkpoint(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write everything needed to go on, as one file."""
        write_bytes(self.path / "checkpoints" / "last.safetensors", _pack(tensors, {"state": json.dumps(state)}))

    def read_checkpoint(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read what `write_checkpoint` wrote, or None if there is none yet."""
        path = self.path / "checkpoints" / "last.safetensors"
        if not path.is_file():
            return None
        tensors, metadata = self._read_tensors(path)
        try:
            state = json.loads(metadata["state"])
        except (KeyError, RecursionError, ValueError) as error:
            raise RunFolderError("not a checkpoint: it holds no state", file=path, fix="train again") from error
        if not isinstance(state, dict):
            raise RunFolderError("not a checkpoint: its state is wrong", file=path, fix="train again")
        return tensors, state

    def unfinished(self) -> str | None:
        """Return that training was stopped before its end, in words; None where it came to its end, or nothing tells.

        Raises:
            RunFolderError: `run.json` is damaged.
        """
        path = self.path / "checkpoints" / "last.safetensors"
        try:
            with safe_open(path, "np") as file:  # the weights of a checkpoint are not read
                state = json.loads(json.loads(file.metadata()[_METADATA])["state"])
            finished, epochs = state["finished"], len(state["history"])
        except (KeyError, OSError, RecursionError, SafetensorError, TypeError, ValueError):
            return None
        plan = self.read_info().plan
        if finished or plan is None or epochs >= plan.epochs:
            return None
        after = f"after epoch {epochs} of {plan.epochs}" if epochs else "in its first epoch"
        return f"training was stopped {after}: these are its best weights so far. To go on: {self.resumed_by}"

    def _read_tensors(self, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Return tensors and metadata after checking the digest over both."""
        if not path.is_file():
            raise RunFolderError("the run has no such file yet", file=path, fix="train it, or resume it")
        data = read_bytes(path)
        try:
            tensors = load_tensors(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            metadata = json.loads(header.get("__metadata__", {}).get(_METADATA, "{}"))
            if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
                raise TypeError("the metadata has another form")
        except (AttributeError, KeyError, RecursionError, SafetensorError, TypeError, ValueError) as error:
            raise RunFolderError(f"damaged: {error}", file=path, fix="train again, or use a copy") from error
        if metadata.pop("sha256", None) != _digest(tensors, metadata):
            raise RunFolderError("damaged: the digest differs", file=path, fix="train again, or use a copy")
        return tensors, metadata

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write one row an epoch; figures an epoch does not have stay empty."""
        names = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_bytes(self.path / "history.csv", text.getvalue().encode())

    def read_history(self) -> list[dict[str, float]]:
        """Read the rows of `history.csv`, none if there is no such file; figures an epoch does not have are left out.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self.path / "history.csv"
        if not path.is_file():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                table = csv.DictReader(file)
                rows = [{key: float(value) for key, value in row.items() if value} for row in table]
            if table.fieldnames and "epoch" not in table.fieldnames:
                raise KeyError("epoch")
            if not all(float(row["epoch"]).is_integer() and row["epoch"] >= 1 for row in rows):
                raise ValueError("an epoch has no number")
        except (KeyError, OSError, OverflowError, TypeError, ValueError, csv.Error) as error:
            said = f"no column {error}" if isinstance(error, KeyError) else error
            raise RunFolderError(f"history.csv is not readable: {said}", file=path, fix="resume the run") from error
        return rows

    def write_calibration(self, crops: np.ndarray) -> None:
        """Write training crops (N, H, W, C) uint8."""
        data = io.BytesIO()
        np.savez_compressed(data, crops=crops)
        write_bytes(self.path / "calibration.npz", data.getvalue())

    @property
    def has_calibration(self) -> bool:
        """Whether training crops are there; a run that was killed right at its start has none."""
        return (self.path / "calibration.npz").is_file()

    def read_calibration(self) -> np.ndarray:
        """Read the training crops (N, H, W, C) uint8.

        Raises:
            RunFolderError: there are none, or the file is damaged.
        """
        path = self.path / "calibration.npz"
        if not self.has_calibration:
            raise RunFolderError("the run has no calibration.npz", file=path, fix="resume it, or train it again")
        try:
            packed = io.BytesIO(read_bytes(path))
            with zipfile.ZipFile(packed) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _MOST_CALIBRATION:
                    raise ValueError(f"it is of more than {_MOST_CALIBRATION >> 30} GiB")
            with np.load(packed, allow_pickle=False) as arrays:
                crops: np.ndarray = arrays["crops"]
        except Exception as error:  # zipfile, zlib and numpy raise many kinds
            raise RunFolderError(f"damaged: {error}", file=path, fix="train again, or use a copy") from error
        if crops.dtype != np.uint8 or crops.ndim != 4 or not crops.size or len(crops) > _MOST_CROPS:
            expected = f"(N, H, W, C) uint8, of at most {_MOST_CROPS} crops"
            raise RunFolderError("calibration crops have a wrong form", file=path, expected=expected, found=crops.shape)
        return crops


def _instead_of(run: RunFolder) -> str:
    """Return what can be done about something that is where a run is to be made."""
    if (run.path / FOLDS).is_file():
        return f"go on with it: {run.resumed_by}; or choose another --out"
    if not replacement.is_run(run.path):
        return "choose another --out"
    try:
        resumable = not any(step.engine == "tfmot" for step in run.read_info().compress)
    except RunFolderError:
        resumable = run.is_searching
    return (f"go on with it: {run.resumed_by}; or " if resumable else "") + "pass --overwrite, or choose another --out"


def _taken(path: Path) -> bool:
    """Return whether there is something at `path`, other than what a run that was killed at its very start leaves."""
    return path.exists() and (not path.is_dir() or not all(map(_is_left_over, path.iterdir())))


def _is_left_over(entry: Path) -> bool:
    if entry.is_dir():
        return entry.name in ("checkpoints", "samples") and not any(entry.iterdir())
    return entry.name == ".lock" or is_temporary(entry)


def _pack(tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Return safetensors bytes with a digest over the tensors and the metadata among the metadata."""
    # Not np.ascontiguousarray, which gives a scalar an axis.
    plain = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    # One entry, because safetensors writes several in an order that changes from call to call.
    entry = json.dumps({**metadata, "sha256": _digest(plain, metadata)})
    return save_tensors(plain, metadata={_METADATA: entry})


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
