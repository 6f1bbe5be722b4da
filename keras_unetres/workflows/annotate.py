"""`ku.annotate` and `unetres annotate`: masks painted in the browser, from pictures to a data set."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import DataError, FileSystemError, ModelError, UsageError
from unetres_edge.files import make_folder
from unetres_edge.terminal import counted
from unetres_edge.web.access import LOOPBACK, is_loopback

from ..choices.arguments import checks_kinds
from ..painting.folder import CLASSES, Found, check_classes, find_pictures, is_project, make_project, read_project
from ..settings import AnnotateSettings

if TYPE_CHECKING:
    import numpy as np

    from ..data.records import Records
    from ..painting.learner import Learner
    from ..painting.project import Project

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
    run = None if learner is None else learner.finished_run()
    if run is None:
        raise UsageError("no network is trained yet", fix="paint more, and start the training", kind="no-answer")
    file = project.folder / "exports" / "model.tflite"
    make_folder(file.parent)
    words = [sys.executable, "-m", "keras_unetres.cli", "export", str(run), "--out", str(file), "--overwrite"]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1] if lines else f"the export ended with {done.returncode}"
        fix = "paint more and train on; or export it as it is: unetres export RUN --out model.tflite --max-drop 5"
        raise ModelError(said.removeprefix("error: "), file=run, fix=fix)
    receipt = file.with_name("model.receipt.html")
    return {"path": str(file), "images": 0, "note": f"the receipt is {receipt}"}


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
        if inner.resolve().is_relative_to(outer.resolve()):
            fix = "name a folder beside the pictures"
            raise UsageError("the project and the pictures lie in each other", file=folder, found=source, fix=fix)
    own_names, colors, found = _find(source, say)
    if is_project(folder):
        _refuse_other_classes(folder, classes)
        names = read_project(folder).classes
        if own_names is not None and names != own_names:
            raise UsageError("the project has other classes", file=folder, expected=names, found=own_names)
    else:
        names = check_classes(classes or own_names or CLASSES, folder)
        if own_names is not None and names != own_names:
            expected = ", ".join(own_names)
            raise UsageError(
                "the data set has classes of its own", file=source, expected=expected, fix="drop --classes"
            )
    make_project(folder, source, names, colors, found, say)
    return folder


def _refuse_other_classes(folder: Path, classes: Sequence[str] | None) -> None:
    own = read_project(folder).classes
    if classes is not None and tuple(classes) != own:
        fix = "drop --classes, or make another project with --out"
        found = " ".join(classes)
        raise UsageError("the project has other classes", file=folder, expected=" ".join(own), found=found, fix=fix)


def _find(
    source: Path, say: Callable[[str], None]
) -> tuple[tuple[str, ...] | None, Sequence[tuple[int, int, int]] | None, list[Found]]:
    """Return class names and colours, None where there are no masks, and the pictures."""
    from ..data.forms import has_masks

    if source.is_dir() and not (source / "dataset.yaml").is_file() and not has_masks(source):
        return None, None, find_pictures(source, say)
    return _of_data_set(source, say)


def _of_data_set(
    source: Path, say: Callable[[str], None]
) -> tuple[tuple[str, ...], Sequence[tuple[int, int, int]], list[Found]]:
    """Return what a data set with masks begins with."""
    from ..data.dataset import open_dataset
    from ..data.records import read_records
    from ..data.sources import ImageFile

    dataset = open_dataset(source, task="segment")
    parts = list(dataset.splits)
    by_part = read_records(dataset, parts, progress=False)
    classes = by_part[parts[0]].classes
    names = [sample.name for records in by_part.values() for sample in records.samples]
    say(f"note       {source} has masks: {len(names)} are read and copied, to be corrected in the project")
    found = []
    for part, records in by_part.items():
        for index, sample in enumerate(records.samples):
            image = sample.image
            if not isinstance(image, ImageFile):
                fix = "save them as PNG or TIFF"
                raise DataError("pictures that are no files cannot be linked to", file=image.file, fix=fix)
            name = f"{part}/{sample.name}" if names.count(sample.name) > 1 else sample.name
            found.append(Found(image.file, name, image.page, _mask_of(records, index)))
    return classes.names, classes.colors, found


def _mask_of(records: Records, index: int) -> Callable[[], tuple[np.ndarray, np.ndarray | None]]:
    """Return what reads the class ids and the objects of a sample."""

    def read() -> tuple[np.ndarray, np.ndarray | None]:
        record = records[index]
        return record.mask, None if record.instances is None else _numbered(record.instances)

    return read


def _numbered(numbers: np.ndarray) -> np.ndarray:
    """Return objects numbered from 1 in uint16, whatever their numbers were; 0 and below are none."""
    import numpy as np

    found, places = np.unique(numbers, return_inverse=True)
    made = np.zeros(len(found), np.uint16)
    made[found > 0] = np.arange(1, (found > 0).sum() + 1)
    return made[places].reshape(numbers.shape)


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

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            ending()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
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
