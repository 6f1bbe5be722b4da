"""Where a file would run, by the rules that each target publishes; `target_tools` asks the targets' own tools.

A rule says what a target refuses for certain. A compiler may refuse more, by sizes that no document states.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetres_edge import Card

from .contents import Contents
from .inspect import BORDERS, Op

ETHOS_U, TFLITE_MICRO = "Arm Ethos-U55, U65", "tflite-micro"
TFLITE_METADATA = "TFLITE_METADATA"
_TABLE = json.loads(Path(__file__).with_name("targets.json").read_text(encoding="utf-8"))
_KNOWN = {name: frozenset(row["ops"]) for name, row in _TABLE.items()}  # ops that a target has, with the source
_LITERT_JS = frozenset(("FLOAT32", "INT32", "UINT8"))  # @litertjs/core 2.5: types of a Tensor
_ETHOS_DEPTH = 127  # of what an ARG_MAX is taken over
_SHOWN = 4


@dataclass(frozen=True)
class Verdict:
    """What is known of a file on a target.

    Args:
        target: its name.
        fits: "yes"; "partly": it runs, but not all of it where it should; or "no".
        reason: why, in one sentence, with the layers.
        by: "rules", or the tool and its version.
    """

    target: str
    fits: str
    reason: str
    by: str = "rules"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"target": self.target, "fits": self.fits, "reason": self.reason, "by": self.by}


def judge(contents: Contents, card: Card) -> list[Verdict]:
    """Return the verdict of every target by its rules."""
    rules: tuple[Callable[[Contents, Card], Verdict], ...] = (
        xnnpack,
        litert_js,
        mediapipe,
        tflite_micro,
        ethos_u,
        edge_tpu,
    )
    return [rule(contents, card) for rule in rules]


def xnnpack(contents: Contents, card: Card) -> Verdict:
    """Phones and boards: one piece for XNNPACK, apart from the borders and an argmax head, which cost little."""
    target = "LiteRT, CPU (XNNPACK)"
    light = (*BORDERS, "ARG_MAX", "CAST")
    slow = [index for index in contents.outside if contents.ops[index].name not in light]
    pieces = len(contents.partitions)
    if slow or pieces != 1:
        found = f"{pieces} pieces" + (f"; outside: {_named(contents, slow)}" if slow else "")
        return Verdict(target, "partly", f"runs, but XNNPACK takes it in {found}", "LiteRT")
    rest = [index for index in contents.outside if contents.ops[index].name in light]
    tail = f"; {_named(contents, rest)} outside it" if rest else ""
    return Verdict(
        target, "yes", f"{len(contents.partitions[0])} of {len(contents.ops)} ops in one piece{tail}", "LiteRT"
    )


def litert_js(contents: Contents, card: Card) -> Verdict:
    """Browsers: tensors that go in and out are float32, int32 or uint8."""
    target = "LiteRT.js (browser)"
    kinds = [tensor.kind for tensor in (*contents.inputs, *contents.outputs)]
    wrong = sorted(set(kinds) - _LITERT_JS)
    if wrong:
        return Verdict(
            target, "no", f"it has no {', '.join(wrong)} tensors; input and output may be float32, int32, uint8"
        )
    if any(op.name == "CUSTOM" for op in contents.ops):
        return Verdict(target, "no", "the file has ops that are not built in")
    return Verdict(target, "yes", f"input {contents.inputs[0].kind}, output {contents.outputs[0].kind}")


def mediapipe(contents: Contents, card: Card) -> Verdict:
    """MediaPipe's Image Segmenter: RGB in, float scores out, and its own metadata."""
    target = "MediaPipe Image Segmenter"
    source, result = contents.inputs[0], contents.outputs[0]
    pre = card.preprocessing
    faults = []
    if not card.per_pixel:
        faults.append("the model is a classifier")
    if source.kind not in ("UINT8", "FLOAT32"):
        faults.append(f"the input is {source.kind}, not UINT8 or FLOAT32")
    if len(source.shape) != 4 or source.shape[-1] != 3 or pre.color_order != "rgb":
        order = "" if source.shape[-1] != 3 else f" in order {pre.color_order}"
        faults.append(f"the input has {source.shape[-1]} channel{'s' * (source.shape[-1] != 1)}{order}, not RGB")
    if result.kind != "FLOAT32" or len(result.shape) != 4:
        faults.append(f"the output is {result.kind}, not FLOAT32 scores of every class")
    if TFLITE_METADATA not in contents.metadata:
        faults.append("it has no TFLITE_METADATA")
    if faults:
        return Verdict(target, "no", "; ".join(faults))
    return Verdict(target, "yes", f"input {source.kind}, float scores out, metadata there")


def tflite_micro(contents: Contents, card: Card) -> Verdict:
    """Microcontrollers: every op has a kernel, and none is float with quantized kernels."""
    target = TFLITE_MICRO
    strange = [index for index, op in enumerate(contents.ops) if op.name not in _KNOWN["tflite_micro"] or _to_uint8(op)]
    if strange:
        return Verdict(target, "no", f"no kernel for {_named(contents, strange)}")
    hybrid = [p for p, op in enumerate(contents.ops) if op.kernel in ("INT8", "INT4") and "FLOAT32" in op.inputs]
    if hybrid:
        return Verdict(target, "no", f"integer kernels with float activations: {_named(contents, hybrid)}")
    half = [index for index, op in enumerate(contents.ops) if "FLOAT16" in (op.kernel, *op.inputs, *op.outputs)]
    if half:
        return Verdict(target, "no", f"float16: {_named(contents, half)}")
    memory = f"{contents.arena / 1000:,.0f} kB of tensors and {contents.constants / 1000:,.0f} kB of constants"
    return Verdict(target, "yes", f"every op has a kernel; {memory}, scratch memory apart")


def _to_uint8(op: Op) -> bool:
    """Whether it is a CAST to uint8, which its kernel does not do, as after an argmax."""
    return op.name == "CAST" and op.outputs[0] == "UINT8"


def ethos_u(contents: Contents, card: Card) -> Verdict:
    """Arm Ethos-U55 and U65: int8 or int16 ops of the compiler's list go to the NPU, the rest to the CPU."""
    return _npu(contents, ETHOS_U, _KNOWN["ethos_u"], _ethos_refuses)


def edge_tpu(contents: Contents, card: Card) -> Verdict:
    """Coral Edge TPU: a file of int8 ops from its list."""
    verdict = _npu(contents, "Coral Edge TPU", _KNOWN["edge_tpu"], _edge_tpu_refuses)
    if verdict.fits == "no":
        return verdict
    return Verdict(verdict.target, verdict.fits, verdict.reason + "; its compiler also has limits of size")


def _npu(contents: Contents, target: str, known: frozenset[str], refuses: Callable[[Op], bool]) -> Verdict:
    """Return the verdict of an accelerator that leaves what it does not take to the CPU."""
    left = [index for index, op in enumerate(contents.ops) if op.name not in known or op.is_float or refuses(op)]
    work = sum(contents.ops[index].multiply_adds for index in left)
    if not left:
        return Verdict(target, "yes", f"all {len(contents.ops)} ops")
    if work == contents.multiply_adds:
        floats = any(contents.ops[index].is_float for index in left)
        return Verdict(
            target, "no", "the file is float: export it as static_wi8_ai8" if floats else _rest(contents, left)
        )
    return Verdict(target, "partly", _rest(contents, left))


def _rest(contents: Contents, left: Sequence[int]) -> str:
    return f"{len(left)} of {len(contents.ops)} ops stay on the CPU: {_named(contents, left)}"


def _ethos_refuses(op: Op) -> bool:
    if op.kernel and op.kernel != "INT8":
        return True
    if op.name == "ARG_MAX":
        return op.given[-1] > _ETHOS_DEPTH
    if op.name in ("TRANSPOSE_CONV", "RESIZE_BILINEAR"):  # the latter with half-pixel centres, as Keras has them
        return any(wide not in (side, 2 * side) for side, wide in zip(op.given[1:3], op.shape[1:3], strict=True))
    return bool({"INT32", "INT64"} & {*op.inputs, *op.outputs})


def _edge_tpu_refuses(op: Op) -> bool:
    kinds = {*op.inputs, *op.outputs, *filter(None, [op.kernel])}
    return not kinds <= {"INT8", "UINT8", "INT32"} or bool(op.kernel and op.kernel != "INT8")


def _named(contents: Contents, places: Sequence[int]) -> str:
    ops = list(dict.fromkeys(contents.say(index) for index in places))
    more = f" and {len(ops) - _SHOWN} more" if len(ops) > _SHOWN else ""
    return ", ".join(ops[:_SHOWN]) + more
