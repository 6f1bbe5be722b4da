"""Profiles of devices: the file, the operations of a graph, and latencies that are sums of what was timed."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from models import make_dense
from nets import make_net, net_card

from unetres_edge import Card, Preprocessing
from unetres_edge.cli import main
from unetres_edge.errors import FileSystemError, ModelError, UsageError
from unetres_edge.latency import measure
from unetres_edge.latency.estimate import predict_latency
from unetres_edge.latency.graph import Op, read_ops
from unetres_edge.latency.profile import Cost, Profile
from unetres_edge.latency.writer import NetworkWriter
from unetres_edge.model.card import default_colors

DEVICE = dict.fromkeys(("system", "machine", "processor", "cores", "runtime", "made"), "drawn")


def law(op: Op) -> float:
    """What an operation takes on a device that is drawn: ms by its work alone."""
    return 2e-7 * op.multiply_adds + 3e-6 * op.elements + 0.01


def make_profile(costs: list[Cost]) -> Profile:
    return Profile(DEVICE, 1, 0.5, ({"model_bytes": 1.0, "load_ms": 2.0, "memory_bytes": 3.0},), tuple(costs))


@pytest.fixture(scope="module")
def profile() -> Profile:
    """A profile of the operations that a device is asked about, timed by a law."""
    ops = [op for case in list(measure._cases())[::5] for op in read_ops(measure._build(case))]
    return make_profile([Cost(op, law(op)) for op in ops])


def test_operations_are_read_from_a_file() -> None:
    ops = read_ops(make_net(net_card((16, 20), 5)))
    kinds = ["CONV_2D", "MAX_POOL_2D", "CONV_2D", "RESIZE_BILINEAR", "CONCATENATION", "CONV_2D"]
    assert [op.kind for op in ops] == kinds
    assert {op.dtype for op in ops} == {"float32"}
    first, pool, low, up, joined, last = ops
    assert first == Op("CONV_2D", "float32", 320, 3, 8, 9, 1.0, 320 * 9 * 3 * 8, 320 * 11, 9 * 3 * 8)
    assert (pool.stride, pool.multiply_adds, pool.elements) == (2.0, 0, 320 * 8 + 80 * 8)
    assert (low.pixels, low.stride, up.stride) == (20, 2.0, 0.25)
    assert (joined.channels_in, joined.channels_out, last.channels_in, last.channels_out) == (8, 16, 16, 5)
    pre = Preprocessing(channels=1, fit="resize", size=(4, 4))
    card = Card(("a", "b"), default_colors(2), pre, task="classify")
    (dense,) = read_ops(make_dense(card, np.ones((2, 16)), np.zeros(2)))
    assert (dense.kind, dense.multiply_adds, dense.weights) == ("FULLY_CONNECTED", 32, 32)
    with pytest.raises(ModelError, match="LiteRT refuses"):
        read_ops(b"nothing")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_what_follows_a_law_is_foretold(profile: Profile, dtype: str) -> None:
    writer = NetworkWriter(dtype)
    source = writer.activation((1, 80, 80, 3))
    skip = writer.conv(source, 20)
    x = writer.transpose_conv(writer.conv(writer.pool(skip), 40), 20)
    x = writer.conv(writer.concatenate(skip, x), 20)
    data = writer.to_bytes([source], [x])
    found = predict_latency(data, profile)
    assert found.ms == pytest.approx(0.5 + sum(map(law, read_ops(data))), rel=0.02)
    assert sum(found.by_kind.values()) == pytest.approx(found.ms - 0.5)
    assert list(found.by_kind)[0] == "CONV_2D"


def test_an_operation_that_was_timed_takes_its_own_time(profile: Profile) -> None:
    known = profile.costs[10]
    odd = make_profile([*profile.costs[:10], Cost(known.op, 77.0), *profile.costs[11:]])
    assert predict_latency([known.op], odd).ms == pytest.approx(77.5, rel=1e-3)


def test_a_kind_that_was_not_timed_is_named(profile: Profile) -> None:
    op = Op("SPACE_TO_DEPTH", "int8", 4, 4, 4, 1, 2.0, 0, 32, 0)
    with pytest.raises(ModelError, match="SPACE_TO_DEPTH of int8"):
        predict_latency([op], profile)


def test_a_profile_is_read_as_it_was_written(profile: Profile, tmp_path: Path) -> None:
    small = make_profile(list(profile.costs[:5]))
    small.save(tmp_path / "d.json")
    assert Profile.load_file(tmp_path / "d.json") == small
    values = json.loads((tmp_path / "d.json").read_text())
    changes = {
        "schema": lambda v: v.update(schema=2),
        "device": lambda v: v["device"].pop("runtime"),
        "threads": lambda v: v.update(threads=0),
        "call_ms": lambda v: v.update(call_ms=-1),
        "load": lambda v: v["load"][0].pop("load_ms"),
        "ops is wrong": lambda v: v.update(ops=[]),
        r"ops\[0\] is wrong": lambda v: v["ops"][0].pop("kind"),
        r"ops\[1\].ms": lambda v: v["ops"][1].update(ms=0),
        r"ops\[2\].pixels": lambda v: v["ops"][2].update(pixels=1.5),
        r"ops\[3\].stride": lambda v: v["ops"][3].update(stride="2"),
        r"ops\[4\]": lambda v: v["ops"][4].update(more=1),
    }
    for named, change in changes.items():
        wrong = copy.deepcopy(values)
        change(wrong)
        (tmp_path / "w.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match=named) as error:
            Profile.load_file(tmp_path / "w.json")
        assert error.value.file is not None
    for text in ("", "[]", "{", "[" * 100000):
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(ModelError):
            Profile.load_file(tmp_path / "w.json")
    with pytest.raises(FileSystemError):
        Profile.load_file(tmp_path / "none.json")


def test_the_command_measures_and_writes(tmp_path: Path, monkeypatch, capsys) -> None:
    few = list(measure._cases())[::60]
    monkeypatch.setattr(measure, "_cases", lambda: iter(few))
    assert main(["profile", "--out", str(tmp_path / "d.json"), "--seconds", "0.1"]) == 0
    found = Profile.load_file(tmp_path / "d.json")
    assert len(found.costs) >= len(few) and all(math.isfinite(cost.ms) and cost.ms > 0 for cost in found.costs)
    assert len(found.load) == 3 and found.threads == 1
    assert f"operations {len(found.costs)} of" in capsys.readouterr().out
    assert main(["profile", "--out", str(tmp_path / "d.json"), "--seconds", "0"]) == 2
    with pytest.raises(UsageError):
        measure.measure_profile(threads=0)


@pytest.mark.slow
def test_every_operation_that_is_timed_runs() -> None:
    for case in measure._cases():
        assert measure.time_call(measure._build(case), 1, 0) > 0
