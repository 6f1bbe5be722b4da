"""What every `predict` command takes: that of this package, and that of the training package."""

from __future__ import annotations

from dataclasses import dataclass

from ..segment.symmetries import SYMMETRIES
from ..settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """Which images a model is asked about, and what is written of its answers.

    What is tagged "masks" is not for classifiers, which give one class for the whole image.
    """

    model: str = setting(help=".tflite file", positional=True)
    images: tuple[str, ...] = setting(
        help="images, stacks, videos; folders of them, which are entered; patterns; a camera (0) or an address",
        positional=True,
    )
    out: str = setting(
        help="folder for the class maps, <name>.png, of frames <name>/<number>.png; of a classifier, classes.csv",
        metavar="DIR",
    )
    overlay: bool = setting(
        False, "also write <name>_overlay.png, of frames a video <name>_overlay.mp4", tags=("masks",)
    )
    geojson: bool = setting(False, "also write <name>.geojson, polygons with holes in px", tags=("masks",))
    overwrite: bool = setting(False, "replace output files that exist")
    json: str | None = setting(None, "write what became of each image to this file", metavar="F")
    overlap: int | None = setting(
        None,
        "pixels shared by neighbouring tiles",
        least=0,
        most=65_536,
        metavar="PX",
        unit="px",
        unset="as many as the network needs",
        tags=("masks",),
    )
    tta: str = setting(
        "none",
        "test-time augmentation: the mean over 4 flips, or all 8 flips and turns, of each tile",
        choices=tuple(SYMMETRIES),
        former=("--turns",),
        tags=("masks",),
    )
    every: int = setting(
        1, "of a video or a camera, take every N-th frame", least=1, most=10**6, metavar="N", tags=("masks",)
    )
    frames: int | None = setting(
        None,
        "of a video or a camera, end after N frames",
        least=1,
        most=10**9,
        metavar="N",
        unset="all, of a camera until Ctrl-C",
        tags=("masks",),
    )
