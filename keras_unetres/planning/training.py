"""The plan of a training: the data is described, steps are measured where there are minutes, and the rules decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..choices.networks import LITE
from ..data import Records
from ..runs import Compilation, ModelInfo
from ..settings import TrainSettings
from ..training.training_data import TrainingData
from .decisions import TrainingPlan
from .files import measure_files
from .fingerprint import Fingerprint, describe
from .rules import LIMIT_SHARE, LIMITED, Budget, decide, encoder_is_open, possible, sizes_within
from .speed import MOST_SECONDS, SHARE, TRIED, derive_steps, measure_steps

if TYPE_CHECKING:
    from ..training.devices import Devices


def plan_training(
    records: Mapping[str, Records],
    settings: TrainSettings,
    prepare: Callable[[TrainSettings], TrainingData],
    devices: Devices,
    say: Callable[[str], None],
) -> TrainingPlan:
    """Return what the settings leave open, decided.

    Args:
        records: part -> decoded samples.
        settings: settings that the user gave.
        prepare: function that returns the data ready for the network that some settings describe.
        devices: devices that will train.
        say: callback for lines to the user.
    """
    from ..training.compilation import find_processor

    fingerprint = describe(records["train"], grey=all(part.grey for part in records.values()))
    minutes = settings.fit.minutes
    gpu = find_processor(several=not devices.xla).kind == "gpu"
    budget = Budget(minutes, gpu, pretrained=_are_weights_at_hand(records, settings))
    data = None
    if settings.limits.any:
        say("plan      measuring what files take ...")
        budget, data = _within_limits(budget, fingerprint, settings, prepare)
    plan = decide(fingerprint, budget, settings)
    if minutes is None:
        return plan
    open_size = plan.decides("filters")
    usual = plan.apply(settings)
    data = data or prepare(usual)  # the same for networks of all filters
    sizes = possible(usual, TRIED) if open_size else [settings.network.filters or 0]
    say(f"plan      measuring {'networks' if open_size else 'the network'} ...")
    measured, compilation = _measure(sizes, usual, data, devices, min(SHARE * 60 * minutes, MOST_SECONDS))
    seconds = derive_steps(measured, LIMITED) if open_size else measured
    side = usual.network.input_size
    budget = replace(budget, step_seconds=seconds, measured=tuple(measured), side=side)
    plan = decide(fingerprint, budget, settings)
    return replace(plan, compilation=compilation)


def _are_weights_at_hand(records: Mapping[str, Records], settings: TrainSettings) -> bool:
    """Return whether the network may be one of colour images that starts from installed ImageNet weights."""
    channels = settings.network.channels or max(part.usual_channels for part in records.values())
    if channels != 3 or not encoder_is_open(settings):
        return False
    from ..weights.published import find_lite

    return find_lite() is not None


def _within_limits(
    budget: Budget,
    fingerprint: Fingerprint,
    settings: TrainSettings,
    prepare: Callable[[TrainSettings], TrainingData],
) -> tuple[Budget, TrainingData]:
    """Return a budget that knows what files take, and the data that they were measured with.

    Pretrained weights are no part of it where the file of their network takes too much.

    Raises:
        UsageError: no network keeps the limits.
    """
    plan = decide(fingerprint, budget, settings)
    usual = plan.apply(settings)
    data = prepare(usual)
    files = measure_files(possible(usual, LIMITED) if plan.decides("filters") else [0], usual, data)
    is_lite = plan.decides("encoder") and usual.network.encoder == LITE
    if is_lite and settings.limits.exceeded_by(files[0], LIMIT_SHARE) is not None:
        return _within_limits(replace(budget, pretrained=False), fingerprint, settings, prepare)
    sizes_within(files, settings.limits)
    return replace(budget, files=files), data


def _measure(
    sizes: Sequence[int],
    settings: TrainSettings,
    data: TrainingData,
    devices: Devices,
    seconds: float,
) -> tuple[dict[int, float], Compilation]:
    """Return the measured seconds of a step by filters, and how it is computed fastest.

    0 filters stand for the network that the settings name.
    """
    from ..training.compilation import candidates, find_processor
    from ..training.step_times import StepTimes
    from ..training.trainer import make_step

    shape = data.info.model.arguments

    def step_of(filters: int, way: Compilation) -> Callable[[], float]:
        if not filters:
            return make_step(data, devices, way)
        network = replace(settings.network, filters=filters)
        model = ModelInfo(*network.model(shape["input_shape"][-1], shape["num_classes"]))
        return make_step(replace(data, info=replace(data.info, model=model), initial={}), devices, way)

    ways = candidates(find_processor(several=not devices.xla), settings.fit)
    return measure_steps(sizes, ways, step_of, StepTimes(seconds))
