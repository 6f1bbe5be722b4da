"""What `export`, `evaluate` and `predict` are told about a model that does not say how images are fed to it.

That is a `.keras` file, or a `.tflite` without a card.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetres_edge.command_line import option_words, words_of
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.settings import Settings

from ..settings import KerasFileSettings


def preprocessing_of(
    settings: KerasFileSettings, models: Sequence[str], size: tuple[int, int] | None, *, size_is_own: bool = False
) -> Preprocessing | None:
    """Return the preparation of images for the network, or None where the settings leave it open.

    Args:
        settings: settings of the command.
        models: the model files and folders of the command.
        size: (height, width) of the input, px.
        size_is_own: whether other models take a size, too.

    Raises:
        UsageError: something was given, and all of the models say it themselves.
    """
    from ..tasks.loading import needs_own

    values = settings.preprocessing()
    if not any(needs_own(model) or Path(model).suffix in (".h5", ".hdf5") for model in models):
        named = [*values, *(["size"] if size is not None and not size_is_own else [])]
        if named:
            raise UsageError(
                "options for models that do not say it, .keras files and .tflite without a card: "
                + ", ".join("--" + name.replace("_", "-") for name in named),
                file=models[0],
                fix="drop them: this model says it itself",
            )
        return None
    if size is None or "channels" not in values or "value_range" not in values:
        return None
    return Preprocessing(size=size, **values)


def own_objects(settings: KerasFileSettings) -> dict[str, Any] | None:
    """Return the layers and functions of the modules that the command line names, or None."""
    from ..tasks.custom_objects import import_objects

    return import_objects(settings.modules) if settings.modules else None


def refuse_incomplete(
    command: str,
    settings: Settings,
    own: KerasFileSettings,
    models: Sequence[str],
    preprocessing: Preprocessing | None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Refuse a model that does not say how images are fed to it, with the command to type.

    Args:
        more: options beside those that the model needs, with a word for their value.

    Raises:
        UsageError: nothing says it; the command has what the file tells filled in.
    """
    from ..tasks.loading import needs_own, options_of

    if preprocessing is not None:
        return
    for model in models:
        if needs_own(model) and Path(model).is_file():
            options, outputs = options_of(model, own_objects(own), own.output)
            words = ["unetres", command, *words_of(settings)]
            for option, values in {**options, **{name: [value] for name, value in (more or {}).items()}}.items():
                words += [] if option in words else option_words(option, values)
            raise UsageError(
                "the file does not say how images are fed to it",
                file=model,
                expected="LOW HIGH, such as 0 1: what the values 0 and 255 become before the network sees them",
                found=f"outputs {', '.join(outputs)}; --output names the one that is meant" if outputs else None,
                fix=shlex.join(words),
            )
