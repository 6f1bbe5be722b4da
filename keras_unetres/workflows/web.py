"""The model in a browser tab, written as a site or served on this machine: what the runtime's page gives."""

from __future__ import annotations

import os
from collections.abc import Callable

from unetres_edge.web import PAGE_FILES, check_folder, make_server, page_file, serve, web_folder, write_web
from unetres_edge.web import service_worker as _service_worker  # noqa: F401  # its first name, which scripts import

from ..choices.starts import find_model
from ..settings import ServeDemoSettings

__all__ = ["PAGE_FILES", "check_folder", "make_server", "page_file", "serve_demo", "web_folder", "write_web"]


def serve_demo(
    model: str | os.PathLike[str],
    *,
    port: int = ServeDemoSettings.port,
    browser: bool = ServeDemoSettings.browser,
    litert: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Show a model in the browser of this machine, until Ctrl-C. Only this machine can reach the server.

    Args:
        model: as for `write_web`, or a start such as "nuclei".
        port: port to listen on; 0 for any that is free.
        browser: whether to open the page.
        litert: as for `write_web`.
        say: callback for lines to the user.

    Raises:
        UnetresError: as for `write_web`.
        FileSystemError: the port is taken.
    """
    serve(find_model(model), port=port, browser=browser, litert=litert, say=say)
