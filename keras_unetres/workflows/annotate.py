"""`ku.annotate` and `unetres annotate`: masks painted in the browser, from pictures to a data set."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import ExistsError, FileSystemError, ModelError, UnetresError, UsageError
from unetres_edge.files import make_folder
from unetres_edge.terminal import counted
from unetres_edge.web.access import LOOPBACK, is_loopback

from ..choices.arguments import checks_kinds
from ..painting.folder import CLASSES, check_classes, find_pictures, is_project, make_project, read_project
from ..painting.review import Review, add_places, places_of, read_reports
from ..settings import AnnotateSettings
from .annotate_source import Opened, open_to_correct

if TYPE_CHECKING:
    from ..painting.learner import Learner
    from ..painting.project import Project

EXPORTS, SITE = "exports", "site"  # folders of a project
_ONE = threading.Lock()  # two pages may ask for a file at a time
MOST_SAMPLE = 4_000_000  # px of the picture that the page offers to try
_EXTRA = "pip install 'keras-unetres[annotate]'"


@checks_kinds
def annotate(
    pictures: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    host: str = AnnotateSettings.host,
    port: int = AnnotateSettings.port,
    browser: bool = AnnotateSettings.browser,
    learn: bool = AnnotateSettings.learn,
    minutes: float = AnnotateSettings.minutes,
    review: Sequence[str | os.PathLike[str]] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Paint masks in a browser, until Ctrl-C; the project's folder is a data set that `check` and `train` read.

    Args:
        pictures: a folder of pictures; a data set, whose masks are then corrected in a copy; or a project.
        out: the project's folder, which is made, or gone on with; None if `pictures` is one.
        classes: class names of a new project, the background first; None for background and object.
        host: address to listen on. Whoever has the address with its token can paint.
        port: port to listen on; 0 for that of the project's last server, or any that is free.
        browser: open the page in the browser of this machine.
        learn: train a network beside the painting.
        minutes: length of each such training.
        review: reports of `unetres check --json` and `unetres suspects --json`, whose places are to be looked at.
        say: called with lines for the user.

    Raises:
        UsageError: no such folder, a project with other classes, or packages that are not installed.
        DataError: nothing that can be painted on, or a damaged project.
        RunFolderError: another server has the project open.
        FileSystemError: the folder cannot be written, or the port is taken.
    """
    check_installed()
    from ..painting.access import Gate
    from ..painting.order import Order
    from ..painting.project import Project
    from ..painting.server import Helpers, make_app
    from ..painting.start import Start, read_start, write_start

    folder = prepare_project(pictures, out, classes, say)
    if review:
        added = add_places(folder, read_reports(folder, [Path(file) for file in review]))
        say(f"review     {counted(added, 'new place')} to look at")
    with Project(folder, say) as project, ExitStack() as closing:
        about = f"{counted(len(project.images), 'image')}, {', '.join(project.classes)}"
        say(f"project    {folder}: {about}")
        last = read_start(folder, host)
        listening = listen(host, port or (last.port if last else 0), is_wish=not port)
        gate = Gate(host, last.token) if last else Gate(host)
        bound = listening.getsockname()[1]
        write_start(folder, host, Start(bound, gate.token))
        address = gate.address(bound)
        helpers = Helpers()
        if has_forest():
            from ..painting.forest import Forest

            helpers.forest = Forest(project)
            closing.callback(helpers.forest.close)
        predictions = None
        if learn:
            from ..painting.learner import Learner

            command = [sys.executable, "-m", f"{__package__}.annotate_round"]
            helpers.learner = Learner(project, command, minutes)
            closing.callback(helpers.learner.close)
            predictions = helpers.learner.predictions
        helpers.order = Order(project, predictions)
        helpers.review = Review(folder)
        helpers.site = folder / EXPORTS / SITE
        helpers.export = lambda form: export_form(project, form, helpers.learner)
        app = make_app(project, gate, helpers)
        say(f"serving    {address} (Ctrl-C ends it)")
        if is_loopback(host):
            say(
                f"from afar  ssh -L {bound}:{LOOPBACK}:{bound} {socket.gethostname()}, then open the same address there"
            )
        if browser:
            webbrowser.open(address)
        serve(app, listening, lambda: project.tell({"ending": True}))
    say(f"next       unetres train {shlex.quote(str(folder))} --out run")


def export_form(project: Project, form: object, learner: Learner | None) -> dict[str, Any]:
    """Write a project in a form of other tools, or the last network as a verified file for a device; return its path.

    Raises:
        UsageError: the form is unknown, or no network is trained.
        ModelError: the file loses more than is allowed.
        DataError: nothing is painted.
        FileSystemError: it cannot be written.
    """
    from ..painting.exports import FORMS, export_project

    if form != "tflite":
        if form not in FORMS:
            raise UsageError("the form is unknown", expected=", ".join((*FORMS, "tflite")), found=form)
        return export_project(project, form)
    with _ONE:
        return _export_file(project, learner)


def _export_file(project: Project, learner: Learner | None) -> dict[str, Any]:
    run = None if learner is None else learner.finished_run()
    if run is None:
        is_busy = learner is not None and learner.state()["state"] in ("training", "exporting")
        fix = "wait until the first training ends" if is_busy else "paint more, and start the training"
        raise UsageError("no network is trained yet", fix=fix, kind="no-answer")
    file = project.folder / EXPORTS / "model.tflite"
    make_folder(file.parent)
    words = [sys.executable, "-m", "keras_unetres.cli", "export", str(run), "--out", str(file), "--overwrite"]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1] if lines else f"the export ended with {done.returncode}"
        fix = "paint more and train on; or export it as it is: unetres export RUN --out model.tflite --max-drop 5"
        raise ModelError(said.removeprefix("error: "), file=run, fix=fix)
    receipt = file.with_name("model.receipt.html")
    page, why = write_site(file, project)
    return {"path": str(file), "images": 0, "note": f"the receipt is {receipt}{why and f'; {why}'}", "page": page}


def write_site(file: Path, project: Project) -> tuple[str, str]:
    """Write the runtime's page with a file, for the server to show; return its address, and why there is none.

    Args:
        file: the `.tflite`.
        project: of which the page offers an image to try.
    """
    from unetres_edge.web import write_web

    folder = file.with_name(SITE)
    sample = next(
        (
            project.picture_file(index)
            for index, state in enumerate(project.images)
            if state.picture.dtype == "uint8" and state.picture.width * state.picture.height <= MOST_SAMPLE
        ),
        None,
    )
    try:
        write_web(file, folder, overwrite=True, offline=False, sample=sample, say=lambda line: None)
    except UnetresError as error:
        if not isinstance(error, ExistsError):  # a page of ours that is there runs an earlier file
            (folder / "index.html").unlink(missing_ok=True)
        return "", f"no page that runs it here: {error}; unetres-edge web {shlex.quote(str(file))} makes one"
    return "/run/", ""


def has_forest() -> bool:
    """Whether the package that fits forests is installed."""
    return find_spec("sklearn") is not None


def check_installed() -> None:
    """Raise UsageError if a package that the server needs is not installed.

    Raises:
        UsageError: one is missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"annotate needs {error.name}, which is not installed", fix=_EXTRA) from error


def prepare_project(
    pictures: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    classes: Sequence[str] | None,
    say: Callable[[str], None],
) -> Path:
    """Make a project of pictures or of a data set, or add new pictures to one; return its folder.

    Raises:
        UsageError: as `annotate` says; DataError and FileSystemError likewise.
    """
    source = Path(pictures)
    if out is None:
        if not is_project(source):
            fix = f"unetres annotate {shlex.quote(str(source))} --out PROJECT"
            raise UsageError("say where the project is to be", file=source, expected="--out PROJECT", fix=fix)
        _refuse_other_classes(source, classes)
        return source
    folder = Path(out)
    if is_project(source):
        raise UsageError("this is a project already", file=source, fix=f"unetres annotate {shlex.quote(str(source))}")
    if not source.exists():
        raise UsageError("no such folder of pictures", file=source, expected="a folder, a data set, or a project")
    for inner, outer in ((folder, source), (source, folder)):
        if Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(outer)):
            fix = "name a folder beside the pictures"
            raise UsageError("the project and the pictures lie in each other", file=folder, found=source, fix=fix)
    opened = _open_source(source, say)
    if is_project(folder):
        _refuse_other_classes(folder, classes)
        names = read_project(folder).classes
        if opened.classes is not None and names != opened.classes:
            raise UsageError("the project has other classes", file=folder, expected=names, found=opened.classes)
    else:
        names = check_classes(classes or opened.classes or CLASSES, folder)
        if opened.classes is not None and names != opened.classes:
            expected = ", ".join(opened.classes)
            raise UsageError(
                "the data set has classes of its own", file=source, expected=expected, fix="drop --classes"
            )
    make_project(folder, source, names, opened.colors, opened.found, say)
    if opened.report is not None:
        add_places(folder, places_of(folder, opened.report, opened.boxes))
    return folder


def _open_source(source: Path, say: Callable[[str], None]) -> Opened:
    """Return the pictures of a folder, or the images of a data set with its masks."""
    from ..data.forms import has_masks

    if source.is_dir() and not (source / "dataset.yaml").is_file() and not has_masks(source):
        return Opened(find_pictures(source, say))
    return open_to_correct(source, say)


def _refuse_other_classes(folder: Path, classes: Sequence[str] | None) -> None:
    own = read_project(folder).classes
    if classes is not None and tuple(classes) != own:
        fix = "drop --classes, or make another project with --out"
        found = " ".join(classes)
        raise UsageError("the project has other classes", file=folder, expected=" ".join(own), found=found, fix=fix)


def listen(host: str, port: int, is_wish: bool = False) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: address to listen on.
        port: port; 0 for any that is free.
        is_wish: whether another port does, too.

    Raises:
        FileSystemError: the port is taken, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        if is_wish and port:
            return listen(host, 0)
        raise FileSystemError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}", fix="choose another --port or --host"
        ) from error
    return listening


def serve(app: Any, listening: socket.socket, ending: Callable[[], None]) -> None:
    """Serve an application on a socket, until SIGINT or SIGTERM.

    Args:
        ending: called at the signal; it ends the streams that are open.
    """
    import uvicorn

    from ..painting.connections import BACKLOG, Connection

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            ending()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http=Connection,
        backlog=BACKLOG,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
        ws="none",
    )
    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises the signal again when it has ended
        pass
    finally:
        listening.close()
