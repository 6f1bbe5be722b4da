"""What every `predict` command takes: that of this package, and that of the training package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..objects.defaults import MIN_SIZE, NECK, NECK_OF_CORES, THRESHOLD
from ..segment.symmetries import SYMMETRIES
from ..segment.unfamiliar import ON_UNFAMILIAR
from ..settings import Settings, all_options, setting


@dataclass(frozen=True, kw_only=True)
class ObjectSettings(Settings):
    """How pixels become objects."""

    title = "objects"

    objects: tuple[str, ...] | None = setting(
        None, "classes whose pixels are objects", metavar="NAME", unset="all but the background"
    )
    min_size: int | None = setting(
        None,
        "size below which an object is left out",
        least=0,
        most=10**9,
        metavar="PX",
        unit="px",
        unset=str(MIN_SIZE),
    )
    threshold: float | None = setting(
        None, "probability from which a pixel is object", above=0, below=1, metavar="P", unset=f"{THRESHOLD:g}"
    )
    neck: float | None = setting(
        None,
        "objects are parted at necks narrower than this share",
        above=0,
        below=1,
        metavar="N",
        unset=f"{NECK:g}; of models with a class border {NECK_OF_CORES:g}",
    )
    split: bool = setting(True, "what is connected is one object")

    def given(self) -> dict[str, Any]:
        """Return the fields that are not left to `unetres_edge.objects.Separation`, by name."""
        values = {option.name: getattr(self, option.name) for option in all_options(ObjectSettings)}
        return {name: value for name, value in values.items() if value is not None and (name != "split" or not value)}


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
    on_unfamiliar: str = setting(
        "warn",
        "what becomes of images unlike the training images, where the model file can tell: a line, nothing is written, "
        "or that and an error",
        choices=ON_UNFAMILIAR,
        tags=("masks",),
    )
    abstain: bool = setting(
        False, "give up pixels (255) as the model file promises: `unetres calibrate --risk`", tags=("masks",)
    )
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
    instances: str | None = setting(
        None,
        "also write each object: <name>_instances.tif (or .png), a label map, and <name>_objects.csv; counts.csv; "
        "with --geojson an outline an object, too",
        choices=("tif", "png"),
        bare="tif",
        tags=("masks",),
    )
    rois: bool = setting(
        False, "of --instances, also write <name>_rois.zip, which ImageJ's ROI manager opens", tags=("masks",)
    )
    separation: ObjectSettings = ObjectSettings()
