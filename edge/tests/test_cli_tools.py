"""The commands `bench`, `verify` and `seal`, and what `predict` takes of engines, threads and patterns."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from models import Graph, finish, make_card, make_conv
from PIL import Image

from unetres_edge import Segmenter, read_card, seal
from unetres_edge.cli import main
from unetres_edge.commands.energy import EnergyMeter
from unetres_edge.commands.verify import verify
from unetres_edge.engines.litert import LiteRTEngine, _multiply_adds
from unetres_edge.errors import CardMissingError, ModelDamagedError, ModelError, UsageError
from unetres_edge.model.card import CARD_NAME, read_metadata, reseal
from unetres_edge.model.selftest import SELFTEST_NAME, SelfTest, make_selftest

SIZE = (16, 24)
WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0]], np.float32)
BIAS = np.array([0, 3, -2, 40], np.float32)
CARD = make_card(SIZE, 3, 4)
KEY = CARD_NAME.encode()


@pytest.fixture
def conv(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(make_conv(CARD, WEIGHTS, BIAS))
    return path


def with_selftest(test: bytes) -> bytes:
    """A network that gives its input back, with a self-test of that."""
    graph = Graph()
    card = make_card(SIZE, 3, 3)
    source = graph.tensor("image", (1, *SIZE, 3), "float32")
    graph.metadata(SELFTEST_NAME, test)
    return finish(graph, card, [source], [source])


def test_bench_times_every_stage_and_number_of_threads(conv, tmp_path, capsys) -> None:
    assert main(["bench", str(conv), "--count", "5", "--threads", "1", "2", "--json", str(tmp_path / "b.json")]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert [run["threads"] for run in found["runs"]] == [1, 2]
    for run in found["runs"]:
        for stage in ("prepare", "infer", "post", "total"):
            assert 0 <= run[stage]["p50"] <= run[stage]["p95"]
        assert run["infer"]["p50"] < run["total"]["p50"]
    (row,) = found["ops"]
    assert row == {"op": "CONV_2D", "count": 1, "multiply_adds": 16 * 24 * 4 * 3, "share": 1.0}
    assert "no profiler" in capsys.readouterr().out


def test_bench_says_that_it_times_a_tile_or_a_frame(conv, tmp_path, capsys) -> None:
    words = ["bench", str(conv), "--count", "2", "--threads", "1", "--json", str(tmp_path / "b.json")]
    assert main(words) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "b.json").read_text())
    assert "times      one tile of 24 x 16 px" in said and found["tiles"] == 1 and found["image_px"] == [24, 16]
    assert main([*words, "--image", "100x40"]) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "b.json").read_text())
    with Segmenter(conv) as segmenter:  # tiles of 24 x 16 that share 4: 5 by 3
        assert segmenter.overlap == 4
    assert found["tiles"] == 15 and found["image_px"] == [100, 40]
    assert "times      a frame of 100 x 40 px through everything, in 15 tiles of 24 x 16 px" in said
    assert found["energy_source"] is None or found["runs"][0]["millijoules"] >= 0


@pytest.mark.parametrize("size", ["100", "0x5", "5x0", "-3x4", "axb", "1920x", "99999x99999", "1 x 2", "1x2x3", ""])
def test_a_frame_that_cannot_be_meant_is_refused(conv, size, capsys) -> None:
    assert main(["bench", str(conv), f"--image={size}"]) == 2
    assert "--image is wrong; expected width x height in px" in capsys.readouterr().err


def write_files(folder, **files) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_energy_is_counted_by_rapl(tmp_path) -> None:
    rapl = tmp_path / "powercap"
    for number, before in enumerate(("1000000", "3999000000")):
        write_files(
            rapl / f"intel-rapl:{number}",
            name=f"package-{number}\n",
            energy_uj=before,
            max_energy_range_uj="4000000000",
        )
    write_files(rapl / "intel-rapl:0:0", name="core", energy_uj="5", max_energy_range_uj="9")  # part of a package
    with EnergyMeter(tmp_path) as meter:
        (rapl / "intel-rapl:0" / "energy_uj").write_text("3500000\n")
        (rapl / "intel-rapl:1" / "energy_uj").write_text("500000\n")  # began anew
    assert meter.source == "RAPL package-0, package-1"
    assert meter.joules == pytest.approx(2.5 + 1.5)


def test_energy_is_told_by_sensors_of_a_board(tmp_path) -> None:
    write_files(tmp_path / "power" / "hwmon" / "hwmon3", name="ina3221", power1_input="5000000")  # 5 W
    with EnergyMeter(tmp_path / "power") as meter:
        start = time.perf_counter()
        time.sleep(0.1)
    least = time.perf_counter() - start
    assert meter.source == "hwmon ina3221 power1"
    assert 0.9 * 5 * 0.1 <= meter.joules <= 5 * (least + 0.2)
    write_files(tmp_path / "energy" / "hwmon" / "hwmon0", name="amd", energy1_input="7", energy2_input="0")
    with EnergyMeter(tmp_path / "energy") as meter:
        (tmp_path / "energy" / "hwmon" / "hwmon0" / "energy1_input").write_text("2000007")
    assert (meter.source, meter.joules) == ("hwmon amd energy1, amd energy2", 2.0)


def test_energy_that_nothing_tells_is_none(tmp_path) -> None:
    write_files(tmp_path / "powercap" / "intel-rapl:0", name="package-0", max_energy_range_uj="9")  # not to be read
    for folder in (tmp_path, tmp_path / "none"):
        with EnergyMeter(folder) as meter:
            pass
        assert meter.source is None and meter.joules is None


@pytest.mark.parametrize("number", ["0", "-1", "nan", "1e18", "100000", "99999999999999999999", "-0.0", "x"])
@pytest.mark.parametrize(
    "words",
    [["bench", "--threads"], ["bench", "--threads", "1"], ["predict", "--threads"], ["verify", "--threads"]],
    ids=" ".join,
)
def test_numbers_that_cannot_be_meant_are_refused(conv, words, number, capsys) -> None:
    command = [words[0], str(conv), *([str(conv), "--out", "none"] if words[0] == "predict" else [])]
    assert main([*command, *words[1:], number]) == 2
    assert f"--threads is wrong; expected {'1 or more' if words[0] == 'bench' else 'a'}" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "number"), [("--count", "0"), ("--count", "1e300"), ("--count", "10000000")])
def test_bench_counts_what_can_be_timed(conv, word, number, capsys) -> None:
    assert main(["bench", str(conv), word, number]) == 2
    assert f"{word} is wrong; expected a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("number", [0, -1, 513, 10**20])
def test_a_model_takes_a_number_of_threads_that_can_be_started(conv, number) -> None:
    with pytest.raises(UsageError, match="num_threads is wrong; expected 1 to 512"):
        Segmenter(conv, num_threads=number)


def test_multiply_adds_of_ops() -> None:
    assert _multiply_adds("CONV_2D", [[1, 8, 8, 3], [16, 3, 3, 3], [16]], [1, 8, 8, 16]) == 64 * 16 * 27
    assert _multiply_adds("DEPTHWISE_CONV_2D", [[1, 8, 8, 4], [1, 3, 3, 4], [4]], [1, 4, 4, 4]) == 16 * 4 * 9
    assert _multiply_adds("TRANSPOSE_CONV", [[4], [8, 2, 2, 16], [1, 4, 4, 16]], [1, 8, 8, 8]) == 16 * 16 * 8 * 4
    assert _multiply_adds("FULLY_CONNECTED", [[1, 10], [7, 10], [7]], [1, 7]) == 70
    assert _multiply_adds("RELU", [[1, 8, 8, 3]], [1, 8, 8, 3]) == 0


def test_verify_says_whether_the_labels_are_the_same(tmp_path, capsys) -> None:
    card, path = make_card(SIZE, 3, 3), tmp_path / "m.tflite"
    right = make_selftest(LiteRTEngine(with_selftest(b"x"), card), card, seed=5)
    path.write_bytes(with_selftest(right))
    found = verify(path)
    assert (found["same"], found["equal"], found["images"], found["engine"]) == (True, 1.0, 2, "litert")
    assert main(["verify", str(path)]) == 0
    assert "100.0000 % of the labels of 2 images" in capsys.readouterr().out
    test = SelfTest.from_bytes(right)
    wrong = test.labels.copy()
    wrong[0, :2] = (wrong[0, :2] + 1) % 3
    path.write_bytes(with_selftest(SelfTest(5, wrong).to_bytes()))
    assert verify(path)["equal"] == pytest.approx(1 - 2 * 24 / wrong.size)
    assert main(["verify", str(path)]) == 4
    assert "computes other labels" in capsys.readouterr().err


def test_verify_needs_a_selftest_that_fits(conv, tmp_path) -> None:
    with pytest.raises(ModelError, match="no self-test"):
        verify(conv)
    for labels in (np.zeros((1, 8, 8), np.uint8), np.zeros((0, *SIZE), np.uint8)):
        conv.write_bytes(with_selftest(SelfTest(0, labels).to_bytes()))
        with pytest.raises(ModelError, match="does not fit"):
            verify(conv)


def test_seal_takes_a_changed_file_and_says_so(conv, capsys) -> None:
    data = conv.read_bytes()
    bias = BIAS.tobytes()
    assert data.count(bias) == 1
    conv.write_bytes(data.replace(bias, (BIAS + 100 * np.eye(4, dtype=np.float32)[2]).tobytes()))
    with pytest.raises(ModelDamagedError):
        Segmenter(conv)
    for times in range(1, 12):
        assert main(["seal", str(conv)]) == 0
        card = read_card(conv.read_bytes())
        assert card.resealed == min(9, times)
    with Segmenter(conv) as segmenter:
        assert (segmenter.segment(np.zeros((*SIZE, 3), np.uint8)).class_map == 2).all()
    capsys.readouterr()
    assert main(["inspect", str(conv)]) == 0
    assert "resealed   9 times" in capsys.readouterr().out
    assert len(conv.read_bytes()) == len(data)


def test_seal_does_not_replace_a_link_that_leads_nowhere(conv, tmp_path, capsys) -> None:
    (tmp_path / "link.tflite").symlink_to(tmp_path / "nothing")
    assert main(["seal", str(conv), "--out", str(tmp_path / "link.tflite")]) == 2
    assert "the output exists already" in capsys.readouterr().err
    assert (tmp_path / "link.tflite").is_symlink()


def test_seal_refuses_what_does_not_run(conv, tmp_path, capsys) -> None:
    data = conv.read_bytes()
    assert main(["seal", str(conv), "--out", str(conv)]) == 2
    bad = make_conv(make_card((8, 8), 3, 4), WEIGHTS, BIAS).replace(b'"size": [8, 8]', b'"size": [8, 9]')
    for broken, code in ((data[:200], 4), (b"", 4), (data.replace(KEY, b"X" * len(KEY)), 4), (bad, 4)):
        conv.write_bytes(broken)
        assert main(["seal", str(conv)]) == code
        assert conv.read_bytes() == broken
    old = seal(data.replace(b'"resealed": 0, ', b'"resealet": 0, '))
    with pytest.raises(ModelError, match="no place to say"):
        reseal(old)
    assert "error:" in capsys.readouterr().err


def test_other_metadata_is_read(conv) -> None:
    data = conv.read_bytes()
    assert read_metadata(data, "min_runtime_version") == b"1.5.0".ljust(16, b"\0")
    assert read_metadata(data, "nothing") is None
    with pytest.raises(CardMissingError):
        read_card(make_conv(None, WEIGHTS, BIAS))


def test_predict_takes_patterns_engine_and_threads(conv, tmp_path, capsys) -> None:
    for name in ("a1.png", "a2.png", "b1.png", "a3.txt"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name, "PNG")
    out = tmp_path / "out"
    images = str(tmp_path / "a*")
    assert main(["predict", str(conv), images, "--out", str(out), "--threads", "1", "--engine", "litert"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a1.png", "a2.png"]
    assert main(["predict", str(conv), images, "--out", str(out), "--threads", "0"]) == 2
    assert main(["predict", str(conv), str(tmp_path / "c*"), "--out", str(out)]) == 2
    assert "no image found" in capsys.readouterr().err
