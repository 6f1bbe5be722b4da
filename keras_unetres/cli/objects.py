"""What `evaluate` and `predict` are told about single objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unetres_edge.errors import UsageError

from ..settings import ObjectSettings

if TYPE_CHECKING:
    from ..objects import Separation


def separation_of(settings: ObjectSettings, wanted: bool) -> Separation | None:
    """Return how pixels become objects, or None where no objects are wanted.

    Raises:
        UsageError: settings were given, and no objects are wanted.
    """
    values = settings.given()
    if wanted:
        from ..objects import Separation

        return Separation(**values)
    if values:
        raise UsageError(f"{', '.join(values)} given, but no objects are asked for", fix="add --instances")
    return None
