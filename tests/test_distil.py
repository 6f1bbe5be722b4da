"""Distillation: the loss by hand, teachers that see other values of the same images, runs that go on bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from keras_unetres.models import build_unet
from keras_unetres.runs import Distillation, RunFolder, RunInfo
from keras_unetres.tasks import teachers as teaching
from keras_unetres.tasks.loading import load_run
from keras_unetres.training.distillation import DistilledLoss, Teachers, add_teachers
from keras_unetres.training.losses import CrossEntropy
from keras_unetres.workflows import distil as workflow
from keras_unetres.workflows import train as training
from keras_unetres.workflows.quantize import quantize
from unetres_edge.errors import RunFolderError, Stopped, UsageError


def silent(line: str) -> None:
    """Say nothing."""


def test_the_loss_is_that_of_labels_and_teachers() -> None:
    rng = np.random.default_rng(0)
    student, taught = rng.normal(0, 2, (2, 2, 3, 4, 3))
    taught = log_softmax(taught, -1)
    masks = rng.integers(0, 3, (2, 3, 4))
    masks[0, 0] = 255
    loss = DistilledLoss(CrossEntropy(), 3, temperature=3.0, share=0.25)
    both = np.concatenate([student, taught], -1).astype(np.float32)
    goal = softmax(taught / 3, -1)
    apart = (goal * (log_softmax(taught / 3, -1) - log_softmax(student / 3, -1))).sum(-1).mean()
    labelled = masks != 255
    hard = (logsumexp(student, -1) - np.take_along_axis(student, (masks % 3)[..., None], -1)[..., 0])[labelled].mean()
    assert float(loss(masks, both)) == pytest.approx(0.75 * hard + 0.25 * 9 * apart, rel=1e-5)
    unlabelled = np.full_like(masks, 255)
    assert float(loss(unlabelled, both)) == pytest.approx(0.25 * 9 * apart, rel=1e-5)
    assert float(loss(unlabelled, np.concatenate([taught, taught], -1))) == pytest.approx(0, abs=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(masks, both)) == float(loss(masks, both))


def test_teachers_are_averaged_as_probabilities_and_have_no_weights_in_the_student() -> None:
    keras.utils.set_random_seed(0)
    student, one, two = (build_unet((16, 16, 1), 2, filters=filters, depth=1) for filters in (2, 3, 4))
    identity = np.ones(1, np.float32), np.zeros(1, np.float32)
    halved = np.full(1, 0.5, np.float32), np.full(1, -0.25, np.float32)
    trained = add_teachers(student, Teachers(((one, *identity), (two, *halved)), 2.0, 0.5))
    assert [w.path for w in trained.weights] == [w.path for w in student.weights]
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    found = np.asarray(trained(images))
    np.testing.assert_allclose(found[..., :2], student(images), atol=1e-6)
    mean = (softmax(np.asarray(one(images)), -1) + softmax(np.asarray(two(images * 0.5 - 0.25)), -1)) / 2
    np.testing.assert_allclose(found[..., 2:], np.log(mean), atol=1e-5)


@pytest.fixture
def student(run_folder: Path) -> RunInfo:
    return RunFolder(run_folder).read_info()


def test_a_teacher_that_sees_other_values_is_fed_with_them(run_folder: Path, student: RunInfo) -> None:
    pre = replace(student.preprocessing, value_range=(0.0, 255.0), mean=(20.0,), std=(3.0,))
    how = teaching.name_teachers([run_folder], 2.0, 0.5)
    ((_, scale, offset),) = teaching.open_teachers(how, replace(student, preprocessing=pre)).networks
    levels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(student.preprocessing.channels, 2)
    mine, theirs = pre.normalise(levels[None]), student.preprocessing.normalise(levels[None])
    np.testing.assert_allclose(mine * scale + offset, theirs, atol=1e-5)


def test_what_cannot_teach_is_refused(run_folder: Path, student: RunInfo, tmp_path: Path) -> None:
    how = teaching.name_teachers([run_folder], 2.0, 0.5)
    with pytest.raises(UsageError, match="the same images, and fit differs"):
        other = replace(student, preprocessing=replace(student.preprocessing, fit="resize"))
        teaching.open_teachers(how, other)
    with pytest.raises(RunFolderError, match="the teacher has changed"):
        teaching.open_teachers(replace(how, digests=("0" * 64,)), student)
    with pytest.raises(UsageError, match="one run or several different ones"):
        teaching.name_teachers([run_folder, run_folder], 2.0, 0.5)
    with pytest.raises(RunFolderError, match="not a run folder"):
        teaching.name_teachers([tmp_path], 2.0, 0.5)
    copied = tmp_path / "copied"
    shutil.copytree(run_folder, copied)
    values = json.loads((copied / "run.json").read_text())
    values["classes"]["names"] = ["background", "vessel"]
    (copied / "run.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="of different classes; expected background, cell; found background, vessel"):
        teaching.name_teachers([run_folder, copied], 2.0, 0.5)
    (tmp_path / "link").symlink_to(run_folder)
    with pytest.raises(UsageError, match="a run cannot be written over itself"):
        workflow.distil([run_folder], tmp_path / "link", overwrite=True)


def test_run_json_keeps_the_teachers(student: RunInfo) -> None:
    info = replace(student, distil=Distillation(("/a", "/b"), ("0", "1"), 3.0, 0.25))
    assert RunInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info
    assert "distil" not in student.to_dict()
    for wrong in ({"teachers": ["/a"]}, {"digests": 3}, {"temperature": 0}, {"share": 2}):
        values = info.to_dict() | {"distil": info.to_dict()["distil"] | wrong}
        with pytest.raises(RunFolderError, match=r"run\.json is wrong at distil"):
            RunInfo.from_dict(json.loads(json.dumps(values)))


@pytest.mark.slow
def test_a_student_is_trained_stopped_and_goes_on_bit_for_bit(
    run_folder: Path, cells: Path, tmp_path: Path, without_xla: None
) -> None:
    lines: list[str] = []
    teacher = tmp_path / "second"
    shutil.copytree(run_folder, teacher)
    tensors = RunFolder(teacher).read_weights()
    RunFolder(teacher).write_weights({name: value * np.float32(1.01) for name, value in tensors.items()})
    given: dict[str, Any] = {"data": cells, "filters": 2, "epochs": 3}
    told = workflow.distil([run_folder, teacher], tmp_path / "whole", **given, say=lines.append)
    assert any(line.startswith("teachers") and "50% of the loss, temperature 2" in line for line in lines)
    assert told["epochs"] == 3
    info = RunFolder(tmp_path / "whole").read_info()
    assert info.distil is not None and info.distil.teachers == (str(run_folder), str(teacher))
    assert info.preprocessing == RunFolder(run_folder).read_info().preprocessing
    assert load_run(tmp_path / "whole").model.output_shape[-1] == 2

    def stops(line: str) -> None:
        if line.startswith("epoch     1/3"):
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = tmp_path / "stopped"
    with pytest.raises(Stopped):
        workflow.distil([run_folder, teacher], stopped, **given, say=stops)
    assert not (stopped / "report.json").exists()
    training.resume(stopped, data=cells, say=silent)
    for name in ("weights.safetensors", "history.csv"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    plain = workflow.distil([run_folder, teacher], tmp_path / "plain", **given, share=0.0, say=silent)
    other = RunFolder(tmp_path / "plain").read_weights()
    mine = RunFolder(tmp_path / "whole").read_weights()
    assert any(not np.array_equal(mine[name], other[name]) for name in mine)
    assert plain["steps"] == told["steps"]

    quantize(tmp_path / "whole", tmp_path / "int8", data=cells, epochs=1, say=silent)
    assert RunFolder(tmp_path / "int8").read_info().distil is None

    (tmp_path / "whole" / "checkpoints" / "last.safetensors").unlink()
    RunFolder(teacher).write_weights(tensors)
    with pytest.raises(RunFolderError, match="the teacher has changed since the run was begun"):
        training.resume(tmp_path / "whole", data=cells, say=silent)
