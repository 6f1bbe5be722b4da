"""Mutation testing of the modules that decide labels: which small faults would the quick tests let through?

    python benchmarks/mutation.py [--count 50] [--seed 0] [--only NAME ...] [--again] [--out FILE]

A mutant is the module with one change: a comparison, an operator, a constant, a condition, a bound of a slice, what is
returned, or a call that is left out. A seeded sample of each module's mutants is drawn, and the quick tests named for
the module run on each, up to the first failure. A mutant is killed if a test fails, if nothing can be imported, or if
the tests take much longer than before; those that survive then meet the slow tests of the same files as well. Some
survivors are no faults: they compute the same. Messages of errors, annotations and decorators are left alone.

All runs on a copy of the sources in a temporary folder. Every run is a fork of a process that has imported the
libraries but nothing of the package, so that TensorFlow is loaded once. Figures to results/mutation.json.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "mutation.json"
COPIED = ("edge", "keras_unetres", "tests", "pyproject.toml")
QUICK, SLOW = "not slow and not long", "slow and not long"
NO_TESTS = 5  # the status of pytest that selects none


Figures = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A module and the files of tests that touch it, the quickest first.

    Args:
        path: of the module, from the root.
        tests: files or folders of tests.
        within: names of the functions and classes that are changed; all, where there are none.
    """

    path: str
    tests: tuple[str, ...]
    within: tuple[str, ...] = ()


EDGE, KERAS = "edge/src/unetres_edge", "keras_unetres"


def edge(*names: str) -> tuple[str, ...]:
    """Return files of tests of the runtime."""
    return tuple(f"edge/tests/test_{name}.py" for name in names)


ROWS = {
    "card": Row(f"{EDGE}/model/card.py", edge("card", "cli_tools", "segmenter", "classifier")),
    "preprocessing": Row(f"{EDGE}/images/preprocessing.py", edge("preprocessing", "segmenter")),
    "tiles": Row(f"{EDGE}/segment/tiles.py", edge("unpadded", "segmenter", "large", "dask_maps")),
    "result": Row(f"{EDGE}/results/result.py", edge("result", "promise", "vector", "segmenter", "predict")),
    "vector": Row(f"{EDGE}/results/vector.py", edge("vector", "predict")),
    "confusion": Row(f"{KERAS}/scores/confusion.py", ("tests/test_evaluate.py", "tests/test_metrics.py")),
    "separate": Row(
        f"{EDGE}/objects/separate.py",
        ("edge/tests/test_objects.py", "tests/test_cells.py", "tests/test_instance_scores.py"),
    ),
    "targets": Row(f"{KERAS}/data/targets.py", ("tests/test_targets.py",)),
    "classes": Row(
        f"{KERAS}/data/classes.py", ("tests/test_dataset.py", "tests/test_arrays.py", "tests/test_check.py")
    ),
    "rounding": Row(
        f"{KERAS}/models/fake_quant.py",
        ("tests/test_fake_quant.py",),
        ("int8_range", "FakeQuant", "_QuantizedKernel", "_Requantized", "_QuantizedSum", "_round_to", "_to_whole"),
    ),
}


# ------------------------------------------------------------------------------------------------------------ mutants


@dataclass
class Mutant:
    """One change of a syntax tree: what stands in `owner.name` (at `index` of a list) becomes `new`."""

    owner: ast.AST
    name: str
    index: int | None
    old: ast.AST
    new: ast.AST
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = f"{_shown(self.old)} -> {_shown(self.new)}"

    @property
    def line(self) -> int:
        return getattr(self.old, "lineno", 0)

    @property
    def place(self) -> tuple[int, str]:
        """What tells it from others; equal constants of one line share it."""
        return self.line, self.text

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Change the tree, and change it back."""
        self._set(self.new)
        yield
        self._set(self.old)

    def _set(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.owner, self.name, node)
        else:
            getattr(self.owner, self.name)[self.index] = node


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def find_mutants(tree: ast.Module, within: tuple[str, ...] = ()) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    parts = [node for node in tree.body if not within or getattr(node, "name", None) in within]
    return [
        Mutant(owner, name, index, node, new)
        for part in parts
        for owner, name, index, node in _places(part)
        for new in _changes(node, name)
    ]


_LEFT_ALONE = {"annotation", "returns", "decorator_list", "type_params", "format_spec"}


def _places(owner: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    for name, value in ast.iter_fields(owner):
        if name in _LEFT_ALONE or isinstance(owner, ast.Raise | ast.JoinedStr):
            continue
        nodes = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, node in nodes:
            if isinstance(node, ast.AST):
                yield owner, name, index, node
                yield from _places(node)


_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


def _changes(node: ast.AST, name: str) -> Iterator[ast.AST]:
    """Return what a node may become."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            ops = [*node.ops[:place], _COMPARISONS[type(operator)](), *node.ops[place + 1 :]]
            yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _of_types(node):
        yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        yield ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value)
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Slice):
        one = ast.Constant(1)
        if node.lower is not None:
            yield ast.Slice(ast.BinOp(node.lower, ast.Add(), one), node.upper, node.step)
        if node.upper is not None:
            yield ast.Slice(node.lower, ast.BinOp(node.upper, ast.Sub(), one), node.step)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    elif name == "test" and isinstance(node, ast.Name | ast.Attribute | ast.Call):
        yield ast.UnaryOp(ast.Not(), node)


def _other_constants(value: object) -> list[ast.AST]:
    if isinstance(value, bool):
        return [ast.Constant(not value)]
    if isinstance(value, int):
        return [ast.Constant(value + 1), ast.Constant(value - 1)]
    return [ast.Constant(value * 2 if value else 1.0)] if isinstance(value, float) else []


def _of_types(node: ast.BinOp) -> bool:
    """Whether this is a union of types, which nothing computes with."""
    return isinstance(node.op, ast.BitOr) and isinstance(node.right, ast.Constant) and node.right.value is None


# --------------------------------------------------------------------------------------------------------------- runs


def copy_sources(folder: Path) -> Path:
    """Copy what the tests need, without what was built or installed."""
    ignore = shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info", ".hypothesis")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def preload(path: str) -> None:
    """Import the libraries that the tests of a module need, for all the forks to come."""
    names = ["pytest", "hypothesis", "numpy", "PIL.Image", "tifffile", "ai_edge_litert.interpreter"]
    if path.startswith(KERAS):
        names += ["keras", "tensorflow", "scipy.ndimage", "skimage.segmentation", "sklearn.metrics"]
    for name in names:
        importlib.import_module(name)


def fails(folder: Path, tests: tuple[str, ...], marks: str, seconds: float) -> tuple[str | None, float]:
    """Run tests in a fork; return the name of the first that fails, "timeout", or None where all pass, and seconds.

    Seconds are those of the processor, so that another program beside it kills no mutant; five times as many may pass.
    """
    log = folder / "log.txt"
    child = os.fork()
    if child == 0:
        _run(folder, tests, marks, log)
    end, used = time.monotonic() + 5 * seconds, 0.0
    while time.monotonic() < end and used < seconds:
        used = _processor_seconds(child) or used
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            lines = log.read_text(errors="replace").splitlines()
            named = [line.split(" ")[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
            passed = os.waitstatus_to_exitcode(status) in (0, NO_TESTS)
            return None if passed else (named or [f"status {status}"])[0], used
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", used


def _processor_seconds(process: int) -> float:
    """Return what a process and those that it waited for have used, in s of a processor; 0 once it is gone."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


def _run(folder: Path, tests: tuple[str, ...], marks: str, log: Path) -> None:
    """Be the fork: run pytest in the copy and end without a word."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        with log.open("w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(folder / "edge" / "src")])
        sys.path[:0] = [str(folder), str(folder / "edge" / "src")]
        import pytest

        options = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", marks, "--basetemp=temp"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # the libraries are there already
        status = int(pytest.main([*options, *tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def measure(name: str, folder: Path, count: int, seed: int, before: Figures | None) -> Iterator[Figures]:
    """Run the tests of a module on a sample of its mutants; yield the figures after each.

    Args:
        before: figures of an earlier run, of which the survivors alone are run again.
    """
    row = ROWS[name]
    preload(row.path)
    file = folder / row.path
    source = file.read_text()
    failed, seconds = fails(folder, row.tests, QUICK, 900)
    if failed is not None:
        raise SystemExit(f"{name}: without any change {failed} fails:\n{(folder / 'log.txt').read_text()[-3000:]}")
    tree = ast.parse(source)
    every = find_mutants(tree, row.within)
    chosen = random.Random(f"{seed} {name}").sample(every, min(count, len(every)))
    if before is not None:
        known = {(survivor["line"], survivor["change"]) for survivor in before["survivors"]}
        chosen = [mutant for mutant in every if mutant.place in known]
        if {mutant.place for mutant in chosen} != known:
            raise SystemExit(f"{name}: the module has changed since; draw a new sample")
    survivors: list[dict[str, Any]] = []
    for number, mutant in enumerate(chosen, start=1):
        with mutant.applied():
            file.write_text(ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree))) + "\n")
        by, _ = fails(folder, row.tests, QUICK, 30 + 3 * seconds)
        print(f"{name} {number}/{len(chosen)}  line {mutant.line}: {mutant.text}: {by or 'survives'}", flush=True)
        if by is None and mutant.place not in [(each["line"], each["change"]) for each in survivors]:
            slow, _ = fails(folder, row.tests, SLOW, 1200)
            survivors.append({"line": mutant.line, "change": mutant.text, "killed_by_a_slow_test": slow is not None})
        if before is None:
            yield figures_of(row, len(every), number, survivors)
    if before is not None:
        yield figures_of(row, len(every), before["mutants"], survivors)
    file.write_text(source)


def figures_of(row: Row, possible: int, mutants: int, survivors: list[dict[str, Any]]) -> Figures:
    """Return what is written of a module."""
    killed = mutants - len(survivors)
    return {
        "module": row.path,
        "possible": possible,
        "mutants": mutants,
        "killed": killed,
        "killed_percent": round(100 * killed / mutants, 1),
        "killed_with_slow": killed + sum(each["killed_by_a_slow_test"] for each in survivors),
        "survivors": [*survivors],
    }


def main() -> None:
    """Measure the modules, those of the runtime first, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--only", choices=ROWS, nargs="+", help="these modules; their figures replace those in the file"
    )
    parser.add_argument("--again", action="store_true", help="run what survived the last time, after tests were added")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    sys.dont_write_bytecode = True  # two mutants of one second and one size would pass for each other
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    modules = json.loads(options.out.read_text())["modules"] if options.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="unetres-mutation-") as name:
        folder = copy_sources(Path(name))
        for module in options.only or ROWS:
            before = modules[module] if options.again else None
            for figures in measure(module, folder, options.count, options.seed, before):
                modules[module] = figures
                total, killed = (sum(each[key] for each in modules.values()) for key in ("mutants", "killed"))
                result = {
                    "killed_percent": round(100 * killed / total, 1),
                    "modules": {each: modules[each] for each in ROWS if each in modules},
                }
                options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
