"""Where OpenVINO rounds otherwise than LiteRT on a quantized file: each op by itself, and the whole network.

    python benchmarks/edge_rounding.py M.tflite [M2.tflite ...] --images DIR [--count 4]

Each op is cut out of the file as a model of its own and fed with what LiteRT gives for an image; sums also with the
convolutions before them, as OpenVINO joins the two. Shares are of the values of all ops of a kind. Whole networks are
run by the engines of the runtime, with and without the levels that `unetres_edge.engines.openvino` moves. Figures to
results/edge_rounding.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from _command import given_command
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from unetres_edge.engines import openvino as openvino_engine
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.engines.table import open_engine
from unetres_edge.files import make_folder, write_json
from unetres_edge.images.decode import read_image
from unetres_edge.model.card import Card, read_card
from unetres_edge.segment.files import find_images
from unetres_edge.segment.tiles import pad_to_tile

RESULTS = Path(__file__).resolve().parent / "results"
OPS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


class Ops:
    """The ops of a file, each as a model of its own.

    Args:
        data: bytes of a `.tflite`.
    """

    def __init__(self, data: bytes) -> None:
        self._data, model = data, self._model(data)
        self.graph = model.subgraphs[0]
        self.names = [OPS[model.operatorCodes[op.opcodeIndex].builtinCode] for op in self.graph.operators]
        empty = [buffer.data is None or len(buffer.data) == 0 for buffer in model.buffers]
        self._computed = {number for number, tensor in enumerate(self.graph.tensors) if empty[tensor.buffer]}

    @staticmethod
    def _model(data: bytes) -> Any:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))

    def inputs(self, places: Sequence[int]) -> list[int]:
        """Return the tensors that ops take and that neither a buffer holds nor one of them makes."""
        ops = [self.graph.operators[place] for place in places]
        made = {tensor for op in ops for tensor in op.outputs}
        taken = dict.fromkeys(tensor for op in ops for tensor in op.inputs)
        return [tensor for tensor in taken if tensor in self._computed - made]

    def pieces(self, place: int) -> dict[str, list[int]]:
        """Return an op by itself, and a sum with the convolutions that it adds, too: name -> places."""
        name, taken = self.names[place], set(self.graph.operators[place].inputs)
        before = [
            n for n, op in enumerate(self.graph.operators) if self.names[n] == "CONV_2D" and taken & set(op.outputs)
        ]
        return {name: [place]} | ({f"CONV_2D, {name}": [*before, place]} if name == "ADD" and before else {})

    def cut(self, places: Sequence[int]) -> bytes:
        """Return a model of some ops, whose output is that of the last."""
        model = self._model(self._data)
        graph = model.subgraphs[0]
        graph.operators = [graph.operators[place] for place in places]
        graph.inputs, graph.outputs = self.inputs(places), list(graph.operators[-1].outputs)
        model.signatureDefs = model.metadata = None
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def main() -> None:
    """Measure every file that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="M")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=4)
    options = parser.parse_args()
    images = [read_image(path) for path in find_images([options.images])[: options.count]]
    found = {Path(model).name: measure(Path(model).read_bytes(), images) for model in options.models}
    result = {"command": given_command(), "images": len(images), "models": found}
    write_json(make_folder(RESULTS) / "edge_rounding.json", result)
    print(json.dumps(result, indent=1))


def measure(data: bytes, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return what differs in ops by themselves, and in whole networks."""
    card = read_card(data)
    tiles = [make_tile(card, image) for image in images]
    ops = Ops(data)
    counts: dict[str, list[float]] = {}
    for place, name, share, most in compare_ops(ops, data, card, tiles[0]):
        row = counts.setdefault(name, [0, 0, 0])
        size = float(np.prod(ops.graph.tensors[ops.graph.operators[place].outputs[0]].shape))
        row[0], row[1], row[2] = row[0] + share * size, row[1] + size, max(row[2], most)
    return {
        "ops": {
            name: {"values_differ_percent": round(100 * differ / size, 5), "most_steps": most}
            for name, (differ, size, most) in counts.items()
        },
        "as the runtime does": compare_whole(data, card, tiles),
        "without moved levels": compare_whole(data, card, tiles, moved=False),
    }


def make_tile(card: Card, image: np.ndarray) -> np.ndarray:
    """Return an image as one tile (h, w, C) uint8 of the network's size."""
    pre = card.preprocessing
    prepared = pre.prepare(image)
    if pre.fit != "crop":
        return pre.place(*prepared.shape[:2]).image(prepared)
    return np.ascontiguousarray(pad_to_tile(prepared, pre.size)[: pre.size[0], : pre.size[1]])


def compare_ops(ops: Ops, data: bytes, card: Card, tile: np.ndarray) -> list[tuple[int, str, float, float]]:
    """Return the place and name of each op, the share of its values that differ, and by how many steps at most."""
    source = ops.graph.inputs[0]
    whole = Interpreter(model_content=data)
    detail = whole.get_input_details()[0]
    values = {source: np.zeros(detail["shape"], detail["dtype"])}
    LiteRTEngine(data, card).codec.write(tile, values[source][0])
    rows = []
    for place in range(len(ops.names)):
        for name, places in ops.pieces(place).items():
            piece, taken = ops.cut(places), [values[tensor] for tensor in ops.inputs(places)]
            answers = run_litert(piece, taken)
            values.update(zip(ops.graph.operators[place].outputs, answers, strict=True))
            apart = np.abs(answers[0].astype(np.float64) - run_openvino(piece, taken).astype(np.float64))
            rows.append((place, name, float((apart > 0).mean()), float(apart.max())))
    return rows


def run_litert(data: bytes, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of a model on LiteRT."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def run_openvino(data: bytes, values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the first output of a model on OpenVINO, its levels as they are."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "op.tflite"
        path.write_bytes(data)
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    for place, value in enumerate(values):
        request.set_input_tensor(place, openvino.Tensor(np.ascontiguousarray(value)))
    request.infer()
    return np.array(request.get_output_tensor(0).data)


def compare_whole(data: bytes, card: Card, tiles: Sequence[np.ndarray], *, moved: bool = True) -> dict[str, float]:
    """Return shares of the scores and labels of whole networks, and the steps between scores at most."""
    kept = openvino_engine._round_ties_up
    if not moved:
        openvino_engine._round_ties_up = lambda graph: None
    try:
        other = open_engine("openvino", data, card)
    finally:
        openvino_engine._round_ties_up = kept
    litert = LiteRTEngine(data, card)
    step = litert.codec.step or 1.0
    differ, equal, most = [], [], 0.0
    for tile in tiles:
        scores, others = litert.run(tile), other.run(tile)
        apart = np.abs(scores - others) / step
        differ.append(float((apart > 0.5).mean()))
        equal.append(float((scores.argmax(-1) == others.argmax(-1)).mean()))
        most = max(most, float(apart.max()))
    return {
        "scores_differ_percent": round(100 * float(np.mean(differ)), 4),
        "most_steps": round(most, 1),
        "labels_equal_percent": round(100 * float(np.mean(equal)), 4),
    }


if __name__ == "__main__":
    main()
