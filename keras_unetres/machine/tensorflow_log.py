"""Keep the log that TensorFlow's libraries write as they are loaded away from the user, unless loading fails.

It is written by native code straight to file descriptor 2, before any setting of a log level is read.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder

from .processor import cpu_flags

_PACKAGE = "tensorflow"
# The lines of absl's log: severity, date, time, thread, source; and what is written without that in front of it.
_LOG = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:\d\d\.|[IWE]\d{4} \d+:\d+:\d+\.\d+|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "
    rb"|WARNING: All log messages before absl|To enable the following instructions:"
)


def quiet_tensorflow() -> None:
    """Have the first import of TensorFlow, whoever makes it, hold its log; and have it log errors alone afterwards.

    Nothing changes where TensorFlow is loaded already, or the user has set `TF_CPP_MIN_LOG_LEVEL` to "0".
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0" or _PACKAGE in sys.modules or _aborts():
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())


def _aborts() -> bool:
    """Return whether TensorFlow will end the process as it is loaded; only its log then says why."""
    flags = cpu_flags()
    return "sse2" in flags and "avx" not in flags


class _QuietFinder(MetaPathFinder):
    """Finds TensorFlow once, as the other finders do, and has it loaded with its log held."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of TensorFlow with another loader, and None of any other module."""
        if fullname != _PACKAGE:
            return None
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(Loader):
    """Loads a module as another loader does, with the native log held."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """Return what the other loader makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Load the module."""
        spec = module.__spec__
        if spec is not None:
            spec.loader = module.__loader__ = self._loader
        with held_log():
            self._loader.exec_module(module)


_lock = threading.Lock()


@contextlib.contextmanager
def held_log() -> Iterator[None]:
    """Hold what is written to file descriptor 2; then write it there without the lines of a native log.

    After an exception all of it is written. Where the descriptor is closed, or no file can be made, nothing is held.
    """
    import tempfile

    with _lock, contextlib.ExitStack() as open_files:
        try:
            held = open_files.enter_context(tempfile.TemporaryFile())
            before = os.dup(2)
        except OSError:
            yield
            return
        failed = True
        try:
            os.dup2(held.fileno(), 2)
            yield
            failed = False
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            for line in held:
                if failed or not _LOG.match(line):
                    _write(line)


def _write(line: bytes) -> None:
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(2, line) :]
