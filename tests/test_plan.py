"""What is decided for a training: the figures of a data set, the rules, and that a run keeps what was decided."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import silent

from keras_unetres.cli import main
from keras_unetres.data.synthetic import write_cells
from keras_unetres.planning import Budget, Fingerprint, TrainingPlan, decide
from keras_unetres.planning.fingerprint import Objects, count_kinds, describe, is_upright, look_of, measure_parts
from keras_unetres.planning.rules import encoder_is_open, sizes_within
from keras_unetres.planning.speed import derive_steps, measure_steps
from keras_unetres.runs import Compilation, RunFolder
from keras_unetres.runs.plan import TOO_FEW_STEPS
from keras_unetres.scores.baseline import Baseline, baseline_of_miou, baseline_of_share
from keras_unetres.scores.paired import Drop
from keras_unetres.settings import FileCost, LimitSettings, TrainSettings
from keras_unetres.tasks import TASKS
from keras_unetres.tasks.reading import open_records
from keras_unetres.tasks.reports import command_of
from keras_unetres.tflite.contents import read_contents
from keras_unetres.training.step_times import StepTimes
from keras_unetres.verify.gate import decide as decide_gate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.plan import plan
from keras_unetres.workflows.train import resume, train
from unetres_edge.errors import GateError, UsageError
from unetres_edge.latency.estimate import predict_latency
from unetres_edge.latency.graph import read_ops
from unetres_edge.latency.profile import Cost, Profile

GREY = Fingerprint(
    num_images=24,
    looked_at=24,
    sizes=(512, 512, 512, 512, 512, 512),
    areas=24 * 512 * 512,
    grey=True,
    kinds=1,
    brightness_spread=0.04,
    used_range=0.7,
    few_levels=None,
    upright=False,
    class_names=("background", "cell"),
    class_shares=(0.8, 0.2),
    object_sizes=(100.0, 20.0),
)
STREET = replace(
    GREY, sizes=(360, 480, 360, 480, 360, 480), grey=False, colour=0.04, upright=True, brightness_spread=0.12
)
NUCLEI = replace(
    GREY, sizes=(256,) * 4 + (520, 696), grey=False, colour=0.0, kinds=2, brightness_spread=0.25, used_range=0.3
)
SMALL = {"size": 32, "depth": 1, "epochs": 2, "seed": 3}


def values(fingerprint: Fingerprint, budget: Budget | None = None, **given: Any) -> dict[str, Any]:
    return {made.setting: made.value for made in made_for(fingerprint, budget, **given).decisions}


def made_for(fingerprint: Fingerprint, budget: Budget | None = None, **given: Any) -> TrainingPlan:
    return decide(fingerprint, budget or Budget(), TrainSettings.from_flat(given))


def timed(minutes: float, seconds_of_16: float) -> Budget:
    steps = {32: 3 * seconds_of_16, 16: seconds_of_16, 8: seconds_of_16 / 2}
    return Budget(minutes, step_seconds=steps, measured=(16,))


# ----------------------------------------------------------------------------------------------------------- the rules


def test_grey_microscopy_is_stretched_and_turned() -> None:
    found = values(GREY)
    assert (found["per_image"], found["augment"], found["fit"], found["batch"]) == ((1, 99), "microscopy", "crop", 4)


def test_few_grey_levels_are_stretched() -> None:
    (made,) = (
        made for made in made_for(replace(STREET, few_levels=(17, 4096))).decisions if made.setting == "per_image"
    )
    assert made.value == (1, 99)
    assert "17" in made.reason and "4096" in made.reason


def test_streets_are_scaled_and_stay_upright() -> None:
    found = values(STREET)
    assert (found["per_image"], found["augment"], found["fit"]) == (None, "street", "resize")
    assert values(STREET, balance=0.5)["fit"] == "crop"


@pytest.mark.parametrize(
    ("objects", "fit"),
    [
        (Objects(4.0, 200.0, 2.3, 12.0), "resize"),  # poles, and cars
        (Objects(1.2, 150.0, 5.0, 5.0), "crop"),  # cracks or vessels alone: 2.7 px would be left
        (Objects(1.2, 150.0, 5.0), "resize"),  # from a plan in which nobody looked
    ],
)
def test_lines_alone_are_seen_at_their_own_scale(objects: Objects, fit: str) -> None:
    assert values(replace(STREET, objects=objects))["fit"] == fit


LESION = replace(GREY, sizes=(768, 1024) * 3, objects=Objects(1.0, 400.0, 200.0))


@pytest.mark.parametrize(
    ("fingerprint", "fit"),
    [
        (LESION, "resize"),
        (replace(LESION, objects=Objects(40.0, 400.0, 200.0)), "crop"),  # many of them
        (replace(LESION, sizes=(3000, 4000) * 3, objects=Objects(12.0, 600.0, 280.0)), "resize"),  # many vast ones
        (replace(LESION, sizes=(3000, 4000) * 3, objects=Objects(12.0, 600.0, 100.0)), "crop"),  # ragged regions
        (replace(LESION, objects=Objects(1.0, 200.0, 100.0)), "crop"),  # that fit into a part
        (replace(LESION, objects=Objects(1.0, 400.0, 6.0)), "crop"),  # thin: 1.5 px would be left
        (replace(LESION, sizes=(200, 200) * 3), "crop"),
    ],
)
def test_objects_that_do_not_fit_into_a_part_are_seen_whole(fingerprint: Fingerprint, fit: str) -> None:
    assert values(fingerprint)["fit"] == fit


@pytest.mark.parametrize(("sides", "size"), [((48, 48), 48), ((101, 101), 112), ((20, 28), 32), ((128, 200), 208)])
def test_small_images_have_a_small_input(sides: tuple[int, int], size: int) -> None:
    small = replace(GREY, sizes=sides * 3, areas=24 * sides[0] * sides[1])
    assert values(small)["size"] == size
    assert values(small, encoder="resnet18")["size"] % 32 == 0
    assert values(small, depth=5)["size"] % 32 == 0
    assert "size" not in values(small, size=256)
    assert values(GREY)["size"] == 256


def test_rare_ones_of_several_classes_weigh_more() -> None:
    assert values(GREY)["class_weights"] == "equal"
    assert values(replace(GREY, class_shares=(0.99, 0.01)))["class_weights"] == "equal"
    three = replace(GREY, class_names=("a", "b", "c"))
    assert values(replace(three, class_shares=(0.5, 0.3, 0.2)))["class_weights"] == "equal"
    (decision,) = (
        decision
        for decision in made_for(replace(three, class_shares=(0.8, 0.0, 0.2))).decisions
        if decision.setting == "class_weights"
    )
    assert decision.value == "equal"
    (decision,) = (
        decision
        for decision in made_for(replace(three, class_shares=(0.78, 0.2, 0.02))).decisions
        if decision.setting == "class_weights"
    )
    assert decision.value == "softened"
    assert '"c" is 2.0%' in decision.reason


@pytest.mark.parametrize(
    ("objects", "augment"),
    [
        (Objects(20.0, 40.0, 9.0, 9.0, 3.4), "microscopes"),
        (Objects(20.0, 40.0, 9.0, 9.0, 1.5), "microscopy"),  # one magnification
        (Objects(20.0, 80.0, 2.0, 2.0, 3.4), "microscopy"),  # cracks, in pieces
        (Objects(20.0, 40.0, 9.0, 9.0, 3.4, 2.0), "microscopy"),  # classes that differ in size
        (Objects(1.0, 40.0, 9.0, 9.0, 3.4), "microscopy"),  # one object an image: it is large or small itself
    ],
)
def test_images_of_several_magnifications_are_scaled_further(objects: Objects, augment: str) -> None:
    assert values(replace(NUCLEI, objects=objects))["augment"] == augment
    assert values(replace(STREET, objects=objects))["augment"] == "street"


def test_several_kinds_of_images_share_a_batch() -> None:
    found = values(NUCLEI)
    assert (found["per_image"], found["augment"], found["batch"]) == ((1, 99), "microscopy", 8)


def test_a_batch_leaves_some_steps_to_a_pass_and_something_for_each_device() -> None:
    few = replace(GREY, num_images=6, areas=6 * 256 * 256)
    assert values(few)["batch"] == 2
    assert values(few, devices=3)["batch"] == 3
    assert values(GREY, size=128)["batch"] == 8


@pytest.mark.parametrize(("seconds", "filters"), [(0.1, 32), (0.5, 16), (3.0, 16), (10.0, 8)])
def test_the_largest_network_is_taken_that_can_be_taught(seconds: float, filters: int) -> None:
    made = made_for(GREY, timed(25, seconds), minutes=25)
    (decision,) = (made for made in made.decisions if made.setting == "filters")
    assert decision.value == filters
    assert "steps in 25 min" in decision.reason
    assert decision.option == "--filters"
    assert made.warnings == ()


def test_steps_count_and_not_passes() -> None:
    many = replace(GREY, num_images=10_000, areas=10_000 * 256 * 256)
    assert values(many, timed(25, 0.5), minutes=25)["filters"] == 16


def test_a_budget_that_teaches_nothing_is_said_with_what_it_needs() -> None:
    made = made_for(GREY, timed(1, 10.0), minutes=1)
    (warning,) = made.warnings
    assert "1 min are too few" in warning
    assert values(GREY, timed(1, 10.0), minutes=1)["ema"] is None
    needed = float(warning.split("--minutes ")[1].split()[0])
    assert (timed(needed, 10.0).steps(8) or 0) >= TOO_FEW_STEPS
    assert made_for(GREY, timed(needed, 10.0), minutes=needed).warnings == ()


def test_without_minutes_the_device_decides() -> None:
    assert values(GREY)["filters"] == 16
    assert values(GREY, Budget(gpu=True))["filters"] == 32
    assert "filters" not in values(GREY, encoder="resnet18")
    assert values(GREY)["epochs"] * 24 >= 1200


def test_the_average_of_the_weights_is_shorter_than_the_training() -> None:
    assert values(GREY)["ema"] == pytest.approx(1 - 20 / 1200, abs=1e-3)
    assert values(GREY, epochs=1000)["ema"] == 0.99
    assert values(GREY, epochs=1)["ema"] is None


def test_published_weights_are_trained_slower_but_for_those_that_bear_it() -> None:
    assert values(GREY)["learning_rate"] == 0.002
    assert values(GREY, encoder="resnet50", weights="imagenet")["learning_rate"] == 0.001
    assert values(GREY, encoder="efficientnet_lite0", weights="imagenet")["learning_rate"] == 0.002


PRETRAINED = Budget(pretrained=True)


def test_photographs_start_from_imagenet() -> None:
    found = values(STREET, PRETRAINED)
    assert (found["encoder"], found["weights"], found["learning_rate"]) == ("efficientnet_lite0", "imagenet", 0.002)
    assert "filters" not in found
    settings = made_for(STREET, PRETRAINED).apply(TrainSettings())
    assert settings.network.model(3, 11)[1]["encoder"] == "efficientnet_lite0"
    assert not settings.network.starts_elsewhere, "so that a run stopped before its first checkpoint is gone on with"
    assert values(STREET).get("encoder") is None, "no weights are at hand"
    aerial = values(replace(STREET, upright=False), PRETRAINED)
    assert (aerial["encoder"], aerial["augment"]) == ("efficientnet_lite0", "microscopy")


@pytest.mark.parametrize(
    ("fingerprint", "seconds", "given", "size"),
    [
        (STREET, 0.5, {}, 384),  # 1,133 steps of 1.1 s
        (STREET, 0.7, {}, 320),  # 809 of 384 px, and 1,165 of 320 px
        (STREET, 1.0, {}, 256),
        (STREET, 0.5, {"size": 256}, None),
        (STREET, 0.5, {"max_kb": 9000}, 256),  # a device waits for the file
        (STREET, 0.5, {"fit": "crop"}, 256),
        (replace(STREET, upright=False), 0.5, {}, 256),  # crops, at their own scale
        (replace(STREET, sizes=(240, 320) * 3), 0.5, {}, 256),  # no larger than the images
        (replace(LESION, colour=0.1), 0.5, {}, 384),  # one that fits into neither part
        (replace(LESION, colour=0.1, objects=Objects(1.0, 350.0, 200.0)), 0.5, {}, 320),  # it fits into one of 384 px
    ],
)
def test_more_is_seen_of_scaled_images_where_the_minutes_allow_it(
    fingerprint: Fingerprint, seconds: float, given: dict[str, Any], size: int | None
) -> None:
    budget = Budget(25, step_seconds={0: seconds}, measured=(0,), pretrained=True)
    made = values(fingerprint, budget, minutes=25, **given)
    assert made.get("size") == size
    longer = 1 if size is None else (size / 256) ** 2
    steps = int(60 * 25 * 0.85 / (longer * seconds))
    assert made["ema"] == pytest.approx(min(0.99, 1 - 20 / steps), abs=1e-3), "the average is over the steps that fit"


@pytest.mark.parametrize("fingerprint", [GREY, NUCLEI, replace(STREET, grey=True, colour=0.0)])
def test_what_is_no_photograph_has_a_network_of_its_own(fingerprint: Fingerprint) -> None:
    found = values(fingerprint, PRETRAINED)
    assert found["encoder"] == "none"
    assert (found["weights"], found["filters"]) == ("none", 16)
    made = made_for(fingerprint, PRETRAINED).apply(TrainSettings())
    assert "encoder" not in made.network.model(1, 2)[1]


@pytest.mark.parametrize(
    "given",
    [
        {"filters": 8},
        {"depth": 3},
        {"residual": True},
        {"encoder": "none"},
        {"encoder": "efficientnet_lite0"},
        {"encoder": "resnet18", "weights": "w.safetensors"},
        {"search": "quick"},
        {"padding": "valid"},
        {"network": "fcn"},
    ],
)
def test_a_network_that_was_given_is_not_exchanged(given: dict[str, Any]) -> None:
    assert not encoder_is_open(TrainSettings.from_flat(given))


def test_what_is_given_is_not_decided() -> None:
    given = {
        "size": 64,
        "fit": "letterbox",
        "per_image": (0.0, 0.0),
        "augment": "none",
        "class_weights": "equal",
        "batch": 3,
        "filters": 5,
        "epochs": 7,
        "ema": 0.0,
        "learning_rate": 0.1,
    }
    assert values(GREY, **given) == {}
    kept = made_for(GREY, **given).apply(TrainSettings.from_flat(given))
    assert kept == TrainSettings.from_flat({**given, "plan": False})
    assert kept.network.stretch is None


def test_a_plan_leaves_nothing_open_and_is_its_own_plan() -> None:
    for fingerprint in (GREY, STREET, NUCLEI):
        settings = made_for(fingerprint).apply(TrainSettings())
        again = decide(fingerprint, Budget(), settings)
        assert {made.setting for made in again.decisions} <= {"per_image"}  # None, which stays open in words only
        assert again.apply(settings) == settings


def test_every_line_has_a_reason_and_an_option() -> None:
    made = made_for(NUCLEI)
    assert len(made.lines()) == len(made.decisions) == 11
    for line, decision in zip(made.lines(), made.decisions, strict=True):
        assert decision.reason and line.endswith(f"({decision.option})")
    assert json.loads(json.dumps(made.to_dict()))["decisions"][0]["option"] == "--weights"


# ----------------------------------------------------------------------------------------------------------- the limits

FILES = {
    32: FileCost(40.0, 8000.0, 4000.0),
    16: FileCost(12.0, 2100.0, 2000.0),
    8: FileCost(5.0, 560.0, 1000.0),
    4: FileCost(3.0, 170.0, 500.0),
}


@pytest.mark.parametrize(
    ("limits", "filters"),
    [
        ({"max_ms": 100}, 32),
        ({"max_ms": 14}, 16),
        ({"max_ms": 13}, 8),
        ({"max_kb": 600, "max_ms": 14}, 4),
        ({"max_arena": 1500}, 8),
    ],
)
@pytest.mark.parametrize("budget", [Budget(25, step_seconds=dict.fromkeys(FILES, 0.01)), Budget(gpu=True)])
def test_the_largest_network_within_the_limits_is_taken(limits: dict[str, float], filters: int, budget: Budget) -> None:
    made = made_for(GREY, replace(budget, files=FILES), **limits)
    (decision,) = (each for each in made.decisions if each.setting == "filters")
    assert decision.value == filters
    assert f"{filters} take {FILES[filters].ms:.3g} ms" in decision.reason
    assert made.to_dict()["measured_files"]["4"] == {"ms": 3.0, "kb": 170.0, "arena_kb": 500.0}


def test_limits_that_no_network_keeps_are_refused() -> None:
    with pytest.raises(UsageError, match=r"4 filters .*found 3 ms a tile, and 2 are allowed \(--max-ms\)"):
        made_for(GREY, Budget(files=FILES), max_ms=2)
    with pytest.raises(UsageError, match=r"the network does not .*12.5 kB, and 1 are allowed"):
        sizes_within({0: FileCost(1.0, 12.5, 3.0)}, LimitSettings(max_kb=1))
    with pytest.raises(UsageError, match=r"the network does not .*3 kB of tensors, and 2 are allowed"):
        sizes_within({0: FileCost(None, 12.5, 3.0)}, LimitSettings(max_arena=2, max_ms=1))


@pytest.mark.parametrize(("drop", "passed"), [(Drop(0.0, None), False), (None, False)])
def test_a_file_beyond_its_limits_does_not_pass(drop: Drop | None, passed: bool) -> None:
    about = {"score": "mIoU", "images": "9 images"}
    assert decide_gate(drop, 0.3, **about).passed is not passed
    verdict = decide_gate(drop, 0.3, **about, exceeded="12 ms a tile, and 10 are allowed (--max-ms)")
    assert verdict.passed is passed
    assert "It takes 12 ms a tile, and 10 are allowed" in verdict.line


@pytest.mark.slow
def test_limits_hold_from_the_plan_to_the_file(cells: Path, tmp_path: Path) -> None:
    settings = TrainSettings.from_flat({**SMALL, "epochs": 1})
    with pytest.raises(UsageError, match="kB, and 5 are allowed"):
        train(cells, tmp_path / "run", settings.with_flat({"max_kb": 5}), say=silent)
    assert not (tmp_path / "run").exists()
    lines: list[str] = []
    train(cells, tmp_path / "run", settings.with_flat({"max_kb": 100, "max_ms": 1e5}), say=lines.append)
    assert any("as much as may be" in line for line in lines)
    resume(tmp_path / "run", say=silent)
    with pytest.raises(GateError, match="kB, and 7 are allowed"):
        export(tmp_path / "run", tmp_path / "m.tflite", max_drop=100, max_kb=7, say=silent)
    assert not (tmp_path / "m.tflite").exists()
    with pytest.raises(GateError, match="ms a tile, and 0.0001 are allowed"):
        export(tmp_path / "run", tmp_path / "m.tflite", max_drop=100, max_ms=0.0001, overwrite=True, say=silent)
    with pytest.raises(GateError, match="kB of tensors, and 2 are allowed"):
        export(tmp_path / "run", tmp_path / "m.tflite", max_drop=100, max_arena=2, overwrite=True, say=silent)
    kb = json.loads((tmp_path / "run" / "plan.json").read_text())["measured_files"]
    filters = RunFolder(tmp_path / "run").read_info().model.arguments["filters"]
    with contextlib.suppress(GateError):  # of a network that one epoch taught nothing
        export(tmp_path / "run", tmp_path / "m.tflite", max_drop=100, overwrite=True, say=silent)
    file = next(file for file in tmp_path.glob("m.tflite*") if file.suffix in (".tflite", ".rejected"))
    assert kb[str(filters)]["kb"] == pytest.approx(file.stat().st_size / 1000, abs=4)  # the scores are in it, too
    assert kb[str(filters)]["arena_kb"] == pytest.approx(read_contents(file.read_bytes()).arena / 1000, abs=0.1)


@pytest.mark.slow
def test_a_network_is_planned_for_a_device_by_its_profile(cells: Path, tmp_path: Path, run_folder: Path) -> None:
    """A drawn device on which an operation takes a microsecond for each 1,000 multiply-adds, and 0.01 ms by itself."""
    export(run_folder, tmp_path / "other.tflite", gate=False, allow_disagreement=True, say=silent)
    ops = read_ops((tmp_path / "other.tflite").read_bytes())
    device = dict.fromkeys(("system", "machine", "processor", "cores", "runtime", "made"), "drawn")
    costs = tuple(Cost(op, 0.01 + op.multiply_adds / 1e6) for op in ops)
    Profile(device, 1, 0.01, (), costs).save(tmp_path / "device.json")
    told = predict_latency(ops, Profile.load_file(tmp_path / "device.json")).ms
    assert told == pytest.approx(0.01 + sum(cost.ms for cost in costs))
    settings = TrainSettings.from_flat({**SMALL, "epochs": 1, "device": str(tmp_path / "device.json")})
    with pytest.raises(UsageError, match="--device is of --max-ms"):
        train(cells, tmp_path / "run", settings, say=silent)
    with pytest.raises(UsageError, match=r"ms a tile on the device of .*device\.json, and 0\.01 are allowed"):
        train(cells, tmp_path / "run", settings.with_flat({"max_ms": 0.01}), say=silent)
    assert not (tmp_path / "run").exists()
    train(cells, tmp_path / "run", settings.with_flat({"max_ms": 1e6}), say=silent)
    (tmp_path / "device.json").unlink()  # the run folder keeps it
    with pytest.raises(GateError, match=r"ms a tile on the device of .*run/device\.json, and 0\.02 are allowed"):
        export(tmp_path / "run", tmp_path / "m.tflite", max_drop=100, max_ms=0.02, say=silent)


# ------------------------------------------------------------------------------------------------------- the figures


def test_up_is_up_where_skies_are_above() -> None:
    random = np.random.default_rng(0)
    noise = random.uniform(0, 1, (20, 32, 32))
    sky = np.linspace(1, 0, 32)[None, :, None] + 0.2 * noise
    disc = (np.hypot(*np.mgrid[-16:16, -16:16] + 0.5) < 14)[None] + 0.05 * noise
    assert is_upright(sky)
    assert not is_upright(noise)
    assert not is_upright(disc)
    lit = disc * np.linspace(1, 0.9, 32)[None, :, None]
    assert not is_upright(lit), "a lamp that is not centred"
    assert not is_upright(np.rot90(sky, axes=(1, 2)))
    assert not is_upright(sky[:5])


def test_kinds_are_groups_with_a_gap_between_them() -> None:
    dark = np.column_stack([np.linspace(0, 0.3, 30), np.full((30, 2), 0.1)])
    assert count_kinds(dark) == 1
    assert count_kinds(np.concatenate([dark, dark + [0.6, 0, 0.2]])) == 2
    assert count_kinds(np.concatenate([dark, [[1, 0, 0]]])) == 1
    assert count_kinds(dark[:1]) == 1


def test_the_look_of_an_image() -> None:
    image = np.zeros((10, 10, 3), np.float32)
    image[5:, :, 0] = 0.6
    assert look_of(image) == pytest.approx((0.1, 0.1, 0.3, 0.2), abs=1e-6)


def test_parts_of_a_mask_have_an_area_and_a_width() -> None:
    there = np.zeros((40, 40), bool)
    there[:10, :10] = there[20:24, 20:24] = there[30, 30] = True
    there[35, :] = True
    assert measure_parts(there) == pytest.approx(np.array([[100, 200 / 36], [16, 32 / 12], [40, 2]]))


def test_a_part_has_the_same_figures_every_time(cells: Path) -> None:
    from keras_unetres.data import open_dataset, read_records

    records = read_records(open_dataset(cells), ["train"], progress=False)["train"]
    first, second = (describe(records, grey=True) for _ in range(2))
    assert first == second
    assert first.num_images == len(records)
    assert sum(first.class_shares) == pytest.approx(1, abs=1e-3)


def test_the_spread_of_objects_is_between_images(tmp_path: Path) -> None:
    from PIL import Image

    from keras_unetres.data import open_dataset, read_records

    def spread_of(name: str, sides: list[tuple[int, ...]]) -> float:
        for number, of_image in enumerate(sides):
            mask = np.zeros((64, 160), np.uint8)
            for place, side in enumerate(of_image):
                mask[2 : 2 + side, 40 * place : 40 * place + side] = 1
            for folder, values in (("images", 50 + 100 * mask), ("masks", mask)):
                (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(tmp_path / name / folder / f"{number}.png")
        records = read_records(open_dataset(tmp_path / name), ["all"], progress=False)["all"]
        return describe(records, grey=True).objects.spread

    assert spread_of("mixed", [(8, 16, 32)] * 5) == 1
    assert spread_of("apart", [(8, 8, 8)] * 5 + [(32, 32, 32)] * 5) == 4
    assert spread_of("some", [(8, 8)] * 4 + [()] * 4) == 1


# ------------------------------------------------------------------------------------------------------------ baseline


def test_the_baseline_is_the_score_of_one_class_everywhere() -> None:
    from keras_unetres.scores.confusion import Confusion

    truth = np.array([[0, 0, 0, 2], [0, 0, 2, 2]])
    confusion = Confusion.of(truth, np.zeros_like(truth), 4)
    found = baseline_of_miou(np.bincount(truth.ravel(), minlength=4), list("abcd"))
    assert found == Baseline("a", pytest.approx(confusion.mean_iou()))
    assert str(found) == 'always "a": 0.31'
    assert baseline_of_share(np.array([6, 2]), list("ab")) == Baseline("a", 0.75)
    assert baseline_of_miou(np.array([6, 0]), list("ab")) is None


@pytest.mark.parametrize(("reached", "passed"), [(0.48, True), (0.47, False), (0.04, False), (None, True)])
def test_a_network_that_is_no_better_than_one_class_everywhere_does_not_pass(
    reached: float | None, passed: bool
) -> None:
    baseline = Baseline("background", 0.47)
    verdict = decide_gate(Drop(0.0, None), 0.3, score="mIoU", images="9 images", reached=reached, baseline=baseline)
    assert verdict.passed is passed
    assert ('always "background": 0.47' in verdict.line) is not passed


# -------------------------------------------------------------------------------------------------------------- target


@pytest.mark.parametrize(
    ("declared", "given", "target"),
    [
        ("masks_are: instances", {}, "separated"),
        ("", {"masks_are": "instances"}, "separated"),
        ("masks_are: instances\ntarget: semantic", {}, "semantic"),
        ("masks_are: instances", {"target": "borders"}, "borders"),
        ("masks_are: instances", {"plan": False}, "semantic"),
        ("", {}, "semantic"),
    ],
)
def test_objects_that_touch_are_parted(declared: str, given: dict[str, Any], target: str, tmp_path: Path) -> None:
    write_cells(tmp_path, num_images=6, size=(64, 64))
    if declared:
        (tmp_path / "dataset.yaml").write_text(declared)
    settings = TrainSettings.from_flat(given)
    dataset, _, chosen = open_records(TASKS["segment"], tmp_path, settings)
    assert dataset.reading.target == target
    assert chosen.data.target in (target, settings.data.target)
    assert open_records(TASKS["segment"], tmp_path, chosen)[0].reading == dataset.reading


# ------------------------------------------------------------------------------------------------------------- seconds


class Machine:
    """A clock that only training steps move: of 16 filters in float32 one second, in bfloat16 half of it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def make_step(self, filters: int, way: Compilation) -> Callable[[], float]:
        def step() -> float:
            seconds = filters / 16 / (2 if way.name == HALF.name else 1)
            self.now += seconds
            return seconds

        return step


FULL, HALF = Compilation("float32", False), Compilation("mixed_bfloat16", False)


def test_networks_are_measured_while_there_is_time_in_the_fastest_way() -> None:
    machine = Machine()
    measured, way = measure_steps((16, 32, 8), [FULL, HALF], machine.make_step, StepTimes(1000, machine))
    assert measured == {16: 0.5, 32: 1, 8: 0.25}
    assert way == replace(HALF, tried={"float32": 1.0, "bfloat16": 0.5})
    machine = Machine()
    measured, way = measure_steps((16, 32, 8), [FULL, HALF], machine.make_step, StepTimes(1, machine))
    assert (measured, way) == ({16: 1}, FULL)
    machine = Machine()
    measured, way = measure_steps((0,), [HALF], lambda filters, way: machine.make_step(16, way), StepTimes(9, machine))
    assert (measured, way) == ({0: 0.5}, HALF)


def test_what_is_not_measured_is_derived() -> None:
    found = derive_steps({16: 1.0}, (32, 16, 8))
    assert found[32] > 2 and found[16] == 1 and 0.25 < found[8] < 0.5
    assert derive_steps({16: 1.0, 32: 2.0}, (32,)) == {32: 2.0}


# ------------------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def planned(cells: Path, tmp_path_factory: pytest.TempPathFactory, without_xla: None) -> Iterator[tuple[Path, list]]:
    folder, said = tmp_path_factory.mktemp("planned") / "run", []
    train(cells, folder, TrainSettings.from_flat({**SMALL, "filters": 2}), say=said.append)
    yield folder, said


def test_a_run_keeps_what_was_decided(planned: tuple[Path, list[str]], cells: Path) -> None:
    run, said = planned
    info, kept = RunFolder(run).read_info(), json.loads((run / "plan.json").read_text())
    settings = info.train_settings()
    assert not settings.fit.plan
    assert {made["setting"] for made in kept["decisions"]} >= {"batch", "augment", "ema", "learning_rate", "fit"}
    assert info.augment == settings.data.augment == "microscopy"
    assert info.preprocessing.per_image == settings.network.per_image
    assert any(line.startswith("plan      batch ") and line.endswith("(--batch)") for line in said)
    told = plan(cells, options=TrainSettings.from_flat({**SMALL, "filters": 2}), say=silent)
    assert json.loads(json.dumps(told)) == kept


def test_the_command_of_a_report_trains_the_same_run(planned: tuple[Path, list[str]]) -> None:
    command = command_of(RunFolder(planned[0]).read_info(), planned[0]).split()
    assert "--no-plan" in command
    assert command[command.index("--augment") + 1] == "microscopy"


def test_a_planned_run_is_gone_on_with_as_it_was(planned: tuple[Path, list[str]]) -> None:
    run = planned[0]
    before = (run / "run.json").read_text(), (run / "plan.json").read_text()
    resume(run, say=silent)
    assert ((run / "run.json").read_text(), (run / "plan.json").read_text()) == before


def test_the_command_prints_and_writes_a_plan(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    assert main(["plan", str(cells), "--filters", "4", "--out", str(out)]) == 0
    assert "(--batch)" in capsys.readouterr().out
    kept = json.loads(out.read_text())
    assert "filters" not in {made["setting"] for made in kept["decisions"]}
    assert main(["plan", str(cells), "--network", "resnet8"]) == 2
