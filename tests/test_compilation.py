"""The choice of precision and compiler, trials of it, and BatchNormalization as one kernel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, silent

from keras_unetres.models import build_unet
from keras_unetres.runs import Compilation, RunFolder
from keras_unetres.settings import FitSettings, TrainOptions
from keras_unetres.tasks.loading import load_run
from keras_unetres.training import compilation as compiling
from keras_unetres.training.compilation import Processor, candidates, trial_seconds, try_ways
from keras_unetres.training.depthwise import widen_depthwise
from keras_unetres.training.distribution import find_distribution
from keras_unetres.training.fused_norm import fuse_norms
from keras_unetres.training.step_times import StepTimes
from keras_unetres.workflows.export import export
from keras_unetres.workflows.train import resume, train
from unetres_edge.errors import UsageError

GRAPH = Compilation("float32", jit_compile=False, fused_norm=True)
HALF = Compilation("mixed_bfloat16", jit_compile=False, fused_norm=True, wide_depthwise=True)
XLA = Compilation("float32", jit_compile=True)

# ----------------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("processor", "settings", "expected"),
    [
        (Processor("bfloat16"), {}, [HALF, GRAPH]),
        (Processor("avx512"), {}, [GRAPH, XLA]),
        (Processor("cpu"), {}, [XLA, GRAPH]),
        (Processor("gpu"), {}, [Compilation("mixed_float16", True)]),
        (Processor("bfloat16"), {"precision": "float32"}, [GRAPH, XLA]),
        (Processor("bfloat16"), {"compile": "xla"}, [XLA, Compilation("mixed_bfloat16", True)]),
        (Processor("bfloat16"), {"precision": "bfloat16", "compile": "graph"}, [HALF]),
        (Processor("cpu"), {"compile": "graph"}, [GRAPH]),
        (Processor("cpu"), {"precision": "bfloat16"}, [Compilation("mixed_bfloat16", True)]),
        (Processor("cpu"), {"precision": "bfloat16", "compile": "graph"}, [HALF]),
        (Processor("gpu"), {"precision": "float32", "compile": "graph"}, [Compilation("float32", False)]),
        (Processor("bfloat16", several=True), {}, [Compilation("float32", False)]),
        (Processor("bfloat16", several=True), {"precision": "bfloat16"}, [Compilation("mixed_bfloat16", False)]),
        (Processor("cpu", several=True), {}, [Compilation("float32", False)]),
        (Processor("gpu", several=True), {}, [Compilation("mixed_float16", False)]),
        (Processor("avx512", usual="mixed_bfloat16"), {}, [HALF]),
        (Processor("bfloat16", usual="mixed_bfloat16"), {"precision": "float32"}, [GRAPH, XLA]),
    ],
)
def test_the_candidates(processor: Processor, settings: dict[str, str], expected: list[Compilation]) -> None:
    assert candidates(processor, FitSettings(**settings)) == expected


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"avx2", "avx512f", "avx512_bf16"}, "bfloat16"),
        ({"amx_bf16"}, "bfloat16"),
        ({"avx512f"}, "avx512"),
        ({}, "cpu"),
    ],
)
def test_the_processor_is_known_by_its_flags(flags: set[str], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(compiling, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(compiling, "multiplies_bfloat16", lambda: bool({"avx512_bf16", "amx_bf16"} & set(flags)))
    assert compiling.find_processor() == Processor(kind)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have two GPUs; return what is asked of them, in order."""
    asked: list[str] = []

    def list_logical(kind: str) -> list[str]:
        asked.append("started")
        return ["GPU:0", "GPU:1"]

    def grow(gpu: str, on: bool) -> None:
        if "started" in asked:
            raise RuntimeError("physical devices cannot be modified after being initialized")
        asked.append(f"{gpu} grows {on}")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(tf.config, "list_logical_devices", list_logical)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda names: names)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    return asked


def test_gpus_give_memory_as_it_is_needed(two_gpus: list[str]) -> None:
    assert compiling.find_processor() == Processor("gpu")
    assert two_gpus == ["first grows True", "second grows True"]


def test_several_gpus_are_set_before_they_are_started(two_gpus: list[str]) -> None:
    found = find_distribution(2)
    assert found is not None and found.strategy == ["GPU:0", "GPU:1"]
    assert two_gpus == ["first grows True", "second grows True", "started"]
    assert compiling.find_processor(several=True) == Processor("gpu", several=True)
    with pytest.raises(UsageError, match="--devices is wrong; expected 1 to 2 GPU of this machine"):
        find_distribution(3)


def test_a_run_that_does_not_say_goes_on_as_the_first_version_computed() -> None:
    assert compiling.as_before(Compilation()) == Compilation(keras.config.dtype_policy().name, True)
    assert compiling.as_before(Compilation(), several=True).jit_compile is False
    for known in (GRAPH, HALF, XLA):
        assert compiling.as_before(known) == known


def test_the_precision_policy_is_put_back() -> None:
    before = keras.config.dtype_policy().name
    with pytest.raises(KeyError), compiling.precision_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise KeyError
    assert keras.config.dtype_policy().name == before


def test_a_device_is_described() -> None:
    said = compiling.describe_device(HALF)
    assert said.endswith("bfloat16")
    assert "XLA" not in said
    assert compiling.describe_device(XLA).endswith("float32, XLA")


# --------------------------------------------------------------------------------------------------------------- trials


@pytest.mark.parametrize(
    ("minutes", "ways", "seconds"),
    [
        (None, [HALF, GRAPH], 0),
        (2, [HALF, GRAPH], 0),  # six seconds are no time
        (10, [HALF, GRAPH], 30),
        (10, [XLA, GRAPH], 0),
        (25, [XLA, GRAPH], 75),
        (600, [HALF], 0),
    ],
)
def test_trials_take_a_twentieth_of_a_budget(minutes: float | None, ways: list[Compilation], seconds: float) -> None:
    assert trial_seconds(minutes, ways) == seconds


class Clock:
    """Seconds that pass only in steps: the first step of a way takes longer."""

    def __init__(self, **step_seconds: Iterator[float]) -> None:
        self.now, self.order = 0.0, []
        self._seconds = step_seconds

    def __call__(self) -> float:
        return self.now

    def make_step(self, way: Compilation) -> Callable[[], float]:
        def step() -> float:
            self.order.append(way.precision)
            seconds = next(self._seconds[str(way.precision)])
            self.now += seconds
            return seconds

        return step


def test_ways_take_turns_and_the_lowest_figure_counts() -> None:
    clock = Clock(float32=iter([5.0, 2.0, 2.0, 2.0]), mixed_bfloat16=iter([5.0, 9.0, 1.0, 9.0]))
    chosen = try_ways([GRAPH, HALF], clock.make_step, StepTimes(28.0, clock))
    assert chosen == replace(HALF, tried={"float32": 2.0, "bfloat16": 1.0})
    assert clock.order == ["float32"] * 2 + ["mixed_bfloat16"] * 2 + ["float32", "mixed_bfloat16"] * 2
    assert compiling.describe_tried(chosen.tried) == "bfloat16 1.000 s, float32 2.000 s"


def test_a_way_for_which_no_time_is_left_is_not_tried() -> None:
    clock = Clock(float32=iter([50.0, 2.0]), mixed_bfloat16=iter([]))
    assert try_ways([GRAPH, HALF], clock.make_step, StepTimes(30.0, clock)) == GRAPH


# --------------------------------------------------------------------------------------------------- the choice in runs


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"precision": "float32", "compile": "graph"}, marks=pytest.mark.slow),
        pytest.param({"precision": "bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_a_run_keeps_its_choice_and_is_float32_outside(settings: dict[str, str], cells: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    train(cells, tmp_path / "run", TrainOptions(**{**TINY, **settings}, ema=0.9), say=lines.append)
    info = RunFolder(tmp_path / "run").read_info()
    assert info.compilation.precision == {"bfloat16": "mixed_bfloat16"}.get(settings["precision"], "float32")
    assert lines[[line.partition(" ")[0] for line in lines].index("device")].endswith(info.compilation.name)
    loaded = load_run(tmp_path / "run").model
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    assert {variable.dtype for variable in loaded.weights} == {"float32"}
    resume(tmp_path / "run", say=silent)
    assert RunFolder(tmp_path / "run").read_info() == info
    if settings["precision"] == "bfloat16":
        export(tmp_path / "run", tmp_path / "m.tflite", say=silent)  # within the gate's bounds
        assert (tmp_path / "m.tflite").stat().st_size > 1000


@pytest.mark.slow
def test_trials_are_written_down_and_leave_no_trace(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "trial_seconds", lambda minutes, ways: 300.0)
    monkeypatch.setattr(compiling, "_MOST_TURNS", 1)
    lines: list[str] = []
    options = {**TINY, "epochs": 1, "compile": "graph"}
    monkeypatch.setattr(compiling, "find_processor", lambda **named: Processor("bfloat16"))
    train(cells, tmp_path / "tried", TrainOptions(**options), say=lines.append)
    info = RunFolder(tmp_path / "tried").read_info()
    assert set(info.compilation.tried) == {"float32", "bfloat16"}
    assert min(info.compilation.tried.values()) == info.compilation.tried[info.compilation.name] > 0
    assert any(line.startswith("tried     ") for line in lines)
    train(cells, tmp_path / "told", TrainOptions(**options, precision=info.compilation.name), say=silent)
    for name in ("weights.safetensors", "history.csv"):
        assert (tmp_path / "tried" / name).read_bytes() == (tmp_path / "told" / name).read_bytes(), name


def test_a_run_of_the_first_version_says_nothing_and_is_read(run_folder: Path, tmp_path: Path) -> None:
    run_copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    info = json.loads((run_copy / "run.json").read_text())
    del info["compilation"], info["settings"]["fit"]["precision"], info["settings"]["fit"]["compile"]
    (run_copy / "run.json").write_text(json.dumps(info))
    assert RunFolder(run_copy).read_info().compilation == Compilation()
    assert resume(run_copy, say=silent)["epochs"] == 3


# ---------------------------------------------------------------------------------------------- one kernel for the norm


def gradients(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Return gradients of a function of the outputs in training, and the outputs."""
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_mean(tf.cast(outputs, tf.float32) ** 3)
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return [np.array(outputs), *(np.array(g) for g in found)]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_kernel_computes_what_keras_does(precision: str) -> None:
    with compiling.precision_policy(precision):
        plain, fused = (build_unet((16, 16, 1), filters=4, depth=2) for _ in range(2))
    fused.set_weights(plain.get_weights())
    assert fuse_norms(fused) == sum(isinstance(layer, keras.layers.BatchNormalization) for layer in plain.layers) > 0
    images = np.random.default_rng(0).normal(1, 2, (3, 16, 16, 1)).astype(np.float32)
    rounding = 1e-4 if precision == "float32" else 0.1
    for a, b in zip(gradients(plain, images), gradients(fused, images), strict=True):
        np.testing.assert_allclose(b, a, atol=rounding * max(1e-3, float(np.abs(a).max())))
    for variable, other in zip(fused.weights, plain.weights, strict=True):
        np.testing.assert_allclose(np.array(variable), np.array(other), rtol=rounding, atol=rounding / 10)
    fused.set_weights(plain.get_weights())
    np.testing.assert_array_equal(np.array(fused(images)), np.array(plain(images)))  # inference is Keras's own


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.BatchNormalization(scale=False),
        keras.layers.BatchNormalization(center=False),
        keras.layers.BatchNormalization(axis=1),
        keras.layers.BatchNormalization(synchronized=True),
        keras.layers.LayerNormalization(),
    ],
    ids=["no scale", "no offset", "channels first", "synchronised", "another norm"],
)
def test_what_the_kernel_cannot_compute_stays(layer: keras.Layer) -> None:
    call = layer.call
    assert fuse_norms(keras.Sequential([keras.Input((8, 8, 2)), layer])) == 0
    assert layer.call == call


# ------------------------------------------------------------------------------------------- depthwise convolutions


def depthwise_network() -> keras.Model:
    """Three depthwise convolutions: a wide one, a strided one, and one that is fast as it is."""
    images = x = keras.Input((16, 16, 8))
    x = keras.layers.DepthwiseConv2D(5, padding="same", activation="relu", name="wide")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name="strided")(x)
    return keras.Model(images, keras.layers.DepthwiseConv2D(3, padding="valid", name="fast")(x))


def test_depthwise_gradients_are_those_of_the_network_and_outputs_are_the_same() -> None:
    with compiling.precision_policy("mixed_bfloat16"):
        plain, wide = depthwise_network(), depthwise_network()
    exact = depthwise_network()
    for model in (wide, exact):
        model.set_weights(plain.get_weights())
    assert widen_depthwise(wide) == 2
    images = np.random.default_rng(0).normal(0, 1, (2, 16, 16, 8)).astype(np.float32)
    outputs, *found = gradients(wide, images)
    np.testing.assert_array_equal(outputs, gradients(plain, images)[0])
    for ours, theirs in zip(found, gradients(exact, images)[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05 * float(np.abs(theirs).max()))


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.DepthwiseConv2D(5),  # in float32
        keras.layers.DepthwiseConv2D(3, dtype="mixed_bfloat16"),  # fast as it is
        keras.layers.DepthwiseConv2D(5, dilation_rate=2, dtype="mixed_bfloat16"),
        keras.layers.DepthwiseConv2D(5, depth_multiplier=2, dtype="mixed_bfloat16"),
        keras.layers.Conv2D(4, 5, dtype="mixed_bfloat16"),
    ],
    ids=["float32", "small", "dilated", "multiplied", "another"],
)
def test_depthwise_convolutions_of_other_forms_stay(layer: keras.Layer) -> None:
    call = layer.call
    assert widen_depthwise(keras.Sequential([keras.Input((16, 16, 2)), layer])) == 0
    assert layer.call == call
