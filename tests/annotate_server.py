"""A server of a project for the tests in a browser: python annotate_server.py PROJECT PORT TOKEN.

Its suggestions are made by arithmetic instead of learned, so that a test knows them: bright pixels are class 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_unetres.painting import raster
from keras_unetres.painting.access import Gate
from keras_unetres.painting.pictures import png
from keras_unetres.painting.project import Project, nearest_tile
from keras_unetres.painting.review import Review
from keras_unetres.painting.server import Helpers, make_app

BRIGHT = 100  # of 255, from which a pixel is suggested to be class 1


class Bright:
    """Suggests class 1 where a picture is bright, in the place of a forest and of a network."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._running = False

    def _classes(self, index: int) -> np.ndarray:
        picture = self._project.pictures.level(self._project.picture_file(index), 0)
        return (picture[..., 0] > BRIGHT).astype(np.uint8)

    def tile(self, index: int, *about: Any) -> tuple[bytes, int]:
        """Answer as a forest (level, place) or as a network (of, level, place)."""
        of, level, place = about if len(about) == 3 else ("forest", *about)
        values = self._classes(index)
        if of == "confidence":
            values = np.where(values > 0, 200, 250).astype(np.uint8)
        return png(nearest_tile(values, level, place)), 0

    def ask(self, index: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Answer at once."""
        self._project.tell({"forest": index, "box": values["box"]})
        return {}

    def accepted(self, index: int, values: Mapping[str, Any]) -> tuple[np.ndarray, None, raster.Box]:
        """Return the pixels of the region under a point, as its class or another, or all."""
        classes = self._classes(index)
        height, width = classes.shape
        if "point" not in values:
            return classes, None, (0, 0, width, height)
        free = (classes == 1) & (self._project.canvas(index).classes == 255)
        x, y = map(int, values["point"])
        area = raster.component(free, (x, y), (0, 0))
        assert area is not None
        made = np.where(area.inside, 1, 255).astype(np.uint8)
        return made, None, area.box

    def state(self) -> dict[str, Any]:
        """Return what is said of a training."""
        curve = [[epoch, 1.2 / (1 + epoch / 4), None if epoch % 4 else 0.5 + epoch / 100] for epoch in range(1, 41)]
        counts = {"images": 3, "strokes": 57, "complete": 1}
        name = "training" if self._running else "stopped"
        about = {"round": 2, "epoch": 40, "epochs": 60, "counts": counts, "reason": "", "flattered": False}
        return {"state": name, "curve": curve, "file": "model.tflite", **about}

    def start(self) -> dict[str, Any]:
        """Begin."""
        self._running = True
        return self.state()

    def stop(self) -> dict[str, Any]:
        """End."""
        self._running = False
        return self.state()


def main() -> None:
    """Serve until killed."""
    import uvicorn

    folder, port, token = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with Project(folder) as project:
        helpers = Helpers()
        helpers.forest = helpers.learner = Bright(project)
        helpers.review, helpers.site = Review(folder), folder / "exports" / "site"
        helpers.order = lambda: [
            {"index": number, "score": 1.0 - number / 10, "why": why}
            for number, why in ((2, "the file is least sure here"), (1, "unlike what is painted"))
        ]
        app = make_app(project, Gate(token=token), helpers)
        uvicorn.run(app, port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
