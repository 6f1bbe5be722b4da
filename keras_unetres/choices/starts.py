"""The starts that come with the package: U-Nets that are trained already, by name.

`tools/starts.py` trains them; their files are in `keras_unetres/weights/files`, each with a model card.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetres_edge.errors import UsageError

_FILES = Path(__file__).parents[1] / "weights" / "files"
NO_WEIGHTS = "none"  # what says so on the command line, where a plan may choose others


@dataclass(frozen=True)
class Start:
    """A start.

    Args:
        about: what it was trained on, in a few words.
        depths: filters -> depth of the U-Nets that there are, the usual one first.
        segments: what it finds in pictures as it is; None of one that only begins trainings.
    """

    about: str
    depths: dict[int, int]
    segments: str | None = None

    @property
    def filters(self) -> int:
        """The filters of the usual one."""
        return next(iter(self.depths))

    def check(self, name: str, filters: int | None, depth: int | None) -> None:
        """Refuse a network that it is not of; None is what is left open.

        Raises:
            UsageError: it is of none with such filters, or of another depth.
        """
        forms = " or ".join(f"--filters {many} --depth {deep}" for many, deep in self.depths.items())
        if filters is not None and filters not in self.depths:
            raise UsageError(
                f"{name} is no start of such a network",
                expected=forms,
                found=f"--filters {filters}",
                fix=f"one of these, or --weights {NO_WEIGHTS}",
            )
        if depth is not None and depth != self.depths[filters or self.filters]:
            raise UsageError(
                f"{name} is no start of such a network",
                expected=forms,
                found=f"--filters {filters or self.filters} --depth {depth}",
                fix=f"drop --depth, or --weights {NO_WEIGHTS}",
            )


STARTS: dict[str, Start] = {
    "nuclei": Start("nuclei of cells, fluorescent and stained", {8: 4}, segments="nuclei"),
    "shapes": Start("figures and threads drawn by formula", {8: 4}),
}


def find_form(name: str) -> tuple[str, int] | None:
    """Return (start, filters) of a name such as "nuclei", the usual one, or "nuclei_8"; None of any other."""
    start, _, filters = name.partition("_")
    if start not in STARTS or (filters and filters not in map(str, STARTS[start].depths)):
        return None
    return start, int(filters or STARTS[start].filters)


def file_of(name: str, ending: str) -> Path:
    """Return a file of a start: ".safetensors", the model card ".json", ".tflite" or ".receipt.json".

    Raises:
        UsageError: there is no start of this name.
    """
    found = find_form(name)
    if found is None:
        raise UsageError("the start is unknown", expected=", ".join(STARTS), found=name)
    return _FILES / f"{found[0]}_{found[1]}{ending}"


def find_model(model: Any) -> Any:
    """Return the `.tflite` of a start that is named as a model; anything else, also a file of that name, as it is.

    Raises:
        UsageError: the start segments nothing as it is.
    """
    found = find_form(model) if isinstance(model, str) else None
    if found is None or Path(model).is_file() or Path(model, "run.json").is_file():
        return model
    if STARTS[found[0]].segments is None:
        raise UsageError(
            f"{model} only begins trainings, and segments nothing as it is",
            expected=" or ".join(name for name, each in STARTS.items() if each.segments),
            fix=f"unetres train DATA --out RUN --weights {found[0]}",
        )
    return os.fspath(file_of(model, ".tflite"))
