"""What `export`, `evaluate` and `predict` are told about a `.keras` file, and refuse of any other model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.settings import own_options

from ..settings import KerasFileSettings


def preprocessing_of(
    settings: KerasFileSettings, models: Sequence[str], size: tuple[int, int] | None, *, size_is_own: bool = False
) -> Preprocessing | None:
    """Return how images meet the network of a `.keras` file, or None where the settings leave it open.

    Args:
        settings: what was given.
        models: the model files and folders of the command.
        size: (height, width) of the input, px.
        size_is_own: whether other models take a size, too.

    Raises:
        UsageError: something was given, and none of the models is a `.keras` file.
    """
    names = [option.name for option in own_options(KerasFileSettings) if option.name != "classes"]
    given = {name: value for name in names if (value := getattr(settings, name)) is not None}
    if not any(Path(model).suffix in (".keras", ".h5", ".hdf5") for model in models):
        named = [*given, *(["size"] if size is not None and not size_is_own else [])]
        if named:
            raise UsageError(
                "options for .keras files only: " + ", ".join("--" + name.replace("_", "-") for name in named),
                file=models[0],
                fix="drop them: this model says it itself",
            )
        return None
    if size is None or "channels" not in given or "value_range" not in given:
        return None
    return Preprocessing(size=size, **given)
