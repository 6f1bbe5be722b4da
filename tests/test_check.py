"""`unetres check` finds every planted fault, names its file, gives a fix that works, and is silent on clean sets."""

from __future__ import annotations

import functools
import hashlib
import html.parser
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from planted import MASKS, PLANTS, Site, Tally, campaign, load, make_clean, plant, run_set, table
from real_sets import DATA, real

from keras_unetres.cli import main
from keras_unetres.data.classes import decide_classes
from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.findings import Finding
from keras_unetres.data.records import read_records
from keras_unetres.doctor import check as checking
from keras_unetres.doctor import hashes
from keras_unetres.doctor.check import CHECKS
from keras_unetres.doctor.check import check as look_over
from keras_unetres.doctor.hashes import HASHES
from keras_unetres.workflows.check import check
from unetres_edge.errors import DataError, ExistsError, FileSystemError


def silent(line: str) -> None:
    """Take a line for the user and print nothing."""


def find_seed(name: str, masks: str = "") -> int:
    """Return the seed of a small set that a kind can be planted in."""
    for seed in range(48):
        style = make_style(seed)
        if PLANTS[name].fits(style) and masks in ("", style.masks):
            return seed
    raise AssertionError(name)


@functools.cache
def make_style(seed: int) -> Site:
    """Return what a seed's set is like, as written for one pair."""
    with tempfile.TemporaryDirectory() as folder:
        return make_clean(Path(folder), seed, 1)


def rows(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(row["kind"], row["file"]) for row in (*report["faults"], *report["warnings"])}


def digests(folder: Path) -> dict[str, str]:
    """Return what is in every image and mask of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and "dataset.yaml" not in path.name)
    return {os.fspath(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name != HASHES}


# What is found


@pytest.mark.parametrize("name", PLANTS)
def test_a_fault_alone_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    tally = Tally()
    run_set(tmp_path / "set", find_seed(name), lambda site: [name], tally, 20)
    assert (tally.missed, tally.false_alarms) == ([], [])
    assert tally.found.total() == 1


def test_faults_hidden_in_many_pairs(tmp_path: Path) -> None:
    tally = campaign(tmp_path, range(3, 5), most=18)
    assert (tally.missed, tally.false_alarms) == ([], [])
    assert tally.found == tally.planted
    assert tally.planted.total() > 30


@pytest.mark.parametrize("name", ["empty_file", "dangling_link", "pipe_as_image"])
def test_a_first_mask_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """Whether masks are colours is told by a look at one; that one may be at fault, and a pipe would block for ever."""
    site = make_clean(tmp_path, find_seed("color_of_no_class"), 20)
    firsts = [min(p for p in site.pairs if p.part == part) for part in sorted({p.part for p in site.pairs})]
    planted = []
    for pair in firsts:
        site.pairs = [pair._replace(image=pair.mask)]  # whatever is planted is planted in the mask
        planted += plant(site, name, np.random.default_rng(0)).files
    assert {fault.file for fault in look_over(tmp_path, hashes="off", progress=False).faults} == set(planted)


@pytest.mark.long
def test_a_campaign(tmp_path: Path) -> None:
    tally = campaign(tmp_path)
    assert (tally.missed, tally.false_alarms) == ([], []), table(tally)
    assert min(tally.planted[name] for name in PLANTS) >= 2


@pytest.mark.parametrize("seed", range(len(MASKS)))
def test_clean_sets_raise_nothing(seed: int, tmp_path: Path) -> None:
    make_clean(tmp_path / "set", seed, 40)
    report = check(tmp_path / "set", say=silent, hashes="off")
    assert (report["faults"], report["warnings"]) == ([], [])


@pytest.mark.parametrize(
    ("check_name", "names"),
    [
        ("decoding", ["empty_file", "bomb", "several_frames", "mask_as_jpeg", "mask_a_row_short"]),
        ("values", ["value_of_no_class", "ids_from_one", "mask_scaled_smoothly"]),
        ("palettes", ["palette_in_another_order"]),
        ("rims", ["mask_scaled_smoothly_to_known_values"]),
        ("images", ["wrong_ending", "constant_image"]),
        ("levels", ["twelve_bits_of_sixteen"]),
        ("unread", ["file_of_another_format"]),
        ("class-pixels", ["nothing_labelled", "class_absent"]),
        ("copies", ["leak", "leak_in_another_format", "same_picture_twice"]),
        ("near-copies", ["leak_brighter", "leak_mirrored"]),
    ],
)
def test_without_a_check_the_campaign_misses(
    check_name: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(CHECKS, check_name)
    tally = Tally()
    for name in names:
        run_set(tmp_path / name, find_seed(name), lambda site, name=name: [name], tally, 20)
    assert tally.found.total() == 0
    assert len(tally.missed) == len(names)


def test_without_hashes_a_file_that_rots_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "find_changed", lambda *_: ([], ""))
    tally = Tally()
    run_set(tmp_path, find_seed("bit_rot"), lambda site: ["bit_rot"], tally, 20)
    assert len(tally.missed) == 1


# What mends it

_DECLARED = [
    ("value_of_no_class", ""),
    ("value_of_no_class", "ignored"),
    ("value_of_sixteen_bits", ""),
    ("ignored_value_undeclared", "classes"),
    ("ignored_value_undeclared", "binary"),
    ("mask_of_255", ""),
    ("mask_of_1", ""),
    ("few_objects_numbered", ""),
    ("many_objects_numbered", "binary"),
    ("many_objects_numbered", "binary255"),
    ("palette_in_another_order", ""),
    ("color_of_no_class", ""),
    ("missing_mask", ""),
    ("missing_image", ""),
    ("leak", ""),
    ("leak", "colors"),
    ("leak", "ignored"),
]


def apply(finding: Finding, folder: Path) -> None:
    """Paste the line of a finding into `dataset.yaml`, in place of what it says of the same keys."""
    assert finding.fix.patch is not None
    file = folder / "dataset.yaml"
    before = yaml.safe_load(file.read_text()) if file.exists() else {}
    lines = [f"{key}: {value}" for key, value in before.items() if key not in finding.fix.patch]
    file.write_text("\n".join([*lines, *finding.fix.text.split(" and ")]) + "\n")


@pytest.mark.parametrize(("name", "masks"), _DECLARED)
def test_the_fix_is_a_line_that_works(name: str, masks: str, tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed(name, masks), 20)
    plant(site, name, np.random.default_rng(5))
    (fault,) = look_over(tmp_path, hashes="off", progress=False).faults
    assert fault.fix.patch is not None
    assert yaml.safe_load(fault.fix.text) == fault.fix.patch
    apply(fault, tmp_path)
    after = look_over(tmp_path, hashes="off", progress=False)
    assert after.faults == []
    if "exclude" not in fault.fix.patch:
        assert sum(row["pixels"] > 0 for row in after.class_rows()) == site.ids


def fixable(name: str) -> list[str]:
    """Return the ways of storing masks in which a planted fault has a declaration as its fix."""
    return [
        masks
        for masks in MASKS
        if any((PLANTS[name].fits(make_style(seed)) and make_style(seed).masks == masks) for seed in range(48))
    ]


def check_that_the_fix_closes(name: str, masks: str, folder: Path) -> None:
    """Plant a fault, apply the fixes of all findings of its kinds, and check that none of them is left."""
    site = make_clean(folder, find_seed(name, masks), 20)
    plant(site, name, np.random.default_rng(7))
    before = look_over(folder, hashes="off", progress=False)
    mine = [f for f in before.findings if f.kind in PLANTS[name].kinds and f.fix.patch is not None]
    present = sum(row["pixels"] > 0 for row in before.class_rows())
    for finding in mine:
        apply(finding, folder)
        after = look_over(folder, hashes="off", progress=False)
        assert [f for f in after.findings if (f.kind, f.file) == (finding.kind, finding.file)] == []
        if "exclude" not in finding.fix.patch:
            assert sum(row["pixels"] > 0 for row in after.class_rows()) >= present


@pytest.mark.parametrize("name", [name for name in PLANTS if not PLANTS[name].later])
def test_applying_a_fix_leaves_no_finding_of_its_kind(name: str, tmp_path: Path) -> None:
    check_that_the_fix_closes(name, "", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("masks", MASKS)
def test_applying_a_fix_leaves_no_finding_of_its_kind_whatever_the_masks(masks: str, tmp_path: Path) -> None:
    for name, kind in PLANTS.items():
        if not kind.later and masks in fixable(name):
            check_that_the_fix_closes(name, masks, tmp_path / name)


@pytest.mark.parametrize("name", ["many_objects_numbered", "ids_from_one"])
def test_no_fix_of_one_mask_changes_what_all_others_mean(name: str, tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed(name, "classes"), 20)
    plant(site, name, np.random.default_rng(5))
    (fault,) = look_over(tmp_path, hashes="off", progress=False).faults
    assert re.search("this mask", fault.fix.text)


def test_masks_that_all_count_from_one(tmp_path: Path) -> None:
    site = make_clean(tmp_path, 2, 20)
    assert site.masks == "classes"
    for pair in site.pairs:
        Image.fromarray(load(pair.mask) + np.uint8(1)).save(pair.mask)
    faults = look_over(tmp_path, hashes="off", progress=False).faults
    assert {fault.fix.text for fault in faults} == {"values: {1: 0, 2: 1, 3: 2, 4: 3}"}
    (tmp_path / "dataset.yaml").write_text(faults[0].fix.text)
    assert look_over(tmp_path, hashes="off", progress=False).faults == []


def test_one_line_mends_several_masks(tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed("value_of_no_class", "classes"), 20)
    for name in ("value_of_no_class", "value_of_sixteen_bits", "ignored_value_undeclared"):
        plant(site, name, np.random.default_rng(6))
    faults = look_over(tmp_path, hashes="off", progress=False).faults
    assert len(faults) == 3
    (line,) = {fault.fix.text for fault in faults}
    (tmp_path / "dataset.yaml").write_text(line)
    assert look_over(tmp_path, hashes="off", progress=False).faults == []


def store_as(site: Site, values: tuple[int, ...], dtype: type = np.uint8) -> None:
    """Write the masks of a set with other values for its class ids."""
    for pair in site.pairs:
        Image.fromarray(np.array(values, dtype)[load(pair.mask)]).save(pair.mask)


@pytest.mark.parametrize(
    ("values", "names"),
    [((0, 254), "a b"), ((0, 2), "a b"), ((7, 9), "a b"), ((0, 85, 170, 254), "a b c d"), ((1, 2, 3, 255), "a b c d")],
)
def test_as_many_values_as_names_map_in_order(values: tuple[int, ...], names: str, tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed("value_of_no_class", "binary" if len(values) == 2 else "classes"), 20)
    pixels = Counter(np.concatenate([load(pair.mask).ravel() for pair in site.pairs]).tolist())
    (tmp_path / "classes.txt").write_text("\n".join(names.split()) + "\n")
    store_as(site, values)
    faults = look_over(tmp_path, hashes="off", progress=False).faults
    expected = {"values": {value: i for i, value in enumerate(values)}}
    assert [fault.fix.patch for fault in faults] == [expected] * len(site.pairs)
    check(tmp_path, fix=True, hashes="off", say=silent)
    after = look_over(tmp_path, hashes="off", progress=False)
    assert after.faults == []
    assert {row["id"]: row["pixels"] for row in after.class_rows()} == pixels


def test_an_odd_value_is_not_taken_for_a_class_that_is_absent(tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed("value_of_no_class", "classes"), 20)
    (tmp_path / "classes.txt").write_text("background\ncell\nnucleus\ndebris\nfibre\n")
    plant(site, "value_of_no_class", np.random.default_rng(0))
    (fault,) = look_over(tmp_path, hashes="off", progress=False).faults
    assert fault.fix.patch is not None
    assert list(fault.fix.patch) == ["ignore"]


@pytest.mark.parametrize("white", [255, 65535])
def test_masks_of_black_and_white_are_background_and_foreground(white: int, tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed("value_of_no_class", "binary"), 20)
    store_as(site, (0, white), np.uint16 if white > 255 else np.uint8)
    report = check(tmp_path, hashes="off", say=silent)
    assert [row["name"] for row in report["classes"]] == ["background", "foreground"]
    assert report["notes"] == [f"mask value {white} is class 1 (foreground)"]
    dataset = open_dataset(tmp_path)
    masks = [set(np.unique(load(pair.mask)).tolist()) for pair in site.pairs]
    assert decide_classes(dataset, masks, ["0", "255"]).names == ("0", "255")  # as an earlier version named them


def test_names_that_pair_nowhere_are_all_listed_and_none_is_left_out(tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed("missing_mask", "binary"), 12)
    for pair in site.pairs:
        digest = hashlib.sha256(pair.mask.name.encode()).hexdigest()
        pair.mask.rename(pair.mask.with_name(f"{digest[:12]}{pair.mask.suffix}"))
    faults = look_over(tmp_path, hashes="off", progress=False).faults
    assert Counter(fault.kind for fault in faults) == {"missing-mask": 12, "missing-image": 12}
    assert {fault.fix.patch for fault in faults} == {None}


def test_names_of_masks_that_only_add_a_word_pair_in_every_part(tmp_path: Path) -> None:
    site = make_clean(tmp_path, find_seed("missing_mask", "binary"), 12)  # its validation part is a single pair
    for pair in site.pairs:
        pair.mask.rename(pair.mask.with_name(f"other_{pair.mask.name}"))
    assert look_over(tmp_path, hashes="off", progress=False).faults == []
    odd = site.pairs[0].mask
    odd.with_name(f"other_{odd.name}").rename(odd.with_name(f"other{odd.name}"))
    assert look_over(tmp_path, hashes="off", progress=False).faults != []


def test_masks_of_colours_get_a_table(tmp_path: Path) -> None:
    site = make_clean(tmp_path, 4, 20)
    assert site.masks == "colors"
    (tmp_path / "label_colors.txt").unlink()
    faults = look_over(tmp_path, hashes="off", progress=False).faults
    assert {fault.kind for fault in faults} == {"color-mask"}
    (tmp_path / "dataset.yaml").write_text(faults[0].fix.text)
    assert look_over(tmp_path, hashes="off", progress=False).faults == []


def test_masks_of_objects_are_recognised(tmp_path: Path) -> None:
    site = make_clean(tmp_path, 6, 20)
    assert site.masks == "instances"
    (tmp_path / "dataset.yaml").unlink()
    rng = np.random.default_rng(0)
    for pair in site.pairs:  # numbers of their own in each
        ids = load(pair.mask).astype(np.uint16)
        Image.fromarray(np.where(ids, ids * rng.integers(1, 90), 0).astype(np.uint16)).save(pair.mask)
    (fault,) = look_over(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.fix.text) == ("instance-ids", "masks_are: instances")
    (tmp_path / "dataset.yaml").write_text(fault.fix.text)
    assert look_over(tmp_path, hashes="off", progress=False).faults == []


@pytest.mark.parametrize("seed", [0, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 4, 5, 7))])
def test_fix_writes_a_declaration_without_faults(seed: int, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    site = make_clean(folder, seed, 60)
    rng = np.random.default_rng(seed)
    names = sorted(name for name, kind in PLANTS.items() if kind.fits(site) and not kind.later and "class" not in name)
    for name in rng.choice(names, 12, replace=False):
        plant(site, name, rng)
    before = digests(folder)
    declared = (folder / "dataset.yaml").read_text() if (folder / "dataset.yaml").exists() else None
    lines: list[str] = []
    check(folder, fix=True, hashes="off", say=lines.append)
    assert lines[-1] == "result    0 faults left"
    assert look_over(folder, hashes="off", progress=False).faults == []
    assert digests(folder) == before
    kept = folder / "dataset.yaml.before"
    assert (kept.read_text() if kept.exists() else None) == declared
    used = sum(len(part) for part in look_over(folder, hashes="off", progress=False).summary.dataset.splits.values())
    assert 60 - 14 <= used <= 60  # what is left out is what was planted, and a twin


def without_meaning(folder: Path) -> Site:
    """Write a set of four mask values and two class names, so that nobody but the owner knows what they mean."""
    site = make_clean(folder, 2, 20)
    for pair in site.pairs:
        Image.fromarray(load(pair.mask) * np.uint8(50)).save(pair.mask, compress_level=1)
    (folder / "classes.txt").write_text("a\nb\n")
    return site


def test_fix_lists_what_is_left(tmp_path: Path) -> None:
    site = without_meaning(tmp_path)
    plant(site, "missing_mask", np.random.default_rng(0))
    lines: list[str] = []
    report = check(tmp_path, fix=True, hashes="off", say=lines.append)
    assert len(report["faults"]) == 19
    assert lines[-1] == "result    19 faults left"
    assert len(look_over(tmp_path, hashes="off", progress=False).faults) == 19
    assert list(yaml.safe_load((tmp_path / "dataset.yaml").read_text())) == ["exclude"]


def test_no_fix_leaves_a_class_empty(tmp_path: Path) -> None:
    """Two names for four values: to ignore two of them would leave one class without a pixel, or throw it away."""
    without_meaning(tmp_path)
    faults = look_over(tmp_path, hashes="off", progress=False).faults
    assert {(fault.kind, fault.fix.patch) for fault in faults} == {("unknown-values", None)}
    lines: list[str] = []
    assert len(check(tmp_path, fix=True, hashes="off", say=lines.append)["faults"]) == 20
    assert lines[-1] == "result    no declaration mends this"
    assert not (tmp_path / "dataset.yaml").exists()


def test_fix_writes_nothing_where_nothing_can_be_declared(tmp_path: Path) -> None:
    make_clean(tmp_path, 2, 12)
    shutil.rmtree(tmp_path / "masks")
    lines: list[str] = []
    with pytest.raises(DataError, match="cannot be opened: .*no folder masks/"):
        check(tmp_path, fix=True, say=lines.append)
    assert "no folder masks/" in " ".join(lines)
    assert lines[-1] == "result    no declaration mends this"
    assert not (tmp_path / "dataset.yaml").exists()


def test_fix_keeps_an_earlier_declaration_once(tmp_path: Path) -> None:
    site = make_clean(tmp_path, 7, 20)
    earlier = "# ours\nignore: 255\n"
    (tmp_path / "dataset.yaml").write_text(earlier)
    plant(site, "value_of_no_class", np.random.default_rng(0))
    check(tmp_path, fix=True, say=silent)
    assert (tmp_path / "dataset.yaml.before").read_text() == earlier
    plant(site, "empty_file", np.random.default_rng(0))
    now = (tmp_path / "dataset.yaml").read_text()
    with pytest.raises(ExistsError, match="remove or rename"):
        check(tmp_path, fix=True, say=silent)
    assert (tmp_path / "dataset.yaml").read_text() == now


# The report


def run(*arguments: object) -> int:
    return main(["check", *map(os.fspath, map(str, arguments))])


def test_the_report_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file, page = tmp_path / "set", tmp_path / "report.json", tmp_path / "report.html"
    site = make_clean(folder, 7, 20)
    pairs = list(site.pairs)
    assert run(folder, "--json", file, "--html", page) == 0
    report = json.loads(file.read_text())
    assert (report["faults"], report["warnings"]) == ([], [])
    masks = [load(pair.mask) for pair in pairs]
    assert [(row["id"], row["name"], row["pixels"], row["images"]) for row in report["classes"]] == [
        (i, name, sum(int((m == i).sum()) for m in masks), sum(bool((m == i).any()) for m in masks))
        for i, name in enumerate(("background", "cell", "nucleus", "debris"))
    ]
    assert report["ignored_share"] == pytest.approx(
        sum((m == 255).sum() for m in masks) / sum(m.size for m in masks), abs=1e-6
    )
    assert Counter({(row["height"], row["width"]): row["images"] for row in report["sizes"]}) == Counter(
        m.shape for m in masks
    )
    assert report["parts"] == Counter(pair.part for pair in pairs)
    planted = plant(site, "mask_a_row_short", np.random.default_rng(0))
    assert run(folder, "--json", file, "--no-hashes") == 3
    (fault,) = json.loads(file.read_text())["faults"]
    assert set(fault) == {"file", "kind", "found", "expected", "fix", "patch", "place", "figures", "image", "line"}
    assert (fault["file"], fault["kind"]) == (planted.files[0], "size-differs")
    assert all(isinstance(fault[key], str) and fault[key] for key in ("file", "kind", "found", "expected", "fix"))
    assert fault["patch"] is None
    assert fault["figures"]["other_height"] == fault["figures"]["height"] - 1
    assert fault["image"] in {pair.image.name for pair in pairs}
    said = capsys.readouterr()
    assert planted.files[0] in said.out
    assert said.err.startswith("error: data: ")
    assert "1 fault" in said.err
    assert run(tmp_path / "nothing") == 3
    assert run(folder, "--json", tmp_path / "nowhere" / "report.json") == 5


class Page(html.parser.HTMLParser):
    """What is in a page, and whether its tags close each other."""

    alone = {"meta", "img"}
    closed_by_others = {"td", "th", "tr", "p"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")
        if tag not in self.alone | self.closed_by_others:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.closed_by_others:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    site = make_clean(tmp_path, 3, 40)
    name = '<b>&".png'
    pair = site.take(np.random.default_rng(0))
    pair.image.rename(pair.image.with_name(name))
    pair.mask.unlink()
    for other in ("leak", "palette_in_another_order", "constant_image"):
        plant(site, other, np.random.default_rng(1))
    page = tmp_path / "report.html"
    report = check(tmp_path, html_file=page, hashes="off", say=silent)
    assert {row["kind"] for row in report["faults"]} >= {"leak"}
    assert len(report["faults"]) == 3
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []
    assert name in parsed.text
    assert not parsed.tags & {"b", "script", "link", "iframe", "object"}
    assert len(parsed.pictures) > 32
    assert all(src.startswith("data:image/png;base64,") for src in parsed.pictures)
    assert not re.search("https?://|url\\(|@import", text)


_NAMES = {
    "spaces": "a picture of  cells.png",
    "quotes": """it's "quoted".png""",
    "emoji": "\N{MICROSCOPE}\N{ZERO WIDTH JOINER}\N{DNA DOUBLE HELIX}.png",
    "newline": "two\nlines.png",
    "right to left": "\u202eתאים.png",
    "no utf-8": os.fsdecode(b"caf\xe9\xff.png"),
    "dash": "-rf.png",
    "escape": "\x1b[31mred.png",
    "hash": "# 100%.png",
    "yaml": "{a: [b, *c]}.png",
    "longest": "x" * 251 + ".png",
}


@pytest.mark.parametrize("name", _NAMES.values(), ids=list(_NAMES))
def test_names_of_all_sorts(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file, page = tmp_path / "set", tmp_path / "report.json", tmp_path / "report.html"
    for kind, values in (("images", 90), ("masks", 1)):
        (folder / kind).mkdir(parents=True)
        for number, own in enumerate([name, *(f"{i}.png" for i in range(9))]):
            pixels = np.random.default_rng(number).integers(0, 2, (24, 32)) * values
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / own)
    assert run(folder, "--json", file, "--html", page) == 0
    hashes = json.loads((folder / HASHES).read_text())["files"]
    assert len(hashes) == 20
    assert {f"images/{name}", f"masks/{name}"} <= set(hashes)
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(folder / "images" / name)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "masks" / name)
    assert run(folder, "--json", file, "--html", page) == 3
    report = json.loads(file.read_text())
    assert {(fault["kind"], fault["file"]) for fault in report["faults"]} == {
        ("changed", f"images/{name}"),
        ("changed", f"masks/{name}"),
        ("size-differs", f"masks/{name}"),
    }
    said = capsys.readouterr()
    shown = said.out.replace("\n", "")
    assert shown.isprintable()
    assert "size-differs" in shown
    Page(page.read_text(encoding="utf-8"))
    assert run(folder, "--fix", "--no-hashes") == 0
    assert yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8")) == {"exclude": [name]}
    capsys.readouterr()


# Hashes


def test_hashes_remember_files_without_fault(tmp_path: Path) -> None:
    site = make_clean(tmp_path, 0, 20)
    image, mask = site.pairs[0].image, site.pairs[0].mask
    planted = plant(site, "mask_a_row_short", np.random.default_rng(3))
    first = look_over(tmp_path, progress=False)
    known = json.loads((tmp_path / HASHES).read_text())["files"]
    assert len(known) == 39
    assert planted.files[0] not in known
    assert "39 hashes" in first.hashes
    assert known[site.name(mask)] == hashlib.sha256(mask.read_bytes()).hexdigest()
    image.write_bytes(image.read_bytes() + b" ")
    again = look_over(tmp_path, progress=False)
    assert [(f.kind, f.file) for f in again.faults] == [
        ("changed", site.name(image)),
        ("size-differs", planted.files[0]),
    ]
    assert "changed" in {fault.kind for fault in look_over(tmp_path, progress=False).faults}  # until it is accepted
    renewed = look_over(tmp_path, hashes="renew", progress=False)
    assert "changed" not in {fault.kind for fault in renewed.faults}
    assert "changed" not in {fault.kind for fault in look_over(tmp_path, progress=False).faults}


@pytest.mark.parametrize("content", ["", "[]", '{"files": [1, 2]}', "{}", "\0"])
def test_hashes_that_cannot_be_read_are_written_anew(content: str, tmp_path: Path) -> None:
    make_clean(tmp_path, 0, 12)
    (tmp_path / HASHES).write_text(content)
    found = look_over(tmp_path, progress=False)
    assert found.faults == []
    assert "written anew" in found.hashes
    assert len(json.loads((tmp_path / HASHES).read_text())["files"]) == 24


def test_a_folder_that_takes_no_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, value: object) -> None:
        raise FileSystemError("cannot write: Read-only file system", file=file)

    make_clean(tmp_path, 0, 12)
    monkeypatch.setattr(hashes, "write_bytes", refuse)
    lines: list[str] = []
    assert check(tmp_path, say=lines.append)["faults"] == []
    assert "hashes    no hashes are kept: cannot write: Read-only file system" in lines
    assert not (tmp_path / HASHES).exists()


# Real data


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("isbi2012", marks=real("isbi2012")),
        pytest.param("camvid", marks=[real("camvid"), pytest.mark.slow]),
    ],
)
def test_real_sets_are_without_fault(name: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / name, tmp_path / name)
    found = look_over(tmp_path / name, progress=False)
    assert found.faults == []
    assert found.summary is not None
    assert found.summary.classes is not None
    assert look_over(tmp_path / name, progress=False).faults == []


@pytest.mark.parametrize(
    "more", [{"dtype": np.int64}, {"dtype": np.uint64}, {"dtype": np.uint8, "byteorder": ">", "bigtiff": True}], ids=str
)
def test_masks_that_training_reads_are_looked_over(tmp_path: Path, more: dict[str, Any]) -> None:
    """One reader for both: what `train` reads exactly, `check` reports on, and one odd file costs no report."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for place in range(6):
        mask = np.zeros((24, 24), np.uint8)
        mask[: 4 + place] = 1
        Image.fromarray(90 * mask + place).save(tmp_path / "images" / f"{place}.png")
        options = {name: value for name, value in more.items() if name != "dtype"}
        tifffile.imwrite(tmp_path / "masks" / f"{place}.tif", mask.astype(more["dtype"]), **options)
    report = check(tmp_path, hashes="off", say=lambda line: None)
    assert report["faults"] == []
    assert [row["pixels"] for row in report["classes"]] == [6 * 576 - 39 * 24, 39 * 24]
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    assert sum(int(record.mask.sum()) for record in records) == 39 * 24


@pytest.mark.parametrize(
    "text", ['{"files": {"images/a.png": 5}}', '{"files": [1]}', "3", "[" * 200_000], ids=lambda t: t[:20]
)
def test_hashes_of_another_form_are_made_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / hashes.HASHES
    file.write_text(text)
    assert hashes._read(file) == ({}, ", written anew: those of earlier checks cannot be read")
