"""Run a model on the kernels of tflite-micro, in a process of its own that they may crash.

`python -m keras_unetres.tflite.tflite_micro_worker FOLDER` reads `model.tflite` and `inputs.npy` (values of the input
tensor, one row an image) from the folder and writes `outputs.npy`. tflite-micro prints the memory it used to standard
error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

_ARENAS = (2**20, 2**23, 2**26, 2**29)  # bytes; the first that is enough is taken


def main() -> int:
    """Run the model on every input and write the outputs."""
    from tflite_micro.python.tflite_micro import runtime

    folder = Path(sys.argv[1])
    data = (folder / "model.tflite").read_bytes()
    for size in _ARENAS:
        try:
            interpreter = runtime.Interpreter.from_bytes(data, arena_size=size)
            break
        except RuntimeError:
            if size == _ARENAS[-1]:
                raise
    outputs = []
    for values in np.load(folder / "inputs.npy"):
        interpreter.set_input(values[None], 0)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0)[0].copy())
    interpreter.print_allocations()
    np.save(folder / "outputs.npy", np.stack(outputs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
