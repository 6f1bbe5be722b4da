"""What `search.json` says of the networks that were compared for a run, typed; whoever wrote it, names stay names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from unetres_edge.errors import RunFolderError, UnetresError

from ..choices.fitting import SEARCHES
from ..settings import FileCost, TrainSettings

SCHEMA = 1
CHANGED = ("depth", "filters", "residual", "size")  # settings in which networks differ
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\Z")  # of a folder


@dataclass(frozen=True)
class Rung:
    """The score of a network after a share of its training.

    Args:
        share: share of its steps.
        score: score of the validation part.
    """

    share: float
    score: float


@dataclass(frozen=True)
class Tried:
    """A network that is compared.

    Args:
        name: name of the folder of its run.
        changes: setting -> value, where it differs from what the rules chose.
        cost: time and size of its int8 file.
        rungs: its scores so far.
    """

    name: str
    changes: Mapping[str, Any]
    cost: FileCost
    rungs: tuple[Rung, ...] = ()

    @property
    def words(self) -> str:
        """Its name for people."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Search:
    """The networks that are compared for a run.

    Args:
        level: extent of the search, a name of `--search`.
        data: place of the data set, or None for arrays.
        fingerprint: digest of the data set.
        given: settings that the user gave.
        chosen: these settings, with what the rules decided.
        plan: plan as `plan.json` keeps it.
        candidates: the networks.
        left: names of those that are still compared, the best first.
        best: name of the one that is the run now, or None.
    """

    level: str
    data: str | None
    fingerprint: str
    given: TrainSettings
    chosen: TrainSettings
    plan: Mapping[str, Any]
    candidates: tuple[Tried, ...]
    left: tuple[str, ...]
    best: str | None = None

    def __getitem__(self, name: str) -> Tried:
        return next(tried for tried in self.candidates if tried.name == name)

    def with_rung(self, name: str, rung: Rung) -> Search:
        """Return the same with one more figure of a network."""
        candidates = tuple(
            replace(tried, rungs=(*tried.rungs, rung)) if tried.name == name else tried for tried in self.candidates
        )
        return replace(self, candidates=candidates)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        candidates = [{**asdict(tried), "changes": dict(tried.changes)} for tried in self.candidates]
        return {
            "schema": SCHEMA,
            "level": self.level,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "given": self.given.to_dict(),
            "chosen": self.chosen.to_dict(),
            "plan": dict(self.plan),
            "candidates": candidates,
            "left": list(self.left),
            "best": self.best,
        }

    @classmethod
    def from_dict(cls, values: Any, *, file: str | os.PathLike[str] | None = None) -> Search:
        """Return the search that JSON values of a `search.json` describe.

        Raises:
            RunFolderError: a value is missing or wrong.
        """
        try:
            if values["schema"] != SCHEMA:
                raise ValueError(f"schema {values['schema']!r}, and {SCHEMA} is known")
            candidates = tuple(_tried(row) for row in values["candidates"])
            names = {tried.name for tried in candidates}
            left, best = tuple(values["left"]), values["best"]
            if len(names) != len(candidates) or not left or not names.issuperset(left) or best not in (None, *left):
                raise ValueError("names that are not those of its candidates")
            if values["level"] not in SEARCHES[1:]:
                raise ValueError(f"the level {values['level']!r}")
            texts = (values["fingerprint"], "" if values["data"] is None else values["data"])
            if not all(isinstance(text, str) for text in texts) or not _is_plan(values["plan"]):
                raise ValueError("a value of another kind")
            return cls(
                level=values["level"],
                data=values["data"],
                fingerprint=values["fingerprint"],
                given=TrainSettings.from_dict(values["given"], file=file),
                chosen=TrainSettings.from_dict(values["chosen"], file=file),
                plan=values["plan"],
                candidates=candidates,
                left=left,
                best=best,
            )
        except UnetresError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            said = f"no {error}" if isinstance(error, KeyError) else error
            raise RunFolderError(f"search.json is damaged: {said}", file=file, fix="train anew") from error


def _is_plan(values: Any) -> bool:
    """Whether `plan.json` could hold these values."""
    rows = values.get("decisions") if isinstance(values, dict) else None
    return isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("setting"), str) for row in rows)


def _tried(row: Mapping[str, Any]) -> Tried:
    if not _NAME.match(row["name"]):
        raise ValueError(f"the name {row['name']!r}")
    if not set(row["changes"]) <= set(CHANGED):
        raise ValueError(f"changes of {', '.join(sorted(row['changes']))}")
    cost = FileCost(*(float(row["cost"][name]) for name in ("ms", "kb", "arena_kb")))
    rungs = tuple(Rung(float(rung["share"]), float(rung["score"])) for rung in row["rungs"])
    return Tried(row["name"], dict(row["changes"]), cost, rungs)
