"""The C runtime: labels equal to Python's in every pixel, and hostile files, cards and images refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from c_runtime import (
    CROSS,
    SANITIZED,
    SOURCES,
    STRICT,
    Library,
    RefusedError,
    build,
    compiler,
    draw_case,
    draw_unpadded,
)
from models import make_card, make_conv, make_dense, make_identity, replace_card
from nets import make_net, net_card

from unetres_edge import Segmenter
from unetres_edge.errors import UnetresError
from unetres_edge.model.card import CARD_NAME, seal
from unetres_edge.model.engine_cost import EngineCost
from unetres_edge.results.vector import encode_rle

GOLDEN = Path(__file__).parent / "golden"
CAMPAIGN = 1000  # images


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The C runtime, compiled with every warning as an error."""
    return Library(build(tmp_path_factory.mktemp("c") / "libunetres.so", "-O1", "-shared", "-fPIC"))


def check_equal(library: Library, seed: int) -> int:
    """Check that a drawn image gets the labels that Python gives; return how many classes they have."""
    draw = draw_unpadded if seed % 5 == 4 else draw_case
    data, overlap, image = draw(np.random.default_rng(seed))
    with Segmenter(data, num_threads=1, overlap=overlap) as segmenter:
        expected = segmenter.segment(image).class_map
    model = library.open(data, -1 if overlap is None else overlap)
    np.testing.assert_array_equal(model.segment(image), expected, err_msg=f"drawn from seed {seed}")
    model.close()
    return len(np.unique(expected))


def test_labels_equal_pythons_on_drawn_images(library: Library) -> None:
    assert sum(check_equal(library, seed) > 1 for seed in range(80)) > 30  # of more than one class


@pytest.mark.long
def test_labels_equal_pythons_on_a_thousand_images(library: Library) -> None:
    assert sum(check_equal(library, 1000 + seed) > 1 for seed in range(CAMPAIGN)) > 300


@pytest.mark.parametrize("name", ["web_argmax", "web_cells", "web_float32", "web_int8"])
def test_labels_equal_pythons_on_trained_files(library: Library, name: str) -> None:
    data = (GOLDEN / f"{name}.tflite").read_bytes()
    image = np.random.default_rng(3).integers(0, 65536, (24, 37, 3), np.uint16).repeat(5, 0).repeat(3, 1)
    with Segmenter(data, num_threads=1) as segmenter:
        expected = segmenter.segment(image).class_map
    np.testing.assert_array_equal(library.open(data).segment(image), expected)


def test_quantized_ends_and_cuts_between_tiles(library: Library) -> None:
    rng = np.random.default_rng(2)
    for kind, zero in (("int8", -3), ("uint8", 120)):
        card = make_card((16, 12), 3, 3, pre={"mean": (0.0, 3.0, 9.0), "std": (1.0, 0.9, 1.1)})
        data = make_identity(card, (1, 16, 12, 3), kind, (1.5, zero))
        for shape in ((16, 12, 3), (40, 31, 3)):
            image = rng.integers(0, 256, shape, np.uint8)
            with Segmenter(data, num_threads=1) as segmenter:
                np.testing.assert_array_equal(library.open(data).segment(image), segmenter.segment(image).class_map)
    data = make_net(net_card((16, 16), head="argmax"))
    image = rng.integers(0, 256, (90, 71, 3), np.uint8)
    for overlap in (0, 1, 2, 5):
        with Segmenter(data, num_threads=1, overlap=overlap) as segmenter:
            expected = segmenter.segment(image).class_map
        np.testing.assert_array_equal(library.open(data, overlap).segment(image), expected)


def test_what_other_engines_cost_is_passed_over(library: Library) -> None:
    cost = EngineCost("openvino", "2026.4.1", 59, -0.004, 0.999, 0.99, 0.998)
    card = make_card((8, 8), classes=2, engines=(cost, cost))
    model = library.open(make_conv(card, np.array([[0], [1]]), np.array([100.0, 0.0])))
    image = np.arange(80, dtype=np.uint8).reshape(8, 10) * 3
    np.testing.assert_array_equal(model.segment(image), image > 100)
    model.close()


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_one_channel_tells_of_the_second_class(library: Library, activation: str) -> None:
    card = make_card((8, 8), 1, 2, activation=activation, pre={"mean": (100.0,), "std": (50.0,)})
    data = make_identity(card, (1, 8, 8, 1))
    image = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    with Segmenter(data, num_threads=1) as segmenter:
        expected = segmenter.segment(image).class_map
    assert len(np.unique(expected)) == 2
    np.testing.assert_array_equal(library.open(data).segment(image), expected)


def test_halves_of_levels_go_to_the_even_one(library: Library) -> None:
    card = make_card((4, 4), 1, 2, pre={"per_image": (0.0, 100.0)})
    data = make_conv(card, np.array([[1], [0]]), np.array([0, 2.5]))  # class 1 below the level 2.5
    image = np.array([[0, 3, 4, 5, 6, 7, 510]], np.uint16)  # two of them are a level: 1.5, 2, 2.5, 3, 3.5
    expected = [[1, 1, 1, 1, 0, 0, 0]]
    with Segmenter(data, num_threads=1) as segmenter:
        np.testing.assert_array_equal(segmenter.segment(image).class_map, expected)
    np.testing.assert_array_equal(library.open(data).segment(image), expected)


def test_rows_with_gaps_and_blue_first(library: Library) -> None:
    data = make_net(net_card((16, 20)))
    image = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    model = library.open(data)
    expected = model.segment(image)
    np.testing.assert_array_equal(model.segment(image, gap=7), expected)
    np.testing.assert_array_equal(model.segment(image[..., ::-1], bgr=True), expected)
    opaque = np.dstack([image[..., ::-1], np.full(image.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(model.segment(opaque, bgr=True), expected)
    assert (model.segment(image[..., ::-1]) != expected).any()


def test_run_lengths_are_pythons(library: Library) -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        shape = tuple(rng.integers(1, 90, 2))
        class_map = rng.integers(0, 3, shape).astype(np.uint8).repeat(rng.integers(1, 9), 0)
        for class_id in range(3):
            assert library.rle(class_map, class_id) == encode_rle(class_map == class_id)["counts"]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), "channels"),
        (np.zeros((4, 4, 4), np.uint8), "transparent"),
        (np.full((4, 4, 3), 1.5, np.float32), "outside"),
        (np.full((4, 4, 3), np.nan, np.float32), "outside"),
        (np.zeros((4, 4, 4), np.float32), "transparent"),
    ],
)
def test_images_that_python_refuses_are_refused(library: Library, image: np.ndarray, says: str) -> None:
    model = library.open(make_net(net_card((8, 8))))
    with pytest.raises(RefusedError, match=says) as refused:
        model.segment(image)
    assert refused.value.code == "image"


def test_scores_and_ids_that_are_none_are_refused(library: Library) -> None:
    card = make_card((8, 8), 1, 2)
    with pytest.raises(RefusedError, match="not finite"):
        library.open(make_conv(card, np.array([[1], [np.nan]]), np.zeros(2))).segment(np.ones((9, 9), np.uint8))
    ids = make_card((8, 8), 1, 2, head="argmax")
    with pytest.raises(RefusedError, match="does not name"):
        library.open(make_identity(ids, (1, 8, 8, 1), "uint8", (1.0, 0))).segment(np.full((8, 8), 9, np.uint8))


def test_files_that_python_refuses_are_refused_by_the_same_code(library: Library) -> None:
    card = make_card((8, 8), 1, 2)
    right = make_conv(card, np.array([[1], [-1]]), np.zeros(2))
    changed = bytearray(right)
    changed[right.index(b"kernel")] ^= 1
    resize = make_card((8, 8), 1, 2, task="classify", fit="resize")
    dense = make_dense(resize, np.ones((2, 64)), np.zeros(2))
    wrong = {
        "nothing": b"",
        "no model": b"\x89PNG" + bytes(90),
        "cut": right[: len(right) // 2],
        "changed": bytes(changed),
        "no card": make_conv(None, np.array([[1], [-1]]), np.zeros(2)),
        "a classifier": dense,
        "another size": replace_card(right, make_card((8, 9), 1, 2)),
        "more classes": replace_card(right, make_card((8, 8), 1, 3)),
        "one class": make_identity(make_card((8, 8), 1, 1), (1, 8, 8, 1)),
        "one channel of a softmax": make_identity(make_card((8, 8), 1, 2), (1, 8, 8, 1)),
        "no quantization": make_identity(make_card((8, 8), 2, 2), (1, 8, 8, 2), "int8"),
        "float64": make_identity(make_card((8, 8), 2, 2), (1, 8, 8, 2), "float64"),
        "two outputs": make_identity(make_card((8, 8), 2, 2), (1, 8, 8, 2), outputs=2),
        "no labels": make_identity(make_card((8, 8), 1, 1, head="argmax"), (1, 8, 8, 1)),
    }
    for what, data in wrong.items():
        with pytest.raises(UnetresError) as python:
            Segmenter(data)
        with pytest.raises(RefusedError) as found:
            library.open(data)
        assert found.value.code == python.value.code, what


def test_cards_are_read_as_python_reads_them(library: Library) -> None:
    """Written another way, a card is the same one; what Python refuses is refused."""
    data = make_conv(make_card((8, 8), 1, 2), np.array([[1], [-1]]), np.array([-100, 100]))
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with Segmenter(data) as segmenter:
        text, expected = segmenter.card.to_json(), segmenter.segment(image).class_map
    assert len(np.unique(expected)) == 2
    for change, by in (
        ('"halo"', '"h\\u0061lo"'),
        ('"class 1"', '"\\u00e9 \\ud83d\\ude00 \\\\ \\n \u4e2d"'),
        ('"mean": [0.0]', '"mean" :\t[ 0e0\r\n]'),
        ('"size": [8, 8]', '"size": [8.0, 8]'),
        ('"stride": 0, ', ""),
        ('"task": "segment"', '"task": "classify", "task": "segment"'),
        ('"calibration": null', '"calibration": {"temperature": 2.5, "bias": [0, 0.5], "images": 9, "split": "val"}'),
        (
            '"familiarity": null',
            '"familiarity": {"features": ["mean"], "mean": [9], "spread": [1], "low": [0], "high": [9], '
            '"whiten": [[1]], "distances": [0.5], "images": 3}',
        ),
        (
            '"promises": []',
            '"promises": [{"risk": "miss", "classes": [1], "level": 0.1, "threshold": 0.2, "images": 9}]',
        ),
        ('"versions": {}', '"versions": {"a": {"sha256": [null, true, -1.5E+3]}}'),
    ):
        changed = replace_text(data, text, change, by)
        with Segmenter(changed) as segmenter:
            np.testing.assert_array_equal(segmenter.segment(image).class_map, expected)
        np.testing.assert_array_equal(library.open(changed).segment(image), expected, err_msg=by)
    for change, by in (
        ('"halo": 0', '"halo": x'),
        ('"halo": 0', '"halo": -1'),
        ('"halo": 0, ', ""),
        ('"schema": 1', '"schema": 2'),
        ('"segment"', '"segmemt"'),
        ('"size": [8, 8]', '"size": [8, -8]'),
        ('"size": [8, 8]', '"size": [8, 8.5]'),
        ('"size": [8, 8]', '"size": [8, 8, 8]'),
        ('"std": [1.0]', '"std": [0.0]'),
        ('"std": [1.0]', '"std": [1e999]'),
        ('"std": [1.0]', '"std": [NaN]'),
        ('"std": [1.0]', '"std": [1.0, 1.0]'),
        ('"crop"', '"crap"'),
        ('"softmax"', '"softmix"'),
        ('"class 1"', '"class\x011"'),
        ('"class 1"', "1"),
        ("[0, 0, 0]", "[0, 0, 256]"),
        ("[0, 0, 0]", "[0, 0]"),
        ('"per_image": null', '"per_image": [9, 9]'),
        ('"per_image": null', '"per_image": null, "gamma": 2'),
        ('"versions": {}', '"versions": {,}'),
        ('"versions": {}', '"versions": ' + 2000 * "[" + 2000 * "]"),
    ):
        changed = replace_text(data, text, change, by)
        with pytest.raises(UnetresError):
            Segmenter(changed).segment(image)
        with pytest.raises(RefusedError):
            library.open(changed)


def replace_text(data: bytes, text: str, change: str, by: str) -> bytes:
    """Return a model file, sealed, with a piece of its card's text replaced."""
    assert text.count(change) == 1, change
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    (buffer,) = (entry.buffer for entry in model.metadata if entry.name.decode() == CARD_NAME)
    model.buffers[buffer].data = np.frombuffer(text.replace(change, by).encode(), np.uint8)
    return seal(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def test_damage_anywhere_is_seen(library: Library) -> None:
    data = make_net(net_card((8, 8)))
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(data), 60):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(RefusedError):
            library.open(bytes(changed))
    for end in rng.integers(0, len(data), 60):
        with pytest.raises(RefusedError):
            library.open(data[:end])


def test_numbers_do_not_hang_on_the_locale(library: Library) -> None:
    import locale

    before = locale.setlocale(locale.LC_NUMERIC)
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"):
        try:
            locale.setlocale(locale.LC_NUMERIC, name)
        except locale.Error:
            continue
        break
    else:
        pytest.skip("needs a locale with a decimal comma")
    try:
        data, _, image = draw_case(np.random.default_rng(11))
        with Segmenter(data, num_threads=1) as segmenter:
            np.testing.assert_array_equal(library.open(data).segment(image), segmenter.segment(image).class_map)
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


def test_the_file_is_small_and_needs_only_the_c_library() -> None:
    compiler()
    text = (SOURCES / "unetres.c").read_text(encoding="ascii")
    assert text.count("\n") <= 1500
    standard = {"ctype", "float", "limits", "locale", "math", "stdarg", "stdio", "stdlib", "string"}
    assert set(re.findall(r"#include <(\w+)\.h>", text)) <= standard
    assert re.findall(r'#include "(.*)"', text) == ["unetres.h"]


def test_the_program_of_the_guide_compiles(tmp_path: Path) -> None:
    page = SOURCES.parents[1] / "docs" / "tasks" / "c.md"
    if not page.is_file():
        pytest.skip("needs the guide, which lies in the repository")
    lines = re.search(r"^```c\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1].splitlines()
    values = "const void *file, size_t size, const void *pixels, uint32_t height, uint32_t width, uint8_t *class_map"
    body = [lines[0], "#include <stdio.h>", f"void run({values});", f"void run({values}) {{", *lines[1:], "}"]
    (tmp_path / "program.c").write_text("\n".join(body))
    words = [compiler(), *STRICT, "-fsyntax-only", f"-I{SOURCES}", tmp_path / "program.c"]
    assert subprocess.run(words, capture_output=True, text=True).stderr == ""


# ---- The command, on LiteRT's C API ----


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`unetres-c`, linked with the libLiteRt that lies in the wheel of ai-edge-litert."""
    found = importlib.util.find_spec("ai_edge_litert")
    shared = Path(found.submodule_search_locations[0]) / "libLiteRt.so" if found else Path("missing")  # type: ignore[index]
    if not shared.is_file():
        pytest.skip("needs libLiteRt.so in the wheel of ai-edge-litert, which has it on Linux")
    sources = ("unetres.c", "unetres_litert.c", "pnm.c", "command.c")
    if compiler().endswith(CROSS):
        pytest.skip("needs a machine that starts the programs it compiles; an emulated one does not")
    libraries = (str(shared), f"-Wl,-rpath,{shared.parent}")
    return build(tmp_path_factory.mktemp("command") / "unetres-c", "-O1", sources=sources, libraries=libraries)


def write_pnm(file: Path, image: np.ndarray, largest: int) -> Path:
    """Write a binary PGM or PPM."""
    kind = b"P5" if image.ndim == 2 else b"P6"
    dtype = ">u2" if largest > 255 else "u1"
    size = b"%d %d # px\n%d\n" % (image.shape[1], image.shape[0], largest)
    file.write_bytes(kind + b"\n" + size + image.astype(dtype).tobytes())
    return file


def read_mask(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the class ids of a mask that the command wrote."""
    data = file.read_bytes()
    head = b"P5\n%d %d\n255\n" % (shape[1], shape[0])
    assert data.startswith(head)
    return np.frombuffer(data[len(head) :], np.uint8).reshape(shape)


@pytest.mark.parametrize(("name", "largest"), [("web_int8", 255), ("web_float32", 4095), ("web_argmax", 9)])
def test_the_command_gives_pythons_labels(command: Path, tmp_path: Path, name: str, largest: int) -> None:
    model = GOLDEN / f"{name}.tflite"
    image = np.random.default_rng(7).integers(0, largest + 1, (21, 40, 3)).repeat(4, 0).repeat(3, 1)
    file = write_pnm(tmp_path / "image.ppm", image[..., 0] if largest == 9 else image, largest)
    words = [command, model, file, tmp_path / "mask.pgm", "--rle", "1", "--threads", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Segmenter(model, num_threads=1) as segmenter:
        result = segmenter.segment(file)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.pgm", result.class_map.shape), result.class_map)
    assert json.loads(done.stdout) == result.rle(1)


def test_the_command_says_what_is_wrong(command: Path, tmp_path: Path) -> None:
    image = write_pnm(tmp_path / "image.pgm", np.zeros((5, 6), np.uint8), 255)
    model, mask = tmp_path / "m.tflite", tmp_path / "mask.pgm"
    model.write_bytes((GOLDEN / "web_int8.tflite").read_bytes())
    (tmp_path / "cut.ppm").write_bytes(image.read_bytes()[:-1])
    (tmp_path / "above.ppm").write_bytes(b"P5\n1 1\n9\n\x0a")
    for words, code, says in (
        ([model, image], 2, "usage"),
        ([model, image, mask, "--threads", "x"], 2, "usage"),
        ([model, image, mask, "--threads", "0"], 2, "usage"),
        ([model, image, mask, "--rle", "200"], 2, "no such class; expected 0 to 2"),
        ([model, image, image], 2, "would replace"),
        ([model, image, model], 2, "would replace"),
        ([model, model, mask], 3, "not a binary PGM"),
        ([model, tmp_path / "cut.ppm", mask], 3, "truncated"),
        ([model, tmp_path / "above.ppm", mask], 3, "maximum"),
        ([image, image, mask], 4, "not a .tflite"),
        ([tmp_path / "none", image, mask], 5, "cannot read"),
        ([model, image, tmp_path / "no" / "mask.pgm"], 5, "cannot write"),
    ):
        done = subprocess.run([command, *words], capture_output=True, text=True)
        assert (done.returncode, says in done.stderr.splitlines()[-1]) == (code, True), done.stderr
    assert not list(tmp_path.glob("*.part"))
    assert subprocess.run([command, "--help"], capture_output=True, text=True).stdout.startswith("usage: unetres-c")


# ---- Compilers, sanitizers, fuzzing ----


@pytest.mark.slow
@pytest.mark.parametrize("by", ["gcc", "clang", "aarch64-linux-gnu-gcc"])
def test_compilers_have_nothing_to_say(by: str, tmp_path: Path) -> None:
    for source in ("unetres.c", "unetres_litert.c", "pnm.c", "command.c"):
        for level in ("-O0", "-O3"):
            words = [compiler(by), *STRICT, level, "-c", str(SOURCES / source), "-o", str(tmp_path / "a.o")]
            assert subprocess.run(words, capture_output=True, text=True).stderr == "", (source, level)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "words", "fused"),
    [
        ("gcc", ("-march=haswell",), "vfmadd"),
        ("clang", ("-march=haswell",), "vfmadd"),
        ("aarch64-linux-gnu-gcc", (), "fmadd|fmla"),
    ],
)
def test_products_and_sums_are_rounded_each(by: str, words: tuple[str, ...], fused: str, tmp_path: Path) -> None:
    """A compiler that joins them, as GCC does unless told otherwise, gives other labels near a tie."""
    loop = "float f(float a, float b, float c);\nfloat f(float a, float b, float c) { return a * b + c; }\n"
    (tmp_path / "loop.c").write_text(loop)
    command = [compiler(by), "-std=gnu11", "-O3", "-ffp-contract=fast", *words, "-S", "-o", "-"]
    joined = subprocess.run([*command, tmp_path / "loop.c"], capture_output=True, text=True, check=True).stdout
    assert re.search(fused, joined)  # so the compiler would
    ours = subprocess.run([*command[:3], *command[4:], SOURCES / "unetres.c"], capture_output=True, text=True)
    assert ours.returncode == 0 and not re.search(fused, ours.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["gcc", "clang"])
def test_labels_equal_pythons_under_sanitizers(by: str, tmp_path: Path) -> None:
    shared = build(tmp_path / "libunetres.so", *SANITIZED, "-shared", "-fPIC", *sanitizer_words(by), by=by)
    runtime = subprocess.run(
        [compiler(by), f"-print-file-name={'libasan.so' if by == 'gcc' else sanitizer_library()}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from c_runtime import Library; import test_c_runtime as t\n"
        "library = Library(Path(sys.argv[2]))\n"
        "for seed in range(2000, 2100): t.check_equal(library, seed)\n"
    )
    environment = {**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    words = [sys.executable, "-c", script, str(Path(__file__).parent), str(shared)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def sanitizer_words(by: str) -> tuple[str, ...]:
    return ("-shared-libasan",) if by == "clang" else ()


def sanitizer_library() -> str:
    return "libclang_rt.asan-x86_64.so"


def fuzz_build(folder: Path, by: str, *words: str) -> Path:
    """Compile the fuzzing; as there is only one program, of two files."""
    out = folder / "fuzz"
    files = [str(SOURCES / "fuzz" / "fuzz.c"), str(SOURCES / "pnm.c")]
    command = [
        compiler(by),
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        *SANITIZED,
        *words,
        *files,
        "-o",
        str(out),
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def make_corpus(folder: Path) -> list[Path]:
    subprocess.run([sys.executable, SOURCES / "fuzz" / "seeds.py", folder], check=True)
    return sorted(folder.iterdir())


@pytest.mark.slow
def test_mutated_files_cards_and_images_do_no_harm(tmp_path: Path) -> None:
    program = fuzz_build(tmp_path, "gcc", "-DALONE")
    corpus = make_corpus(tmp_path / "corpus")
    done = subprocess.run([program, "20000", "1", *corpus], capture_output=True, text=True)
    assert done.returncode == 0 and "20000 inputs" in done.stdout, done.stderr[-3000:]


@pytest.mark.long
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    program = fuzz_build(tmp_path, "clang", "-fsanitize=fuzzer")
    make_corpus(tmp_path / "corpus")
    words = [f"-dict={SOURCES / 'fuzz' / 'card.dict'}", "-max_len=16384", "-max_total_time=3600", "-rss_limit_mb=2048"]
    done = subprocess.run([program, *words, tmp_path / "corpus"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
