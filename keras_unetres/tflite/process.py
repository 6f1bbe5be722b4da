"""The converter's process, from the parent's side: started once, asked for one folder at a time, ended with the parent.

What converts can die of what it is given, so it never runs in the user's process. Importing TensorFlow takes much
longer than converting a small network; therefore the process stays for a while, and forks for each conversion where
that is safe (see `child.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import unetres_edge
from unetres_edge.errors import ConversionError

CHILD = ("-P", "-m", "keras_unetres.tflite.child")  # -P: not the modules of the user's folder
SECONDS = 3600.0  # a conversion of minutes is a long one


class Converter:
    """A process that converts what folders hold, one after the other. It is left to itself after an idle while.

    Args:
        command: what is run; it reads names of folders, a line each, and answers each with an exit status.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self.command = command
        self.owner = os.getpid()
        self._told = 0
        try:
            self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
            self._process = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # so that what it forks can be ended with it
            )
        except OSError as error:
            raise ConversionError(f"the converter cannot be started: {error.strerror or error}") from error

    def run(self, folder: Path) -> tuple[int, str] | None:
        """Convert what a folder holds.

        Returns:
            The exit status, negative for a signal, and what the process wrote to its stderr; None where the process had
            ended before it was asked.

        Raises:
            ConversionError: it did not answer in time; it is still there.
        """
        questions, replies = self._process.stdin, self._process.stdout
        assert questions is not None and replies is not None
        with contextlib.suppress(BrokenPipeError):
            questions.write(os.fsencode(folder) + b"\n")
            questions.flush()
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(replies.readline()), daemon=True)
        reader.start()
        reader.join(SECONDS)  # select takes no pipe on Windows
        if not answers:
            raise ConversionError(
                "the converter does not come to an end",
                expected=f"at most {SECONDS:.0f} s",
                fix="use a smaller input size, or fewer calibration images",
            )
        line = answers[0]
        code = int(line) if line else self._process.wait()
        self._errors.seek(self._told)  # the process shares the position, and waits
        text = self._errors.read().decode(errors="replace")
        self._told = self._errors.tell()
        return None if not line and code == 0 else (code, text)

    @property
    def alive(self) -> bool:
        """Whether it can be asked by this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def end(self) -> None:
        """End it and what it forked."""
        if self.owner != os.getpid():  # a copy of the parent
            return
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


_kept: list[Converter] = []
_turn = threading.Lock()


def start() -> None:
    """Let the process get ready while something else is done. Where it cannot, the conversion will say so."""
    with _turn, contextlib.suppress(ConversionError):
        _converter()


def run(folder: Path) -> tuple[int, str]:
    """Convert what a folder holds, as `child.py` tells; return the exit status, negative for a signal, and its stderr.

    Raises:
        ConversionError: the process cannot be started, or does not end.
    """
    with _turn, _ended_on_error():
        for _ in range(2):  # it may have gone, idle, at the very moment
            done = _converter().run(folder)
            if done is not None:
                return done
        return 0, ""


@contextlib.contextmanager
def _ended_on_error() -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C: what it is doing is not wanted any more
        end()
        raise


def _converter() -> Converter:
    command = (sys.executable, *CHILD)
    if not _kept or not _kept[0].alive or _kept[0].command != command:
        end()
        _kept.append(Converter(command))
    return _kept[0]


@atexit.register
def end() -> None:
    """End the process, where there is one; the next conversion starts another."""
    while _kept:
        _kept.pop().end()


def _environment() -> dict[str, str]:
    roots = [str(Path(__file__).resolve().parents[2]), str(Path(unetres_edge.__file__).resolve().parents[1])]
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("TF_", "XLA_", "KERAS_"))},
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
