"""What a file is made of, held against the Keras model, LiteRT, and the tools of targets where they are installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from conftest import silent
from lite import partitions

from keras_unetres.cli import main
from keras_unetres.models import build_unet
from keras_unetres.models.catalog import multiply_adds
from keras_unetres.runs import RunFolder
from keras_unetres.tasks.loading import load_run
from keras_unetres.tflite import export_tflite
from keras_unetres.tflite.arena import ALIGNMENT, arena_bytes, lives
from keras_unetres.tflite.contents import Contents, Tensor, read_contents
from keras_unetres.tflite.inspect import Graph, Op, layers_of, read_ops
from keras_unetres.tflite.noise import noise_by_layer
from keras_unetres.tflite.target_tools import MICRO, VELA, ask_micro, ask_tools, ask_vela, installed
from keras_unetres.tflite.targets import judge
from keras_unetres.workflows.inspect import inspect
from unetres_edge import Card, Preprocessing
from unetres_edge.engines.probe import find_partitions, record_tensors
from unetres_edge.errors import ModelError
from unetres_edge.images.preprocessing import look_up
from unetres_edge.model.card import default_colors, read_card

RGB = Preprocessing(channels=3, value_range=(-1.0, 1.0), size=(16, 16))
CARD = Card(("a", "b"), default_colors(2), RGB)


@pytest.fixture(scope="module")
def bilinear() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_unet((16, 16, 3), 3, filters=4, depth=2, upsampling="bilinear")


@pytest.fixture(scope="module")
def argmax_file(bilinear: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An int8 network without transposed convolutions, which ends in class ids."""
    path = tmp_path_factory.mktemp("argmax") / "argmax.tflite"
    images = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)
    export_tflite(bilinear, path, recipe="static_wi8_ai8", preprocessing=RGB, calibration=images, head="argmax")
    return path.read_bytes()


@pytest.fixture(scope="module")
def split_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """XNNPACK has no TILE, which is what nearest-neighbour upsampling becomes."""
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("split") / "split.tflite"
    model = build_unet((16, 16, 3), 2, filters=2, depth=1, upsampling="nearest")
    export_tflite(model, path, recipe="float32", preprocessing=RGB)
    return path.read_bytes()


def tiles(run_folder: Path, count: int = 4) -> np.ndarray:
    return look_up(load_run(run_folder).card.preprocessing.table(), RunFolder(run_folder).read_calibration()[:count])


# --------------------------------------------------------------------------------------------------------------- ops


def test_multiply_adds_are_those_of_the_keras_model(run_folder: Path, float32_file: Path, int8_file: Path) -> None:
    expected = multiply_adds(load_run(run_folder).model, (32, 32))
    for file in (float32_file, int8_file):
        assert sum(op.multiply_adds for op in read_ops(file.read_bytes())) == expected


def test_multiply_adds_of_every_kind_of_kernel(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(inputs)  # 64 places x 9 x 6
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)  # 16 places x 9 x 6 x 4
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5)(x))  # 4 x 5
    pre = Preprocessing(channels=3, fit="resize", size=(8, 8))
    export_tflite(model, tmp_path / "m.tflite", recipe="float32", preprocessing=pre)
    found = {op.name: op.multiply_adds for op in read_ops((tmp_path / "m.tflite").read_bytes()) if op.multiply_adds}
    assert found == {"DEPTHWISE_CONV_2D": 64 * 9 * 6, "CONV_2D": 16 * 9 * 6 * 4, "FULLY_CONNECTED": 4 * 5}


def test_every_layer_that_computes_is_found_in_an_op(run_folder: Path, int8_file: Path) -> None:
    """Also without knowing the model, from the names of the tensors alone; fused layers in the order of their calls."""
    model = load_run(run_folder).model
    ops = read_ops(int8_file.read_bytes())
    kinds = (keras.layers.InputLayer, keras.layers.Dropout)
    expected = {layer.name for layer in model.layers if not isinstance(layer, kinds)}
    for names in ([layer.name for layer in model.layers], None):
        found = [layers_of(op, names) for op in ops]
        assert {layer for layers in found for layer in layers} == expected
        assert found[0] == found[-1] == ()  # the converter's own
        place = {layer.name: at for at, layer in enumerate(model.layers)}
        for layers in found:
            assert [place[layer] for layer in layers] == sorted(place[layer] for layer in layers)
        assert ("encoder1_1_conv", "encoder1_1_norm", "encoder1_1_relu") in found
        assert found[-2] == ("head_logits",)  # its tensor has the name of the signature


def test_a_float_island_is_named_and_the_ends_are_none(int8_file: Path, float32_file: Path) -> None:
    assert read_contents(float32_file.read_bytes()).islands == []  # all of it is float
    contents = read_contents(int8_file.read_bytes())
    assert contents.islands == []
    island = Op("NEG", ("FLOAT32",), ("FLOAT32",), "m/strange_1/Neg")
    ops = (*contents.ops[:3], island, *contents.ops[3:-1], Op("DEQUANTIZE", ("INT8",), ("FLOAT32",), "out"))
    layers = (*contents.layers[:3], ("strange",), *contents.layers[3:])
    changed = replace(contents, ops=ops, layers=layers)
    assert changed.islands == [3]
    assert changed.say(3) == "NEG (layer strange)"


# ------------------------------------------------------------------------------------------------- pieces and memory


def unfolding(names: int, graphs: int) -> bytes:
    """Return a file of which one tensor with a long name is in many places, or one subgraph."""
    builder = flatbuffers.Builder(1 << 16)
    name = builder.CreateString("x" * 100_000)
    shape = builder.CreateNumpyVector(np.array([1], np.int32))
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    schema.TensorAddShape(builder, shape)
    tensor = schema.TensorEnd(builder)
    tensors = vector(builder, schema.SubGraphStartTensorsVector, tensor, names)
    schema.SubGraphStartOperatorsVector(builder, 0)
    operators = builder.EndVector()
    ends = builder.CreateNumpyVector(np.array([0], np.int32))
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    schema.SubGraphAddOperators(builder, operators)
    schema.SubGraphAddInputs(builder, ends)
    schema.SubGraphAddOutputs(builder, ends)
    subgraphs = vector(builder, schema.ModelStartSubgraphsVector, schema.SubGraphEnd(builder), graphs)
    schema.BufferStart(builder)
    buffers = vector(builder, schema.ModelStartBuffersVector, schema.BufferEnd(builder), 1)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, subgraphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def vector(builder: flatbuffers.Builder, start: Callable[..., Any], table: int, count: int) -> int:
    start(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


@pytest.mark.parametrize(("names", "graphs"), [(2000, 1), (3000, 400)])
def test_a_file_that_unfolds_to_more_than_it_is_is_refused_before(
    names: int, graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacked into objects, files of 120 kB would take 200 MB and more; of 10 MB, all memory."""
    assert Graph(unfolding(2, 1)).kind(1) == "FLOAT32"
    data = unfolding(names, graphs)
    assert len(data) < 200_000
    monkeypatch.setattr("keras_unetres.tflite.contents.Graph", lambda _: pytest.fail("it was unpacked"))
    with pytest.raises(ModelError, match=r"lie in each other|LiteRT refuses"):
        read_contents(data)


def test_the_pieces_of_xnnpack_and_what_is_outside(int8_file: Path, argmax_file: bytes) -> None:
    for data, outside in ((int8_file.read_bytes(), ["QUANTIZE"] * 2), (argmax_file, ["QUANTIZE", "ARG_MAX", "CAST"])):
        contents = read_contents(data)
        assert len(contents.partitions) == partitions(data) == 1
        assert [contents.ops[place].name for place in contents.outside] == outside


def test_a_graph_that_is_split_is_two_pieces(split_file: bytes) -> None:
    data = split_file
    pieces, ops = find_partitions(data), read_ops(data)
    assert len(pieces) == partitions(data) > 1
    taken = [place for piece in pieces for place in piece]
    assert len(set(taken)) == len(taken)
    assert {ops[place].name for place in range(len(ops)) if place not in taken} == {"TILE"}
    verdict = judge(read_contents(data), CARD)[0]
    assert verdict.fits == "partly"
    assert "TILE (layer decoder1_up" in verdict.reason


def test_the_plan_of_memory_is_between_its_bounds(int8_file: Path, float32_file: Path, argmax_file: bytes) -> None:
    """What lives at one time must fit; what is placed never needs more than everything side by side."""
    for data in (int8_file.read_bytes(), float32_file.read_bytes(), argmax_file):
        graph = Graph(data)
        found = lives(graph)
        assert all(life.size % ALIGNMENT == 0 for life in found)
        times = range(-1, len(graph.operators) + 1)
        needed = max(sum(life.size for life in found if life.first <= time <= life.last) for time in times)
        assert needed <= arena_bytes(graph) < sum(life.size for life in found)
        assert arena_bytes(graph) <= 1.2 * needed


def test_constants_are_counted_once(run_folder: Path, float32_file: Path) -> None:
    """A float32 file holds the kernels and biases of the folded model: batch norms are gone, their bias is left."""
    model = load_run(run_folder).model
    kernels = sum(
        int(np.prod(layer.kernel.shape)) + layer.kernel.shape[2 if "up" in layer.name else 3]
        for layer in model.layers
        if hasattr(layer, "kernel")
    )
    shapes = 2 * 4 * 4  # each transposed convolution is told its output's shape, 4 int32
    assert read_contents(float32_file.read_bytes()).constants == 4 * kernels + shapes


# ------------------------------------------------------------------------------------------------------------ noise


def test_noise_is_the_error_of_each_layer(run_folder: Path, float32_file: Path, int8_file: Path) -> None:
    exact, rounded = float32_file.read_bytes(), int8_file.read_bytes()
    images = tiles(run_folder)
    found = noise_by_layer(exact, rounded, (images, images))
    assert {"encoder1_1_relu", "decoder1_skip", "head_logits"} <= set(found)
    assert all(5 < db < 60 for db in found.values())
    model = load_run(run_folder).model
    true = np.asarray(model.predict_on_batch(images), np.float64)
    graph = Graph(rounded)
    scale, zero_point = graph.quantization(graph.outputs[0]) or (0.0, 0)
    stored = np.concatenate([values for (values,) in record_tensors(rounded, images, graph.outputs)])
    error = true - (stored.astype(np.float64) - zero_point) * scale
    assert found["head_logits"] == pytest.approx(10 * np.log10((true**2).sum() / (error**2).sum()), abs=0.01)
    assert noise_by_layer(exact, exact, (images, images)) == {}


# ---------------------------------------------------------------------------------------------------------- targets


def made(ops: list[Op], source: str = "UINT8", result: str = "UINT8", **changes: Any) -> Contents:
    ends = [Tensor(kind, (1, 16, 16, channels), (0.1, 0)) for kind, channels in ((source, 3), (result, 2))]
    pieces = (tuple(range(1, len(ops) - 1)),)
    layers = tuple((f"layer{place}",) for place in range(len(ops)))
    return replace(Contents(1000, tuple(ops), layers, pieces, 4096, 900, (ends[0],), (ends[1],)), **changes)


ENTER, LEAVE = Op("QUANTIZE", ("UINT8",), ("INT8",), "in"), Op("QUANTIZE", ("INT8",), ("UINT8",), "out")
CONV = Op(
    "CONV_2D", ("INT8",), ("INT8",), "c", kernel="INT8", shape=(1, 16, 16, 2), given=(1, 16, 16, 3), multiply_adds=9
)
FLOAT = replace(CONV, inputs=("FLOAT32",), outputs=("FLOAT32",), kernel="FLOAT32")
ARG_MAX = Op("ARG_MAX", ("INT8",), ("INT32",), "a", shape=(1, 16, 16), given=(1, 16, 16, 2))
CAST = Op("CAST", ("INT32",), ("UINT8",), "a")
RESIZE = Op("RESIZE_BILINEAR", ("INT8",), ("INT8",), "r", shape=(1, 64, 64, 2), given=(1, 16, 16, 2))
MEDIAPIPE = {"result": "FLOAT32", "metadata": ("TFLITE_METADATA",)}

# The six targets in order: XNNPACK, LiteRT.js, MediaPipe, tflite-micro, Ethos-U, Edge TPU.
FILES: dict[str, tuple[Contents, str, str]] = {
    "int8": (made([ENTER, CONV, LEAVE]), "yes yes no yes yes yes", ""),
    "int8 ends": (made([CONV], "INT8", "INT8", partitions=((0,),)), "yes no no yes yes yes", "no INT8 tensors"),
    "class ids": (
        made([ENTER, CONV, ARG_MAX, CAST], partitions=((1,),)), "yes yes no no partly partly", "CAST (layer layer3)"
    ),
    "many classes": (
        made([ENTER, CONV, replace(ARG_MAX, given=(1, 16, 16, 128)), CAST]), "yes yes no no partly partly", "ARG_MAX"
    ),
    "float32": (
        made([FLOAT], "FLOAT32", "FLOAT32", partitions=((0,),)), "yes yes no yes no no", "the file is float"
    ),
    "for mediapipe": (
        made([ENTER, CONV, replace(LEAVE, name="DEQUANTIZE", outputs=("FLOAT32",))], **MEDIAPIPE),
        "yes yes yes yes partly partly",
        "DEQUANTIZE",
    ),
    "int8 kernels, float between": (
        made([replace(FLOAT, kernel="INT8")], "FLOAT32", "FLOAT32", partitions=((0,),)), "yes yes no no no no",
        "integer kernels with float activations: CONV_2D (layer layer0)",
    ),
    "int16": (
        made([ENTER, replace(CONV, inputs=("INT16",), outputs=("INT16",)), LEAVE], partitions=()),
        "partly yes no yes yes no", "outside: CONV_2D (layer layer1)",
    ),
    "four times larger": (made([ENTER, CONV, RESIZE, LEAVE]), "yes yes no yes partly yes", "RESIZE_BILINEAR"),
    "an op of its own": (
        made([ENTER, CONV, replace(CAST, name="CUSTOM"), LEAVE], partitions=((1,),)), "partly no no no partly partly",
        "not built in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_rules_of_every_target(name: str) -> None:
    contents, expected, words = FILES[name]
    verdicts = judge(contents, CARD)
    assert " ".join(verdict.fits for verdict in verdicts) == expected
    assert words in " ".join(verdict.reason for verdict in verdicts)


def test_mediapipe_says_all_that_is_wrong() -> None:
    card = replace(CARD, task="classify", preprocessing=replace(RGB, channels=1, fit="resize"))
    grey = replace(made([CONV], "INT8", "INT8"), inputs=(Tensor("INT8", (1, 16, 16, 1), None),))
    reason = judge(grey, card)[2].reason
    assert reason.split("; ") == [
        "the model is a classifier",
        "the input is INT8, not UINT8 or FLOAT32",
        "the input has 1 channel, not RGB",
        "the output is INT8, not FLOAT32 scores of every class",
        "it has no TFLITE_METADATA",
    ]


needs_vela = pytest.mark.skipif(installed(VELA) is None, reason=f"needs {VELA}: pip install {VELA}")
needs_micro = pytest.mark.skipif(installed(MICRO) is None, reason=f"needs {MICRO}: pip install {MICRO}")


@needs_vela
def test_vela_agrees_with_its_rules(int8_file: Path, argmax_file: bytes, float32_file: Path) -> None:
    for data, fits, words in (
        (int8_file.read_bytes(), "yes", "all ops on the NPU"),
        (argmax_file, "partly", "stay on the CPU: CAST (layer head_logits)"),
        (float32_file.read_bytes(), "no", "runs on the NPU"),
    ):
        contents = read_contents(data)
        verdict = ask_vela(data, contents, np.zeros((0,)))
        assert (verdict.fits, judge(contents, CARD)[4].fits) == (fits, fits)
        assert words in verdict.reason


@needs_vela
def test_a_file_that_vela_cannot_read_is_a_verdict_not_a_crash(int8_file: Path) -> None:
    data = int8_file.read_bytes()
    verdict = ask_vela(data[: len(data) // 2], read_contents(data), np.zeros((0,)))
    assert verdict.fits == "no"
    assert "the compiler gives up: " in verdict.reason


@needs_micro
def test_tflite_micro_runs_the_file_as_litert_does(int8_file: Path, float32_file: Path, run_folder: Path) -> None:
    images = tiles(run_folder)
    data = int8_file.read_bytes()
    verdict = ask_micro(data, read_contents(data), images)
    assert verdict.fits == "yes"
    assert float(verdict.reason.split("runs; ")[1].split(" %")[0]) > 98
    data = float32_file.read_bytes()
    contents = read_contents(data)
    verdict = ask_micro(data, contents, images)
    assert "100.000 % of labels as LiteRT" in verdict.reason
    arena = 1000 * float(verdict.reason.split("; ")[-1].split(" kB")[0].replace(",", ""))
    # Its planner places the same tensors; what it keeps of the graph is on top. Float kernels need no scratch memory.
    assert contents.arena <= arena + 500 < contents.arena + 20_000


@needs_micro
def test_a_file_that_tflite_micro_cannot_run_is_a_verdict(split_file: bytes, argmax_file: bytes) -> None:
    """It has no kernel for TILE, and its CAST makes no uint8."""
    for data, words in (
        (split_file, "no kernel for TILE (layer decoder1_up"),
        (argmax_file, "no kernel for CAST (layer"),
    ):
        contents = read_contents(data)
        verdict = ask_micro(data, contents, np.zeros((1, 16, 16, 3), np.float32))
        assert verdict.fits == "no"
        assert "its kernels do not run it" in verdict.reason
        assert judge(contents, CARD)[3].reason.startswith(words)


def test_tools_that_are_not_installed_are_not_asked(int8_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_unetres.tflite.target_tools.installed", lambda tool: None)
    data = int8_file.read_bytes()
    assert ask_tools(data, read_contents(data), np.zeros((0,))) == {}
    found = inspect(int8_file, tools=True, say=silent)
    notes = {row["target"]: row["note"] for row in found["targets"]}
    assert notes["tflite-micro"] == "not checked with tflite-micro: not installed"
    assert notes["Coral Edge TPU"] is None


# ---------------------------------------------------------------------------------------------------------- inspect


def test_inspect_tells_what_a_file_is_made_of(int8_file: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["inspect", str(int8_file), "--ops", "--json", str(tmp_path / "m.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "m.json").read_text())
    data = int8_file.read_bytes()
    assert found["card"]["sha256"] == read_card(data).sha256
    assert found["contents"] == read_contents(data).to_dict()
    assert sum(line.startswith("op ") for line in lines) == len(read_ops(data))
    assert any("encoder1_1_conv + encoder1_1_norm + encoder1_1_relu" in line for line in lines)
    assert "xnnpack    pieces: 1; outside: QUANTIZE" in lines
    assert any(line.startswith("target     yes    LiteRT, CPU (XNNPACK)") for line in lines)
    assert found["receipt"]["file"] == str(int8_file.with_suffix(".receipt.json"))
    assert any(line.startswith("receipt    ") and "Not scored: --no-gate was given" in line for line in lines)


def test_inspect_does_not_take_the_receipt_of_other_bytes(int8_file: Path, float32_file: Path, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(int8_file.read_bytes())
    assert inspect(tmp_path / "m.tflite", say=silent)["receipt"] is None
    (tmp_path / "m.receipt.json").write_bytes(float32_file.with_suffix(".receipt.json").read_bytes())
    assert inspect(tmp_path / "m.tflite", say=silent)["receipt"] is None
    (tmp_path / "m.receipt.json").write_text("{")
    assert inspect(tmp_path / "m.tflite", say=silent)["receipt"] is None
