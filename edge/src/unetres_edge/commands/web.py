"""`unetres-edge web`: show a model in the browser, or write the page that does as a folder."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .. import command_line
from ..errors import UsageError
from ..settings import Settings, setting
from ..web import serve, write_web
from ..web.access import is_loopback
from .options import add_model


@dataclass(frozen=True, kw_only=True)
class WebSettings(Settings):
    """Where the page goes."""

    host: str = setting(
        "127.0.0.1", "address to listen on; 0.0.0.0 for other machines, by an address with a token", metavar="A"
    )
    port: int = setting(0, "port to listen on; 0 for any", least=0, most=65_535, metavar="N")
    cert: str | None = setting(
        None, "certificate (PEM) for https, which a camera of another machine needs", metavar="F", unset="plain http"
    )
    key: str | None = setting(None, "key of the certificate", metavar="F")
    sample: str | None = setting(None, "image that the page offers to try", metavar="F")
    browser: bool = setting(True, "do not open the page")
    out: str | None = setting(None, "write a folder for any static host, and serve nothing", metavar="DIR")
    overwrite: bool = setting(False, "write into a folder that is not empty")
    litert: str | None = setting(
        None, "folder where `npm ci` was run", metavar="DIR", unset="LiteRT.js is fetched once"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, and where the page goes."""
    add_model(parser, ".tflite file of a segmenter")
    command_line.add_options(parser, WebSettings)


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, or write it."""
    settings = command_line.read(WebSettings, options)
    if (settings.cert is None) != (settings.key is None):
        raise UsageError("a certificate and its key go together", fix="pass both --cert and --key")
    if settings.out:
        write_web(
            options.model,
            settings.out,
            litert=settings.litert,
            overwrite=settings.overwrite,
            sample=settings.sample,
        )
        return
    serve(
        options.model,
        host=settings.host,
        port=settings.port,
        browser=settings.browser and is_loopback(settings.host),
        litert=settings.litert,
        sample=settings.sample,
        certificate=(settings.cert, settings.key) if settings.cert and settings.key else None,
    )
