"""What the processor can do, and TensorFlow's log as it is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keras_unetres.machine.processor import count_cores, cpu_flags

ROOT = Path(__file__).resolve().parents[1]
LOG = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1796003220.720836   27486 port.cc:153] oneDNN custom operations are on.
2026-11-30 01:02:03.456789: I external/local_xla/xla/cudart_stub.cc:31] Could not find cuda drivers
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.
"""
OWN = "a line of the module itself\n"


def load(folder: Path, code: str, ending: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a Python whose TensorFlow is a module that writes a log and then does what `ending` says."""
    package = folder / "tensorflow"
    package.mkdir(parents=True)
    text = (
        f"import os\nos.write(2, {(LOG + OWN).encode()!r})\nhere = __spec__.loader.get_filename(__name__)\n{ending}\n"
    )
    (package / "__init__.py").write_text(text, encoding="utf-8")
    path = [str(folder), str(ROOT), str(ROOT / "edge" / "src")]
    return subprocess.run(
        [sys.executable, "-c", f"import os, sys\nsys.path[:0] = {path!r}\n{code}"],
        env={"PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


QUIET = "from keras_unetres.machine.tensorflow_log import quiet_tensorflow\nquiet_tensorflow()\nimport tensorflow\n"


def test_the_log_of_loading_is_held_and_other_lines_are_not(tmp_path: Path) -> None:
    done = load(tmp_path, QUIET + "print(os.environ['TF_CPP_MIN_LOG_LEVEL'], tensorflow.here)\nos.write(2, b'after')")
    assert done.stderr == OWN + "after"
    assert done.stdout.split() == ["3", str(tmp_path / "tensorflow" / "__init__.py")]


def test_all_of_the_log_is_shown_where_loading_fails(tmp_path: Path) -> None:
    done = load(tmp_path, QUIET, "raise ImportError('no such library')")
    assert done.returncode == 1
    assert done.stderr.startswith(LOG + OWN)
    assert "no such library" in done.stderr


def test_the_log_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    done = load(tmp_path, "os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'\n" + QUIET)
    assert done.stderr == LOG + OWN


def test_a_closed_descriptor_holds_nothing(tmp_path: Path) -> None:
    done = load(tmp_path, "os.close(2)\n" + QUIET.replace("import tensorflow", "print(1)"))
    assert (done.returncode, done.stdout) == (0, "1\n")


@pytest.mark.parametrize("name", ["train", "Dice"])
def test_a_public_name_keeps_the_log_away(tmp_path: Path, name: str) -> None:
    code = f"import keras_unetres as ku\ntry:\n    ku.{name}\nexcept Exception:\n    pass\nimport tensorflow"
    assert LOG.splitlines()[1] not in load(tmp_path, code).stderr


@pytest.mark.slow
def test_tensorflow_itself_writes_nothing() -> None:
    code = "import keras_unetres as ku\nku.build_unet((32, 32, 1), 2, filters=2)\nimport tensorflow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor : 0\nflags\t\t: fpu avx512_bf16 avx\n\nprocessor : 1\nflags : other\n",
            {"fpu", "avx512_bf16", "avx"},
        ),
        ("Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("model name : x\n", set()),
        (None, set()),
    ],
    ids=["x86", "Arm", "says nothing", "no such file"],
)
def test_flags_are_those_of_the_first_processor(tmp_path: Path, text: str | None, flags: set[str]) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert cpu_flags(file) == flags


def test_there_is_a_core() -> None:
    assert count_cores() >= 1
