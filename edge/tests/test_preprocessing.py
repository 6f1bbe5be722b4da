"""Every image becomes the same uint8 form, and every level the same number, on either side."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from models import make_card, make_identity

from unetres_edge import Preprocessing
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import ImageError, ModelError, UsageError
from unetres_edge.images.preprocessing import FITS

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 9)).astype(np.uint8)
COLOR = RNG.integers(0, 256, (7, 9, 3)).astype(np.uint8)


def test_uint8_stays_as_it_is() -> None:
    np.testing.assert_array_equal(Preprocessing(channels=1).prepare(GREY), GREY[..., None])
    np.testing.assert_array_equal(Preprocessing(channels=3).prepare(GREY), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(Preprocessing(channels=3).prepare(COLOR), COLOR)
    np.testing.assert_array_equal(Preprocessing(channels=3, color_order="bgr").prepare(COLOR), COLOR[..., ::-1])
    np.testing.assert_array_equal(Preprocessing(channels=1, color_order="bgr").prepare(GREY), GREY[..., None])


def test_colour_becomes_luma() -> None:
    luma = np.rint(COLOR.astype(np.float64) @ [0.299, 0.587, 0.114])
    found = Preprocessing(channels=1).prepare(COLOR)[..., 0]
    assert np.abs(found - luma).max() <= 1
    assert np.mean(found == luma) > 0.95
    np.testing.assert_array_equal(Preprocessing(channels=1).prepare(np.dstack([GREY] * 3))[..., 0], GREY)


def test_sixteen_bits_and_floats_come_to_full_scale() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = Preprocessing(channels=1).prepare(levels)[..., 0]
    np.testing.assert_array_equal(found, np.rint(levels / 257.0))
    for dtype in (np.float32, np.float64):
        values = (GREY / 255).astype(dtype)
        np.testing.assert_array_equal(Preprocessing(channels=1).prepare(values)[..., 0], GREY)


def test_a_dark_image_stays_dark() -> None:
    """No rule may look at the values to guess their scale."""
    dark = np.array([[0, 1]], np.uint8)
    np.testing.assert_array_equal(Preprocessing(channels=1).prepare(dark)[..., 0], dark)
    np.testing.assert_array_equal(Preprocessing(channels=1).prepare(dark.astype(np.uint16))[..., 0], [[0, 0]])


def test_any_number_of_channels_of_the_network_is_taken() -> None:
    five = RNG.integers(0, 256, (4, 4, 5)).astype(np.uint8)
    np.testing.assert_array_equal(Preprocessing(channels=5).prepare(five), five)
    four = five[..., :4]
    np.testing.assert_array_equal(Preprocessing(channels=4).prepare(four), four)


@pytest.mark.parametrize("per_image", [None, (0, 100), (10, 60)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_an_opaque_alpha_plays_no_part(per_image, channels: int, dtype: type, full: int) -> None:
    image = (COLOR / 512 * full).astype(dtype)
    pre = Preprocessing(channels=channels, per_image=per_image)
    with_alpha = np.dstack([image, np.full((7, 9), full, dtype)])
    np.testing.assert_array_equal(pre.prepare(with_alpha), pre.prepare(image))
    with_alpha[3, 3, 3] = full // 2
    with pytest.raises(ImageError, match="transparent"):
        pre.prepare(with_alpha)


def test_percentiles_are_those_of_the_whole_image() -> None:
    image = np.linspace(100, 200, 101).astype(np.uint8)[None]
    found = Preprocessing(channels=1, per_image=(0, 100)).prepare(image)[0, :, 0]
    np.testing.assert_array_equal(found, np.rint(np.arange(101) / 100 * 255))
    found = Preprocessing(channels=1, per_image=(10, 90)).prepare(image)[0, :, 0]
    np.testing.assert_array_equal(found, np.rint(np.clip((np.arange(101) - 10) / 80, 0, 1) * 255))
    sixteen = Preprocessing(channels=1, per_image=(0, 100)).prepare(image.astype(np.uint16) * 7)
    np.testing.assert_array_equal(sixteen[0, :, 0], np.rint(np.arange(101) / 100 * 255))


def test_a_flat_image_is_stretched_to_nothing() -> None:
    flat = np.full((3, 3), 90, np.uint8)
    assert not Preprocessing(channels=1, per_image=(1, 99)).prepare(flat).any()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (GREY.astype(np.int32), "dtype"),
        (GREY > 9, "dtype"),
        (GREY.astype(complex), "dtype"),
        (np.array([[None]]), "dtype"),
        (np.full((2, 2), 1.01), r"outside \[0, 1\]"),
        (np.full((2, 2), -0.01), r"outside \[0, 1\]"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.full((2, 2), np.inf), "not finite"),
        (np.zeros(5, np.uint8), "not an image"),
        (np.zeros((2, 2, 3, 1), np.uint8), "not an image"),
        (np.zeros((0, 2), np.uint8), "not an image"),
        (np.zeros((2, 2, 0), np.uint8), "not an image"),
        (np.zeros((2, 2, 2), np.uint8), "channels"),
        (np.zeros((2, 2, 5), np.uint8), "channels"),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        Preprocessing(channels=3).prepare(image)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (field, value)
            for field in ("mean", "std", "value_range", "size")
            for value in (True, "5", [np.nan], [10**400])
        ),
        *(("channels", value) for value in (True, 0, -1, 1.0, 1025, 10**18)),
        *(("size", value) for value in ((1e300, 8), (0, 8), (8, 70_000), (8.5, 8), (8,), (-0.0, 8))),
        *(("mean", value) for value in (1e18, [np.inf])),
        *(("std", value) for value in (0, -0.0, 1e-18, 1e18)),
        ("value_range", (0, 1e18)),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_meant_are_refused(field: str, value: object) -> None:
    with pytest.raises(UsageError, match="preprocessing .* wrong"):
        Preprocessing(**{"channels": 1, field: value})
    given = {**Preprocessing(channels=1).to_dict(), field: value}
    with pytest.raises(ModelError, match="preprocessing is not readable"):
        Preprocessing.from_dict(given)


def test_the_table_is_plain_arithmetic() -> None:
    pre = Preprocessing(value_range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    expected = (-1 + 2 * np.arange(256)[:, None] / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 1.0, 2.0])
    assert (pre.table().shape, pre.table().dtype) == ((256, 3), np.float32)
    np.testing.assert_array_equal(pre.table(), expected.astype(np.float32))
    np.testing.assert_array_equal(pre.normalise(COLOR)[..., 1], pre.table()[COLOR[..., 1], 1])
    np.testing.assert_array_equal(Preprocessing(channels=1).normalise(GREY[..., None])[..., 0], np.float32(GREY / 255))


@pytest.mark.parametrize(("dtype", "limits"), [("int8", (-128, 127)), ("uint8", (0, 255))])
@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, None), (0.0078125, 3), (0.003, -20), (0.02, 0)])
@pytest.mark.parametrize("pre", [{}, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}], ids=["one", "by channel"])
def test_quantized_input_is_looked_up_exactly(dtype: str, limits, scale: float, zero_point, pre: dict) -> None:
    """The identity graph hands back the input tensor, so its output is what was written into it."""
    zero_point = limits[0] if zero_point is None else max(zero_point, limits[0])
    card = make_card((16, 16), 3, 3, pre=pre)
    engine = LiteRTEngine(make_identity(None, (1, 16, 16, 3), dtype, (scale, zero_point)), card, num_threads=1)
    tile = np.stack([np.arange(256).reshape(16, 16)] * 3, -1).astype(np.uint8)
    real = card.preprocessing.normalise(tile)
    expected = np.clip(np.rint(real / np.float32(scale)) + zero_point, *limits)
    np.testing.assert_array_equal(engine.run(tile), (expected - zero_point).astype(np.float32) * np.float32(scale))


def test_a_description_is_json_and_comes_back() -> None:
    pre = Preprocessing(3, "bgr", (-1, 1), (1, 2, 3), (4, 5, 6), (1, 99), "letterbox", (32, 48))
    assert Preprocessing.from_dict(json.loads(json.dumps(pre.to_dict()))) == pre
    assert Preprocessing.from_dict(Preprocessing().to_dict()) == Preprocessing()
    assert hash(pre) == hash(Preprocessing.from_dict(pre.to_dict()))


WRONG = [
    {"channels": 0},
    {"channels": 1.5},
    {"channels": "3"},
    {"color_order": "rbg"},
    {"value_range": (1, 0)},
    {"value_range": (0, 0)},
    {"value_range": (0,)},
    {"value_range": (0, float("inf"))},
    {"value_range": None},
    {"mean": (1, 2)},
    {"mean": float("nan")},
    {"mean": None},
    {"mean": "x"},
    {"mean": [[1, 2], [3, 4]]},
    {"std": (1, 0, 1)},
    {"std": -1},
    {"std": ()},
    {"per_image": (50, 50)},
    {"per_image": (0, 101)},
    {"per_image": (-1, 50)},
    {"per_image": 3},
    {"per_image": "ab"},
    {"fit": "stretch"},
    {"size": 5},
    {"size": (0, 8)},
    {"size": (8, 8, 3)},
    {"size": (8.5, 8)},
    {"size": (float("nan"), 8)},
    {"size": float("inf")},
    {"size": None},
    {"size": "abc"},
]


@pytest.mark.parametrize("fields", WRONG, ids=repr)
def test_wrong_fields_are_refused_by_name(fields: dict) -> None:
    (name,) = fields
    with pytest.raises(UsageError, match=f"preprocessing .*{name}.* is wrong"):
        Preprocessing(**fields)
    with pytest.raises(ModelError, match="preprocessing is not readable"):
        Preprocessing.from_dict({**Preprocessing().to_dict(), **fields})


@pytest.mark.parametrize("values", [{}, {"fit": "crop"}, {**Preprocessing().to_dict(), "gamma": 1}, [], None])
def test_missing_and_unknown_fields_are_refused(values) -> None:
    with pytest.raises(ModelError):
        Preprocessing.from_dict(values)


@pytest.mark.parametrize("fit", FITS)
def test_every_fit_is_taken(fit: str) -> None:
    assert Preprocessing(fit=fit).fit == fit


@pytest.mark.parametrize(
    ("shape", "scaled"), [((64, 64), (32, 32)), ((10, 20), (24, 48)), ((1, 400), (1, 48)), ((300, 3), (32, 1))]
)
def test_a_letterbox_keeps_the_aspect(shape: tuple[int, int], scaled: tuple[int, int]) -> None:
    place = Preprocessing(channels=1, fit="letterbox", size=(32, 48)).place(*shape)
    assert place.scaled == scaled
    image = place.image(np.full((*shape, 1), 77, np.uint8))
    mask = place.mask(np.ones(shape, np.uint8))
    assert (image.shape, mask.shape) == ((32, 48, 1), (32, 48))
    assert (image == 77).all()
    np.testing.assert_array_equal(np.argwhere(mask == 1).max(0) + 1, scaled)
    assert set(np.unique(mask)) <= {1, 255}


def test_an_image_is_scaled_alike_by_every_version_of_pillow() -> None:
    """The digest is that of `Image.resize` of Pillow 11.3; left alone, Pillow 13 takes this image's height first."""
    image = np.random.default_rng(11).integers(0, 256, (300, 40, 1), np.uint8)
    place = Preprocessing(channels=1, fit="resize", size=(32, 30)).place(300, 40)
    digest = hashlib.sha256(place.image(image).tobytes()).hexdigest()
    assert digest == "4aab1456b3c084fc5d1bfb1e4ddf59096f9dfcfb6802ca45350fa4f0b6ab14ba"


@pytest.mark.parametrize(("found", "channels"), [(2, 1), (3, 2), (3, 4), (2, 3), (1, 2)])
def test_channels_that_do_not_fit_are_named(found: int, channels: int) -> None:
    with pytest.raises(ImageError, match=f"number of channels.*expected {channels}; found {found}"):
        Preprocessing(channels=channels, size=(4, 4)).prepare(np.full((4, 4, found), 255, np.uint8))
