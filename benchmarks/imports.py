"""How a command runs through the code: the files it runs, and how often it changes from one room to another.

    python benchmarks/imports.py [--python OTHER/.venv/bin/python] [--name NAME]

Two commands are followed by their calls of functions of the two packages, in the main thread:
`unetres train` up to the first step of the optimizer, and the whole of `unetres export` of the run that it made. What
runs while a module is imported is left out. A room is a package right below `keras_unetres` or `unetres_edge`, or one
of these itself for what lies in no room. Changes of room are counted in the order in which functions are called for
the first time, so that they do not depend on how many pictures there are; `changes_all_calls` counts them over all
calls, and `changes_of_file` counts changes of file, which do not depend on how rooms are cut. For
`changes_runtime_as_one` all of `unetres_edge` is one room, as it was before it had any.

--python is the Python of another version of the packages, whose figures are written beside, as NAME. Also written: the
lines of each room. Figures to results/imports.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "imports.json"
_TRAIN = ("--epochs", "1", "--batch", "4", "--size", "64", "--filters", "4", "--depth", "2")


def main() -> None:
    """Follow both commands in processes of their own and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--name", default="now")
    parser.add_argument("--follow", nargs=2, metavar=("COMMAND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        print(json.dumps(follow(options.follow[0], Path(options.follow[1]))))
        return
    figures: dict[str, Any] = {"lines": json.loads(_run(options.python, "lines", "."))}
    with tempfile.TemporaryDirectory() as folder:
        for command in ("train", "export"):
            figures[command] = json.loads(_run(options.python, command, folder))
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    results["command"] = "python benchmarks/imports.py"
    results[options.name] = figures
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def _run(python: str, command: str, folder: str) -> str:
    """Return the last line that following a command prints, in a process of another Python."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [python, __file__, "--follow", command, folder]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def follow(command: str, folder: Path) -> dict[str, Any]:
    """Return the figures of a command, or with "lines" the lines of each room."""
    import keras_unetres
    import unetres_edge

    roots = [Path(package.__file__ or "").parent for package in (keras_unetres, unetres_edge)]
    if command == "lines":
        return _count_lines(roots)
    if command == "train":
        from keras_unetres.data.synthetic import write_cells

        write_cells(folder / "cells", num_images=16, seed=0)
        words = ["train", f"{folder / 'cells'}", "--out", f"{folder / 'run'}", *_TRAIN]
    else:
        words = ["export", f"{folder / 'run'}", "--out", f"{folder / 'model.tflite'}"]
    tracer = Tracer(roots)
    # The first step has been made when Keras says for the first time that a batch of training is over.
    if command == "train":
        import keras.src.callbacks.callback_list

        callbacks = keras.src.callbacks.callback_list.CallbackList
        ended = callbacks.on_train_batch_end

        def stop(self: Any, *arguments: Any, **named: Any) -> None:
            tracer.stop()
            ended(self, *arguments, **named)

        callbacks.on_train_batch_end = stop
    from keras_unetres.cli import main as command_line

    tracer.start()
    status = command_line(words)
    tracer.stop()
    if status:
        raise SystemExit(status)
    return tracer.figures()


class Tracer:
    """Writes down which functions of some packages are called, in order.

    Args:
        roots: folder of each package.
    """

    def __init__(self, roots: list[Path]) -> None:
        self._roots = [f"{root}{os.sep}" for root in roots]
        self._called: list[tuple[str, str]] = []  # file below its package's parent, function

    def start(self) -> None:
        sys.setprofile(self._note)

    def stop(self) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        file = frame.f_code.co_filename
        for root in self._roots:
            if file.startswith(root) and not self._is_imported(frame):
                self._called.append((file[len(os.path.dirname(root.rstrip(os.sep))) + 1 :], frame.f_code.co_qualname))

    def _is_imported(self, frame: FrameType | None) -> bool:
        """Whether a frame is the body of a module of the packages, or was called by one."""
        while frame is not None:
            code = frame.f_code
            if code.co_name == "<module>" and code.co_filename.startswith(tuple(self._roots)):
                return True
            frame = frame.f_back
        return False

    def figures(self) -> dict[str, Any]:
        """Return the number of files, of functions, and of changes of room."""
        first = list(dict.fromkeys(self._called))
        return {
            "files": len({file for file, _ in first}),
            "functions": len(first),
            "changes": _changes(first),
            "changes_runtime_as_one": _changes(first, one="unetres_edge"),
            "changes_all_calls": _changes(self._called),
            "changes_of_file": sum(before[0] != after[0] for before, after in zip(first, first[1:], strict=False)),
            "rooms": dict(Counter(_room(file) for file, _ in first).most_common()),
        }


def _room(file: str, one: str | None = None) -> str:
    """Return the room of a file, "package/room", or the package's name for what lies in none."""
    package, *inside = Path(file).parts
    return package if len(inside) == 1 or package == one else f"{package}/{inside[0]}"


def _changes(called: list[tuple[str, str]], one: str | None = None) -> int:
    rooms = [_room(file, one) for file, _ in called]
    return sum(before != after for before, after in zip(rooms, rooms[1:], strict=False))


def _count_lines(roots: list[Path]) -> dict[str, int]:
    lines: Counter[str] = Counter()
    for root in roots:
        for path in root.rglob("*.py"):
            if "node_modules" not in path.parts:
                file = str(path.relative_to(root.parent))
                lines[_room(file)] += len(path.read_text(encoding="utf-8").splitlines())
                lines[f"{root.name}, all"] += len(path.read_text(encoding="utf-8").splitlines())
    return dict(sorted(lines.items()))


if __name__ == "__main__":
    main()
