"""The rules of a plan: each a pure function of fingerprint, budget and what the user gave, with its reason.

The same fingerprint, budget and settings give the same decisions. What a rule needs and was measured is in the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from unetres_edge.errors import UsageError

from ..choices.networks import LITE, NO_ENCODER
from ..choices.starts import NO_WEIGHTS, STARTS
from ..data.levels import STRETCH
from ..runs import TOO_FEW_STEPS, too_few_steps
from ..settings import DEPTH, EPOCHS, SIZE, FileCost, LimitSettings, TrainSettings
from .decisions import Decision, TrainingPlan
from .fingerprint import Fingerprint

# Filters of the U-Nets that a plan chooses from, the largest first -> training steps that teach one enough. On dsb2018,
# 456 steps taught 16 filters as well as any (benchmarks/real_data.py). Passes do not count: crops of large images are
# much alike, and of many images none has to be seen often.
ENOUGH = {32: 1500, 16: 400, 8: 0}
_USUAL_FILTERS = 16
LIMITED = (*ENOUGH, 4)  # filters that are looked at where the device sets limits
LIMIT_SHARE = 0.9  # of a limit that a network is chosen for; what is measured varies
USUAL_STEPS = 1200  # of a training without a time budget
_OVERHEAD = 0.85  # share of the minutes that training steps get; the rest reads, compiles, validates and draws
_NARROW_RANGE = 0.5  # of full scale
_SPREAD = 0.1  # of the brightness between images, of full scale
_SMALL_CROP = 128  # px
_LEAST_SIZE = 32  # px
# Sides of an input of images that are scaled down, px, where the minutes teach a network with ImageNet weights so many
# steps of it.
_LARGER_SIZES = (384, 320)
_ENOUGH_OF_LARGER = 1000
_ENCODER_UNIT = 32  # px, of which the sides of an input are multiples; of a U-Net alone of 2**depth
_LEAST_COLOUR = 0.01  # of full scale; sensors alone make less of grey
_FEW_OBJECTS = 3.0  # an image, below which one that is scaled down still shows what there is
_VAST = 2.0  # sides of an input that objects measure of which a part does not tell what they are
_ROUND = 0.15  # of what objects measure, those that touch counted as one: their width where they are no lines
_BY_SIZE = 1.5  # times as large as another: objects of a class that may be known by it
_MAGNIFIED = 2.0  # times as large: objects of some images, where there are many in each
_COMPACT = 0.25  # of what an object measures: the width of one that is no line, branch or ragged region; of a disc 0.5
_LEAST_WIDTH = 4.0  # px that is seen well where images are scaled down
_SEVERAL_CLASSES = 3
_RARE = 0.3  # of its equal share: that a class is rare
_LEAST_STEPS_A_PASS = 8
_RATE = 2e-3
_RATE_OF_PUBLISHED = 1e-3  # with which weights that are good already are not lost; those of `LITE` bear the usual one
_AVERAGE = 0.99
_AVERAGED_SHARE = 20  # of all steps, one in so many is in the average
_LEAST_AVERAGE = 0.8


@dataclass(frozen=True)
class Budget:
    """What a training may take.

    Args:
        minutes: wall-clock, or None.
        gpu: whether there is a GPU.
        step_seconds: filters -> seconds of a training step, as measured or derived from what was; 0 stands for a
            network that was not chosen here. Empty where nothing was measured.
        measured: the filters of those that were measured.
        side: px, side of the inputs that were measured.
        files: filters -> what the int8 file takes on its device; empty where there is no limit.
        pretrained: whether the ImageNet weights of `LITE` are at hand, and its file keeps the limits.
    """

    minutes: float | None = None
    gpu: bool = False
    step_seconds: Mapping[int, float] = field(default_factory=dict)
    measured: tuple[int, ...] = ()
    side: int = SIZE
    files: Mapping[int, FileCost] = field(default_factory=dict)
    pretrained: bool = False

    def steps(self, filters: int, side: int | None = None) -> int | None:
        """Return the training steps that a network gets, or None where that is not known.

        Args:
            side: px of the side of its input, where that is not the one that was measured; a step takes as many times
                longer as there are more pixels.
        """
        if self.minutes is None or filters not in self.step_seconds:
            return None
        pixels = 1.0 if side is None else (side / self.side) ** 2
        return int(60 * self.minutes * _OVERHEAD / (pixels * self.step_seconds[filters]))


@dataclass(frozen=True)
class _Context:
    """What a rule decides from: `settings` holds what the user gave and what earlier rules decided."""

    fingerprint: Fingerprint
    budget: Budget
    settings: TrainSettings

    @property
    def is_larger(self) -> bool:
        """Whether the images are larger than the input."""
        height, width = self.fingerprint.sizes[2:4]
        return height * width > self.settings.network.input_size**2

    @property
    def large_objects(self) -> bool:
        """Whether a few objects that no crop shows whole fill the images, or vast ones, wide enough to be scaled."""
        objects, size = self.fingerprint.objects, self.settings.network.input_size
        few = objects.extent > size and objects.an_image <= _FEW_OBJECTS
        vast = objects.extent > _VAST * size and objects.width >= _COMPACT * objects.extent
        return self.is_larger and (few or vast) and self._scaled(objects.width) >= _LEAST_WIDTH

    @property
    def magnified(self) -> bool:
        """Whether images differ in scale: by many objects in each that are no lines, and in no class for their size."""
        objects = self.fingerprint.objects
        many, no_lines = objects.an_image > _FEW_OBJECTS, objects.width >= _ROUND * objects.extent
        return many and no_lines and objects.spread >= _MAGNIFIED and objects.class_spread < _BY_SIZE

    @property
    def only_thin(self) -> bool:
        """Whether all there is would be too thin to be seen in images that are scaled down to the input."""
        return self.is_larger and 0 < self._scaled(self.fingerprint.objects.widest) < _LEAST_WIDTH

    def _scaled(self, width: float) -> float:
        return width * self.settings.network.input_size / max(self.fingerprint.sizes[2:4])

    @property
    def steps_a_pass(self) -> int:
        crops = self.fingerprint.crops(self.settings.network.output_size, self.settings.network.image_fit)
        return math.ceil(crops / self.settings.fit.batch_size)

    @property
    def steps(self) -> int | None:
        """All training steps, where they are known."""
        fit = self.settings.fit
        if fit.minutes is None:
            return (fit.epochs or EPOCHS) * self.steps_a_pass
        return self.budget.steps(self.settings.network.filters or 0, self.settings.network.input_size)


def decide(fingerprint: Fingerprint, budget: Budget, settings: TrainSettings) -> TrainingPlan:
    """Return the plan for a segmenter: every setting that the user left open and that there is a rule for.

    Args:
        fingerprint: fingerprint of the training part.
        budget: minutes that the training may take, and what was measured of steps and files.
        settings: settings that the user gave.
    """
    decisions: list[Decision] = []
    for is_open, rule in _RULES:
        if is_open(settings):
            decision = rule(_Context(fingerprint, budget, settings))
            if decision is not None:
                decisions.append(decision)
                settings = settings.with_flat({decision.setting: decision.value})
    measured = {filters: budget.step_seconds[filters] for filters in budget.measured}
    warnings = _warnings(_Context(fingerprint, budget, settings))
    return TrainingPlan(fingerprint, tuple(decisions), budget.minutes, measured, warnings, files=budget.files)


def _encoder(context: _Context) -> Decision | None:
    if not context.budget.pretrained:
        return None
    if context.fingerprint.colour < _LEAST_COLOUR:
        return Decision("encoder", NO_ENCODER, "weights from ImageNet are of colour photographs, and these are grey")
    return Decision("encoder", LITE, "these have colours, as the photographs that its ImageNet weights have seen")


def _weights(context: _Context) -> Decision | None:
    if context.settings.network.encoder == LITE and context.budget.pretrained:
        return Decision("weights", "imagenet", "a start that is not from nothing")
    starts = fitting_starts(context.settings)
    if not starts:
        return None
    named = " and ".join(starts)
    return Decision("weights", NO_WEIGHTS, f"random; the starts {named} are taken where they are named")


def _size(context: _Context) -> Decision:
    network, largest = context.settings.network, max(context.fingerprint.sizes[2:4])
    if network.crop:
        side = network.input_for(min(largest, SIZE))
        output = side - 2 * network.crop
        return Decision("size", side, f"without padding {output} px are left, and the images are of about {largest} px")
    unit = _ENCODER_UNIT if network.published_encoder or network.name != "unet" else 2 ** max(network.depth or 0, DEPTH)
    side = max(_LEAST_SIZE, unit * math.ceil(largest / unit))
    if side < SIZE:
        return Decision("size", side, f"the images are of about {largest} px")
    larger = next((each for each in _LARGER_SIZES if each <= side and _is_taught(context, each)), None)
    if larger is not None:
        times = (larger / SIZE) ** 2
        why = f"the minutes allow it, and more is seen; the file takes {times:.2g} times as long as with --size {SIZE}"
        return Decision("size", larger, why)
    return Decision("size", SIZE, f"the images are of {SIZE} px and more")


def _is_taught(context: _Context, side: int) -> bool:
    """Return whether there is time for a larger input of scaled images, and no device with its limits waits for it."""
    steps = context.budget.steps(0, side)
    if context.settings.limits.any or steps is None or steps < _ENOUGH_OF_LARGER:
        return False
    with_it = replace(context, settings=context.settings.with_flat({"size": side}))
    return (context.settings.network.fit or _fit(with_it).value) != "crop"


def _fit(context: _Context) -> Decision:
    if context.settings.data.balance:
        return Decision("fit", "crop", "--balance draws crops")
    if context.settings.network.crop:
        return Decision("fit", "crop", "a network without padding sees crops")
    height, width = context.fingerprint.sizes[2:4]
    if context.only_thin:
        widest, size = context.fingerprint.objects.widest, context.settings.network.input_size
        return Decision("fit", "crop", f"lines of {widest:.0f} px would be lost in images of {size} px")
    if context.fingerprint.upright and context.is_larger:
        why = f"what is up is up in all images, and the whole of {height} x {width} px tells more than a part"
        return Decision("fit", "resize", why)
    if context.large_objects:
        extent, size = context.fingerprint.objects.extent, context.settings.network.input_size
        why = f"objects of about {extent:.0f} px do not fit into parts of {size} px"
        return Decision("fit", "resize", why)
    return Decision("fit", "crop", f"images of about {height} x {width} px are seen at their own scale")


def _per_image(context: _Context) -> Decision:
    fingerprint = context.fingerprint
    if fingerprint.few_levels is not None:
        kept, stored = fingerprint.few_levels
        return Decision("per_image", STRETCH, f"of {stored} grey levels {kept} would be left at 8 bits")
    if fingerprint.kinds > 1:
        return Decision("per_image", STRETCH, f"{fingerprint.kinds} kinds of images become more alike")
    if fingerprint.used_range < _NARROW_RANGE:
        why = f"half of the images use less than {fingerprint.used_range:.0%} of the scale"
        return Decision("per_image", STRETCH, why)
    if fingerprint.grey and not fingerprint.upright:
        return Decision("per_image", STRETCH, "the brightness of grey images depends on how they were taken")
    if fingerprint.brightness_spread > _SPREAD and not fingerprint.upright:
        return Decision(
            "per_image", STRETCH, f"brightness differs by {fingerprint.brightness_spread:.0%} between images"
        )
    return Decision("per_image", None, f"brightness differs by {fingerprint.brightness_spread:.0%} between images only")


def _augment(context: _Context) -> Decision:
    if context.fingerprint.upright:
        return Decision("augment", "street", "what is up is up in all images, so none is turned")
    if context.magnified:
        spread = context.fingerprint.objects.spread
        why = f"objects of one image are {spread:.1f} times as large as those of another: so may others be"
        return Decision("augment", "microscopes", why)
    return Decision("augment", "microscopy", "no side of the images is always up, so they are turned and bent")


def _class_weights(context: _Context) -> Decision:
    shares = {
        name: share
        for name, share in zip(context.fingerprint.class_names, context.fingerprint.class_shares, strict=True)
        if share > 0
    }
    rarest = min(shares, key=lambda name: shares[name])
    said = f'"{rarest}" is {shares[rarest]:.1%} of the pixels'
    if len(shares) < _SEVERAL_CLASSES:
        return Decision("class_weights", "equal", "of two classes the loss asks for the overlap already")
    if shares[rarest] * len(shares) < _RARE:
        return Decision("class_weights", "softened", f"{said}, and would be learned last")
    return Decision("class_weights", "equal", f"even {said}")


def _batch(context: _Context) -> Decision:
    fingerprint, network = context.fingerprint, context.settings.network
    crops = fingerprint.crops(network.output_size, network.image_fit)
    if fingerprint.kinds > 1:
        batch, why = 8, f"something of each of {fingerprint.kinds} kinds of images is in it"
    elif network.input_size <= _SMALL_CROP:
        batch, why = 8, f"crops of {network.input_size} px are small"
    else:
        batch, why = 4, "more steps in the same time"
    devices = context.settings.fit.devices
    if crops < _LEAST_STEPS_A_PASS * batch:
        batch = 2 ** int(math.log2(max(2, crops // _LEAST_STEPS_A_PASS)))
        why = f"a pass over {crops} crops is to have some steps"
    batch = devices * math.ceil(batch / devices)
    return Decision("batch", batch, why)


def _filters(context: _Context) -> Decision:
    budget, sizes = context.budget, possible(context.settings, ENOUGH)
    within = ""
    if budget.files:
        sizes = sizes_within(budget.files, context.settings.limits)
        cost = budget.files[sizes[0]]
        timed = "" if cost.ms is None else f"{cost.ms:.3g} ms, "
        within = f"; {sizes[0]} take {timed}{cost.kb:.4g} kB and {cost.arena_kb:.4g} kB of tensors, as much as may be"
    usual = next((filters for filters in sizes if filters <= _USUAL_FILTERS), sizes[-1])
    if budget.minutes is None and budget.gpu:
        return Decision("filters", sizes[0], f"there is a GPU{within}")
    if budget.minutes is None:
        return Decision("filters", usual, f"without a GPU, twice as many take three times as long{within}")
    if not budget.step_seconds:
        return Decision("filters", usual, f"nothing was measured{within}")
    steps = {filters: budget.steps(filters) or 0 for filters in sizes}
    chosen = next((filters for filters in sizes if steps[filters] >= ENOUGH.get(filters, 0)), sizes[-1])
    why = f"{steps[chosen]:,} steps in {budget.minutes:g} min"
    larger = min((filters for filters in sizes if filters > chosen), default=None)
    if larger is not None:
        why += f"; {larger} would get {steps[larger]:,}, and need {ENOUGH[larger]:,}"
    return Decision("filters", chosen, why + within)


def possible(settings: TrainSettings, sizes: Iterable[int]) -> list[int]:
    """Return which of some filters a U-Net may have: of one that begins with a start, those that there are."""
    start = settings.network.start
    return [filters for filters in sizes if start is None or filters in start.depths]


def sizes_within(files: Mapping[int, FileCost], limits: LimitSettings) -> list[int]:
    """Return the filters of the networks whose files keep the limits of the device, the largest first.

    Args:
        files: filters -> what the file takes; 0 filters for the network that the settings name.
        limits: limits, of which a tenth is kept for what varies.

    Raises:
        UsageError: none does.
    """
    exceeded = {filters: limits.exceeded_by(cost, LIMIT_SHARE) for filters, cost in files.items()}
    sizes = sorted((filters for filters, what in exceeded.items() if what is None), reverse=True)
    if not sizes:
        smallest = min(files)
        name = f"the network of {smallest} filters" if smallest else "the network"
        raise UsageError(
            f"{name} does not keep the limits",
            expected="a tenth less than is allowed, for what varies",
            found=exceeded[smallest],
            fix="allow more, or lower --size, --depth or --filters",
        )
    return sizes


def _epochs(context: _Context) -> Decision:
    passes = math.ceil(USUAL_STEPS / context.steps_a_pass)
    epochs = min(200, max(EPOCHS, passes))
    return Decision("epochs", epochs, f"{epochs * context.steps_a_pass:,} steps")


def _learning_rate(context: _Context) -> Decision:
    network = context.settings.network
    if network.start_weights is not None and network.encoder != LITE:
        return Decision("learning_rate", _RATE_OF_PUBLISHED, "what the weights know is not to be lost")
    return Decision("learning_rate", _RATE, "an average of the weights evens out large steps")


def _ema(context: _Context) -> Decision:
    steps = context.steps
    if steps is None:
        return Decision("ema", _AVERAGE, "an average of the weights is better than the last ones")
    if steps < TOO_FEW_STEPS:
        return Decision("ema", None, f"{steps:,} steps are too few for an average")
    momentum = round(min(_AVERAGE, max(_LEAST_AVERAGE, 1 - _AVERAGED_SHARE / steps)), 3)
    return Decision("ema", momentum, f"an average over about {1 / (1 - momentum):.0f} of {steps:,} steps")


def _warnings(context: _Context) -> tuple[str, ...]:
    minutes, steps = context.budget.minutes, context.steps
    warning = None if minutes is None or steps is None else too_few_steps(minutes, steps)
    return () if warning is None else (warning,)


def fitting_starts(settings: TrainSettings) -> list[str]:
    """Return the names of the starts that a U-Net of some settings may begin with."""
    return [name for name in STARTS if _is_unet(settings) and _takes(settings, name)]


def _takes(settings: TrainSettings, start: str) -> bool:
    try:
        settings.with_flat({"weights": start})
    except UsageError:
        return False
    return True


def _is_unet(settings: TrainSettings) -> bool:
    return settings.network.name == "unet" and settings.network.published_encoder is None


def encoder_is_open(settings: TrainSettings) -> bool:
    """Return whether the contracting path may be an encoder: nothing that was given is of U-Net's own."""
    network = settings.network
    own = (network.filters, network.depth, network.residual, network.crop, settings.fit.search != "none")
    return network.name == "unet" and network.encoder is None and network.weights is None and not any(own)


# Whether a setting is left open, and the rule that decides it; a rule may look at what those above it decided.
_RULES: tuple[tuple[Callable[[TrainSettings], bool], Callable[[_Context], Decision | None]], ...] = (
    (lambda given: given.network.encoder is None, _encoder),
    (lambda given: given.network.weights is None, _weights),
    (lambda given: given.network.size is None, _size),
    (lambda given: given.network.fit is None, _fit),
    (lambda given: given.network.per_image is None, _per_image),
    (lambda given: given.data.augment == "auto", _augment),
    (lambda given: given.data.class_weights is None, _class_weights),
    (lambda given: given.fit.batch is None, _batch),
    (lambda given: given.network.filters is None and _is_unet(given), _filters),
    (lambda given: given.fit.epochs is None and given.fit.minutes is None, _epochs),
    (lambda given: given.fit.ema is None, _ema),
    (lambda given: given.fit.learning_rate is None, _learning_rate),
)
