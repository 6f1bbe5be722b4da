"""A budget of minutes that holds while training: the plan of a run gets the epochs that the time allows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import keras_unetres as ku
from keras_unetres.runs import Plan, RunFolder
from keras_unetres.settings import FitSettings, NetworkSettings, TrainSettings
from keras_unetres.training import trainer
from keras_unetres.training.deadline import Deadline

PLAN = Plan(epochs=20, steps_per_epoch=5, validate_every=2, warmup_steps=3, learning_rate=1e-3)


def followed(seconds: Callable[[int], float], *, end: float = 200.0) -> tuple[list[Plan], float]:
    """Return the plans that are followed where an epoch takes so many seconds, and when they end."""
    now = 0.0
    deadline = Deadline(PLAN, 0.0, end, lambda: now)
    plans, done = [PLAN], 0
    model = SimpleNamespace(stop_training=False)
    deadline.set_model(model)
    while done < plans[-1].epochs:
        now += seconds(done)
        deadline.on_epoch_end(done)
        done += 1
        if model.stop_training:
            model.stop_training = False
            plans.append(deadline.go_on(lambda line: None))
    return plans, now


def test_a_plan_that_takes_its_time_stays() -> None:
    assert followed(lambda epoch: 10.2)[0] == [PLAN]
    assert followed(lambda epoch: 9.0 + epoch % 2)[0] == [PLAN]


@pytest.mark.parametrize(
    "seconds",
    [lambda epoch: 13.0, lambda epoch: 10.0 if epoch < 12 else 25.0, lambda epoch: 10.0 if epoch < 16 else 40.0],
    ids=["slower all along", "slower later", "slower at the end"],
)
def test_a_slower_machine_gets_fewer_epochs(seconds: Callable[[int], float]) -> None:
    plans, ended = followed(seconds)
    assert plans[-1].epochs < PLAN.epochs
    assert 200 - 2 * seconds(19) <= ended <= 200 + seconds(19)


def test_a_faster_machine_gets_more_epochs_once() -> None:
    plans, ended = followed(lambda epoch: 5.0)
    assert [plan.epochs for plan in plans] == [20, 40]
    assert ended == 200


def test_a_time_that_is_over_ends_with_a_validated_epoch() -> None:
    plans, _ = followed(lambda epoch: 100.0)
    assert plans[-1].epochs == 11
    assert plans[-1].validates(11)


def test_what_ends_training_for_another_reason_is_left_alone() -> None:
    deadline = Deadline(PLAN, 0.0, 1.0, itertools.count(0, 100).__next__)
    deadline.set_model(SimpleNamespace(stop_training=True))
    for epoch in range(15):
        deadline.on_epoch_end(epoch)
    assert deadline.changed is None


@pytest.mark.slow
def test_a_run_goes_on_with_the_plan_that_fits(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slower(plan: Plan, begun: float, end: float) -> Deadline:
        return Deadline(plan, 0.0, 7.5 * plan.epochs, itertools.count(0.0, 10.0).__next__)

    made = Plan(8, 2, 2, 1, 1e-3)
    monkeypatch.setattr(trainer, "Deadline", slower)
    monkeypatch.setattr(trainer, "_make_plan", lambda *args: (made, None))
    settings = TrainSettings(
        NetworkSettings(size=32, filters=2, depth=1), FitSettings(minutes=5.0, plan=False, precision="float32")
    )
    lines: list[str] = []
    result = ku.train(cells, tmp_path / "run", settings, say=lines.append)
    run = RunFolder(tmp_path / "run")
    plan = run.read_info().plan
    assert plan is not None and 4 < plan.epochs < 8
    assert (result["epochs"], result["steps"]) == (plan.epochs, plan.steps)
    assert [line for line in lines if "epochs instead of 8" in line] != []
    checkpoint = run.read_checkpoint()
    assert checkpoint is not None
    state = checkpoint[1]
    assert [row["epoch"] for row in state["history"]] == list(range(1, plan.epochs + 1))
    assert "val_miou" in state["history"][-1] and state["finished"]
    rates = [row["learning_rate"] for row in state["history"]]
    assert rates[-1] == pytest.approx(plan.rate(plan.steps - 1))
    again = ku.resume(run.path, say=lambda line: None)
    assert again["epochs"] == plan.epochs
