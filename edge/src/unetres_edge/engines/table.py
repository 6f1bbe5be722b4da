"""The engines that have a name, and opening one of them.

A new engine is a row of `ENGINES` and a module beside this one whose class keeps the contract of `engine.Engine`. The
engine "auto" tries one beside LiteRT, `auto.CANDIDATE`, whatever other rows there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import EngineError, UsageError
from ..model.card import Card
from .engine import Engine
from .litert import LiteRTEngine


@dataclass(frozen=True)
class EngineEntry:
    """How an engine is opened, and where it is available.

    Args:
        open: (bytes, LiteRT with the same file, threads of one inference or None for all cores) -> the engine. LiteRT
            is loaded first: it says what the file's tensors hold, and is what other engines are compared with.
        needs: libraries and devices that have to be there, in words.
    """

    open: Callable[[bytes, LiteRTEngine, int | None], Engine]
    needs: str


def _open_litert(data: bytes, litert: LiteRTEngine, num_threads: int | None) -> Engine:
    return litert


def _open_gpu(data: bytes, litert: LiteRTEngine, num_threads: int | None) -> Engine:
    from .accelerator import AcceleratorEngine

    return AcceleratorEngine(data, litert.codec, "gpu")


def _open_npu(data: bytes, litert: LiteRTEngine, num_threads: int | None) -> Engine:
    from .accelerator import AcceleratorEngine

    return AcceleratorEngine(data, litert.codec, "npu")


def _open_openvino(data: bytes, litert: LiteRTEngine, num_threads: int | None) -> Engine:
    from .openvino import OpenVINOEngine

    return OpenVINOEngine(data, litert.codec, num_threads=num_threads)


ENGINES: dict[str, EngineEntry] = {
    "litert": EngineEntry(_open_litert, "ai-edge-litert"),
    "litert-gpu": EngineEntry(_open_gpu, "ai-edge-litert and a GPU that takes the whole model"),
    "litert-npu": EngineEntry(_open_npu, "ai-edge-litert and an NPU that takes the whole model"),
    "openvino": EngineEntry(_open_openvino, "openvino"),
}
AUTO = "auto"
NAMES = (AUTO, *ENGINES)


def usual_engine(card: Card) -> str:
    """Return the name of the engine that a command takes of itself: "auto" where the card says what others cost."""
    return AUTO if card.engines and not card.resealed else LiteRTEngine.name


def open_engine(
    name: str, data: bytes, card: Card, *, num_threads: int | None = None, fallback: bool = False
) -> Engine:
    """Load a verified model file on an engine.

    Args:
        name: name of an engine, one of `NAMES`.
        data: the file's bytes, verified.
        card: card of the file.
        num_threads: threads of one inference; None for every core this process may use.
        fallback: whether to load it on LiteRT where the engine cannot run it, instead of raising.

    Raises:
        UsageError: unknown name.
        EngineError: the engine is not installed, or cannot run the file.
        ModelError: no engine can: the file is not what its card says.
    """
    if name not in NAMES:
        raise UsageError("the engine is unknown", expected=" or ".join(NAMES), found=repr(name))
    litert = LiteRTEngine(data, card, num_threads=num_threads)
    if name == AUTO:
        from .auto import CANDIDATE, choose

        return choose(litert, lambda: ENGINES[CANDIDATE].open(data, litert, num_threads), data, card, num_threads)
    try:
        return ENGINES[name].open(data, litert, num_threads)
    except EngineError:
        if not fallback:
            raise
        return litert
