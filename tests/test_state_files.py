"""Files that commands write for themselves, damaged, of a later version or made by a stranger, are named."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.painting.canvas import Canvas
from keras_unetres.painting.exports import export_project
from keras_unetres.painting.folder import FOLDER, find_pictures, make_project, read_project
from keras_unetres.painting.journal import FILE, encode
from keras_unetres.painting.learner import Learner
from keras_unetres.painting.project import Project
from keras_unetres.painting.review import Place, Review, add_places, read_reports
from keras_unetres.painting.start import Start, read_start, write_start
from keras_unetres.runs import RunFolder
from keras_unetres.runs.lock import hold
from keras_unetres.runs.search import Rung, Search, Tried
from keras_unetres.settings import FileCost, TrainSettings
from keras_unetres.verify.receipt import read_receipt
from keras_unetres.workflows import folds
from unetres_edge.errors import DataError, FileSystemError, UnetresError, UsageError
from unetres_edge.files import parse_state
from unetres_edge.latency.graph import Op
from unetres_edge.latency.profile import Profile

RECEIPT = Path(__file__).parent / "golden" / "receipt_0_1_0.json"
HUGE = "1" + "0" * 400
RAW = ("NaN", "1e400", HUGE, "-1", "true", "null", '"x"', "[]", '{"a": [1]}', '"../../../x"', r'"\ud800"', r'"a\u0000"')
FEW = (HUGE, '"x"', '{"a": [1]}')
EACH = pytest.mark.parametrize("raws", (FEW, pytest.param(RAW, marks=pytest.mark.slow)), ids=("few", "all"))
silent: Callable[[str], None] = lambda line: None  # noqa: E731


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, each in inside:
        yield from leaves(each, (*path, key))


def changed(value: Any, raws: tuple[str, ...] = RAW) -> Iterator[tuple[str, str]]:
    """Yield JSON texts in which one value is another, or gone."""
    for path in leaves(value):
        if not path:
            continue
        for raw in (*raws, None):
            made = copy.deepcopy(value)
            place = made
            for key in path[:-1]:
                place = place[key]
            if raw is None:
                del place[path[-1]]
            else:
                place[path[-1]] = "@"
            yield f"{path} is {str(raw)[:20]}", json.dumps(made).replace('"@"', raw or "")


def hold_against(
    value: Any, file: Path, use: Callable[[], object], raws: tuple[str, ...], whole: Callable[[str], str] = str
) -> int:
    """Return how many of the texts that `changed` yields are refused; anything but a named refusal fails."""
    refused = 0
    for what, text in changed(value, raws):
        file.unlink()  # one that is written over is flushed to the disk, which takes time
        file.write_text(whole(text))
        try:
            use()
        except UnetresError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return refused


def write_first(file: Path, text: str = "") -> Path:
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two pictures with every kind of action."""
    place = tmp_path_factory.mktemp("painted")
    (place / "pictures").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 30), np.uint8)).save(
            place / f"pictures/{name}.png"
        )
    folder = place / "project"
    make_project(folder, place, ("background", "cell"), None, find_pictures(place / "pictures", silent), silent)
    with Project(folder, silent) as project:
        area = {"class": 1, "object": "new", "points": [[2, 2], [12, 3], [3, 14]]}
        project.stroke(0, {"id": "a", "tool": "polygon", **area})
        project.stroke(0, {"id": "b", "tool": "brush", **area, "size": 3})
        project.stroke(0, {"id": "c", "tool": "merge", "object": 1, "other": 2})
        project.stroke(0, {"id": "d", "tool": "split", "object": 1, "points": [[0, 5], [20, 5]]})
        project.stroke(0, {"id": "e", "tool": "fill", "class": 0, "object": 0, "points": [[29, 19]]})
        project.accept(0, {"id": "f"}, np.ones((4, 5), np.uint8), None, (1, 2, 6, 6), of="network")
        for each, do in enumerate((project.undo, project.redo)):
            do(0, {"id": f"g{each}"})
        project.complete(0, {"id": "h", "complete": True})
    add_places(folder, [Place("a.png", (1, 2, 3, 4), "suspect", "it is odd", "look")])
    return folder


@EACH
def test_a_list_of_pictures_of_another_form_is_named(painted: Path, tmp_path: Path, raws: tuple[str, ...]) -> None:
    values = json.loads((painted / FOLDER / "project.json").read_text())
    (tmp_path / FOLDER).mkdir()
    file = write_first(tmp_path / FOLDER / "project.json")
    assert hold_against(values, file, lambda: read_project(tmp_path), raws) > 15 * len(raws)
    for name, wrong in (("file", "../x.png"), ("file", "x/../../y.png"), ("ground", "../../x"), ("width", 0)):
        file.write_text(json.dumps({**values, "pictures": [{**values["pictures"][0], name: wrong}]}))
        with pytest.raises(DataError, match=f"{name} of the picture a.png"):
            read_project(tmp_path)
    twins = [values["pictures"][0], {**values["pictures"][1], "file": "a.jpg"}]
    file.write_text(json.dumps({**values, "pictures": twins}))
    with pytest.raises(DataError, match="two pictures have one name"):
        read_project(tmp_path)
    file.write_text(json.dumps({**values, "version": 2}))
    with pytest.raises(DataError, match="of a later version"):
        read_project(tmp_path)


@EACH
def test_an_action_of_the_journal_of_another_form_is_named(painted: Path, raws: tuple[str, ...]) -> None:
    lines = (painted / FOLDER / FILE).read_bytes().splitlines()
    actions = [json.loads(line) for line in lines]
    assert {action.get("tool", action["do"]) for action in actions} > {"polygon", "split", "merge", "accept", "redo"}
    with Project(painted, silent) as project:
        refused = 0
        for place, action in enumerate(actions):
            for what, text in changed(
                {name: value for name, value in action.items() if name not in ("crc", "image")}, raws
            ):
                canvas = Canvas((20, 30), None, project._read_pixels)
                try:
                    values = parse_state(text)
                    for earlier in actions[:place]:
                        project._replayed(canvas, earlier)
                    if values.get("do") in ("stroke", "accept"):  # others are refused as they are read
                        project._replayed(canvas, values)
                except (DataError, ValueError):
                    refused += 1
                except Exception as error:
                    raise AssertionError(f"{what} of {action}: {type(error).__name__}: {error}") from error
                assert canvas.classes.max(initial=0, where=canvas.classes < 255) <= 1, what  # a class that there is
        assert refused > 25 * len(raws)


def test_a_later_action_of_the_journal_is_named(painted: Path, tmp_path: Path) -> None:
    file = painted / FOLDER / FILE
    before = file.read_bytes()
    for action in ({"image": "a.png", "do": "warp"}, {"image": ["a.png"], "do": "undo"}, {"image": "a.png"}):
        file.write_bytes(before + encode(action) + encode({"image": "a.png", "do": "undo"}))
        with pytest.raises(DataError, match=r"line \d+ of the journal"):
            Project(painted, silent)
    file.write_bytes(before)


@EACH
def test_what_is_to_be_looked_at_is_checked(painted: Path, tmp_path: Path, raws: tuple[str, ...]) -> None:
    file = painted / FOLDER / "review.json"
    values = json.loads(file.read_text())

    def use() -> None:
        json.dumps(Review(painted).rows(), allow_nan=False)

    assert hold_against(values, file, use, raws) > 4 * len(raws)
    file.write_text(json.dumps(values))
    row = {"image": "a", "part": "train", "score": 5.0, "box": [1, 2, 3, 4], "given": "cell", "answered": "background"}
    report = write_first(tmp_path / "suspects.json")
    assert hold_against({"images": [row]}, report, lambda: read_reports(painted, [report]), raws) > len(raws)
    report.write_text(json.dumps({"images": [row]}))
    assert [(place.image, place.box) for place in read_reports(painted, [report])] == [("a.png", (2, 1, 4, 3))]


@EACH
def test_a_learner_goes_by_no_state_of_another_form(painted: Path, raws: tuple[str, ...]) -> None:
    known = {"round": 2, "ended": True, "start": "/elsewhere/round-0001/run", "revision": 3, "complete": 1}
    file = painted / FOLDER / "learning" / "learner.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(known))
    with Project(painted, silent) as project:
        learner = Learner(project, ["false"], 1, by_itself=False)
        assert learner._known["start"] == os.fspath(file.parent / "round-0001" / "run")  # of this project
        for what, text in changed(known, raws):
            file.write_text(text)
            learner._round, learner._known = learner._read()
            json.dumps(learner.state(), allow_nan=False)
            assert 0 <= learner._round <= 2 and learner._new_actions() >= 0, what
        file.unlink()
        learner._round, learner._known = learner._read()
        learner.close()


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as Linux and macOS have them")
def test_nothing_is_written_through_a_link_in_the_place_of_a_file_of_ours(painted: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("one line of the user's\n")
    for name in (".lock", FILE, "server.json"):
        place = painted / FOLDER / name
        before = place.read_bytes() if place.is_file() else None
        for make in (lambda place: place.symlink_to(precious), os.mkfifo):
            place.unlink(missing_ok=True)
            make(place)
            if name == "server.json":
                assert read_start(painted, "127.0.0.1") is None
                write_start(painted, "127.0.0.1", Start(5000, "t" * 40))
                assert read_start(painted, "127.0.0.1") == Start(5000, "t" * 40)
            else:
                with pytest.raises(FileSystemError, match="in the place of"):
                    Project(painted, silent).close()
            place.unlink()
        if before is not None:
            place.write_bytes(before)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(precious)
    with pytest.raises(FileSystemError, match="a link is in the place"), hold(tmp_path / "run"):
        pass
    assert precious.read_text() == "one line of the user's\n"


def test_pictures_and_masks_that_are_no_files_are_told(painted: Path, tmp_path: Path) -> None:
    picture = painted / "images" / "b.png"
    goes_to = os.readlink(picture)
    picture.unlink()
    os.mkfifo(picture)
    with Project(painted, silent) as project:
        assert project.images[1].changed == "something else than a file is in the place of the picture"
        with pytest.raises(DataError, match="something else than a file"):
            project.refuse_changed(1)
    picture.unlink()
    picture.symlink_to(goes_to)


def test_two_exports_of_one_form_at_a_time_are_both_whole(painted: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Project(painted, silent) as project, ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda form: export_project(project, form), ("png", "coco") * 3))
    assert [each["images"] for each in found] == [1] * 6
    exports = painted / "exports"
    (exports / "png").rename(exports / ".png.old")  # as by a kill between the two renames
    with Project(painted, silent) as project, pytest.raises(UsageError):
        export_project(project, "xcf")
    with Project(painted, silent) as project:
        assert export_project(project, "png")["images"] == 1
    assert (exports / "png" / "masks" / "a.png").is_file() and not (exports / ".png.old").exists()


def make_search() -> dict[str, Any]:
    settings = TrainSettings()
    plan = {"decisions": [{"setting": "filters", "value": 8, "reason": "why", "option": "--filters"}]}
    tried = (Tried("a", {"filters": 8}, FileCost(1, 2, 3), (Rung(0.25, 0.5),)), Tried("b", {}, FileCost(1, 1, 1)))
    made: dict[str, Any] = Search("quick", "/d", "f" * 64, settings, settings, plan, tried, ("a", "b")).to_dict()
    for name in ("given", "chosen"):  # their fields are tested with the settings
        made[name] = {"network": {"size": made[name]["network"]["size"]}}
    return made


@EACH
def test_a_search_and_folds_of_another_form_are_named(tmp_path: Path, raws: tuple[str, ...]) -> None:
    from keras_unetres.workflows.search import _decisions

    run, other = RunFolder(tmp_path), RunFolder(tmp_path / "other")
    other.path.mkdir()

    def use() -> None:
        state = run.read_search()
        assert state is not None
        other.write_search(state)
        other.write_decisions(_decisions(state, state[state.left[0]].changes))

    assert hold_against(make_search(), write_first(tmp_path / "search.json"), use, raws) > 20 * len(raws)
    told = {"schema": 1, "folds": 3, "settings": {"network": {"size": 64}}, "done": [1]}
    assert hold_against(told, write_first(tmp_path / "folds.json"), lambda: folds._read(tmp_path), raws) > 4 * len(raws)


@EACH
def test_a_profile_of_another_form_is_named(tmp_path: Path, raws: tuple[str, ...]) -> None:
    file = tmp_path / "device.json"
    names = ("system", "machine", "processor", "cores", "runtime", "made")
    op: dict[str, Any] = {"ms": 1.0}
    op |= {each.name: "x" if each.type == "str" else 1 for each in fields(Op)}
    load = {"model_bytes": 1, "load_ms": 1.0, "memory_bytes": 1}
    values = {
        "schema": 1,
        "device": dict.fromkeys(names, "x"),
        "threads": 1,
        "call_ms": 0.1,
        "load": [load],
        "ops": [op],
    }
    file.write_text(json.dumps(values))
    assert len(Profile.load_file(file).costs) == 1
    assert hold_against(values, file, lambda: Profile.load_file(file), raws) > 15 * len(raws)


@EACH
def test_a_receipt_of_another_form_is_named(tmp_path: Path, raws: tuple[str, ...]) -> None:
    values = json.loads(RECEIPT.read_text(encoding="utf-8"))
    contents = {name: each[:1] if isinstance(each, list) else each for name, each in values["contents"].items()}
    parts = {"file": values["file"], "gate": values["gate"], "contents": contents}
    kept = json.dumps({name: each for name, each in values.items() if name not in parts})
    file = write_first(tmp_path / "m.receipt.json", RECEIPT.read_text(encoding="utf-8"))

    def use() -> None:
        json.dumps(read_receipt(file).to_dict(), allow_nan=False)

    use()
    assert hold_against(parts, file, use, raws, lambda text: f"{kept[:-1]}, {text[1:]}") > 20 * len(raws)


@pytest.mark.parametrize("text", ("NaN", "-Infinity", "1e400", HUGE, str(2**64), '{"a": 1, "a": 2}', "[" * 100_000))
def test_a_number_that_is_none_is_in_no_file_of_ours(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse_state(text)
    assert parse_state("[1e308, -9223372036854775808, 18446744073709551615]") == [1e308, -(2**63), 2**64 - 1]


def test_a_whole_number_beyond_all_floats_is_no_setting() -> None:
    with pytest.raises(UsageError, match="--size is wrong"):
        TrainSettings.from_flat({"size": 10**400})
