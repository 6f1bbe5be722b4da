"""The card comes back as it was written, and a file that is not the sealed one never runs."""

from __future__ import annotations

import dataclasses
import json

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from models import Graph, make_card, make_conv, make_identity

from unetres_edge import Card, Preprocessing, Segmenter, UnetresError, read_card, seal
from unetres_edge.errors import CardMissingError, ModelDamagedError, ModelError
from unetres_edge.model.calibration import Calibration
from unetres_edge.model.card import CARD_NAME, default_colors, reseal
from unetres_edge.model.promise import Promise

# fields that older files do not say
NOT_IN_OLDER = {"activation", "background", "calibration", "familiarity", "promises", "show", "stride", "resealed"}
WEIGHTS = np.array([[1], [-1]])
BIAS = np.array([0, 200])
FULL = Card(
    ("sky", 'a "sha256": "b', "Straße"),
    ((0, 0, 0), (255, 1, 2), (3, 4, 5)),
    Preprocessing(
        channels=3,
        color_order="bgr",
        value_range=(-1, 1),
        mean=(0.1, 0.2, 0.3),
        std=(1, 2, 3),
        per_image=(1, 99),
        fit="letterbox",
        size=(4, 8),
    ),
    ignore_index=255,
    halo=12,
    recipe="static_wi8_ai8",
    scores={"mean_iou": 0.5, "classes": [1, None]},
    dataset={"ignore": 11},
    versions={"keras": "3.15"},
)


@pytest.fixture(scope="module")
def model() -> bytes:
    return make_conv(make_card(halo=3), WEIGHTS, BIAS)


def values_of(card: Card) -> dict:
    return json.loads(card.to_json())


def test_a_card_comes_back_as_it_was() -> None:
    assert Card.from_json(FULL.to_json()) == FULL
    assert Card.from_json(make_card().to_json().encode()) == make_card()
    assert list(values_of(FULL))[-1] == "sha256"


def test_a_calibration_comes_back_and_older_cards_have_none() -> None:
    card = dataclasses.replace(make_card(), calibration=Calibration(1.25, (), 12, "val"))
    values = values_of(card)
    assert values["calibration"] == {"temperature": 1.25, "bias": [], "images": 12, "split": "val"}
    assert Card.from_json(card.to_json()) == card
    del values["calibration"]
    assert Card.from_json(json.dumps(values)).calibration is None


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": -1},
        {"temperature": 65},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"temperature": True},
        {"bias": [0.0]},
        {"bias": [1e9] * 3},
        {"bias": None},
        {"bias": "000"},
        {"images": -1},
        {"images": 1.5},
        {"split": 3},
    ],
    ids=str,
)
def test_a_calibration_that_cannot_be_meant_is_refused(change: dict) -> None:
    card = make_card()
    values = values_of(dataclasses.replace(card, calibration=Calibration()))
    names = len(card.class_names)
    assert names > 1
    wrong = {"bias": [1e9] * names} if change == {"bias": [1e9] * 3} else change
    values["calibration"].update(wrong)
    with pytest.raises(ModelError):
        Card.from_json(json.dumps(values))
    with pytest.raises(ModelError):
        Card.from_json(json.dumps(values | {"calibration": [1.0]}))


def test_a_sealed_file_gives_its_card() -> None:
    card = read_card(make_identity(FULL, (1, 4, 8, 3)))
    assert dataclasses.replace(card, sha256=FULL.sha256) == FULL
    assert set(card.sha256) <= set("0123456789abcdef")
    assert card.sha256 != FULL.sha256


def test_sealing_twice_changes_nothing_and_sealing_a_changed_file_renews_it(model: bytes) -> None:
    assert seal(model) == model
    changed = model.replace(b"1.5.0\0", b"1.5.1\0")
    with pytest.raises(ModelDamagedError, match="changed since it was sealed"):
        read_card(changed)
    assert read_card(seal(changed)).sha256 != read_card(model).sha256


def test_a_file_that_was_never_sealed_is_refused(model: bytes) -> None:
    digest = read_card(model).sha256.encode()
    with pytest.raises(ModelDamagedError):
        read_card(model.replace(digest, b"0" * 64))


def test_every_truncation_is_refused(model: bytes) -> None:
    for length in range(len(model)):
        with pytest.raises(ModelError):
            read_card(model[:length], file="m.tflite")
    for length in (0, 1, 7, 8, 64, len(model) // 2, len(model) - 1):
        with pytest.raises(ModelError):
            Segmenter(model[:length])
    with pytest.raises(ModelDamagedError):
        read_card(model + b"\0")


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_changed_byte_anywhere_is_refused(model: bytes, bit: int) -> None:
    rng = np.random.default_rng(bit)
    for at in rng.choice(len(model), 200, replace=False):
        changed = bytearray(model)
        changed[at] ^= 1 << bit
        with pytest.raises(ModelError):
            Segmenter(bytes(changed))


def test_every_byte_counts(model: bytes) -> None:
    for at in range(len(model)):
        changed = bytearray(model)
        changed[at] = ~changed[at] & 255
        with pytest.raises(ModelError):
            read_card(bytes(changed))


def test_swapped_and_zeroed_blocks_are_refused(model: bytes) -> None:
    for at in range(0, len(model) - 64, 64):
        block = model[at : at + 64]
        for other in (bytes(64), b"\xff" * 64, block[::-1]):
            if other != block:
                with pytest.raises(ModelError):
                    read_card(model[:at] + other + model[at + 64 :])


def test_a_file_without_a_card_is_named() -> None:
    with pytest.raises(CardMissingError, match=r"m\.tflite.*has no card"):
        read_card(make_conv(None, WEIGHTS, BIAS), file="m.tflite")
    with pytest.raises(CardMissingError):
        seal(make_conv(None, WEIGHTS, BIAS))


def test_a_given_card_does_not_excuse_a_changed_file(model: bytes) -> None:
    changed = model.replace(b"1.5.0\0", b"1.5.1\0")
    with pytest.raises(ModelDamagedError):
        Segmenter(changed, card=make_card())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"\x80\x04\x95" + bytes(100), "a pickle"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG image"),
        (b"", "an empty file"),
        (b"<html>" * 9, "something else"),
    ],
)
def test_foreign_files_are_identified(data: bytes, kind: str) -> None:
    with pytest.raises(ModelError, match=kind):
        read_card(data)


@pytest.mark.parametrize(
    "data", [b"\0\0\0\0TFL3", b"\xff\xff\xff\xffTFL3" + bytes(64), b"\x08\0\0\0TFL3" + b"\xff" * 64]
)
def test_an_empty_shell_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_card(data)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "detect"},
        {"task": ["segment"]},
        {"head": "softmax"},
        {"classes": []},
        {"classes": [{"name": "a"}]},
        {"classes": [{"name": "a", "color": [1, 2]}]},
        {"classes": [{"name": "a", "color": [1, 2, 256]}]},
        {"classes": 3},
        {"halo": "x"},
        {"halo": float("inf")},
        {"scores": None},
        {"preprocessing": None},
        {"preprocessing": {"fit": "crop"}},
        {"preprocessing": {**FULL.preprocessing.to_dict(), "more": 1}},
        {"preprocessing": {**FULL.preprocessing.to_dict(), "size": [8, float("inf")]}},
        {"preprocessing": {**FULL.preprocessing.to_dict(), "std": [0]}},
    ],
)
def test_wrong_fields_are_refused(change: dict) -> None:
    with pytest.raises(ModelError):
        Card.from_json(json.dumps({**values_of(FULL), **change}))


@pytest.mark.parametrize("key", sorted(set(values_of(FULL)) - NOT_IN_OLDER))
def test_every_field_is_needed(key: str) -> None:
    values = values_of(FULL)
    del values[key]
    with pytest.raises(ModelError, match=f"not readable.*{key}"):
        Card.from_json(json.dumps(values))


def test_a_file_from_before_the_stride_says_none() -> None:
    values = values_of(dataclasses.replace(FULL, stride=8))
    assert Card.from_json(json.dumps(values)).stride == values.pop("stride") == 8
    assert Card.from_json(json.dumps(values)).stride == 0


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff\xfe", "[" * 100_000])
def test_text_that_is_no_card_is_refused(text: str | bytes) -> None:
    with pytest.raises(ModelError, match="not readable"):
        Card.from_json(text)


def test_another_schema_says_so() -> None:
    with pytest.raises(ModelError, match="another schema; expected 1; found 2; fix: update"):
        Card.from_json(json.dumps({**values_of(FULL), "schema": 2}))


def test_a_sealed_file_of_another_schema_is_not_called_damaged() -> None:
    text = json.dumps({**values_of(FULL), "schema": 2})
    graph = Graph()
    source = graph.tensor("image", (1, 4, 8, 3), "float32")
    graph.metadata(CARD_NAME, text.encode())
    with pytest.raises(ModelError, match=r"m\.tflite: card is of another schema") as caught:
        read_card(seal(graph.to_bytes([source], [source])), file="m.tflite")
    assert not isinstance(caught.value, ModelDamagedError)


@pytest.mark.parametrize(
    "fields", [{"head": "logit"}, {"task": "x"}, {"class_names": (), "class_colors": ()}, {"class_colors": ()}]
)
def test_a_card_made_by_hand_is_checked(fields: dict) -> None:
    with pytest.raises(UnetresError):
        dataclasses.replace(FULL, **fields)


def test_default_colors_are_those_of_voc() -> None:
    colors = default_colors(256)
    assert colors[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert colors[20] == (0, 64, 128)
    assert len(set(colors)) == 256


def test_a_figure_that_is_no_number_is_not_written() -> None:
    """JSON has no NaN: other readers of the card would refuse all of it."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(make_card(), scores={"miou": float("nan")}).to_json()


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_promise_is_of_a_class_that_the_card_names(class_id: int) -> None:
    kept = dataclasses.replace(FULL, promises=(Promise("miss", (2,), 0.05, 0.5, 100),))
    assert Card.from_json(kept.to_json()) == kept
    with pytest.raises(ModelError, match="a class that it does not name"):
        dataclasses.replace(kept, promises=(Promise("miss", (class_id,), 0.05, 0.5, 100),))


def test_a_background_that_is_not_said_goes_by_its_name() -> None:
    card = make_card()
    named = dataclasses.replace(card, class_names=("cell", "background"), background=-1)
    values = values_of(named)
    assert named.background == values.pop("background") == 1
    assert Card.from_json(json.dumps(values)).background == 1
    with pytest.raises(ModelError, match="no such class for the background"):
        dataclasses.replace(named, background=2)
    with pytest.raises(ModelError, match="no such class for the background"):
        dataclasses.replace(named, background=-2)


def test_a_crop_leaves_a_stride_of_each_side() -> None:
    card = dataclasses.replace(make_card(), preprocessing=Preprocessing(size=(20, 28)))
    assert dataclasses.replace(card, crop=6, stride=8).output_size == (8, 16)
    assert dataclasses.replace(card, crop=6, stride=1).crop == 6
    for crop, stride in ((6, 9), (6, 0), (10, 1), (-1, 8)):
        with pytest.raises(ModelError, match="a crop that its tiles do not bear"):
            dataclasses.replace(card, crop=crop, stride=stride)


class Counted(bytes):
    """Counts the bytes that are copied out of it."""

    copied = 0

    def __getitem__(self, key: object) -> object:
        value = super().__getitem__(key)  # type: ignore[index]
        self.copied += len(value) if isinstance(value, bytes) else 1
        return value


def test_one_long_name_in_all_entries_is_not_read_for_each() -> None:
    """A file of 10 MB with 10^6 entries of one name of 5 MB would be read for hours."""
    builder = flatbuffers.Builder(1 << 16)
    name = builder.CreateString("x" * 10_000)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name)
    entry = schema.MetadataEnd(builder)
    schema.ModelStartMetadataVector(builder, 1000)
    for _ in range(1000):
        builder.PrependUOffsetTRelative(entry)
    entries = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddMetadata(builder, entries)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    data = Counted(builder.Output())
    with pytest.raises(CardMissingError):
        read_card(data)
    assert data.copied < 1000


def test_a_card_that_cannot_be_read_is_not_sealed_again(model: bytes) -> None:
    text = make_card(halo=3).to_json().encode()
    assert model.count(b'"schema"') == 1 and b'"schema"' in text
    with pytest.raises(ModelError, match="not readable"):
        reseal(model.replace(b'"schema"', b'"schemb"'))
    read_card(reseal(model))
