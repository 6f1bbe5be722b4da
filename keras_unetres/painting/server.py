"""The server of a project: the page, tiles, strokes and events over HTTP; JSON in and out.

What takes long runs in threads, so that strokes are answered meanwhile. Errors are `{"error": ..., "fix": ...}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unetres_edge.errors import DataError, FileSystemError, UnetresError, UsageError
from unetres_edge.files import parse_state
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.web.server import HEADERS as RUN_HEADERS  # with a camera, threads and WebAssembly

from .access import Gate, Refusal
from .project import Project
from .raster import Box

MOST_BYTES = 4 << 20  # of a request
MOST_LETTERS = 1000  # of the path of an address
KEEP_ALIVE = 15.0  # seconds between two comments in a stream of events
MOST_EVENTS = 1000  # that wait for a page; one that is further behind reads the project anew
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_TYPES |= {".json": "application/json", ".png": "image/png", ".wasm": "application/wasm"}
_STATUS = {
    "no-such-image": 404,
    "no-such-tile": 404,
    "no-answer": 404,
    "replaced": 409,
    "busy": 409,
    "not-written": 507,
}

Handler = Callable[[Request], Awaitable[Response]]


class Helpers:
    """What a project can be asked beside painting; a server without them says so. See `keras_unetres.workflows`."""

    forest: Any = None
    learner: Any = None
    order: Any = None
    export: Any = None
    review: Any = None
    site: Path | None = None  # where the page lies that runs the exported file


def make_app(project: Project, gate: Gate, helpers: Helpers | None = None) -> ASGIApp:
    """Return the application that serves a project.

    Args:
        gate: rule for who may see it.
        helpers: what answers while one paints: a forest, a network; None for painting alone.
    """
    return _Guard(_Server(project, gate, helpers or Helpers()).app(), gate)


class _Guard:
    """Refuses what `Gate` refuses before anything else sees it, and gives every answer its headers."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                for name, value in HEADERS.items():
                    if name.lower().encode() not in names:
                        message["headers"].append((name.lower().encode(), value.encode()))
            await send(message)

        hosts = request.headers.getlist("host")
        headers = dict(request.headers.items())
        headers["host"] = hosts[0] if len(hosts) == 1 else ""
        query = dict(request.query_params)
        refusal = self._gate.refused(request.method, headers, request.cookies, query, scope["path"])
        if refusal is None and len(scope["path"]) > MOST_LETTERS:
            refusal = Refusal(414, "the address is too long", "open the page at /")
        if refusal is not None:
            answer = _json({"error": refusal.error, "fix": refusal.fix}, refusal.status)
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


class _Server:
    def __init__(self, project: Project, gate: Gate, helpers: Helpers) -> None:
        self._project, self._gate, self._helpers = project, gate, helpers

    def app(self) -> Starlette:
        image = "/api/images/{index:int}"
        tile = "{level:int}/{x:int}/{y:int}.png"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/", self._page),
            ("GET", "/page/{name:path}", self._page_file),
            ("GET", "/api/project", self._about),
            ("GET", "/api/events", self._events),
            ("GET", f"{image}/tile/{tile}", self._tile),
            ("GET", f"{image}/mask/{tile}", self._mask),
            ("GET", f"{image}/levels", self._levels),
            ("POST", f"{image}/strokes", self._acts(self._project.stroke)),
            ("POST", f"{image}/undo", self._acts(self._project.undo)),
            ("POST", f"{image}/redo", self._acts(self._project.redo)),
            ("POST", f"{image}/complete", self._acts(self._project.complete)),
            ("POST", f"{image}/accept", self._acts(self._accept)),
            ("POST", f"{image}/forest", self._acts(self._ask_forest)),
            ("GET", "/api/learner", self._learner),
            ("POST", "/api/learner", self._steer_learner),
            ("GET", "/api/next", self._next),
            ("POST", "/api/export", self._export),
            ("GET", "/api/review", self._review),
            ("POST", "/api/review", self._mark),
            ("GET", "/run/{name:path}", self._run),
        ]
        app = Starlette(routes=[Route(path, _answering(handler), methods=[method]) for method, path, handler in routes])
        app.add_exception_handler(404, _refuse_unknown)
        app.add_exception_handler(405, _refuse_unknown)
        return app

    async def _page(self, request: Request) -> Response:
        response = _file("index.html")
        if "token" in request.query_params:
            response.set_cookie(self._gate.cookie, self._gate.token, httponly=True, samesite="strict", path="/")
        return response

    async def _page_file(self, request: Request) -> Response:
        return _file(request.path_params["name"])

    async def _about(self, request: Request) -> Response:
        def about() -> dict[str, Any]:
            with self._project.lock:
                made = self._project.summary()
            learner = self._helpers.learner
            return made | {
                "token": self._gate.token,
                "forest": self._helpers.forest is not None,
                "runs": self._helpers.site is not None and (self._helpers.site / "index.html").is_file(),
                "learner": {"state": "none"} if learner is None else learner.state(),
            }

        return _json(await run_in_threadpool(about))

    async def _levels(self, request: Request) -> Response:
        """Say the usual contrast of each channel."""

        def limits() -> list[tuple[float, float]]:
            return self._project.pictures.limits(self._project.picture_file(request.path_params["index"]))

        return _json({"limits": await run_in_threadpool(limits)})

    async def _tile(self, request: Request) -> Response:
        values, where = request.query_params, request.path_params
        show = [int(number) for number in _numbers(values.get("show", ""), "show", whole=True)]
        low, high = _numbers(values.get("low", ""), "low"), _numbers(values.get("high", ""), "high")

        def tile() -> bytes:
            index = where["index"]
            self._project.refuse_changed(index)
            path = self._project.picture_file(index)
            return self._project.pictures.tile(path, where["level"], (where["x"], where["y"]), show, low, high)

        return Response(await run_in_threadpool(tile), media_type="image/png")

    async def _mask(self, request: Request) -> Response:
        where, of = request.path_params, request.query_params.get("of", "classes")
        place = (where["x"], where["y"])

        def tile() -> tuple[bytes, int]:
            if of in ("classes", "objects"):
                return self._project.mask_tile(where["index"], of, where["level"], place)
            if of == "forest" and self._helpers.forest is not None:
                return self._helpers.forest.tile(where["index"], where["level"], place)
            if of in ("network", "confidence") and self._helpers.learner is not None:
                return self._helpers.learner.tile(where["index"], of, where["level"], place)
            raise UsageError(
                "no such mask",
                expected="of=classes, objects, forest, network or confidence",
                found=of,
                kind="no-answer",
            )

        data, revision = await run_in_threadpool(tile)
        return Response(data, media_type="image/png", headers={"X-Revision": str(revision)})

    def _acts(self, act: Callable[[int, Mapping[str, Any]], dict[str, Any]]) -> Handler:
        async def handle(request: Request) -> Response:
            values = await _body(request)
            return _json(await run_in_threadpool(act, request.path_params["index"], values))

        return handle

    def _accept(self, index: int, values: Mapping[str, Any]) -> dict[str, Any]:
        of = values.get("of")
        source = {"network": self._helpers.learner, "forest": self._helpers.forest}.get(str(of))
        if source is None:
            raise UsageError("nothing to accept", expected="of: network or forest", found=of, kind="no-answer")
        classes, objects, box = source.accepted(index, values)
        classes, objects, box = as_shown(classes, objects, box, values)
        classes, objects = as_class(classes, objects, values, len(self._project.classes))
        unseen = values.get("unseen", False) is True
        return self._project.accept(index, values, classes, objects, box, of=of, unseen=unseen)

    def _ask_forest(self, index: int, values: Mapping[str, Any]) -> dict[str, Any]:
        if self._helpers.forest is None:
            raise UsageError("this server has no forest", fix="pip install 'keras-unetres[annotate]'", kind="no-answer")
        asked: dict[str, Any] = self._helpers.forest.ask(index, values)
        return asked

    async def _learner(self, request: Request) -> Response:
        learner = self._helpers.learner
        if learner is None:
            raise UsageError("this server trains no network", kind="no-answer")
        return _json(await run_in_threadpool(learner.state))

    async def _steer_learner(self, request: Request) -> Response:
        learner, values = self._helpers.learner, await _body(request)
        if learner is None:
            raise UsageError("this server trains no network", kind="no-answer")
        do = {"start": learner.start, "stop": learner.stop}.get(str(values.get("do")))
        if do is None:
            raise UsageError("do is wrong", expected="start or stop", found=values.get("do"))
        return _json(await run_in_threadpool(do))

    async def _next(self, request: Request) -> Response:
        if self._helpers.order is None:
            raise UsageError("this server knows no order", kind="no-answer")
        return _json(await run_in_threadpool(self._helpers.order))

    async def _export(self, request: Request) -> Response:
        values = await _body(request)
        if self._helpers.export is None:
            raise UsageError("this server exports nothing", kind="no-answer")
        return _json(await run_in_threadpool(self._helpers.export, values.get("form")))

    async def _review(self, request: Request) -> Response:
        review = self._helpers.review
        return _json([] if review is None else await run_in_threadpool(review.rows))

    async def _mark(self, request: Request) -> Response:
        values = await _body(request)
        if self._helpers.review is None:
            raise UsageError("there is nothing to look at", kind="no-answer")
        row = await run_in_threadpool(self._helpers.review.mark, values)
        self._project.tell({"review": row})
        return _json(row)

    async def _run(self, request: Request) -> Response:
        """Return a file of the page that runs the exported network in the browser: the runtime's own page."""
        folder, name = self._helpers.site, request.path_params["name"] or "index.html"
        here = set()
        if folder is not None:
            found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
            here = {path.relative_to(folder).as_posix() for path in found}
        if folder is None or name not in here:
            raise UsageError(
                "no such part of the page that runs a file", found=name, fix="export a .tflite", kind="no-answer"
            )
        kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
        return Response((folder / name).read_bytes(), media_type=kind, headers=RUN_HEADERS)

    async def _events(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_EVENTS)

        def put(event: dict[str, Any]) -> None:
            with contextlib.suppress(asyncio.QueueFull):
                if waiting.qsize() == MOST_EVENTS - 1:
                    event = {"missed": True}
                waiting.put_nowait(event)

        def listen(event: dict[str, Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the server is ending
                loop.call_soon_threadsafe(put, event)

        end = self._project.listen(listen)

        async def lines() -> AsyncIterator[bytes]:
            try:
                yield b"retry: 1000\n\n"
                while True:
                    try:
                        event = await asyncio.wait_for(waiting.get(), KEEP_ALIVE)
                    except TimeoutError:
                        yield b":\n\n"
                        continue
                    yield b"data: " + json.dumps(event).encode() + b"\n\n"
                    if event.get("ending"):
                        return
            finally:
                end()

        return StreamingResponse(lines(), media_type="text/event-stream")


def as_shown(
    classes: np.ndarray, objects: np.ndarray | None, box: Box, values: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None, Box]:
    """Return what is accepted of a region that was seen: inside the box `within` that it had, if the request says one.

    A newer stroke or network may have changed the suggestion since it was shown.

    Args:
        classes: uint8, 255 where nothing is accepted; `objects` likewise, or None; both of the size of `box`.
        values: values of the request; `predicted` is the class that was shown.

    Raises:
        UsageError: another class is suggested there by now, or `within` is no box.
    """
    predicted, within = values.get("predicted"), values.get("within")
    if predicted is not None and type(predicted) is not int:
        raise UsageError("predicted is wrong", expected="a class", found=predicted)
    if predicted is not None and not np.isin(classes, (predicted, IGNORE)).all():
        raise UsageError(
            "the suggestion has changed meanwhile", fix="look again, and accept what is there", kind="busy"
        )
    if within is None:
        return classes, objects, box
    if not (isinstance(within, list) and len(within) == 4 and all(type(n) is int for n in within)):
        raise UsageError("within is wrong", expected="[x0, y0, x1, y1] in px", found=within)
    x0, y0, x1, y1 = max(box[0], within[0]), max(box[1], within[1]), min(box[2], within[2]), min(box[3], within[3])
    if x0 >= x1 or y0 >= y1:
        raise UsageError("nothing is suggested within the box", found=within, kind="busy")
    part = np.s_[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
    return classes[part], None if objects is None else objects[part], (x0, y0, x1, y1)


def as_class(
    classes: np.ndarray, objects: np.ndarray | None, values: Mapping[str, Any], count: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what is accepted as the `class` that a request names, if it names one; the background has no objects.

    Args:
        classes: uint8, 255 where nothing is accepted; `objects` likewise, or None.
        values: values of the request; `class` goes with `point` alone.
        count: number of classes.

    Raises:
        UsageError: the class is none, or no region is named.
    """
    number = values.get("class")
    if number is None:
        return classes, objects
    if type(number) is not int or not 0 <= number < count:
        raise UsageError("the class is unknown", expected=f"0 to {count - 1}", found=number)
    if values.get("point") is None:
        raise UsageError("a class is given to one region", expected="point: [x, y]", found="no point")
    as_named = np.where(classes == IGNORE, classes, np.uint8(number))
    return as_named, None if number == 0 else objects


def _answering(handler: Handler) -> Handler:
    """Return a handler that answers errors by name."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:  # who asked is gone
            return Response(status_code=400)
        except UnetresError as error:
            status = _STATUS.get(error.kind) or _status_of(error)
            said = error.message if error.found is None else f"{error.message}: found {error.found}"
            said = said if error.expected is None else f"{said}; expected {error.expected}"
            values = {"error": said, "fix": error.fix or "", "kind": error.kind, "file": error.file or ""}
            return _json(values, status)

    return handle


def _status_of(error: UnetresError) -> int:
    if isinstance(error, FileSystemError):
        return 507
    return 409 if isinstance(error, DataError) else 400


async def _refuse_unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = f"no such address: {request.method} {request.url.path}"
    return _json({"error": said, "fix": "open the page at /"}, status)


async def _body(request: Request) -> Mapping[str, Any]:
    """Return the JSON object of a request.

    Raises:
        UsageError: it is none, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UsageError("the request is no JSON", expected="Content-Type: application/json", found=kind or "nothing")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_BYTES:
            raise UsageError("the request is too large", expected=f"at most {MOST_BYTES} bytes")
    try:
        values = parse_state(bytes(data))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError("the request is no JSON object", found=type(values).__name__)
    return values


def _json(values: Any, status: int = 200) -> Response:
    """Return an answer in JSON, in ASCII: names of files may hold bytes that are no text."""
    return Response(json.dumps(values, allow_nan=False).encode(), status, media_type="application/json")


def _numbers(text: str, name: str, whole: bool = False) -> list[float]:
    """Return the numbers of a list with commas.

    Raises:
        UsageError: something else is in it.
    """
    try:
        numbers = [float(int(part) if whole else float(part)) for part in text.split(",") if part]
    except (OverflowError, ValueError):
        numbers = [math.nan]
    if len(numbers) > 16 or not np.isfinite(numbers).all():
        raise UsageError(f"{name} is wrong", expected="numbers with commas between them", found=text)
    return numbers


def _file(name: str) -> Response:
    """Return a file of the page.

    Raises:
        UsageError: the page has no such file.
    """
    folder = resources.files(__package__) / "page"
    parts = name.split("/")
    ending = f".{parts[-1].rpartition('.')[2]}"
    plain = all(part and not part.startswith(".") and "\\" not in part and "\0" not in part for part in parts)
    if plain and ending in _TYPES:
        file = folder.joinpath(*parts)
        if file.is_file():
            kind = _TYPES[ending]
            return Response(file.read_bytes(), media_type=kind)
    raise UsageError("the page has no such file", found=name, kind="no-answer")
