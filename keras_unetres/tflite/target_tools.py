"""What the targets' own tools say of a file, where they are installed: Arm's Vela, and the kernels of tflite-micro.

`pip install ethos-u-vela tflite-micro` brings both. Each runs in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unetres_edge.engines.probe import record_tensors

from .contents import Contents
from .inspect import Graph
from .isolated_python import failure_reason, run_python
from .targets import ETHOS_U, TFLITE_MICRO, Verdict

VELA, MICRO = "ethos-u-vela", "tflite-micro"
ACCELERATOR = "ethos-u55-128"
_SECONDS = 600.0
_SHOWN = 4

TOOLS = {ETHOS_U: VELA, TFLITE_MICRO: MICRO}  # target -> the distribution that holds its tool
Tool = Callable[[bytes, Contents, np.ndarray], Verdict]


def installed(tool: str) -> str | None:
    """Return the version of an optional tool, or None."""
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return None


def ask_tools(data: bytes, contents: Contents, images: np.ndarray) -> dict[str, Verdict]:
    """Return target -> the verdict of its tool, for those that are installed.

    Args:
        data: bytes of the file.
        contents: contents of the file.
        images: (N, h, w, C) float32 as the network sees them; a few, which tflite-micro runs.
    """
    tools: dict[str, Tool] = {VELA: ask_vela, MICRO: ask_micro}
    verdicts = [ask(data, contents, images) for name, ask in tools.items() if installed(name)]
    return {verdict.target: verdict for verdict in verdicts}


def ask_vela(data: bytes, contents: Contents, images: np.ndarray) -> Verdict:
    """Compile for an Ethos-U55 of 128 multipliers and return which ops stay on the CPU."""
    target, by = ETHOS_U, f"Vela {installed(VELA)}, {ACCELERATOR}"
    with tempfile.TemporaryDirectory(prefix="unetres-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(data)
        command = ["-m", "ethosu.vela", str(folder / "model.tflite"), "--accelerator-config", ACCELERATOR]
        # Without --show-cpu-operations: with it, Vela 5.2 dies of ops that stay on the CPU.
        done = run_python([*command, "--output-dir", name], seconds=_SECONDS)
    text = "" if done is None else done.stdout
    counts = {key: re.search(rf"{key} operators = (\d+)", text) for key in ("CPU", "NPU")}
    if counts["CPU"] is None or counts["NPU"] is None:
        return Verdict(target, "no", f"the compiler gives up: {failure_reason(done)}", by)
    on_cpu, on_npu = (int(match[1]) for match in counts.values() if match)
    memory = re.search(r"Total SRAM used\s+([\d.]+ \w+)", text)
    size = f"; {memory[1]} of SRAM" if memory else ""
    if not on_cpu:
        return Verdict(target, "yes", f"all ops on the NPU ({on_npu} after compilation){size}", by)
    if not on_npu:
        return Verdict(target, "no", f"none of its {on_cpu} ops runs on the NPU", by)
    refused = set(re.findall(r"^Warning \(supported operators\) operator: \w+, ofm: '(.*)'$", text, re.MULTILINE))
    said = [contents.say(index) for index, op in enumerate(contents.ops) if op.tensor in refused]
    rest = ", ".join(list(dict.fromkeys(said))[:_SHOWN])
    reason = f"{on_cpu} of {on_cpu + on_npu} ops (after compilation) stay on the CPU: {rest}{size}"
    return Verdict(target, "partly", reason, by)


def ask_micro(data: bytes, contents: Contents, images: np.ndarray) -> Verdict:
    """Run images on the kernels of tflite-micro and compare with LiteRT's."""
    target, by = TFLITE_MICRO, f"tflite-micro {installed(MICRO)}"
    graph = Graph(data)
    source, result = graph.inputs[0], graph.outputs[0]
    pairs = [(image, output) for image, output in record_tensors(data, images, [source, result])]
    with tempfile.TemporaryDirectory(prefix="unetres-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(data)
        np.save(folder / "inputs.npy", np.concatenate([image for image, _ in pairs]))
        done = run_python(["-m", "keras_unetres.tflite.tflite_micro_worker", name], seconds=_SECONDS)
        if done is None or done.returncode or not (folder / "outputs.npy").is_file():
            return Verdict(target, "no", f"its kernels do not run it: {failure_reason(done)}", by)
        outputs = np.load(folder / "outputs.npy")
    expected = np.concatenate([output for _, output in pairs])
    said = _difference(outputs, expected, any(op.name == "ARG_MAX" for op in contents.ops))
    memory = re.search(r"Arena allocation total (\d+) bytes", done.stderr)
    size = f"; {int(memory[1]) / 1000:,.0f} kB of arena" if memory else ""
    return Verdict(target, "yes", f"runs; {said}{size}", by)


def _difference(outputs: np.ndarray, expected: np.ndarray, argmax: bool) -> str:
    """Say how far outputs are from LiteRT's on the same images."""
    if outputs.shape != expected.shape:
        return f"output {outputs.shape} where LiteRT gives {expected.shape}"
    labels = [outputs, expected] if argmax else [outputs.argmax(-1), expected.argmax(-1)]
    equal = float((labels[0] == labels[1]).mean())
    steps = np.abs(outputs.astype(np.float64) - expected.astype(np.float64)).max()
    unit = "" if outputs.dtype.kind == "f" else " steps"
    return f"{100 * equal:.3f} % of labels as LiteRT, at most {steps:.3g}{unit} apart"
