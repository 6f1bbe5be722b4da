"""`unetres train --search`: which networks are compared, how they are halved, and that a stop changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import keras_unetres as ku
from keras_unetres.planning.candidates import RUNGS, find_candidates, last_epoch, survivors, training_share
from keras_unetres.runs import Plan, RunFolder
from keras_unetres.runs.search import Rung, Search, Tried
from keras_unetres.settings import FileCost, TrainSettings
from keras_unetres.training import trainer
from keras_unetres.workflows.plan import plan
from unetres_edge.errors import DataError, RunFolderError, UsageError


def names(level: str, chosen: dict[str, Any] | None = None, **given: Any) -> list[str]:
    settings = TrainSettings().with_flat(given)
    return list(find_candidates(settings, settings.with_flat({"filters": 16} | (chosen or {})), level))


def test_the_networks_are_changes_of_the_one_that_the_rules_chose() -> None:
    assert names("quick") == [
        "filters16_depth4",
        "filters8_depth4",
        "filters32_depth4",
        "filters16_depth4_residual",
    ]
    full = names("full", {"fit": "resize"})
    assert set(names("quick")) < set(full)
    assert {"filters16_depth3", "filters32_depth3", "filters16_depth4_size192", "filters16_depth4_size384"} < set(full)
    assert len(full) == len(set(full)) == 10


def test_what_is_given_stays() -> None:
    assert names("quick", {"filters": 12}, filters=12) == ["filters12_depth4", "filters12_depth4_residual"]
    assert all("filters12_" in name for name in names("full", {"filters": 12}, filters=12))
    assert all("depth2" in name for name in names("full", depth=2))
    assert not any("size" in name for name in names("full", {"fit": "resize"}, size=128))
    with pytest.raises(UsageError, match="nothing is left to search"):
        names("quick", {"filters": 12}, filters=12, residual=True)
    with pytest.raises(UsageError, match="U-Nets of their own"):
        names("quick", encoder="resnet18")


@pytest.mark.parametrize(
    ("level", "number"), [*(("quick", number) for number in (1, 2, 3, 4, 5)), *(("full", n) for n in (1, 4, 8, 11))]
)
def test_all_trainings_together_take_the_time_there_is(level: str, number: int) -> None:
    own = training_share(number, RUNGS[level])
    left, spent, before = number, 0.0, 0.0
    for rung in RUNGS[level]:
        if left > 1:
            spent += left * (rung - before) * own
            before = rung
            left = survivors(left)
    assert left == 1
    assert spent + (1 - before) * own == pytest.approx(1)


def test_a_share_ends_with_an_epoch_that_is_validated() -> None:
    plan = Plan(40, 10, 3, 5, 1e-3)
    assert [last_epoch(plan, share) for share in (1 / 8, 1 / 4, 1)] == [6, 12, 40]
    short = Plan(2, 10, 2, 5, 1e-3)
    assert last_epoch(short, 1 / 16) == 2


def test_it_starts_from_what_the_rules_choose(cells: Path, tmp_path: Path) -> None:
    settings = TrainSettings().with_flat({"search": "quick", "plan": False})
    with pytest.raises(UsageError, match="--no-plan"):
        ku.train(cells, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_plan_names_what_would_be_compared(cells: Path) -> None:
    lines: list[str] = []
    plan(cells, options=TrainSettings().with_flat({"search": "quick"}), say=lines.append)
    assert lines[-1].startswith("search    filters16_depth4, filters8_depth4, filters32_depth4")


SEARCH = Search(
    level="quick",
    data="/data",
    fingerprint="abc",
    given=TrainSettings(),
    chosen=TrainSettings(),
    plan={"decisions": []},
    candidates=(Tried("filters8_depth4", {}, FileCost(1.0, 2.0, 3.0), (Rung(0.125, 0.5),)),),
    left=("filters8_depth4",),
)


def test_what_is_known_of_a_search_is_written_and_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_search() is None and not run.is_searching
    run.write_search(SEARCH)
    assert run.read_search() == SEARCH and run.is_searching


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.update(best="../../victim"), "not those of its candidates"),
        (lambda values: values.update(left=["../../victim"]), "not those of its candidates"),
        (lambda values: values["candidates"][0].update(name="../../victim"), "the name '../../victim'"),
        (lambda values: values["candidates"][0].update(name="/"), "the name '/'"),
        (lambda values: values["candidates"][0].update(changes={"cache": "/"}), "changes of cache"),
        (lambda values: values.update(level="endless"), "the level 'endless'"),
        (lambda values: values.update(left=[]), "not those"),
        (lambda values: values.pop("plan"), "no 'plan'"),
        (lambda values: values.update(candidates=3), "damaged"),
        (lambda values: values.update(schema=2), "schema 2"),
    ],
)
def test_a_search_that_somebody_else_wrote_names_no_other_folder(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    values = SEARCH.to_dict()
    change(values)
    (tmp_path / "search.json").write_text(json.dumps(values))
    with pytest.raises(RunFolderError, match=re.escape(words)):
        ku.resume(tmp_path)


def test_a_search_opens_no_address(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_search(replace(SEARCH, data="https://example.org/data"))
    with pytest.raises(DataError, match=r"search\.json"):
        ku.resume(tmp_path)


@pytest.mark.slow
def test_the_minutes_are_those_of_all_together(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network is planned for a share of them, and the last training is held to what is left."""
    train_run, held = trainer.train_run, []

    def watched(*args: Any, **named: Any) -> Any:
        held.append((args[1].settings.fit.minutes, named.get("minutes")))
        return train_run(*args, **named)

    monkeypatch.setattr(trainer, "train_run", watched)
    settings = TrainSettings().with_flat({"search": "quick", "size": 32, "depth": 1, "filters": 2, "minutes": 0.6})
    told = ku.train(cells, tmp_path / "run", settings, say=lambda line: None)
    share = round(0.6 * training_share(2, RUNGS["quick"]), 3)
    assert held == [(share, None), (share, None), (share, 0.6)]
    assert RunFolder(tmp_path / "run").read_info().plan.epochs == told["epochs"]


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_bit_for_bit(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings().with_flat(
        {"search": "quick", "size": 32, "depth": 1, "filters": 2, "epochs": 8, "precision": "float32"}
    )
    lines: list[str] = []
    whole = ku.train(cells, tmp_path / "whole", settings, say=lines.append)
    run = RunFolder(tmp_path / "whole")
    search = run.read_search()
    assert search is not None and not run.is_searching and not (run.path / "search").exists()
    assert [len(tried.rungs) for tried in search.candidates] == [1, 1]
    assert search.best == max(search.candidates, key=lambda tried: tried.rungs[-1].score).name
    assert run.read_info().model.arguments["residual"] is ("residual" in search.best)
    assert (run.samples / "search.png").stat().st_size > 5000
    assert "Networks compared" in (run.path / "report.html").read_text()
    assert sum("resume    after" in line for line in lines) == 1  # the best one, at the end

    train_run, calls = trainer.train_run, []

    def stopped(*args: Any, **named: Any) -> Any:
        calls.append(named)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_run(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_run", stopped)
        with pytest.raises(KeyboardInterrupt):
            ku.train(cells, tmp_path / "run", settings, say=lambda line: None)
    again = RunFolder(tmp_path / "run")
    assert again.is_searching
    with pytest.raises(RunFolderError, match=r"(?s)still sought.*--resume"):
        again.read_info()
    told = ku.resume(again.path, say=lambda line: None)
    assert told["best_miou"] == whole["best_miou"]
    assert (again.path / "weights.safetensors").read_bytes() == (run.path / "weights.safetensors").read_bytes()
    resumed = again.read_search()
    assert resumed is not None and resumed.best == search.best
    assert [tried.rungs for tried in resumed.candidates] == [tried.rungs for tried in search.candidates]
    ku.train(
        cells, again.path, settings.with_flat({"search": "none", "epochs": 1}), overwrite=True, say=lambda line: None
    )
    assert again.read_search() is None  # it was that of the run before
