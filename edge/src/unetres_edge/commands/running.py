"""How a command ends: exit code 0, or an error as one line on standard error and its exit code."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TypeVar, cast

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


_Main = TypeVar("_Main", bound=Callable[..., int])


def quietly_stopped(main: _Main) -> _Main:
    """Return `main` that has no traceback either for Ctrl-C before its command runs, as while that is imported."""

    @functools.wraps(main)
    def stopped(*arguments: Any, **named: Any) -> int:
        try:
            return main(*arguments, **named)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 128 + signal.SIGINT

    return cast(_Main, stopped)


def run_command(function: Callable[[], None], *, debug: bool = False) -> int:
    """Call `function`, which prints line by line, and return the exit code.

    A `UnetresError` is printed as one line on standard error. Output that cannot be shown ends no work: where its
    reader went away the code is that of the work, and where it was lost in another way (a full disk) it is not 0.
    """
    with guarded() as (out, _), _ending_in_order() as ended:
        code = _run(function, debug, ended)
        out.flush()
        if code == 0 and is_lost_work(out.lost):
            code = _tell(FileSystemError(f"output was lost: {_reason(out.lost)}", file="standard output"))
        return code


@contextlib.contextmanager
def _ending_in_order() -> Iterator[list[int]]:
    """Let SIGTERM and a closed terminal end the work as Ctrl-C does, so that no temporary folder stays; twice: at once.

    What somebody else has set for them, such as `nohup`, stays. Windows has neither from other programs.

    Yields:
        The signals that have come, Ctrl-C among them.
    """
    usual = {"SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL, "SIGINT": signal.default_int_handler}
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    in_main = threading.current_thread() is threading.main_thread()
    numbers = {getattr(signal, name): handler for name, handler in usual.items() if in_main and hasattr(signal, name)}
    before = {number: handler for number, handler in numbers.items() if signal.getsignal(number) == handler}
    for number in before:
        signal.signal(number, end)
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(function: Callable[[], None], debug: bool, ended: Sequence[int]) -> int:
    try:
        function()
        return 0
    except Exception as error:
        if not ended:
            return _code_of(error, debug)
        print("stopped", file=sys.stderr)  # in an import or a call of C, which made an error of it
        return 128 + ended[0]
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr)
        return int(getattr(stop, "exit_code", 130))


def _code_of(error: Exception, debug: bool) -> int:
    """Tell an error that a person can do something about; raise any other."""
    if debug or not isinstance(error, (UnetresError, OSError, MemoryError)):
        raise error
    if isinstance(error, UnetresError):
        return _tell(error)
    if isinstance(error, OSError):
        if _folder_is_gone():
            return _tell(FileSystemError("the folder at hand was removed", fix="go to another"))
        return _tell(FileSystemError(_reason(error), file=error.filename))
    fix = "lower --batch, --size, --filters or --tile, or take smaller images"
    return _tell(FileSystemError("the memory does not suffice", found=str(error) or None, fix=fix))


def _tell(error: UnetresError) -> int:
    print(f"error: {shown(str(error), sys.stderr.encoding)}", file=sys.stderr)
    return error.exit_code


def _folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _reason(error: OSError | None) -> str:
    return str(getattr(error, "strerror", None) or error)
