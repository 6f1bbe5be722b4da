"""Who may import whom, read from the syntax trees of every module; and what an import must not pull in.

Each rule is a function from a folder to a list of faults. It is held against this repository, where it must find none,
and against a folder with one planted violation, where it must find that one.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"keras_unetres": Path(), "unetres_edge": Path("edge/src")}

# From the top down. A room imports rooms of the levels below its own.
LEVELS = (
    ("__main__",),
    ("cli",),
    ("workflows",),
    ("painting",),
    ("planning", "verify", "trust"),
    ("tasks",),
    ("doctor", "quantization", "tflite", "training"),
    ("pages",),
    ("scores",),
    ("runs",),
    ("settings",),
    ("weights",),
    ("data", "models", "objects"),
    ("choices", "machine"),
)
DEPTH = {room: depth for depth, rooms in enumerate(LEVELS) for room in rooms}

# Where a package may be imported, as module names; a name stands for everything inside it. Every line that covers an
# import holds: export reads and writes the flatbuffer with LiteRT's schema, but runs no interpreter.
ALLOWED = {
    "ai_edge_litert": ("keras_unetres.tflite", "unetres_edge.engines", "unetres_edge.latency"),
    "ai_edge_litert.compiled_model": ("unetres_edge.engines.accelerator",),
    "ai_edge_litert.interpreter": (
        "unetres_edge.engines.litert",
        "unetres_edge.engines.probe",
        "unetres_edge.latency.graph",
        "unetres_edge.latency.measure",
    ),
    "tensorflow": (
        "keras_unetres.quantization.tfmot",
        "keras_unetres.data",
        "keras_unetres.tflite",
        "keras_unetres.training.boards",
        "keras_unetres.training.compilation",
        "keras_unetres.training.depthwise",
        "keras_unetres.training.distribution",
        "keras_unetres.training.fit",
        "keras_unetres.training.fused_norm",
        "keras_unetres.training.precise_norm",
        "keras_unetres.training.replicas",
    ),
    "tensorflow_model_optimization": ("keras_unetres.quantization.tfmot",),
    "tf_keras": ("keras_unetres.quantization.tfmot",),
}
TASKS_MAY_BE_NAMED = ("keras_unetres.choices.tasks", "keras_unetres.tasks", "unetres_edge.model.card")
WITHOUT_CIRCLES = tuple(SOURCES)
MODELS_MAY_IMPORT = {"keras", "keras_unetres", "numpy", "unetres_edge"}
EDGE_MAY_NOT_IMPORT = {"keras", "keras_unetres", "tensorflow", "tf_keras"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "unetres_edge": "keras-unetres-edge",
    "yaml": "pyyaml",
}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, the package it lives in, and its tree."""

    path: Path
    name: str
    package: str
    tree: ast.Module


@dataclass(frozen=True)
class Import:
    """One imported name in full: `from a.b import c` is `a.b.c`."""

    module: Module
    line: int
    target: str

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    def fault(self, why: str) -> str:
        return f"{self.module.name}:{self.line}: {self.target}: {why}"


@functools.cache
def read_modules(root: Path, package: str) -> tuple[Module, ...]:
    """Return every module of a package, sorted by path; parsed once for all rules."""
    return tuple(_parse(root, package))


def _parse(root: Path, package: str) -> Iterator[Module]:
    base = root / SOURCES[package]
    for path in sorted((base / package).rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(path, name, ".".join(parts[:-1]), ast.parse(path.read_text(encoding="utf-8"), str(path)))


@functools.cache
def find_imports(module: Module) -> tuple[Import, ...]:
    """Return every import in a module, at any depth, with relative ones and `import_module("...")` resolved."""
    return tuple(_walk(module))


def _walk(module: Module) -> Iterator[Import]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            package = module.package.split(".")
            parents = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(module, node.lineno, f"{source}.{alias.name}")
        elif isinstance(node, ast.Call) and name_of(node.func) in {"__import__", "import_module"}:
            match node.args:
                case [ast.Constant(value=str(name)), *_]:
                    yield Import(module, node.lineno, name)


def name_of(function: ast.expr) -> str:
    """Return the last part of the name by which a function is called."""
    match function:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def package_imports(root: Path, package: str) -> Iterator[Import]:
    for module in read_modules(root, package):
        yield from find_imports(module)


def all_imports(root: Path) -> Iterator[Import]:
    for package in SOURCES:
        yield from package_imports(root, package)


def is_inside(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def level_faults(root: Path) -> list[str]:
    """Rooms import downwards only, and never one on their own level; the package's `__init__` may name any of them."""
    faults = []
    for found in package_imports(root, "keras_unetres"):
        if found.top != "keras_unetres" or found.module.name == "keras_unetres":
            continue
        own = found.module.name.split(".")[1]
        other = (found.target.split(".") + [""])[1]
        if own not in DEPTH:
            faults.append(found.fault(f"{own} has no place in LEVELS"))
        elif other in ("", "*") or (other not in DEPTH and other != "__version__"):
            faults.append(found.fault("import it from the room where it lives"))
        elif other != own and other != "__version__" and DEPTH[other] <= DEPTH[own]:
            faults.append(found.fault(f"{own} may not import {other}"))
    return faults


def edge_faults(root: Path) -> list[str]:
    """The runtime knows nothing of the training side."""
    return [
        found.fault("unetres_edge may not import it")
        for found in package_imports(root, "unetres_edge")
        if found.top in EDGE_MAY_NOT_IMPORT
    ]


def place_faults(root: Path) -> list[str]:
    """Heavy packages are imported only where `ALLOWED` says."""
    return [
        found.fault(f"only {', '.join(places)} may import {package}")
        for found in all_imports(root)
        for package, places in ALLOWED.items()
        if is_inside(found.target, package) and not any(is_inside(found.module.name, place) for place in places)
    ]


def models_faults(root: Path) -> list[str]:
    """The builders are pure Keras."""
    return [
        found.fault("keras_unetres.models may not import it")
        for found in package_imports(root, "keras_unetres")
        if is_inside(found.module.name, "keras_unetres.models")
        and found.top not in MODELS_MAY_IMPORT | sys.stdlib_module_names
    ]


def circle_faults(root: Path) -> list[str]:
    """No file needs itself by way of others. Packages' `__init__`, which only pass names on, do not count."""
    faults = []
    for package in WITHOUT_CIRCLES:
        modules = {module.name: module for module in read_modules(root, package) if module.path.stem != "__init__"}
        needs = {name: {home(found.target, modules) for found in find_imports(modules[name])} for name in modules}
        for name in modules:
            reached, left = set[str](), {name}
            while left:
                left = {other for each in left for other in needs[each] if other in modules} - reached
                reached |= left
            if name in reached:
                faults.append(f"{name}: imports itself by way of {', '.join(sorted(reached - {name})) or 'itself'}")
    return faults


def home(target: str, modules: Container[str]) -> str:
    """Return the module in which an imported name lies: itself, or what it is imported from."""
    return target if target in modules else target.rpartition(".")[0]


def star_faults(root: Path) -> list[str]:
    return [found.fault("star import") for found in all_imports(root) if found.target.endswith(".*")]


def task_faults(root: Path) -> list[str]:
    """What differs between tasks is in their rows: nothing else asks whether a name is that of one of them."""
    return [
        f"{module.name}:{node.lineno}: {ast.unparse(node)}: ask the task's row"
        for package in SOURCES
        for module in read_modules(root, package)
        if not any(is_inside(module.name, place) for place in TASKS_MAY_BE_NAMED)
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Compare) and any(names_a_task(part) for part in [node.left, *node.comparators]))
        or (isinstance(node, ast.MatchValue) and names_a_task(node.value))
    ]


def names_a_task(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id in {"SEGMENT", "CLASSIFY"}
    return isinstance(node, ast.Constant) and node.value in ("segment", "classify")


def dependency_faults(root: Path) -> list[str]:
    """Every package that is imported is a declared dependency of the distribution that imports it."""
    faults = []
    for package, project in {"keras_unetres": root, "unetres_edge": root / "edge"}.items():
        declared = declared_dependencies(project / "pyproject.toml")
        for found in package_imports(root, package):
            distribution = DISTRIBUTIONS.get(found.top, found.top.lower().replace("_", "-"))
            if found.top not in sys.stdlib_module_names | {package} and distribution not in declared:
                faults.append(found.fault(f"{distribution} is not a declared dependency"))
    return faults


def declared_dependencies(pyproject: Path) -> set[str]:
    """Return the normalized names of the dependencies and the optional ones, development tools apart."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    lists = [project["dependencies"], *(names for extra, names in extras.items() if extra != "dev")]
    names = [re.match(r"[\w.-]+", line) for lines in lists for line in lines]
    return {name.group().lower().replace("_", "-") for name in names if name}


def export_faults(root: Path) -> list[str]:
    """`__all__` is one sorted literal; every name in it is defined, unless the module has a `__getattr__`."""
    faults = []
    for module in (module for package in SOURCES for module in read_modules(root, package)):
        defined = defined_names(module.tree.body)
        if "__all__" not in defined:
            continue
        values = [ast.unparse(node.value) for node in module.tree.body if is_export_list(node)]
        try:
            names = [str(name) for value in values for name in ast.literal_eval(value)]
        except ValueError:
            faults.append(f"{module.name}: __all__ is not a literal")
            continue
        if len(values) != 1 or names != sorted(set(names)):
            faults.append(f"{module.name}: __all__ is not one sorted list, expected {sorted(set(names))}")
        missing = sorted(set(names) - defined)
        if missing and "__getattr__" not in defined:
            faults.append(f"{module.name}: __all__ has names that do not exist: {missing}")
    return faults


def is_export_list(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def defined_names(statements: list[ast.stmt]) -> set[str]:
    """Return what a module's own statements bind, those inside `if`, `try` and `with` included."""
    names: set[str] = set()
    for node in statements:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case _:
                parts = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
                names.update(part.id for part in parts if isinstance(part.ctx, ast.Store))
                for block in ("body", "orelse", "finalbody"):
                    names.update(defined_names(getattr(node, block, [])))
                for handler in getattr(node, "handlers", []):
                    names.update(defined_names(handler.body))
    return names


RULES = (
    level_faults,
    edge_faults,
    place_faults,
    models_faults,
    circle_faults,
    star_faults,
    task_faults,
    dependency_faults,
    export_faults,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_this_repository_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(ROOT) == []


def test_the_levels_are_those_of_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (chain,) = re.findall(r"^    (cli > [^.]*?)\n\n", text, re.MULTILINE)
    levels = [tuple(rooms.split(" | ")) for rooms in re.split(r"\s+>\s+", chain)]
    assert [("__main__",), *levels] == [*LEVELS, ("unetres_edge",)]  # the first is a module that starts the command


def test_every_file_to_add_to_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## How to add") : text.index("## The runtime alone")]
    folder, files = Path(), []
    for word in re.findall(r"`([\w./]+\.(?:py|md|toml))`", section):
        folder = Path(word).parent if "/" in word else folder  # a bare name lies beside the file before it
        files.append(ROOT / (word if "/" in word or word == "pyproject.toml" else folder / word))
    assert len(files) > 20
    assert [file for file in files if file.stem not in ("NAME", "test_NAME") and not file.is_file()] == []


def test_every_module_is_read() -> None:
    for package, base in SOURCES.items():
        names = {module.name for module in read_modules(ROOT, package)}
        assert {package, f"{package}.cli"} <= names
        assert len(names) == len(list((ROOT / base / package).rglob("*.py")))


PLANTED = {
    "upwards": (level_faults, "keras_unetres/data/a.py", "from keras_unetres.workflows import train"),
    "upwards, relative": (level_faults, "keras_unetres/data/a.py", "from ..workflows.train import train"),
    "upwards, inside a function": (
        level_faults,
        "keras_unetres/runs.py",
        "def f():\n    import keras_unetres.training.fit",
    ),
    "upwards, by name": (
        level_faults,
        "keras_unetres/runs.py",
        "import importlib\nimportlib.import_module('keras_unetres.cli')",
    ),
    "sideways": (level_faults, "keras_unetres/tflite/a.py", "from ..training import losses"),
    "sideways, from an __init__": (level_faults, "keras_unetres/models/__init__.py", "from .. import data"),
    "by the front door": (level_faults, "keras_unetres/scores/a.py", "from keras_unetres import build_unet"),
    "unknown room": (level_faults, "keras_unetres/utils.py", "from .data import a"),
    "edge imports training": (edge_faults, "edge/src/unetres_edge/a.py", "from keras_unetres import runs"),
    "edge imports keras": (edge_faults, "edge/src/unetres_edge/a.py", "import keras.ops"),
    "litert beside the engine": (place_faults, "edge/src/unetres_edge/a.py", "import ai_edge_litert"),
    "litert in scores": (
        place_faults,
        "keras_unetres/scores/a.py",
        "from ai_edge_litert.tools import flatbuffer_utils",
    ),
    "interpreter in tflite": (place_faults, "keras_unetres/tflite/a.py", "from ai_edge_litert import interpreter"),
    "tensorflow in losses": (place_faults, "keras_unetres/training/losses.py", "import tensorflow as tf"),
    "tensorflow in a neighbour of fit": (place_faults, "keras_unetres/training/fits.py", "import tensorflow"),
    "tf_keras in tflite": (place_faults, "keras_unetres/tflite/a.py", "def f():\n    import tf_keras"),
    "scipy in models": (models_faults, "keras_unetres/models/a.py", "from scipy import ndimage"),
    "a circle of one": (circle_faults, "keras_unetres/models/a.py", "def f():\n    from . import a"),
    "star": (star_faults, "keras_unetres/models/a.py", "from .blocks import *"),
    "a task by its name": (task_faults, "keras_unetres/data/a.py", "b = [] if c.task == 'classify' else [1]"),
    "a task by its row's name": (task_faults, "keras_unetres/data/a.py", "b = a.task != SEGMENT.name"),
    "a task that is matched": (
        task_faults,
        "keras_unetres/data/a.py",
        "match a.task:\n    case 'segment':\n        b = 1",
    ),
    "undeclared": (dependency_faults, "edge/src/unetres_edge/a.py", "import pandas.io"),
    "unsorted": (export_faults, "keras_unetres/a.py", "b = a = 1\n__all__ = ['b', 'a']"),
    "repeated": (export_faults, "keras_unetres/a.py", "a = 1\n__all__ = ['a', 'a']"),
    "not defined": (export_faults, "keras_unetres/a.py", "a = 1\n__all__ = ['a', 'b']"),
    "not a literal": (export_faults, "keras_unetres/a.py", "a = 1\n__all__ = list('a')"),
}


@pytest.mark.parametrize(("rule", "path", "source"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(
    rule: Callable[[Path], list[str]], path: str, source: str, tmp_path: Path
) -> None:
    plant(tmp_path, path, source)
    assert len(rule(tmp_path)) == 1


def test_a_circle_of_files_is_found(tmp_path: Path) -> None:
    for name, source in (("a", "from .b import f"), ("b", "def f():\n    from . import c"), ("c", "from .a import g")):
        plant(tmp_path, f"keras_unetres/models/{name}.py", source)
    plant(tmp_path, "keras_unetres/models/d.py", "from .a import g")
    assert [fault.partition(":")[0] for fault in circle_faults(tmp_path)] == [
        f"keras_unetres.models.{m}" for m in "abc"
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("keras_unetres/cli/a.py", "from ..workflows import train\nfrom keras_unetres import __version__"),
        ("keras_unetres/workflows/a.py", "from ..tflite import seal\nfrom ..data import read\nfrom .b import c"),
        ("keras_unetres/tflite/a.py", "import tensorflow as tf\nfrom ai_edge_litert.tools import flatbuffer_utils"),
        ("keras_unetres/training/fit.py", "import tensorflow as tf\nfrom .losses import loss"),
        ("keras_unetres/models/__init__.py", "from .unet import build_unet\n__all__ = ['build_unet']"),
        (
            "edge/src/unetres_edge/engines/litert.py",
            "from ai_edge_litert.interpreter import Interpreter\nfrom ..model import a",
        ),
        ("keras_unetres/__init__.py", "def __getattr__(name): ...\n__all__ = ['build_unet']"),
        ("keras_unetres/runs.py", "try:\n    import numpy as a\nexcept ImportError:\n    a = None\n__all__ = ['a']"),
    ],
)
def test_what_is_allowed_is_not_a_fault(path: str, source: str, tmp_path: Path) -> None:
    plant(tmp_path, path, source)
    assert [fault for rule in RULES for fault in rule(tmp_path)] == []


def plant(root: Path, path: str, source: str) -> None:
    """Write one module into an otherwise empty tree that declares the dependencies of this one."""
    for project in ("pyproject.toml", "edge/pyproject.toml"):
        (root / project).parent.mkdir(parents=True, exist_ok=True)
        (root / project).write_bytes((ROOT / project).read_bytes())
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source + "\n", encoding="utf-8")


@pytest.mark.parametrize("package", SOURCES)
def test_every_public_name_loads(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running some code."""
    report = "import sys; print('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines()[-1].removeprefix("loaded: ").split())


HELP = """
import sys
from keras_unetres.cli import main
sys.argv = ["unetres", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


# Before a training reads its data, so that faults of these are named at once; the page for painting, whose pictures
# nobody trains on yet.
LIGHT = ("import keras_unetres", "import keras_unetres.workflows.train", "import keras_unetres.workflows.annotate")


@pytest.mark.parametrize("code", [*LIGHT, HELP], ids=[*LIGHT, "unetres --help"])
def test_the_package_and_its_help_load_no_tensorflow(code: str) -> None:
    loaded = loaded_after(code)
    assert "keras_unetres" in loaded
    assert loaded.isdisjoint({"keras", "tensorflow"})


def test_the_runtime_loads_nothing_of_the_training_side() -> None:
    loaded = loaded_after(
        "from unetres_edge.engines import probe, table\nfrom unetres_edge import Classifier, Segmenter"
    )
    assert "ai_edge_litert" in loaded
    assert loaded.isdisjoint(EDGE_MAY_NOT_IMPORT)


@pytest.mark.parametrize("code", ["import unetres_edge", "import unetres_edge.cli", "import keras_unetres"])
def test_an_import_alone_loads_no_arrays_and_no_interpreter(code: str) -> None:
    assert loaded_after(code).isdisjoint({"PIL", "ai_edge_litert", "numpy", "tifffile"})


def test_loaded_after_sees_what_is_loaded() -> None:
    assert "wave" in loaded_after("import wave")
    assert "wave" not in loaded_after("pass")


def test_every_old_name_of_a_module_finds_one() -> None:
    """Scripts that were written for the first layout run on."""
    moved = importlib.import_module("keras_unetres")._MOVED
    assert len(moved) > 30
    for old in (*moved, "keras_unetres.export.seal"):
        with pytest.warns(DeprecationWarning, match=re.escape(old)):
            sys.modules.pop(old, None)
            importlib.import_module(old)
