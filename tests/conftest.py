"""What several files of tests share, each made once: drawn cells, a run trained on them, and files exported from it."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from keras_unetres.runs import RunInfo

try:
    import fcntl
except ImportError:  # Windows: there each process makes its own
    fcntl = None  # type: ignore[assignment]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LONGEST = (
    "test_written_models.py",
    "test_posted_models.py",
    "test_docs.py",
    "test_own_models.py",
    "test_weights.py",
    "test_networks.py",
    "test_networks_export.py",
    "test_distribution.py",
    "test_fit.py",
    "test_check.py",
    "test_losses.py",
    "test_quantize_own.py",
    "test_fake_quant.py",
    "test_channels.py",
    "test_kills.py",
    "test_catalog.py",
    "test_quantize.py",
    "test_notebooks.py",
    "test_train_data.py",
    "test_refine.py",
    "test_mixed.py",
    "test_augment.py",
    "test_gate.py",
    "test_plan.py",
    "test_formats.py",
    "test_resnet.py",
    "test_workflows.py",
    "test_classify.py",
    "test_bridge.py",
    "test_readme.py",
)

TINY = {"size": 32, "filters": 4, "depth": 2, "batch": 8, "epochs": 3, "dropout": 0.1, "learning_rate": 0.01, "seed": 3}
TINY["plan"] = False  # what these settings leave open has fixed values


def pytest_configure(config: pytest.Config) -> None:
    """Let XLA optimise little and compile a graph once, for all the processes of a run of quick or slow tests.

    A training of a few steps spends its time in the compiler. The long tests run what users run.
    """
    if "not long" not in config.option.markexpr or "XLA_FLAGS" in os.environ or "TF_XLA_FLAGS" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="unetres-xla-")
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={folder}"
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest first, so that no worker is left alone with one at the end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def silent(line: str) -> None:
    """Take a line for the user and print nothing."""


def run_info() -> RunInfo:
    """Return what `run.json` says of a run of a small U-Net that has a plan."""
    from keras_unetres.data import Reading
    from keras_unetres.runs import ClassInfo, DataInfo, ModelInfo, Plan, RunInfo
    from keras_unetres.settings import TrainSettings
    from unetres_edge import Preprocessing

    return RunInfo(
        model=ModelInfo("build_unet", {"input_shape": [32, 32, 1], "num_classes": 2}),
        classes=ClassInfo(("background", "cell"), ((0, 0, 0), (220, 60, 60))),
        preprocessing=Preprocessing(channels=1, size=(32, 32)),
        reading=Reading(),
        data=DataInfo("cells", "0" * 64, {"train": ("a.png",), "val": ("b.png",)}),
        settings=TrainSettings().to_dict(),
        augment="none",
        plan=Plan(3, 4, 1, 2, 0.01),
        seed=3,
    )


@pytest.fixture
def real_converter() -> Iterator[None]:
    """Start the converter's process anew: it is what the test is about."""
    from keras_unetres.tflite import converter_process

    converter_process.end()
    yield
    converter_process.end()


@pytest.fixture(scope="module")
def without_xla() -> Iterator[None]:
    """Train without XLA, where a test is about something else: to compile a step takes longer than all steps."""
    from keras_unetres.training import fit

    compile_model = fit.compile_model

    def compile_quickly(*given: Any, xla: bool = False, **named: Any) -> None:
        compile_model(*given, xla=False, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "compile_model", compile_quickly)
        yield


Once = Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Once]:
    """Make a folder by a name, once for all the processes of a run; return it and what its maker returned.

    Tests copy what they want to change: at the end of the session the folders must be as they were made.
    """
    root = tmp_path_factory.getbasetemp()
    if fcntl is not None and "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    used: dict[Path, dict[str, str]] = {}

    def make_once(name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
        folder, done = root / "shared" / name, root / "shared" / f"{name}.pickle"
        folder.parent.mkdir(exist_ok=True)
        with done.with_suffix(".lock").open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                made = make(folder)
                done.write_bytes(pickle.dumps((made, digests(folder))))
        made, used[folder] = pickle.loads(done.read_bytes())
        return folder, made

    yield make_once
    for folder, before in used.items():
        assert digests(folder) == before, f"a test changed {folder}, which tests share"


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="session")
def cells(once: Once) -> Path:
    """A data set of 8 drawn pictures of 64 x 64: 6 to train on, 1 to validate on, 1 to test on."""
    from keras_unetres.data.synthetic import write_cells

    return once("cells", lambda folder: write_cells(folder / "cells", num_images=8, size=(64, 64)))[1]


@pytest.fixture(scope="session")
def trained(cells: Path, once: Once) -> tuple[Path, dict[str, Any]]:
    """A run folder trained for 3 epochs, and what `train` returned. Copy the folder before changing it."""

    def make(folder: Path) -> dict[str, Any]:
        from keras_unetres.settings import TrainSettings
        from keras_unetres.workflows.train import train

        return train(cells, folder / "run", TrainSettings.from_flat(TINY), say=silent)

    folder, told = once("trained", make)
    return folder / "run", told


@pytest.fixture(scope="session")
def run_folder(trained: tuple[Path, dict[str, Any]]) -> Path:
    """The run folder alone."""
    return trained[0]


@pytest.fixture(scope="session")
def float32_file(run_folder: Path, once: Once) -> Path:
    """The run as a float32 .tflite."""
    return once("float32", lambda folder: exported(run_folder, folder / "cells_float32.tflite", "float32"))[1]


@pytest.fixture(scope="session")
def int8_file(run_folder: Path, once: Once) -> Path:
    """The run as an int8 .tflite with logits."""
    return once("int8", lambda folder: exported(run_folder, folder / "cells_int8.tflite", "static_wi8_ai8"))[1]


def exported(run: Path, path: Path, recipe: str) -> Path:
    from keras_unetres.workflows.export import export

    export(run, path, recipe=recipe, gate=False, say=silent)
    return path
