"""`unetres-edge web`: show a model in the browser, or write the page that does as a folder."""

from __future__ import annotations

import argparse

from ..web import serve, write_web
from .options import add_model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, and where the page goes."""
    add_model(parser, ".tflite file of a segmenter")
    parser.add_argument("--host", default="127.0.0.1", metavar="A", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port to listen on (default: one that is free)"
    )
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="do not open the page")
    parser.add_argument("--out", metavar="DIR", help="write a folder for any static host, and serve nothing")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    parser.add_argument("--litert", metavar="DIR", help="folder where `npm ci` was run; else LiteRT.js is fetched once")


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, or write it."""
    if options.out:
        write_web(options.model, options.out, litert=options.litert, overwrite=options.overwrite)
    else:
        serve(options.model, host=options.host, port=options.port, browser=options.browser, litert=options.litert)
