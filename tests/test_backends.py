"""The table of networks on the other backends of Keras, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest

import keras_unetres as ku
from keras_unetres.cli import main
from unetres_edge.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.backend
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_every_network_on(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; pip install {backend} to run the networks on it")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_networks.py"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_backend_that_is_not_installed_is_named_with_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["inspect", "none.keras"]) == 2
    assert "export KERAS_BACKEND=tensorflow, or pip install jax" in capsys.readouterr().err
    with pytest.raises(UsageError, match="export KERAS_BACKEND=tensorflow"):
        ku.__getattr__("build_unet")


def test_what_is_made_with_tensorflow_alone_is_refused_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    pre = ku.Preprocessing(channels=1, size=(16, 16))
    model: Any = object()  # is not looked at
    for call in (
        lambda: ku.quantize_aware(model, None),
        lambda: ku.export_tflite(model, tmp_path / "m.tflite", preprocessing=pre),
        lambda: ku.quantize(model, tmp_path / "run"),
    ):
        with pytest.raises(UsageError, match=r'model.save\("own.keras"\).*KERAS_BACKEND=tensorflow unetres export'):
            call()
