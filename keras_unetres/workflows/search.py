"""`unetres train --search`: networks are compared on short trainings, and the best of them is trained to its end.

Successive halving (Jamieson 2016): all are trained for a share of their time, the better half is gone on with, exactly
from where it was left, and so on until one is left, whose run becomes the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.files import write_bytes

from ..planning import TrainingPlan, plan_training
from ..planning.candidates import RUNGS, find_candidates, last_epoch, survivors, training_share
from ..planning.decisions import Decision
from ..planning.files import measure_file
from ..planning.rules import LIMIT_SHARE
from ..runs import Compilation, RunFolder
from ..runs.search import Rung, Search, Tried
from ..settings import TrainSettings
from ..tasks import TASKS
from ..tasks.reading import place_in_file, read_training_data, refuse_changed
from .baseline import say_baseline

if TYPE_CHECKING:
    from ..data import Records
    from ..training.devices import Devices
    from ..training.training_data import TrainingData

_TIMED = 10_000_000.0  # ms: a limit that no file exceeds, so that each is timed
_Prepare = Callable[[TrainSettings], "TrainingData"]
_Say = Callable[[str], None]


def search(
    data: Any, out: Any, options: TrainSettings, devices: Devices, begun: float, say: _Say, *, overwrite: bool
) -> dict[str, Any]:
    """Compare networks on a data set, and train the best.

    Args:
        data, out, overwrite: as for `train`.
        options: settings of the command, of which `search` says how much is compared.
        devices: the devices to train on.
        begun: time at which the command was given, by `time.perf_counter`.
        say: callback for lines to the user.

    Returns:
        As `train`.

    Raises:
        UsageError: the network has no forms to choose from, none keeps the limits, or several machines train.
    """
    if devices.shard[1] > 1:
        raise UsageError("several machines cannot search", fix="search on one, and train what it chooses on all")
    plans: list[tuple[TrainingPlan, _Prepare]] = []

    def choose(records: Mapping[str, Records], settings: TrainSettings, prepare: _Prepare) -> TrainSettings:
        plan = plan_training(records, settings, prepare, devices, say)
        for line in plan.lines():
            say(line)
        plans.append((plan, prepare))
        return plan.apply(settings)

    training_data = read_training_data(TASKS[options.network.task], data, options, say, choose=choose)
    plan, prepare = plans[0]
    level, chosen = options.fit.search, training_data.settings
    costs = _costs(find_candidates(options, chosen, level), chosen, prepare, say)
    minutes = options.fit.minutes
    if minutes is not None:
        chosen = chosen.with_flat({"minutes": round(minutes * training_share(len(costs), RUNGS[level]), 3)})
    state = Search(
        level=level,
        data=training_data.info.data.path,
        fingerprint=training_data.info.data.fingerprint,
        given=options,
        chosen=chosen.with_flat({"search": "none"}),
        plan=plan.to_dict(),
        candidates=tuple(costs),
        left=tuple(tried.name for tried in costs),
    )
    say_baseline(training_data, say)
    profile = options.limits.read_profile()
    run = RunFolder.create(out, overwrite=overwrite)
    with run.lock():
        run.write_search(state)
        if profile is not None:
            profile.save(run.device)
        return _go_on(run, state, prepare, plan.compilation, devices, begun, say, minutes)


def go_on_searching(run: RunFolder, data: Any, devices: Devices, begun: float, say: _Say) -> dict[str, Any]:
    """Go on with a search that was stopped.

    Args:
        run: its folder, locked.
        data: present place of the data set, or the set itself; None for where it was.
        devices, begun, say: as for `search`.

    Raises:
        UsageError: it was trained on arrays, which are not given.
        RunFolderError: the data changed, or `search.json` is damaged.
    """
    state = run.read_search()
    if state is None:
        raise RunFolderError("no network is sought here", file=run.path)
    source = data if data is not None else place_in_file(state.data, "search.json")
    if source is None:
        raise UsageError("the run was trained on arrays", fix="pass data= with the same ones")
    prepares: list[_Prepare] = []

    def choose(records: Mapping[str, Records], settings: TrainSettings, prepare: _Prepare) -> TrainSettings:
        prepares.append(prepare)
        return state.chosen

    training_data = read_training_data(TASKS[state.given.network.task], source, state.given, say, choose=choose)
    refuse_changed(training_data.info, state.fingerprint, source)
    begun_runs = [run.candidate(tried.name) for tried in state.candidates]
    infos = [each.read_info() for each in begun_runs if each.is_begun]
    return _go_on(run, state, prepares[0], infos[0].compilation if infos else None, devices, begun, say)


def _costs(
    candidates: Mapping[str, Mapping[str, Any]], chosen: TrainSettings, prepare: _Prepare, say: _Say
) -> list[Tried]:
    """Return the networks whose files keep the limits, with what their files take."""
    limits = chosen.limits
    timed = replace(limits, max_ms=limits.max_ms or _TIMED)
    kept: list[Tried] = []
    exceeded = None
    for name, changes in candidates.items():
        tried = Tried(name, changes, measure_file(prepare(chosen.with_flat(changes)), timed))
        exceeded = limits.exceeded_by(tried.cost, LIMIT_SHARE) if limits.any else None
        more = f"; {exceeded}" if exceeded else ""
        say(f"search    {tried.words}: {tried.cost.ms:.3g} ms, {tried.cost.kb:.4g} kB{more}")
        if exceeded is None:
            kept.append(tried)
    if not kept:
        raise UsageError("no network keeps the limits", found=exceeded, fix="allow more, or lower --size or --depth")
    return kept


def _go_on(
    run: RunFolder,
    state: Search,
    prepare: _Prepare,
    compilation: Compilation | None,
    devices: Devices,
    begun: float,
    say: _Say,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Compare what is left to be compared, take the best run, and train it to its end.

    Args:
        minutes: since `begun`, that all of it may take; None where that is not held to, as after a stop.
    """
    from ..pages.pictures import search_picture
    from ..training.trainer import train_run

    def data_of(name: str, folder: RunFolder) -> TrainingData:
        data = prepare(state.chosen.with_flat(state[name].changes))
        info = data.info if compilation is None else replace(data.info, compilation=compilation)
        return replace(data, info=folder.read_info() if folder.is_begun else info)

    for share in RUNGS[state.level]:
        if len(state.left) == 1:
            break
        for name in state.left:
            if any(rung.share == share for rung in state[name].rungs):
                continue
            say(f"search    {state[name].words}, to {share:.0%} of its training")
            folder = run.candidate(name)
            data = data_of(name, folder)
            if not folder.has_calibration:
                folder = folder if folder.is_begun else RunFolder.create(folder.path)
                folder.write_info(data.info)
                folder.write_calibration(data.calibration)
            figures = train_run(folder, data, devices, begun, say, until=partial(last_epoch, share=share))
            score = figures[f"best_{data.task.monitor.removeprefix('val_')}"]
            state = state.with_rung(name, Rung(share, score))
            run.write_search(state)
        ranked = sorted(state.left, key=lambda name: -state[name].rungs[-1].score)
        scores = ", ".join(f"{state[name].words} {state[name].rungs[-1].score:.4f}" for name in ranked)
        state = replace(state, left=tuple(ranked[: survivors(len(ranked))]))
        say(f"search    {scores}; {' and '.join(state[name].words for name in state.left)} go on")
        run.write_search(state)
    best = state.left[0]
    state = replace(state, best=best)
    run.write_search(state)
    run.take_candidate(best)
    data = data_of(best, run)
    if not run.has_calibration:  # it was alone, so nothing was compared
        run.write_info(data.info)
        run.write_calibration(data.calibration)
    write_bytes(run.samples / "search.png", search_picture(state.candidates, best))
    run.write_decisions(_decisions(state, state[best].changes))
    say(f"search    {state[best].words} is the best of {len(state.candidates)}, and is trained to its end")
    return train_run(run, data, devices, begun, say, minutes=minutes)


def _decisions(state: Search, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `plan.json` says: what the rules chose, but for what the search did."""
    why = f"the best of {len(state.candidates)} networks that were compared"
    changed = [Decision(name, value, why) for name, value in changes.items()]
    kept = [row for row in state.plan["decisions"] if row["setting"] not in changes]
    rows = [{**asdict(decision), "option": decision.option} for decision in changed]
    return {**state.plan, "decisions": [*kept, *rows]}
