"""How a command ends: exit code 0, or an error as one line on standard error and its exit code."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from ..errors import FileSystemError, Stopped, UnetresError
from ..terminal import guarded, is_lost_work, open_closed, shown


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line; a mistake in it ends the program with exit code 2.

    Without a word the help is shown. What no option is called is refused by the command's own parser, which is
    `options.parser`, with the option that was perhaps meant.
    """
    open_closed()
    with guarded(lines=False):
        if not arguments:
            parser.print_help(sys.stderr)
            sys.exit(2)
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            called: argparse.ArgumentParser = options.parser
            words = [word for action in called._actions for word in action.option_strings]
            near = [name for word in unknown for name in difflib.get_close_matches(word.split("=")[0], words, 1)]
            meant = f"; did you mean {near[0]}?" if near else ""
            called.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options


def run_command(function: Callable[[], None], *, debug: bool = False) -> int:
    """Call `function`, which prints line by line, and return the exit code.

    A `UnetresError` is printed as one line on standard error. Output that cannot be shown ends no work: where its
    reader went away the code is that of the work, and where it was lost in another way (a full disk) it is not 0.
    """
    with guarded() as (out, _), _ending_in_order():
        code = _run(function, debug)
        out.flush()
        if code == 0 and is_lost_work(out.lost):
            code = _tell(FileSystemError(f"output was lost: {_reason(out.lost)}", file="standard output"))
        return code


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the work as Ctrl-C does, so that no temporary folder stays; twice: at once.

    What somebody else has set for them, such as `nohup`, stays. Windows has neither from other programs.
    """
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []
    taken = [number for name in names if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


def _run(function: Callable[[], None], debug: bool) -> int:
    try:
        function()
        return 0
    except UnetresError as error:
        if debug:
            raise
        return _tell(error)
    except OSError as error:
        if debug:
            raise
        return _tell(FileSystemError(_reason(error), file=error.filename))
    except MemoryError as error:
        if debug:
            raise
        fix = "lower --batch, --size, --filters or --tile, or take smaller images"
        return _tell(FileSystemError("the memory does not suffice", found=str(error) or None, fix=fix))
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr)
        return int(getattr(stop, "exit_code", 130))


def _tell(error: UnetresError) -> int:
    print(f"error: {shown(str(error), sys.stderr.encoding)}", file=sys.stderr)
    return error.exit_code


def _reason(error: OSError | None) -> str:
    return str(getattr(error, "strerror", None) or error)
