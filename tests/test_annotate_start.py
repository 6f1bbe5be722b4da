"""A project is served at the address of its last server; what of a suggestion is accepted, and as what."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from keras_unetres.painting.folder import FOLDER
from keras_unetres.painting.start import FILE, Start, read_start, write_start
from keras_unetres.workflows.annotate import listen
from unetres_edge.errors import FileSystemError, UsageError

START = Start(8123, "t" * 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / FOLDER).mkdir(parents=True)
    write_start(made, "127.0.0.1", START)
    return made


def test_the_last_start_is_read_again(folder: Path) -> None:
    assert read_start(folder, "127.0.0.1") == START
    assert [path.name for path in (folder / FOLDER).iterdir()] == [FILE]
    if os.name == "posix":
        assert stat.S_IMODE((folder / FOLDER / FILE).stat().st_mode) == 0o600


def test_it_counts_for_this_folder_and_this_host_alone(folder: Path, tmp_path: Path) -> None:
    assert read_start(folder, "0.0.0.0") is None
    shutil.copytree(folder, tmp_path / "copy")
    assert read_start(tmp_path / "copy", "127.0.0.1") is None
    assert read_start(tmp_path, "127.0.0.1") is None, "there is none"


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
def test_a_token_that_others_can_read_is_not_used_again(folder: Path) -> None:
    (folder / FOLDER / FILE).chmod(0o644)
    assert read_start(folder, "127.0.0.1") is None


@pytest.mark.parametrize("changes", [{"port": 0}, {"port": "8123"}, {"token": "short"}, {"token": None}, {"of": ""}])
def test_a_damaged_start_is_none(folder: Path, changes: dict[str, object]) -> None:
    path = folder / FOLDER / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert read_start(folder, "127.0.0.1") is None
    path.write_bytes(b'{"port"')
    assert read_start(folder, "127.0.0.1") is None


def test_a_port_that_is_taken_is_another_one_where_it_was_but_a_wish() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port, is_wish=True) as second:
            assert second.getsockname()[1] != port
        with pytest.raises(FileSystemError, match="cannot listen"):
            listen("127.0.0.1", port)
    with listen("127.0.0.1", port, is_wish=True) as third:
        assert third.getsockname()[1] == port


def test_a_region_is_accepted_as_the_class_that_is_given_to_it() -> None:
    pytest.importorskip("starlette", reason="needs pip install -e '.[annotate]'")
    from keras_unetres.painting.server import as_class

    classes, objects = np.array([[1, 255, 1]], np.uint8), np.array([[4, 0, 4]], np.uint16)
    assert as_class(classes, objects, {"point": [0, 0]}, 3)[0] is classes
    given, numbers = as_class(classes, objects, {"point": [0, 0], "class": 2}, 3)
    np.testing.assert_array_equal(given, [[2, 255, 2]])
    assert (given.dtype, numbers is objects) == (np.uint8, True)
    given, numbers = as_class(classes, objects, {"point": [0, 0], "class": 0}, 3)
    np.testing.assert_array_equal(given, [[0, 255, 0]])
    assert numbers is None
    for wrong in ({"class": 3}, {"class": -1}, {"class": True}, {"class": 255}):
        with pytest.raises(UsageError, match="class is unknown"):
            as_class(classes, objects, {"point": [0, 0], **wrong}, 3)
    with pytest.raises(UsageError, match="one region"):
        as_class(classes, objects, {"box": [0, 0, 1, 1], "class": 1}, 3)


def test_a_region_is_accepted_as_it_was_seen() -> None:
    pytest.importorskip("starlette", reason="needs pip install -e '.[annotate]'")
    from keras_unetres.painting.server import as_shown

    classes = np.full((4, 6), 1, np.uint8)
    classes[0] = 255
    objects, box = np.arange(24, dtype=np.uint16).reshape(4, 6), (10, 20, 16, 24)
    given, numbers, place = as_shown(classes, objects, box, {"predicted": 1, "within": [12, 0, 14, 23]})
    assert place == (12, 20, 14, 23)
    np.testing.assert_array_equal(given, classes[:3, 2:4])
    np.testing.assert_array_equal(numbers, objects[:3, 2:4])
    assert as_shown(classes, None, box, {})[1:] == (None, box)
    with pytest.raises(UsageError, match="changed meanwhile"):
        as_shown(classes, objects, box, {"predicted": 2})
    for within in ([0, 0, 10, 20], [12, 20, 14, 20]):
        with pytest.raises(UsageError, match="nothing is suggested"):
            as_shown(classes, objects, box, {"within": within})
    with pytest.raises(UsageError, match="within is wrong"):
        as_shown(classes, objects, box, {"within": "all"})
