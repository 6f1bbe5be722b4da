"""The parent's side of the converter's worker process: it starts one, sends it folders, and ends it at exit.

TensorFlow's converter can crash on a model, so it never runs in the user's process. Importing TensorFlow takes longer
than converting a small network, so one worker serves all conversions. `converter_worker.py` describes the protocol.
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

from unetres_edge.errors import ConversionError

from .isolated_python import python_path

WORKER = ("-P", "-m", "keras_unetres.tflite.converter_worker")  # -P: no modules of the working folder
SECONDS = 3600.0  # until a conversion counts as hung; one of minutes is long


class Converter:
    """A running worker process.

    Args:
        command: command line of a worker that speaks the protocol.
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
        """Have the worker convert what a folder holds.

        Returns:
            The exit status, negative for a signal, and what the worker wrote to its stderr; None where the worker had
            exited before it was asked.

        Raises:
            ConversionError: it did not answer in time; it is still running.
        """
        questions, replies = self._process.stdin, self._process.stdout
        assert questions is not None and replies is not None
        with contextlib.suppress(BrokenPipeError):
            questions.write(os.fsencode(folder).hex().encode() + b"\n")  # a name may hold a line break
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
        self._errors.seek(self._told)  # the worker shares the position, and waits
        text = self._errors.read().decode(errors="replace")
        self._told = self._errors.tell()
        return None if not line and code == 0 else (code, text)

    @property
    def alive(self) -> bool:
        """Whether the worker runs and belongs to this process, not to one that this was forked from."""
        return self.owner == os.getpid() and self._process.poll() is None

    def end(self) -> None:
        """Kill the worker and what it forked."""
        if self.owner != os.getpid():  # this process is a fork of the one that started it
            return
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


_kept: list[Converter] = []
_lock = threading.Lock()


def start() -> None:
    """Start a worker in the background, to save time later. An error comes up again in the conversion."""
    with _lock, contextlib.suppress(ConversionError):
        _converter()


def run(folder: Path) -> tuple[int, str]:
    """Convert what a folder holds; return the exit status, negative for a signal, and what went to stderr.

    Raises:
        ConversionError: no worker can be started, or the conversion does not end.
    """
    with _lock, _ended_on_error():
        for _ in range(2):  # an idle worker may have exited at this very moment
            done = _converter().run(folder)
            if done is not None:
                return done
        return 0, ""


@contextlib.contextmanager
def _ended_on_error() -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C: the conversion under way is not wanted any more
        end()
        raise


def _converter() -> Converter:
    command = (sys.executable, *WORKER)
    if not _kept or not _kept[0].alive or _kept[0].command != command:
        end()
        _kept.append(Converter(command))
    return _kept[0]


@atexit.register
def end() -> None:
    """End the worker, if one runs; the next conversion starts another."""
    while _kept:
        _kept.pop().end()


def _environment() -> dict[str, str]:
    """Return the environment without the user's settings of TensorFlow and Keras, and without a GPU."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("TF_", "XLA_", "KERAS_"))},
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": python_path(),
    }
