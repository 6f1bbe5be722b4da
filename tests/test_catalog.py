"""`unetres models`: names, costs, verdicts and pictures."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_unetres.cli import main
from keras_unetres.models import ENCODERS, build_fcn, build_resnet, build_unet, catalog
from keras_unetres.models.catalog import NETWORKS, cost, find_network, measure, multiply_adds, not_int8
from keras_unetres.pages.diagram import _boxes, draw_network
from keras_unetres.workflows.models import list_models
from unetres_edge.errors import UsageError

QUICK = ("resnet20",)
# Numbers of layers in their names: more of the same blocks, which take long to build.
DEEP = ("56", "101", "110", "152")


def test_every_encoder_is_listed_and_every_name_can_be_built() -> None:
    assert {name for name in ENCODERS if "efficientnet" not in name} < set(NETWORKS)
    assert {f"unet_{name}" for name in ENCODERS if "efficientnet" in name} < set(NETWORKS)
    assert {f"{kind}_resnet{depth}" for kind in ("unet", "fcn") for depth in (18, 34, 50, 101, 152)} < set(NETWORKS)
    assert len(ENCODERS) == 3 + 3 * 10 + 2
    for name, network in NETWORKS.items():
        assert network.name == name
    model = find_network("unet_resnet20_v2").build((32, 64))
    assert model.name == "unet_resnet20_v2"
    assert model.output_shape == (None, 32, 64, 2)


@pytest.mark.parametrize("name", ["unet_", "unet_vgg", "fcn", "fcn_efficientnet_lite0", "resnet51", "pspnet_resnet18"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="the network is unknown; expected unet, .*see: unetres models"):
        find_network(name)


def test_multiply_adds_by_hand() -> None:
    image = keras.Input((8, 12, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)  # 4 x 6 places
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)  # applied at 4 x 6 places
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(7)(x))
    by_hand = 4 * 6 * 9 * 3 * 4 + 4 * 6 * 9 * 4 + 4 * 6 * 4 * 4 * 5 + 5 * 7
    assert multiply_adds(model, (8, 12)) == by_hand


def test_multiply_adds_grow_with_the_size_of_an_open_network() -> None:
    model = build_unet((None, None, 3), filters=4, depth=2)
    assert multiply_adds(model, (32, 64)) == 8 * multiply_adds(model, (16, 16))
    with pytest.raises(UsageError, match="use 16 or 20"):
        multiply_adds(model, (16, 18))


def test_the_cost_of_a_network() -> None:
    figures = cost(find_network("resnet20").build(), (32, 32))
    assert figures.parameters == 269_722 + 2 * (16 * 7 + 32 * 6 + 64 * 6)
    # 1 stem, 3 x 6 convolutions by stage, all of about 2.36 M: half the places, twice the channels on both sides.
    same = 32 * 32 * 9 * 16 * 16
    assert figures.multiply_adds == 32 * 32 * 9 * 3 * 16 + 6 * same + (same // 2 + 5 * same) * 2 + 64 * 10
    assert figures.receptive_field == 1 + 2 * (1 + 6 * 1 + 1 * 1 + 5 * 2 + 1 * 2 + 5 * 4)
    assert [re.sub(r" .*", "", fault) for fault in figures.not_int8] == [
        "stage2_block1_shortcut_pool",
        "stage3_block1_shortcut_pool",
    ]


def test_what_is_not_int8_clean_is_named() -> None:
    small = {"input_shape": (32, 32, 1), "filters": 2, "depth": 2}
    assert not_int8(build_unet(**small, upsampling="nearest")) == ("decoder2_up (TILE)", "decoder1_up (TILE)")
    assert not_int8(build_unet(**small, upsampling="bilinear", residual=True)) == ()
    assert not_int8(build_fcn((32, 32, 1), encoder="resnet18")) == ()
    assert not_int8(build_resnet(20, variant="plain")) == ()


def test_the_command_lists_one_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert main(["models", "unet_resnet20", "--size", "64", "96", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    (row,) = json.loads(file.read_text())
    assert row["name"] == "unet_resnet20"
    assert row["size"] == [64, 96]
    model = build_unet((64, 96, 3), encoder="resnet20")
    assert row["parameters"] == model.count_params()
    assert row["multiply_adds"] == multiply_adds(model, (64, 96))
    line = next(line for line in printed.splitlines() if line.startswith("unet_resnet20 "))
    assert f"{row['parameters'] / 1e6:.2f}" in line
    assert "no " in line
    assert "splits the int8 partition: stage2_block1_shortcut_pool (AVERAGE_POOL_2D" in printed
    assert "features (stride: channels)  1: 16, 2: 32, 4: 64" in printed
    assert "output (64, 96, 2), crop offset 0 px" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "the network is unknown"),
        (["unet2015", "--size", "256"], "use 252 or 268"),
        (["unet_resnet18", "--size", "100"], "use 96 or 128"),
        (["--plot", "a.png"], "name it: unetres models NAME"),
        (["resnet20", "--plot", "a.gif"], "expected .png or .svg or .pdf"),
        (["resnet20", "--size", "1", "2", "3"], "expected 1 or 2 whole numbers"),
    ],
)
def test_the_command_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_picture_of_the_papers_network_shows_its_maps() -> None:
    model = find_network("unet2015").build()
    boxes = _boxes(model)
    assert len(boxes) == 1 + 4 * 2 + 2 + 4 * 3 + 1
    assert [(box.size, box.channels) for box in boxes[:5]] == [(572, 1), (570, 64), (568, 64), (282, 128), (280, 128)]
    assert [(box.size, box.channels) for box in boxes[-4:]] == [(392, 128), (390, 64), (388, 64), (388, 2)]
    assert [box.copied for box in boxes if box.copied] == [0.5] * 4
    texts = re.findall(r"<!-- (.*?) -->", draw_network(model, "a.svg").decode())
    assert {"572²", "568²", "28²", "388²", "1024"} <= set(texts)
    assert any("31.03 M parameters" in text for text in texts)


@pytest.mark.parametrize(
    ("name", "blocks", "dashed"),
    [
        ("resnet20", 9, 2),
        ("resnet20_v2", 9, 2),
        ("plain20", 0, 0),
        ("unet_resnet18", 8, 3),
        pytest.param("fcn_resnet18", 8, 3, marks=pytest.mark.slow),
        pytest.param("unet_efficientnet_lite0", 9, 0, marks=pytest.mark.slow),
    ],
)
def test_the_picture_has_an_arc_over_every_residual_block(name: str, blocks: int, dashed: int) -> None:
    text = draw_network(find_network(name).build(), "a.svg").decode()
    curves = re.findall(r'<path d="M [^"]*?C [^"]*?"[^>]*#2171b5[^>]*>', text)
    assert len(curves) == blocks
    assert sum("dasharray" in curve for curve in curves) == dashed


def test_the_picture_counts_inverted_blocks() -> None:
    model = find_network("unet_efficientnet_lite0").build((64, 64))
    assert [box.name for box in _boxes(model)][2:5] == [
        "stage1_block1_project_norm",
        "stage2_block1_project_norm",
        "stage2_block2_add",
    ]
    texts = re.findall(r"<!-- (.*?) -->", draw_network(model, "a.svg").decode())
    assert [text for text in texts if "block" in text] == [
        *("stage 1: 1 block", "stage 2: 2 blocks", "stage 3: 2 blocks", "stage 4: 3 blocks", "stage 5: 3 blocks"),
        *("stage 6: 4 blocks", "stage 7: 1 block"),
    ]


def test_the_picture_is_a_picture(tmp_path: Path) -> None:
    assert main(["models", "resnet20", "--plot", str(tmp_path / "a.png")]) == 0
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).convert("RGB"))
    assert picture.shape[1] > 800
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_the_table_of_costs_has_every_network_and_is_read_without_building(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog.Network, "build", None)
    assert main(["models"]) == 0
    printed = [line.split()[0] for line in capsys.readouterr().out.partition("starts,")[0].splitlines()[1:]]
    assert printed == [row["name"] for row in list_models(say=lambda line: None)] == list(NETWORKS)


def tier(name: str) -> list[pytest.MarkDecorator]:
    if name in QUICK:
        return []
    return [pytest.mark.long if any(depth in name for depth in DEEP) else pytest.mark.slow]


@pytest.mark.parametrize("name", [pytest.param(name, marks=tier(name)) for name in NETWORKS])
def test_the_table_of_costs_is_what_building_gives(name: str) -> None:
    rows = {row["name"]: row for row in list_models(say=lambda line: None)}
    network = NETWORKS[name]
    assert rows[name] == measure(network, network.build())
