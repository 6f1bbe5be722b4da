"""How a command ends: exit code 0, or an error as one line on standard error and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..errors import FileSystemError, UnetresError


def run_command(function: Callable[[], None], *, debug: bool = False) -> int:
    """Call `function`; print a `UnetresError` as one line on standard error and return its exit code."""
    try:
        function()
        return 0
    except UnetresError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if debug:
            raise
        named = FileSystemError(error.strerror or str(error), file=error.filename)
        print(f"error: {named}", file=sys.stderr)
        return named.exit_code
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr)
        return int(getattr(stop, "exit_code", 130))
