"""`unetres serve-demo` shows the runtime's page."""

from __future__ import annotations

from pathlib import Path

import pytest

import unetres_edge.web
from keras_unetres.cli import main
from keras_unetres.workflows import web

GOLDEN = Path(__file__).resolve().parents[1] / "edge" / "tests" / "golden" / "web_cells.tflite"


def test_a_missing_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-demo", f"{tmp_path / 'none.tflite'}", "--no-browser"]) == 5
    assert "no such model file" in capsys.readouterr().err


def test_the_options_reach_the_server_of_the_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        web, "serve", lambda model, **options: asked.append((model, options["port"], options["litert"]))
    )
    assert main(["serve-demo", f"{GOLDEN}", "--no-browser", "--port", "8123", "--litert", f"{tmp_path}"]) == 0
    assert asked == [(f"{GOLDEN}", 8123, f"{tmp_path}")]
    assert web.write_web is unetres_edge.web.write_web
