"""Settings: what a field says of itself is what the command line, the checks, `run.json` and the guide say of it."""

from __future__ import annotations

import importlib.util
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from keras_unetres.cli import main
from keras_unetres.cli.table import COMMANDS, find_command, make_parser
from keras_unetres.settings import (
    AugmentSettings,
    ClusterSettings,
    DemoSettings,
    DistilSettings,
    EvaluateSettings,
    ExportSettings,
    FitSettings,
    InspectSettings,
    ModelsSettings,
    NetworkSettings,
    PredictCommand,
    PruneSettings,
    QuantizeSettings,
    ReportSettings,
    ServeDemoSettings,
    TrainCommand,
    TrainOptions,
    TrainSettings,
    flat_options,
)
from unetres_edge.command_line import given, help_of, option_words, path_word, read, usual, words_of
from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.settings import Option, Settings, all_options, get

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = [(name, option) for name in COMMANDS for option in all_options(find_command(name).settings)]
# `asdict` of the settings of version 0.1.0, as its `run.json` has them.
FLAT = json.loads(
    """
    {"size": 64, "network": "unet", "encoder": "resnet20", "weights": null, "filters": null, "depth": null,
    "residual": false, "upsampling": "transpose", "dropout": 0.0, "epochs": null, "minutes": 2.5, "batch": 4,
    "learning_rate": 0.001, "loss": "cross_entropy + dice", "optimizer": "adamw", "schedule": "cosine", "warmup": null,
    "weight_decay": 0.0001, "clip_norm": 1.0, "ema": null, "freeze_norm": 0.0, "deep_supervision": false,
    "patience": null, "checkpoint_seconds": 60.0, "tensorboard": false, "devices": 1, "seed": 0, "fit": "resize",
    "per_image": [1, 99], "channels": null, "augment": "auto", "class_weights": null, "border_weight": [10, 5],
    "balance": 0.0, "cache": "c", "masks_are": null, "target": null, "ignore": 255, "val_from": null, "test_from": null}
    """
)


def identify(value: Any) -> str:
    return value.word if isinstance(value, Option) else str(value)


def required(cls: type[Settings]) -> list[str]:
    """Return words that give a command what it cannot do without."""
    words = []
    for option in all_options(cls):
        if option.default is MISSING:
            words += ["x"] if option.setting.positional else [option.word, "x"]
    return words


def parse(name: str, words: list[str]) -> Any:
    return read(find_command(name).settings, make_parser(name).parse_args([name, *words]))


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=identify)
def test_a_field_says_what_it_is(name: str, option: Option) -> None:
    assert option.setting.help
    assert not option.setting.help.endswith(".")
    assert option.default is MISSING or option.check(option.default) == option.default
    if option.kind.item in (int, float) and option.setting.values is None:
        assert option.setting.least is not None or option.setting.above is not None
        assert option.setting.most is not None or option.setting.below is not None


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_text_is_that_of_the_fields(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    text = "".join(capsys.readouterr().out.split())
    for option in all_options(find_command(name).settings):
        assert option.word in text or option.setting.positional
        assert "".join(help_of(option).split()) in text
        for former in option.setting.former:
            assert former not in text
    assert "".join(f"example: {find_command(name).example}".split()) in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_defaults_of_the_command_line_are_those_of_the_class(name: str) -> None:
    cls = find_command(name).settings
    parsed = parse(name, required(cls))
    for option in all_options(cls):
        if option.default is not MISSING:
            assert get(parsed, option) == option.default


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_a_command_line(name: str) -> None:
    words = shlex.split(find_command(name).example)
    assert words[:2] == ["unetres", name]
    parse(name, words[2:])


def wrong_values(option: Option) -> list[Any]:
    """Return values that a field does not take, whatever else it takes."""
    setting, item = option.setting, option.kind.item
    if setting.values is not None:
        return ["unheard-of" if item is str else 7]
    if item is bool:
        return [1, "yes"]
    if item is str:
        return [3, b"x"]
    wrong: list[Any] = [math.nan, math.inf, -math.inf, "three", True]
    wrong += [1.5] if item is int else []
    wrong += [setting.least - 1] if setting.least is not None else []
    wrong += [setting.above] if setting.above is not None else []
    wrong += [setting.most + 1] if setting.most is not None else []
    wrong += [setting.below] if setting.below is not None else []
    return wrong


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=identify)
def test_a_wrong_value_is_refused_by_name(name: str, option: Option) -> None:
    for value in wrong_values(option):
        whole = value if option.kind.count == 1 else (value,) * (option.kind.count or 1)
        with pytest.raises(UsageError) as error:
            option.check(whole)
        assert option.word in error.value.message
        assert error.value.expected == option.expected
    if option.kind.count > 1:
        with pytest.raises(UsageError, match=option.word):
            option.check((1,) * (option.kind.count + 1))
    if not option.kind.optional:
        with pytest.raises(UsageError, match=option.word):
            option.check(None)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("train d --out r --network resnet51", "--network is unknown"),
        ("train d --out r --encoder vgg16", "--encoder is unknown"),
        ("train d --out r --loss dize", "no such loss"),
        ("train d --out r --loss nan*dice", "no such loss"),
        ("train d --out r --learning-rate nan", "--learning-rate is wrong; expected a number, above 0, at most 1000"),
        ("train d --out r --minutes inf", "--minutes is wrong"),
        ("train d --out r --epochs three", "--epochs is wrong; expected a whole number, 1 to 1000000; found three"),
        ("train d --out r --per-image 1 many", "--per-image is wrong; expected 2 numbers, 0 to 100"),
        ("train d --out r --epochs 3 --minutes 2", "--epochs and --minutes exclude each other"),
        ("train d --out r --border-weight 10", "--border-weight is wrong; expected 2 numbers"),
        ("train d --out r --border-weight 10 0", "--border-weight is wrong"),
        ("train d --out r --network resnet50 --encoder resnet50", "--encoder is an option of segmenters"),
        ("check d --rehash --no-hashes", "exclude each other"),
        ("augment d --out s.png --augment some", "--augment is unknown; expected auto or none"),
        ("quantize r --out q --engine other", "--engine is unknown; expected native or tfmot"),
        ("export r --out m.tflite --recipe int3", "--recipe is unknown; expected float32 or"),
        ("export r --out m.tflite --head none", "--head is unknown"),
        ("export r --out m.tflite --max-drop 101", "--max-drop is wrong; expected a number, 0 to 100"),
        ("export r --out m.tflite --size 1 2 3", "--size is wrong; expected 1 or 2 whole numbers"),
        ("export r --out m.tflite --mean 0.5", "without a card: --mean"),
        ("evaluate m d --split some", "--split is unknown"),
        ("evaluate m d --tta some", "--tta is unknown"),
        ("evaluate m d --min-size 3", "no objects are asked for"),
        ("predict m i --out o --overlap -1", "--overlap is wrong"),
        ("serve-demo m --port 70000", "--port is wrong; expected a whole number, 0 to 65535"),
    ],
)
def test_a_wrong_option_ends_the_command(words: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(words)) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: usage: ")
    assert error in line


LATE = """
import sys
from keras_unetres.cli import main
for words in {commands!r}:
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    heavy = {{"keras", "tensorflow", "scipy", "skimage"}} & set(sys.modules)
    assert code == {code} and not heavy, (words, code, heavy)
"""


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        ([[name, "--help"] for name in COMMANDS], 0),
        (
            [
                ["train", "d", "--out", "r", "--network", "resnet51"],
                ["train", "d", "--out", "r", "--loss", "dize"],
                ["export", "r", "--out", "m.tflite", "--recipe", "int3"],
                ["export", "r", "--out", "m.tflite", "--head", "none"],
                ["quantize", "r", "--out", "q", "--engine", "other"],
                ["augment", "d", "--out", "s.png", "--augment", "some"],
            ],
            2,
        ),
    ],
    ids=["help", "wrong"],
)
def test_help_and_wrong_options_load_nothing_heavy(commands: list[list[str]], code: int) -> None:
    script = LATE.format(commands=commands, code=code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_option_of_an_earlier_version_is_taken_and_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("evaluate", ["m", "d", "--turns", "flips"]) == parse("evaluate", ["m", "d", "--tta", "flips"])
    assert capsys.readouterr().err == "note: --turns is now --tta; the old name goes with the next version\n"


def test_options_without_a_value_and_with_one_for_two() -> None:
    assert parse("train", ["--border-weight"]).settings.data.border_weight == (10, 5)
    assert parse("train", ["--border-weight", "8", "4"]).settings.data.border_weight == (8, 4)
    assert (parse("train", ["--resume"]).resume, parse("train", ["--resume", "r"]).resume) == ("", "r")
    assert parse("predict", ["m", "i", "j", "--out", "o", "--instances"]).instances == "tif"
    assert parse("predict", ["m", "i", "j", "--out", "o"]).images == ("i", "j")
    assert parse("models", ["--size", "64"]).size == (64, 64)
    assert parse("models", ["--size", "64", "32"]).size == (64, 32)
    assert not parse("export", ["r", "--out", "m.tflite", "--no-gate"]).scoring.gate


def test_what_was_named_is_known_though_it_is_the_default() -> None:
    options = make_parser("train").parse_args(["train", "--resume", "r", "--batch", "4"])
    assert given(TrainCommand, options) == {("resume",): "r", ("settings", "fit", "batch"): 4}


CHANGED = TrainSettings.from_flat({**FLAT, "residual": True, "clip_norm": 2.5, "val_from": "*a b*", "devices": 2})


def test_words_make_the_same_settings_again() -> None:
    parsed = parse("train", ["d", "--out", "r", *words_of(CHANGED)])
    assert parsed.settings == CHANGED
    assert words_of(TrainSettings()) == []


def test_values_that_look_like_options_are_written_so_that_they_are_read() -> None:
    assert option_words("--output", ["-mask"]) == ["--output=-mask"]
    assert option_words("--value-range", ["-1", "1"]) == ["--value-range", "-1", "1"]
    assert option_words("--border-weight", ["-1e-05"]) == ["--border-weight=-1e-05"]
    assert (
        parse(
            "train", ["d", *option_words("--out", ["-r"]), *option_words("--val-from", ["-1*"])]
        ).settings.data.val_from
        == "-1*"
    )
    assert [path_word(path) for path in ("-a.keras", "a-b.keras")] == ["./-a.keras", "a-b.keras"]
    assert option_words("--out", ["a-b"]) == ["--out", "a-b"]


def test_settings_are_kept_by_section_and_read_from_either_form() -> None:
    assert TrainSettings.from_dict(json.loads(json.dumps(CHANGED.to_dict()))) == CHANGED
    assert set(CHANGED.to_dict()) == {"network", "fit", "data", "limits"}
    read_again = TrainSettings.from_dict(FLAT)
    options = flat_options()
    assert json.loads(json.dumps({name: get(read_again, options[name]) for name in FLAT})) == FLAT
    # It was trained with fixed values, and with the averages of BatchNormalization.
    assert not read_again.fit.plan
    assert read_again.fit.norm_statistics == "moving"
    for name in options.keys() - FLAT.keys() - {"plan", "norm_statistics"}:  # of later versions
        assert get(read_again, options[name]) == options[name].default


@pytest.mark.parametrize("values", [{**FLAT, "colour": 1}, {"fit": {"colour": 1}}], ids=["flat", "by section"])
def test_settings_of_another_version_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RunFolderError, match="settings of another version: .*colour"):
        TrainSettings.from_dict(values, file="run")


def test_flat_keywords_are_taken() -> None:
    nested = TrainSettings(NetworkSettings(size=64, fit="resize"), FitSettings(batch=8))
    assert TrainOptions(size=64, batch=8, fit="resize") == nested
    with pytest.raises(TypeError, match="colour"):
        TrainOptions(colour=1)
    with pytest.raises(UsageError, match="the setting is unknown"):
        TrainSettings().with_flat({"colour": 1})


def test_functions_have_the_defaults_of_the_settings() -> None:
    from keras_unetres.models import build_unet
    from keras_unetres.quantization import quantize_aware
    from keras_unetres.workflows import augment, compress, demo, evaluate, export, inspect, models, predict, web
    from keras_unetres.workflows.distil import distil
    from keras_unetres.workflows.quantize import quantize
    from keras_unetres.workflows.report import report

    doors: list[tuple[Callable[..., Any], type[Settings]]] = [
        (augment.augment, AugmentSettings),
        (build_unet, NetworkSettings),
        (compress.cluster, ClusterSettings),
        (demo.demo, DemoSettings),
        (distil, DistilSettings),
        (evaluate.evaluate, EvaluateSettings),
        (export.export, ExportSettings),
        (inspect.inspect, InspectSettings),
        (models.list_models, ModelsSettings),
        (predict.predict, PredictCommand),
        (compress.prune, PruneSettings),
        (quantize, QuantizeSettings),
        (quantize_aware, QuantizeSettings),
        (report, ReportSettings),
        (web.serve_demo, ServeDemoSettings),
    ]
    for function, cls in doors:
        inner_first = sorted(all_options(cls), key=lambda option: -len(option.path))
        options = {option.name: option for option in inner_first}
        defaults = {each.name: each.default for each in signature(function).parameters.values()}
        shared = {key for key in options.keys() & defaults.keys() if options[key].default is not MISSING}
        shared -= {"name", "filters", "depth"} if function is build_unet else set()
        assert shared
        assert {key: defaults[key] for key in shared} == {key: options[key].default for key in shared}, function


def test_the_page_of_options_is_that_of_the_settings() -> None:
    spec = importlib.util.spec_from_file_location("options_page", ROOT / "docs" / "options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/options.py"
    for _, option in OPTIONS:
        assert option.word in module.page()
        assert usual(option) == "" or option.default is not MISSING
