"""The page that runs a model in a browser tab: its ES modules, which lie here, a site made of them, and a server.

The modules are written by hand and shipped as they are. This is an npm package too: `npm ci` in this folder brings
LiteRT.js and what the tests need.
"""

from __future__ import annotations

from .server import HEADERS, make_server, serve
from .site import PAGE_FILES, check_folder, page_file, service_worker, web_folder, write_web

__all__ = [
    "HEADERS",
    "PAGE_FILES",
    "check_folder",
    "make_server",
    "page_file",
    "serve",
    "service_worker",
    "web_folder",
    "write_web",
]
