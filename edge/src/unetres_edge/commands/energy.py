"""The energy that a machine takes while something runs, where its sensors tell: RAPL of x86, and hwmon.

What is told is that of a processor's package or of a board, whatever else runs there.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

_SYSTEM = Path("/sys/class")
_PAUSE = 0.02  # s between two looks at a sensor of power


class EnergyMeter:
    """Measures from the beginning of a `with` to its end.

    Counters are preferred: RAPL's packages, then hwmon's `energy*_input`. A sensor of power, hwmon's `power*_input`,
    is looked at every 20 ms.

    Args:
        system: folder in which the system shows its devices.

    Attributes:
        source: sensors that are read, such as "RAPL package-0"; None where there is none that may be read.
        joules: energy that was taken, after the end; None where nothing was told.
    """

    def __init__(self, system: Path = _SYSTEM) -> None:
        self.joules: float | None = None
        self._counters, self._power, self.source = _find(system)
        self._start: list[int | None] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> EnergyMeter:
        self._start = [_number(counter) for counter, _ in self._counters]
        if self._power:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        if not self._counters:
            return
        microjoules = 0
        for (counter, most), before in zip(self._counters, self._start, strict=True):
            after = _number(counter)
            if before is None or after is None:
                return
            microjoules += after - before if after >= before else after - before + most  # it began anew
        self.joules = microjoules / 1e6

    def _look(self) -> None:
        joules, last = 0.0, time.perf_counter()
        while True:
            ends = self._stop.wait(_PAUSE)
            watts = [_number(sensor) for sensor in self._power]
            now = time.perf_counter()
            joules += sum(each for each in watts if each is not None) / 1e6 * (now - last)
            last = now
            if ends:
                break
        self.joules = joules


def _find(system: Path) -> tuple[list[tuple[Path, int]], list[Path], str | None]:
    """Return the counters, each with what it counts to, or else the sensors of power, and their names."""
    packages = []
    for folder in sorted((system / "powercap").glob("intel-rapl:*")):
        name, most = _text(folder / "name"), _number(folder / "max_energy_range_uj")
        if name.startswith("package") and most and _number(folder / "energy_uj") is not None:
            packages.append((folder / "energy_uj", most, name))
    if packages:
        return [each[:2] for each in packages], [], "RAPL " + ", ".join(each[2] for each in packages)
    for kind in ("energy", "power"):
        sensors = [
            file for file in sorted((system / "hwmon").glob(f"hwmon*/{kind}*_input")) if _number(file) is not None
        ]
        if sensors:
            names = ", ".join(f"{_text(file.parent / 'name')} {file.name.removesuffix('_input')}" for file in sensors)
            counters = [(file, 2**64) for file in sensors] if kind == "energy" else []
            return counters, sensors if kind == "power" else [], f"hwmon {names}"
    return [], [], None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # RAPL may be read by root alone
        return ""


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None
