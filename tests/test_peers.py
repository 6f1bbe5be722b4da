"""The comparison with other tools: one score for all class maps, failures are kept, the page says losses too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import peers

    return peers


def make_page(results: dict[str, Any]) -> str:
    from _peers_page import make_page

    return make_page(results)


def write_png(folder: Path, name: str, values: list[list[int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(folder / name)


def row(tool: str, miou: float, file: float | None, **more: Any) -> dict[str, Any]:
    files = (
        []
        if file is None
        else [{"form": "f", "kind": "LiteRT int8", "int8": True, "kb": 512.0, "ms": 20.4, "miou": file}]
    )
    return {
        "set": "cells", "tool": tool, "minutes": 10.0, "seed": 0, "threads": 2, "digest": "d", "miou": miou,
        "per_class_iou": {}, "seconds": 600.0, "steps": 70, "parameters": 9, "settings": "as it comes",
        "versions": {"python": "3"},
        "files": files, **({} if files else {"no_file": "it exports none"}), **more,
    }  # fmt: skip


def test_class_maps_are_scored_by_one_count_over_all_pictures(peers: Any, tmp_path: Path) -> None:
    write_png(tmp_path / "truth", "a.png", [[0, 0, 1, 255]])
    write_png(tmp_path / "truth", "b.png", [[1, 1, 1, 1]])
    write_png(tmp_path / "maps", "a.png", [[0, 1, 1, 0]])
    write_png(tmp_path / "maps", "b.png", [[1, 1, 0, 0]])
    scores = peers.score(tmp_path / "truth", tmp_path / "maps", ["back", "cell", "none"])
    # background: 1 right of 2 in the truth and 3 found, union 4; cell: 3 right of 5 and 4, union 6; what is 255 is not
    # counted, and a class that is nowhere in the truth has no score
    assert scores == {
        "miou": pytest.approx((1 / 4 + 3 / 6) / 2),
        "per_class_iou": {"back": 1 / 4, "cell": 0.5, "none": None},
    }


def test_what_cannot_be_scored_is_refused_by_name(peers: Any, tmp_path: Path) -> None:
    write_png(tmp_path / "truth", "a.png", [[0, 1]])
    for values, said in (
        (None, "wrote no class map of a.png below maps"),
        ([[0], [1]], r"maps/a.png is \(2, 1\), the picture \(1, 2\)"),
        ([[0, 7]], "holds 7, of 2 classes"),
    ):
        if values:
            write_png(tmp_path / "maps", "a.png", values)
        with pytest.raises(peers.PeerError, match=said):
            peers.score(tmp_path / "truth", tmp_path / "maps", ["back", "cell"])


def test_a_tool_without_an_environment_is_left_out_with_the_reason(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kuc").write_text("in the way of the folder")
    results: dict[str, Any] = {"rows": [], "left_out": []}
    for _ in range(2):
        found = peers.ready_environments(tmp_path, ["keras-unetres", "keras-unet-collection"], results)
        assert found == {"keras-unetres": Path(sys.executable)}
    (said,) = results["left_out"]
    assert said["tool"] == "keras-unet-collection"
    assert said["reason"].startswith("its environment cannot be made: ")
    assert said["reason"] in capsys.readouterr().out
    assert f"- keras-unet-collection: {said['reason']}" in make_page(results)


def test_a_row_takes_the_place_of_its_like_and_of_what_was_said_of_it(peers: Any) -> None:
    results: dict[str, Any] = {"rows": [row("SMP", 0.5, 0.4), row("SMP", 0.6, 0.4, seed=1)], "left_out": []}
    key = {"set": "cells", "tool": "SMP", "minutes": 10.0, "seed": 0}
    peers.leave_out(results, key, "its script failed: no memory")
    peers.leave_out(results, {"tool": "MONAI"}, "no wheel")
    peers.replace_row(results, key, row("SMP", 0.7, 0.7))
    assert [(old["seed"], old["miou"]) for old in results["rows"]] == [(1, 0.6), (0, 0.7)]
    assert results["left_out"] == [{"tool": "MONAI", "reason": "no wheel"}]
    with pytest.raises(SystemExit, match="other test pictures"):
        peers.refuse_other_split(results["rows"], "cells", "another")
    peers.refuse_other_split(results["rows"], "camvid", "another")


def test_a_set_is_the_same_for_all_and_its_held_out_masks_are_given_to_none(peers: Any, tmp_path: Path) -> None:
    from keras_unetres.data.synthetic import write_cells

    source = write_cells(tmp_path / "cells", num_images=8, size=(64, 64))
    given = peers.make_set(source, {}, tmp_path / "set")
    again = peers.make_set(tmp_path / "gone", {}, tmp_path / "set")
    assert again == given
    assert {path.name for path in given.data.iterdir()} == {"train", "val", "dataset.yaml"}
    pictures = [*given.data.glob("*/images/*.png"), *given.pictures.glob("*.png")]
    pixels = [np.asarray(Image.open(path)).tobytes() for path in pictures]
    assert len(set(pixels)) == len(pixels) == 8  # no picture is in two parts
    named = sorted(path.name for path in given.pictures.iterdir())
    assert named == sorted(path.name for path in given.truth.iterdir())
    assert peers.score(given.truth, given.truth, given.classes)["miou"] == 1.0
    opened = peers.open_dataset(given.data)
    assert {name: len(part) for name, part in opened.splits.items() if part}.keys() == {"train", "val"}


def test_a_script_that_fails_says_why_by_its_last_error(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text("print('loading')\nraise ValueError('no such encoder')\n")
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path)
    given = peers.Set(tmp_path, tmp_path, tmp_path, ["a"], 1, "d")
    key = {"set": "cells", "tool": "SMP", "minutes": 0.01, "seed": 0}
    with pytest.raises(peers.PeerError, match="^its script failed: ValueError: no such encoder$"):
        peers.run_tool(peers.Tool("bad.py", None), Path(sys.executable), given, key, tmp_path / "out")


def test_the_page_says_who_is_ahead_and_who_is_not(peers: Any) -> None:
    rows = [row("keras-unetres", 0.71, 0.70), row("SMP", 0.735, 0.6), row("nnU-Net", 0.5, None)]
    results = {"rows": rows, "left_out": [], "machine": {"cores": 2, "processor": "x86_64"}}
    page = make_page(results)
    assert "| keras-unetres | 0.710 / 0.700 |" in page
    assert "| nnU-Net | 0.500 / - |" in page
    assert "| nnU-Net | none; it exports none |  |" in page
    assert "cells: behind SMP by 3.5 points." in page
    results["rows"] = [*rows, row("keras-unetres", 0.8, 0.76, seed=1)]
    assert "cells: behind SMP by 0.5 points, within the spread of seeds." in make_page(results)
    assert "0.730 (0.700-0.760)" in make_page(results)


def test_the_page_in_the_guide_is_that_of_the_figures(peers: Any) -> None:
    assert (ROOT / "docs" / "peers.md").read_text() == make_page(peers.read_results(peers.RESULTS))


def test_every_tool_has_its_script(peers: Any) -> None:
    for tool in peers.TOOLS.values():
        assert (ROOT / "benchmarks" / "peers" / tool.script).is_file()
        assert tool.environment is None or tool.environment in peers.ENVIRONMENTS
    assert json.dumps({name: tool.options for name, tool in peers.TOOLS.items()})
