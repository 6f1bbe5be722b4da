"""How far training is: one live line on a terminal, and one line that stays for every epoch."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import keras
from tqdm import tqdm

_BAR = "{desc} {n_fmt:>5}/{total_fmt} |{bar:10}|  "
_TITLES = {
    "loss": "loss",
    "miou": "mIoU",
    "accuracy": "accuracy",
    "val_miou": "val mIoU",
    "val_accuracy": "val accuracy",
}
_WIDTH = 80  # columns of a line


class Progress(keras.callbacks.Callback):
    """Show the epoch, the step, the loss, scores, images a second and the time that is left, in 80 columns.

    Times are measured in this process. The first step of a `fit` holds its compilation and does not count for what
    is left. An epoch that is gone on with in the middle is a `fit` of its own, with fewer steps.

    Args:
        epochs: number of epochs of the whole run.
        steps_per_epoch: number of steps of a whole epoch.
        batch_size: images a step.
        first_epoch: epochs done before this process.
        say: callback, called with the line of every epoch; one without escape codes, fit for a log file.
        stream: stream of the live line, if it is a terminal; None for standard error.
        validations: epoch, counted from 1 -> how many validations are run after it and all that follow; None if every
            epoch is alike.
        kept: () -> the epoch of the weights that are kept, 0 before there are any; None to mark no epoch.
        clock: seconds.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        first_epoch: int = 0,
        say: Callable[[str], None] = print,
        stream: TextIO | None = None,
        *,
        validations: Callable[[int], int] | None = None,
        kept: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._epochs, self._steps, self._batch = epochs, steps_per_epoch, batch_size
        self._say, self._stream = say, stream if stream is not None else sys.stderr
        self._validations, self._kept, self._clock = validations, kept, clock
        self._epoch, self._done = first_epoch, 0
        self._step_seconds: list[float] = []  # of whole epochs or parts of them, each a mean
        self._between: list[float] = []  # seconds from an epoch's last step to its end: validation, checkpoints
        self._between_validated: list[float] = []
        self._begun = self._ended = self._first_ended = 0.0
        self._timed = 0
        self._compiled = False
        self._last = ""  # figures on the live line
        self._bar: tqdm[Any] | None = None

    def say(self, line: str) -> None:
        """Say a line at any time: under the live line, where there is one."""
        if self._bar is not None:
            self._stream.write("\n")
            self._stream.flush()
        self._say(line)

    def close(self) -> None:
        """Take the live line away, after a stop in the middle of an epoch."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Expect a compilation: each `fit` makes its own function."""
        self._compiled = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the line of an epoch."""
        self.close()
        here = (self.params or {}).get("steps") or self._steps
        self._epoch, self._done = epoch, max(0, self._steps - here)
        self._begun = self._ended = self._first_ended = self._clock()
        self._timed = 0
        if self._stream is not None and self._stream.isatty():  # a service has no standard error
            self._bar = tqdm(
                desc=self._place(),
                total=self._steps,
                initial=self._done,
                file=self._stream,
                leave=False,
                bar_format=_BAR,
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps up to `batch`, which may be several since the last call."""
        now = self._clock()
        first = self._steps - ((self.params or {}).get("steps") or self._steps)
        steps = max(0, first) + batch + 1 - self._done
        if self._compiled:
            self._timed += steps
        else:
            self._compiled = True
            self._first_ended = now
        self._done += steps
        self._ended = now
        if self._bar is not None:
            self._last = self._figures(logs or {})
            self._bar.bar_format = _BAR + self._last
            self._bar.update(steps)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Say that the epoch is being validated."""
        if self._bar is not None:
            self._bar.bar_format = f"{_BAR}validating"
            self._bar.refresh()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Say the line of the epoch."""
        figures = logs or {}
        self.close()
        now = self._clock()
        speed = self._speed()
        if speed is not None:
            self._step_seconds.append(speed)
        validated = any(name.startswith("val_") for name in figures)
        (self._between_validated if validated else self._between).append(now - self._ended)
        scores = _scores(figures)
        if self._kept is not None and self._kept() == epoch + 1 and scores:
            scores[-1] += " (kept)"
        self._done = self._steps
        left = self._left() if epoch + 1 < self._epochs else None
        end = f"{now - self._begun:.1f} s" if left is None else f"{format_seconds(left)} left"
        line = "  ".join([self._place(), *scores, end])
        if len(line) > _WIDTH and len(scores) > 2:  # that of the training part can be read from the history
            line = "  ".join([self._place(), scores[0], scores[-1], end])
        self._say(line)

    def _place(self) -> str:
        return f"epoch     {self._epoch + 1:>{len(str(self._epochs))}}/{self._epochs}"

    def _figures(self, logs: dict[str, Any]) -> str:
        parts = _scores(logs)[:1]
        speed = self._speed()
        if speed:
            parts.append(f"{self._batch / speed:.3g} img/s")
        left = self._left()
        if left is not None:
            parts.append(f"{format_seconds(left)} left")
        return "  ".join(parts)

    def _speed(self) -> float | None:
        """Return the seconds of a step in this epoch, or None before two of them."""
        return (self._ended - self._first_ended) / self._timed if self._timed else None

    def _left(self) -> float | None:
        """Return the seconds to the end of the run, or None if nothing is known."""
        speeds = self._step_seconds[-5:] or list(filter(None, [self._speed()]))
        if not speeds:
            return None
        steps = (self._epochs - self._epoch) * self._steps - self._done
        after = self._epoch if self._done < self._steps else self._epoch + 1  # epochs whose end is behind
        rest = max(0, self._epochs - after)
        if self._validations is None:
            every = [*self._between, *self._between_validated]
            ends = rest * (statistics.mean(every) if every else 0.0)
        else:
            validated = self._validations(after + 1)
            # The first validation holds its compilation.
            times = self._between_validated[1:] or self._between_validated
            ends = validated * (statistics.mean(times) if times else 0.0)
            ends += (rest - validated) * (statistics.mean(self._between) if self._between else 0.0)
        return steps * statistics.median(speeds) + ends


def _scores(logs: dict[str, Any]) -> list[str]:
    """Return loss and score of the training part and the score of the validation part in words, if they are there."""
    return [f"{title} {float(logs[name]):.4f}" for name, title in _TITLES.items() if name in logs]


def format_seconds(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
