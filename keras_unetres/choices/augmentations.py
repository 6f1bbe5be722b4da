"""Augmentations by name: how far a training sample may be changed at random. What changes it is `data.augment`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unetres_edge.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training sample. Those that are off cost nothing.

    Args:
        flip_left_right: whether to mirror half of the samples left to right.
        flip_up_down: whether to mirror half of the samples upside down.
        quarter_turns: turn by a random multiple of 90 degrees, which moves pixels and changes none.
        distorted: share of the samples that are rotated, scaled, sheared and bent as follows.
        rotation: largest rotation either way, in degrees.
        scale: smallest and largest magnification.
        shear: largest shear either way, in degrees.
        elastic: standard deviation of the displacement of the control points, in px (Ronneberger 2015 sec. 3.1: 10).
            A displacement that would fold the image over is lessened until it does not.
        elastic_grid: control points a side, from edge to edge of the crop (Ronneberger 2015: 3). Between them runs a
            natural cubic spline.
        brightness: largest shift, as a fraction of full scale.
        contrast: largest change of the contrast factor.
        gamma: largest change of the exponent's logarithm.
        color: largest change of the gain of each channel; nothing where there is one channel.
        blur: largest standard deviation of a Gaussian blur, in px.
        noise: largest standard deviation of Gaussian noise, as a fraction of full scale.

    Raises:
        UsageError: a field is out of range.
    """

    flip_left_right: bool = True
    flip_up_down: bool = False
    quarter_turns: bool = False
    distorted: float = 0.5
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    elastic: float = 0.0
    elastic_grid: int = 3
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    color: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip_left_right", "flip_up_down", "quarter_turns"):
            self._check(isinstance(getattr(self, name), bool), name, "True or False")
        for name, most in _MOST.items():
            value = getattr(self, name)
            right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most
            self._check(right, name, f"a number from 0 to {most:g}")
        grid = self.elastic_grid
        self._check(isinstance(grid, int) and not isinstance(grid, bool) and 2 <= grid <= 32, "elastic_grid", "2 to 32")
        try:
            scale = tuple(float(value) for value in self.scale)
        except (TypeError, ValueError):
            scale = ()
        right = len(scale) == 2 and 0.1 <= scale[0] <= scale[1] <= 10
        self._check(right, "scale", "(smallest, largest) with 0.1 <= smallest <= largest <= 10")
        object.__setattr__(self, "scale", scale)

    def _check(self, right: bool, name: str, expected: str) -> None:
        if not right:
            raise UsageError(f"augmentation {name} is wrong", expected=expected, found=repr(getattr(self, name)))

    @property
    def distorts(self) -> bool:
        """Whether any sample can lie between the pixels of its image."""
        return self.distorted > 0 and (
            self.rotation > 0 or self.scale != (1.0, 1.0) or self.shear > 0 or self.elastic > 0
        )


_MOST = {
    "distorted": 1.0,
    "rotation": 180.0,
    "shear": 45.0,
    "elastic": 1000.0,
    "brightness": 1.0,
    "contrast": 1.0,
    "gamma": 3.0,
    "color": 1.0,
    "blur": 10.0,
    "noise": 1.0,
}

_MICROSCOPY = Augmentation(
    flip_up_down=True,
    quarter_turns=True,
    rotation=45,
    scale=(0.8, 1.25),
    elastic=6,
    brightness=0.1,
    contrast=0.2,
    gamma=0.2,
    color=0.08,
)

AUGMENTATIONS = {
    "none": Augmentation(flip_left_right=False),
    "light": Augmentation(flip_up_down=True, brightness=0.08, contrast=0.15),
    "microscopy": _MICROSCOPY,
    "microscopes": replace(_MICROSCOPY, scale=(0.5, 2.0)),
    "street": Augmentation(rotation=5, scale=(0.75, 1.5), brightness=0.12, contrast=0.25, gamma=0.2, color=0.06),
    "aerial": Augmentation(
        flip_up_down=True,
        quarter_turns=True,
        rotation=180,
        scale=(0.75, 1.33),
        brightness=0.1,
        contrast=0.2,
        gamma=0.15,
        color=0.08,
    ),
}
