"""Engines by name, what "auto" takes and remembers, and what one loaded model does under threads, forks and close."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from models import make_card, make_conv, make_identity
from nets import make_resize

from unetres_edge import Engine, Segmenter, UnetresError
from unetres_edge.engines import auto, table
from unetres_edge.engines.agreement import Agreement, Allowed, CheckedEngine, compare
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.engines.pool import Pool
from unetres_edge.errors import EngineError, ModelError, UsageError
from unetres_edge.model import selftest
from unetres_edge.model.engine_cost import EngineCost

SIZE = (16, 24)
WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 0]], np.float32)
BIAS = np.array([0, 3, -2, 40], np.float32)
CARD = make_card(SIZE, 3, 4)
DATA = make_conv(CARD, WEIGHTS, BIAS)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def right(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float32) @ WEIGHTS.T + BIAS).argmax(-1)


class Shifted:
    """An engine that gives LiteRT's scores with something added to one class."""

    name = "openvino"

    def __init__(self, added: float) -> None:
        self.added, self.closed = np.array([added, 0, 0, 0], np.float32), False
        self.litert = LiteRTEngine(DATA, CARD, num_threads=1)

    def run(self, tile: np.ndarray) -> np.ndarray:
        return self.litert.run(tile) + self.added

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        return self.run(tile).argmax(-1).astype(np.uint8)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(auto, "_chosen", {})
    return tmp_path


@pytest.mark.parametrize("kind", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_labels_of_levels_are_those_of_scores(kind: str, classes: int) -> None:
    card = make_card(SIZE, classes, classes)
    engine = LiteRTEngine(make_identity(None, (1, *SIZE, classes), kind, (0.5, 3)), card, num_threads=1)
    tile = np.random.default_rng(1).integers(0, 20, (*SIZE, classes)).astype(np.uint8)  # many ties
    labels = engine.run_labels(tile)
    assert (labels.dtype, labels.shape) == (np.uint8, SIZE)
    np.testing.assert_array_equal(labels, engine.run(tile).argmax(-1))
    np.testing.assert_array_equal(labels, tile.argmax(-1))


def test_confidence_is_the_softmax_of_the_chosen_class() -> None:
    image = picture()
    for shape in (SIZE, (40, 50)):
        image = np.random.default_rng(2).integers(100, 104, (*shape, 3)).astype(np.uint8)
        with Segmenter(DATA, num_threads=1) as segmenter:
            result = segmenter.segment(image, scores=True, confidence=True)
            assert segmenter.segment(image).confidence is None
        raised = np.exp(result.scores.astype(np.float64))
        np.testing.assert_allclose(result.confidence, (raised / raised.sum(-1, keepdims=True)).max(-1), rtol=1e-5)
    with pytest.raises(UsageError, match="no scores"):
        Segmenter(make_conv(make_card(SIZE, 3, 4, head="argmax"), WEIGHTS, BIAS)).segment(picture(), confidence=True)


def test_agreement_counts_and_measures() -> None:
    scores = np.zeros((100, 10, 2), np.float32)
    scores[..., 0] = 1.0
    other = scores.copy()
    other[0, :4] = (0, 1)
    assert compare(scores, other, 0.5) == Agreement(pytest.approx(0.996), pytest.approx(2.0))
    assert Allowed().holds(compare(scores, other, 0.5))
    assert not Allowed().holds(compare(scores, other, 0.4))
    assert Allowed.like(0.998).holds(compare(scores, other, 0.1))
    assert not Allowed.like(0.999).holds(Agreement(0.9949, None))
    other[0, :6] = (0, 1)
    assert not Allowed().holds(compare(scores, other, 0.5))
    labels = scores.argmax(-1).astype(np.uint8)
    assert compare(labels, labels, None) == Agreement(1.0, None)
    assert compare(scores[0, 0], other[0, 0], 0.5).equal == 0


def test_the_first_tile_decides() -> None:
    for added, stays in ((0.0, True), (50.0, False)):
        litert, other = LiteRTEngine(DATA, CARD, num_threads=1), Shifted(added)
        engine = CheckedEngine(litert, other, 0.999)
        with Segmenter(None, card=CARD, engine=engine) as segmenter:
            result = segmenter.segment(picture())
        assert (result.engine, other.closed) == (("openvino", False) if stays else ("litert", True))
        assert result.agreement == (0.999 if stays else None)
        np.testing.assert_array_equal(result.class_map, right(picture()))


def test_measuring_takes_only_what_agrees() -> None:
    litert = LiteRTEngine(DATA, CARD, num_threads=1)
    found = auto.measure(litert, Shifted(50.0), CARD)
    assert found["engine"] == "litert"
    assert found["equal"] < selftest.LEAST_EQUAL
    assert "computes other labels than LiteRT: " in found["why"]


COST = EngineCost("openvino", "2026.4.1", 59, 0.004, 0.98, 0.97, 0.98)


class Faster(Shifted):
    """An engine that takes no time, beside one that does."""

    def __init__(self, share: float) -> None:
        super().__init__(0.0)
        self.share = share  # of the rows of a tile that get another label

    def run(self, tile: np.ndarray) -> np.ndarray:
        scores = self.litert.run(tile)
        rows = round(self.share * len(tile))
        scores[:rows] = np.roll(scores[:rows], 1, axis=-1)
        return scores

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        return np.zeros(tile.shape[:2], np.uint8)


@pytest.mark.parametrize(
    ("cost", "other", "taken", "said"),
    [
        (COST, 0.0, True, "costs 0.004 points on 59 held-out images, by the receipt"),
        (replace(COST, points=-0.01), 0.0, True, "gains 0.010 points on 59"),
        (replace(COST, least_equal=0.96, selftest_equal=0.96), 1 / 16, True, "costs 0.004 points"),
        (COST, 1 / 8, False, "computes other labels than where its score was measured: "),
        (replace(COST, points=0.021), 0.0, False, "costs 0.021 points"),
        (replace(COST, engine="other"), 1 / 16, False, "computes other labels than LiteRT: "),
        (None, 1 / 16, False, "computes other labels than LiteRT: "),
    ],
    ids=["free", "better", "as far as there", "farther than there", "not free", "of another engine", "older card"],
)
def test_auto_goes_by_what_the_card_says(cost, other, taken, said, home, monkeypatch) -> None:
    """And only where the engine computes here what it computed where its score was measured."""
    card = replace(CARD, engines=() if cost is None else (cost,))
    monkeypatch.setitem(table.ENGINES, "openvino", table.EngineEntry(lambda *_: Faster(other), "nothing"))
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(auto, "_times", lambda *_: (2.0, 1.0))
    data = make_conv(card, WEIGHTS, BIAS)
    with Segmenter(data, engine="auto") as segmenter:
        assert segmenter.engine.name == ("openvino" if taken else "litert")
        assert said in segmenter.engine.reason
        result = segmenter.segment(picture())
    assert result.engine == ("openvino" if taken else "litert")
    assert said in result.engine_reason


def test_what_is_usual_goes_by_the_card() -> None:
    card = replace(CARD, engines=(COST,))
    assert table.usual_engine(CARD) == "litert"
    assert table.usual_engine(card) == "auto"
    assert table.usual_engine(replace(card, resealed=1)) == "litert"
    assert replace(card, resealed=1).engine_cost("openvino") is None


def test_a_first_tile_far_from_the_receipt_ends_it() -> None:
    engine = CheckedEngine(
        LiteRTEngine(DATA, CARD, num_threads=1), Faster(1 / 8), 0.99, allowed=Allowed.like(0.97), reason="faster"
    )
    with Segmenter(None, card=CARD, engine=engine) as segmenter:
        result = segmenter.segment(picture())
    assert (result.engine, result.agreement) == ("litert", None)
    assert "gave other labels for" in result.engine_reason
    np.testing.assert_array_equal(result.class_map, right(picture()))


def test_openvino_rounds_means_as_litert_does() -> None:
    """Without `_round_ties_up`, the values whose mean lies in the middle of two levels go to the even one."""
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    card = make_card((32, 32), 3, 3)
    data = make_resize(card)
    tile = np.random.default_rng(4).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    litert = LiteRTEngine(data, card, num_threads=1)
    other = table.open_engine("openvino", data, card, num_threads=1)
    np.testing.assert_array_equal(other.run(tile), litert.run(tile))


def test_auto_remembers_what_it_took(home, monkeypatch) -> None:
    measured = []

    def measure(litert, other, card):
        measured.append(other)
        return {"engine": "openvino", "why": "faster", "equal": 0.998, "steps": 1.0, "ms": 1, "litert_ms": 2}

    opened = table.EngineEntry(lambda *_: Shifted(0.0), "nothing")
    monkeypatch.setitem(table.ENGINES, "openvino", opened)
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(auto, "measure", measure)
    for _ in range(3):
        auto._chosen.clear()  # as a new process
        with Segmenter(DATA, engine="auto") as segmenter:
            result = segmenter.segment(picture())
        assert (result.engine, result.agreement, result.engine_reason) == ("openvino", 0.998, "faster")
    assert len(measured) == 1
    (entry,) = json.loads(auto.cache_file().read_bytes()).values()
    assert entry["engine"] == "openvino"
    for damage in (b"{damaged", b"[]", auto.cache_file().read_bytes().replace(b"0.998", b"0.1")):
        auto._chosen.clear()
        auto.cache_file().write_bytes(damage)
        Segmenter(DATA, engine="auto").close()
    assert len(measured) == 4


def test_without_openvino(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match="fix: pip install openvino$"):
        Segmenter(DATA, engine="openvino")
    with Segmenter(DATA, engine="openvino", fallback=True) as segmenter:
        assert segmenter.segment(picture()).engine == "litert"


@pytest.mark.parametrize("name", table.NAMES)
def test_every_engine_keeps_the_contract(name: str, home) -> None:
    """A row of the table gives LiteRT's labels, by `run` and by `run_labels`, and no more after `close`."""
    litert = LiteRTEngine(DATA, CARD, num_threads=1)
    try:
        engine = table.open_engine(name, DATA, CARD, num_threads=1)
    except EngineError as error:
        pytest.skip(f"needs {table.ENGINES[name].needs}: {error.message}")
    assert isinstance(engine, Engine)
    assert engine.name in table.ENGINES
    assert engine.agreement is None or name == "auto"
    for seed in range(3):
        tile = picture(seed)
        scores, labels = engine.run(tile), engine.run_labels(tile)
        assert (scores.dtype, scores.shape) == (np.float32, (*SIZE, 4))
        assert (labels.dtype, labels.shape) == (np.uint8, SIZE)
        np.testing.assert_array_equal(labels, scores.argmax(-1))
        np.testing.assert_array_equal(labels, litert.run_labels(tile))
    engine.close()
    for call in (engine.run, engine.run_labels):
        with pytest.raises(ModelError, match="closed"):
            call(picture())


def test_an_engine_that_is_not_installed_names_its_library(monkeypatch) -> None:
    """Never a name that no registry has, such as an extra of this distribution."""
    for module in ("ai_edge_litert.interpreter", "ai_edge_litert.compiled_model"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match="litert cannot be imported.*fix: pip install ai-edge-litert$"):
        Segmenter(DATA)


class Own(Engine):
    """An engine that has `run` and nothing else of its own."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        return tile.astype(np.float32) @ WEIGHTS.T + BIAS


class RunOnly:
    """An object that knows nothing of the contract."""

    run = Own.run


class RunAndLabels(RunOnly):
    name = "mine"

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        return np.full(tile.shape[:2], 3, np.uint8)


@pytest.mark.parametrize("engine", [Own(), RunOnly()], ids=["subclass", "run only"])
@pytest.mark.parametrize("shape", [SIZE, (40, 50)])
def test_an_engine_of_ones_own_needs_only_run(engine, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(5).integers(0, 256, (*shape, 3)).astype(np.uint8)
    with Segmenter(None, card=CARD, engine=engine) as segmenter:
        result = segmenter.segment(image)
        assert isinstance(segmenter.engine, Engine)
    np.testing.assert_array_equal(result.class_map, right(image))
    assert (result.engine, result.agreement) == ("", None)


def test_what_an_engine_of_ones_own_has_is_used() -> None:
    with Segmenter(None, card=CARD, engine=RunAndLabels()) as segmenter:
        result = segmenter.segment(picture())
    assert result.engine == "mine"
    assert (result.class_map == 3).all()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.full((*SIZE, 4), np.nan, np.float32), "scores that are not finite"),
        (
            np.zeros((SIZE[0] - 1, SIZE[1], 4), np.float32),
            "no answer to the tile; expected float32 scores, 16 x 24 x 4",
        ),
        (np.zeros((*SIZE, 3), np.float32), "no answer to the tile"),
        (np.zeros((*SIZE, 4), np.int32), "no answer to the tile"),
        (np.zeros(SIZE, np.uint8), "no answer to the tile.*found uint8"),
        ("scores", "no answer to the tile.*found str"),
        (None, "no answer to the tile.*found NoneType"),
    ],
    ids=["nan", "size", "classes", "numbers", "labels for scores", "text", "nothing"],
)
@pytest.mark.parametrize("shape", [SIZE, (40, 50)])
def test_what_is_no_answer_is_refused(answer, says: str, shape: tuple[int, int]) -> None:
    engine = RunOnly()
    engine.run = lambda tile: answer
    with Segmenter(None, card=CARD, engine=engine) as segmenter, pytest.raises(ModelError, match=says):
        segmenter.segment(np.zeros((*shape, 3), np.uint8))


def test_ids_that_the_card_does_not_name_are_refused() -> None:
    engine = RunOnly()
    for head, method in (("logits", "run_labels"), ("argmax", "run")):
        setattr(engine, method, lambda tile: np.full(tile.shape[:2], 4, np.uint8))
        card = make_card(SIZE, 3, 4, head=head)
        with Segmenter(None, card=card, engine=engine) as segmenter, pytest.raises(ModelError, match="does not name"):
            segmenter.segment(picture())


def test_an_engine_of_ones_own_stays_open() -> None:
    engine = Shifted(0.0)
    Segmenter(None, card=CARD, engine=engine).close()
    assert not engine.closed


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(UsageError, match="engine is unknown; expected auto or litert"):
        Segmenter(DATA, engine="tensorrt", fallback=True)


def test_openvino_gives_what_litert_gives() -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    with Segmenter(DATA, engine="openvino", num_threads=1) as segmenter:
        result = segmenter.segment(picture())
    assert result.engine == "openvino"
    np.testing.assert_array_equal(result.class_map, right(picture()))


def test_a_pool_lends_each_to_one_thread() -> None:
    made, lent, most = [], set(), []
    lock = threading.Lock()

    def work(pool: Pool, _: int) -> None:
        with pool.borrow() as one:
            with lock:
                assert one not in lent
                lent.add(one)
                most.append(len(lent))
            threading.Event().wait(0.001)
            with lock:
                lent.discard(one)

    pool: Pool[int] = Pool(lambda: made.append(0) or len(made), 3)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: work(pool, n), range(100)))
    assert len(made) == max(most) == 3
    with pytest.raises(KeyError), pool.borrow():
        raise KeyError
    with pool.borrow() as first, pool.borrow(), pool.borrow() as third:
        assert 4 in (first, third) or len(made) == 4  # one that failed is not lent again
    pool.close()
    with pytest.raises(ModelError, match="closed"), pool.borrow():
        pass


def test_an_error_does_not_bar_the_next_call() -> None:
    card = make_card(SIZE, 3, 3)
    engine = LiteRTEngine(make_identity(None, (1, *SIZE, 3)), card, num_threads=1)
    engine.codec._table = np.where(np.arange(256) == 7, np.nan, np.arange(256)).astype(np.float32)[:, None]
    kept = None
    try:
        engine.run(np.full((*SIZE, 3), 7, np.uint8))
    except ModelError as error:
        kept = error  # its traceback keeps a view of the output alive
    assert kept is not None
    assert engine.run(np.maximum(picture(), 8)).shape == (*SIZE, 3)


FORK = """
import os, sys, numpy as np
from unetres_edge import Segmenter
from unetres_edge.errors import ModelError
segmenter = Segmenter(sys.argv[1], num_threads=2)
image = np.zeros((16, 24, 3), np.uint8)
segmenter.segment(image)
child = os.fork()
if child == 0:
    try:
        segmenter.segment(image)
    except ModelError as error:
        segmenter.close()
        with Segmenter(sys.argv[1], num_threads=2) as own:
            own.segment(image)
        os._exit(7 if "forked" in str(error) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), segmenter.segment(image).class_map.shape)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_gets_a_named_error_and_can_open_its_own(tmp_path) -> None:
    (tmp_path / "m.tflite").write_bytes(DATA)
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "m.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split(maxsplit=1) == ["7", "(16, 24)\n"], done.stderr


@pytest.mark.parametrize("threads", [1, None])
def test_closing_while_others_call(threads) -> None:
    segmenter = Segmenter(DATA, num_threads=threads)
    answers = []

    def work() -> None:
        try:
            while True:
                answers.append(bool((segmenter.segment(picture()).class_map == right(picture())).all()))
        except ModelError as error:
            answers.append("closed" in str(error))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    while len(answers) < 40:
        threading.Event().wait(0.001)
    segmenter.close()
    for worker in workers:
        worker.join(30)
    assert not any(worker.is_alive() for worker in workers)
    assert all(answers)


def test_a_file_that_changes_while_in_use_has_no_effect(tmp_path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(DATA)
    with Segmenter(file, num_threads=1) as segmenter:
        os.truncate(file, 10)
        np.testing.assert_array_equal(segmenter.segment(picture(1)).class_map, right(picture(1)))
        file.write_bytes(b"other" * 1000)
        np.testing.assert_array_equal(segmenter.segment(picture(2)).class_map, right(picture(2)))
    with pytest.raises(UnetresError):
        Segmenter(file)


def test_the_selftest_comes_back_and_its_images_are_fixed() -> None:
    engine = LiteRTEngine(DATA, CARD, num_threads=1)
    kept = selftest.SelfTest.from_bytes(selftest.make_selftest(engine, CARD, seed=3))
    images = selftest.make_images(CARD, seed=3)
    assert (kept.seed, kept.least_equal) == (3, selftest.LEAST_EQUAL)
    np.testing.assert_array_equal(kept.labels, [right(image) for image in images])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], selftest.make_images(CARD, seed=4)[0])
    for broken in (b"", b"{}", b'{"schema": 2}\n', b'{"schema": 1, "seed": 0, "shape": [9], "least_equal": 1}\nx'):
        with pytest.raises(ModelError, match="self-test"):
            selftest.SelfTest.from_bytes(broken)


def test_importing_loads_no_interpreter() -> None:
    code = "import sys, unetres_edge; print([n for n in ('ai_edge_litert', 'openvino', 'dask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "[]\n"
