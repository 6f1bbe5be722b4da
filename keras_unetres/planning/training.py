"""The plan of a training: the data is described, steps are measured where there are minutes, and the rules decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..data import Records
from ..runs import Compilation, ModelInfo
from ..settings import TrainSettings
from ..training.training_data import TrainingData
from .decisions import TrainingPlan
from .files import measure_files
from .fingerprint import describe
from .rules import LIMITED, Budget, decide, sizes_within
from .speed import SHARE, TRIED, derive_steps, measure_steps

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
        settings: what the user gave.
        prepare: returns the data ready for the network that some settings describe.
        devices: that will train.
        say: called with lines for the user.
    """
    from ..training.compilation import find_processor

    fingerprint = describe(records["train"], grey=all(part.grey for part in records.values()))
    minutes = settings.fit.minutes
    budget = Budget(minutes, gpu=find_processor(several=not devices.xla).kind == "gpu")
    plan = decide(fingerprint, budget, settings)
    open_size = any(decision.setting == "filters" for decision in plan.decisions)
    if minutes is None and not settings.limits.any:
        return plan
    usual = plan.apply(settings)
    data = prepare(usual)  # the same for networks of all filters
    if settings.limits.any:
        say("plan      measuring what files take ...")
        files = measure_files(LIMITED if open_size else (0,), usual, data)
        budget = replace(budget, files=files)
        sizes_within(files, settings.limits)
        plan = decide(fingerprint, budget, settings)
    if minutes is None:
        return plan
    sizes = TRIED if open_size else (settings.network.filters or 0,)
    say(f"plan      measuring {'networks' if open_size else 'the network'} ...")
    measured, compilation = _measure(sizes, usual, data, devices, SHARE * 60 * minutes)
    seconds = derive_steps(measured, LIMITED) if open_size else measured
    plan = decide(fingerprint, replace(budget, step_seconds=seconds, measured=tuple(measured)), settings)
    return replace(plan, compilation=compilation)


def _measure(
    sizes: tuple[int, ...],
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
        return make_step(replace(data, info=replace(data.info, model=model)), devices, way)

    ways = candidates(find_processor(several=not devices.xla), settings.fit)
    return measure_steps(sizes, ways, step_of, StepTimes(seconds))
