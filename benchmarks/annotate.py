"""What sparse paint is worth, by a robot that paints; figures to results/annotate.json.

    python benchmarks/annotate.py [--sets NAME ...] [--images N] [--strokes N] [--minutes M | --epochs N] [--seeds N]

The sets are drawn cells, and dsb2018, isbi2012 and camvid (in four classes) below the folder that UNETRES_DATA names.
Of each, 20 images are kept for the test; the robot paints on `--images` others, chosen at random. It draws as people
do: `--strokes` strokes an image with a brush of 5 px, each a path of 20 to 60 px that stays in the region of one class
where it can, jittered by 1 px; classes take turns, so that rare ones are painted; 2 in 100 are of a wrong class. With
`--correcting`, those after the first of each class lie in the largest region that the forest, which answers every
stroke, gets wrong: what one sees on the page.

Scored on the test images by their full masks: the forest, fitted to what is painted; a network that is trained
`--minutes` on that; and one that is trained as long, or as many epochs, on the full masks of the same images. Minutes
of painting are at a human's speed, a stroke in 2 s. With `--times`, the answer time: from a stroke to the last part of
a view of 512 px, of a forest with the features at hand, over 20 strokes, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from _data import DATA, left_out
from PIL import Image
from scipy import ndimage

from keras_unetres.painting.folder import find_pictures, make_project
from keras_unetres.painting.forest import Forest, features, fit_forest
from keras_unetres.painting.project import Project
from keras_unetres.scores.confusion import Confusion
from unetres_edge import Segmenter
from unetres_edge.files import make_folder, write_json
from unetres_edge.images.decode import read_image
from unetres_edge.images.preprocessing import IGNORE

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "annotate.json"
SETS = ("cells", "dsb2018", "isbi2012", "camvid")
CAMVID = {0: 1, 1: 2, 2: 2, 3: 3, 4: 3, 5: 0, 6: 2, 7: 2, 8: 2, 9: 2, 10: 2}  # to other, sky, things, ground
TEST = 20
WRONG = 0.02
BRUSH = 5
SECONDS_A_STROKE = 2.0

Pair = tuple[np.ndarray, np.ndarray]


def read_set(name: str, count: int, seed: int) -> tuple[tuple[str, ...], list[Pair], list[Pair]] | None:
    """Return class names, images with masks to paint on, and to test on; None where the set is not there."""
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.data.records import read_records
    from keras_unetres.data.synthetic import make_cells

    if name == "cells":
        drawn = [make_cells(number, size=(128, 128)) for number in range(TEST + 60)]
        pairs = [(each.image, each.mask.astype(np.uint8)) for each in drawn]
        names: tuple[str, ...] = ("background", "cell")
    elif not (DATA / name).is_dir():
        return None
    else:
        changes = {"masks_are": "instances"} if name == "dsb2018" else {"ignore": 11} if name == "camvid" else {}
        dataset = open_dataset(DATA / name, changes=changes)
        wanted = sorted(dataset.split("all"), key=lambda sample: sample.name)
        rng = np.random.default_rng(seed)
        chosen = {wanted[at].name for at in rng.permutation(len(wanted))[: TEST + count]}
        records = read_records(dataset, ["all"], progress=False)["all"]
        pairs = [(record.image, record.mask) for record in records if record.name in chosen]
        names = tuple(records.classes.names)
        if name == "camvid":
            table = np.full(256, IGNORE, np.uint8)
            table[list(CAMVID)] = list(CAMVID.values())
            pairs, names = [(image, table[mask]) for image, mask in pairs], ("other", "sky", "things", "ground")
    order = np.random.default_rng(seed).permutation(len(pairs))
    kept = max(len(pairs) // 2, min(TEST, len(pairs) - count)) if len(pairs) < TEST + count else TEST
    return names, [pairs[at] for at in order[kept : kept + count]], [pairs[at] for at in order[:kept]]


def draw_stroke(inside: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> list[list[float]]:
    """Return the points of a path of 20 to 60 px that begins in a part of a mask and stays in the mask where it can."""
    deep = ndimage.binary_erosion(inside, iterations=BRUSH // 2) & start
    ys, xs = np.nonzero(deep if deep.any() else start)
    at = rng.integers(len(ys))
    x, y, angle = float(xs[at]), float(ys[at]), rng.uniform(0, 2 * np.pi)
    points = [[x, y]]
    for _ in range(int(rng.integers(5, 15))):  # steps of 4 px
        for _ in range(12):
            turned = angle + rng.normal(0, 0.4)
            to = (x + 4 * np.cos(turned), y + 4 * np.sin(turned))
            column, row = int(to[0]), int(to[1])
            if 0 <= row < inside.shape[0] and 0 <= column < inside.shape[1] and inside[row, column]:
                (x, y), angle = to, turned
                break
            angle += rng.uniform(-1.5, 1.5)
        else:
            break
        points.append([x + rng.normal(0, 1), y + rng.normal(0, 1)])
    return points


def paint(project: Project, masks: dict[str, np.ndarray], given: argparse.Namespace, rng: np.random.Generator) -> None:
    """Paint on every image of a project: classes in turn, or after the first of each where the forest is wrong."""
    count, forest = len(project.classes), Corrected()
    for index, state in enumerate(project.images):
        mask, image = masks[state.picture.stem], read_image(project.picture_file(index))
        there = [value for value in range(count) if (mask == value).any()]
        for number in range(given.strokes):
            value = there[number % len(there)]
            start = mask == value
            if given.correcting and number >= len(there):
                start = forest.wrong(image, mask)
                value = int(np.bincount(mask[start]).argmax())
                start &= mask == value
            points = draw_stroke(mask == value, start, rng)
            said = int(rng.integers(count)) if rng.random() < WRONG else value
            request = {"id": f"{index}-{number}", "tool": "brush", "class": said, "object": 0, "size": BRUSH}
            project.stroke(index, request | {"points": points})
            if given.correcting:
                forest.see(index, image, project.canvas(index).classes)


class Corrected:
    """The forest that answers every stroke, as far as a robot looks at it: where it is wrong on the image at hand."""

    def __init__(self) -> None:
        self._samples: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._of: tuple[np.ndarray, np.ndarray] | None = None  # the image that was described last

    def _described(self, image: np.ndarray) -> np.ndarray:
        if self._of is None or self._of[0] is not image:
            self._of = (image, described(image))
        return self._of[1]

    def see(self, index: int, image: np.ndarray, classes: np.ndarray) -> None:
        """Take note of what is painted on an image."""
        self._samples[index] = samples_of(self._described(image), classes)

    def wrong(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the largest region (H, W) of one class that the forest gets wrong; of none, all that is known."""
        found = predicted(fit_samples(list(self._samples.values())), self._described(image))
        best, most = mask != IGNORE, 0
        for value in np.unique(mask[mask != IGNORE]):
            regions, count = ndimage.label((found != value) & (mask == value))
            sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
            if count and sizes.max() > most:
                best, most = regions == sizes.argmax() + 1, int(sizes.max())
        return best


def score(predict: Any, test: list[Pair], names: tuple[str, ...]) -> float:
    """Return the mIoU of a function from images to class maps."""
    confusion = Confusion.empty(len(names))
    for image, mask in test:
        confusion = confusion + Confusion.of(mask, predict(image), len(names))
    return float(confusion.mean_iou() or 0)


def samples_of(whole: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes of at most 1500 painted pixels of each class of an image."""
    rng, found = np.random.default_rng(0), []
    for value in np.unique(classes[classes != IGNORE]):
        at = np.argwhere(classes == value)
        found.append(at[rng.permutation(len(at))[:1500]])
    at = np.concatenate(found)
    return whole[at[:, 0], at[:, 1]], classes[at[:, 0], at[:, 1]]


def fit_samples(samples: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """Return the forest of the page, fitted to samples of several images."""
    return fit_forest(np.concatenate([each[0] for each in samples]), np.concatenate([each[1] for each in samples]))


def forest_of(project: Project) -> Any:
    """Return a function from images to class maps, by a forest fitted to what is painted."""
    model = fit_samples(
        [
            samples_of(described(read_image(project.picture_file(index))), project.canvas(index).classes)
            for index in range(len(project.images))
        ]
    )
    return lambda image: predicted(model, described(image))


def predicted(model: Any, whole: np.ndarray) -> np.ndarray:
    """Return the class map (H, W) of features (H, W, F)."""
    return np.asarray(model.predict(whole.reshape(-1, whole.shape[-1])).reshape(whole.shape[:2]))


def described(image: np.ndarray) -> np.ndarray:
    values = (image if image.ndim == 3 else np.stack([image] * 3, -1)).astype(np.float32)  # sets mix grey and colours
    return features(values, (slice(None), slice(None)))


def train(data: Path, run: Path, given: argparse.Namespace) -> Path:
    """Return the float32 file of a run that is planned and trained for some minutes, or epochs."""
    base = [sys.executable, "-m", "keras_unetres.cli"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "check": True}
    budget = ["--epochs", str(given.epochs)] if given.epochs else ["--minutes", f"{given.minutes:g}"]
    subprocess.run([*base, "train", str(data), "--out", str(run), *budget], **quiet)
    file = run.with_suffix(".tflite")
    more = ["--recipe", "float32", "--max-drop", "100", "--no-calibrate"]
    subprocess.run([*base, "export", str(run), "--out", str(file), *more], **quiet)
    return file


def network(file: Path) -> Any:
    segmenter = Segmenter(file)
    return lambda image: segmenter.segment(image).class_map


def write_full(folder: Path, project: Path, masks: dict[str, np.ndarray]) -> Path:
    """Write the same images with their full masks."""
    shutil.copytree(project / "images", folder / "images")
    shutil.copy(project / "dataset.yaml", folder / "dataset.yaml")
    make_folder(folder / "masks")
    for name, mask in masks.items():
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder


def answer_times(project: Project, count: int = 20) -> dict[str, float]:
    """Return the median and the 95th percentile of the seconds from a stroke to the last part of the answer."""
    picture = project.image(0).picture
    box = [0, 0, min(512, picture.width), min(512, picture.height)]
    blocks = -(-box[2] // 256) * -(-box[3] // 256)
    parts, done = [0], threading.Event()

    def hear(event: dict[str, Any]) -> None:
        if event.get("box"):
            parts[0] += 1
            if parts[0] == blocks:
                done.set()

    forest, times = Forest(project), []
    project.listen(lambda event: hear(event) if "forest" in event else None)
    forest.ask(0, {"box": box, "level": 0})
    done.wait(120)
    for number in range(count):
        parts[0] = 0
        done.clear()
        begun = time.perf_counter()
        request = {"id": f"t{number}", "tool": "brush", "class": number % 2, "object": 0, "size": BRUSH}
        project.stroke(0, request | {"points": [[5 + 3 * number, 9]]})
        assert done.wait(120)
        times.append(time.perf_counter() - begun)
        project.undo(0, {"id": f"u{number}"})
        time.sleep(0.3)
    forest.close()
    median, late = np.percentile(times, (50, 95))
    return {"view": f"{box[2]} x {box[3]}", "median_s": round(float(median), 3), "p95_s": round(float(late), 3)}


def measure(name: str, given: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any] | None:
    found = read_set(name, given.images, seed)
    if found is None:
        print(left_out(name))
        return None
    names, to_paint, test = found
    pictures, masks = make_folder(folder / "pictures"), {}
    for number, (image, mask) in enumerate(to_paint):
        Image.fromarray(image).save(pictures / f"i{number:03}.png")
        masks[f"i{number:03}"] = mask
    silent = lambda line: None  # noqa: E731
    make_project(folder / "project", pictures, names, None, find_pictures(pictures, silent), silent)
    with Project(folder / "project") as project:
        paint(project, masks, given, np.random.default_rng(seed))
        share = np.mean([(project.canvas(i).classes != IGNORE).mean() for i in range(len(project.images))])
        row: dict[str, Any] = {"images": len(to_paint), "test": len(test), "strokes": given.strokes * len(to_paint)}
        row["painted_percent"] = round(100 * float(share), 2)
        row["minutes_of_painting"] = round(row["strokes"] * SECONDS_A_STROKE / 60, 1)
        row["forest"] = round(score(forest_of(project), test, names), 4)
        if given.times:
            row["answer"] = answer_times(project)
    if given.minutes or given.epochs:
        full = write_full(make_folder(folder / "full"), folder / "project", masks)
        for key, data in (("network_on_paint", folder / "project"), ("network_on_full_masks", full)):
            row[key] = round(score(network(train(data, folder / key, given)), test, names), 4)
        row["share_of_full"] = round(row["network_on_paint"] / row["network_on_full_masks"], 3)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--strokes", type=int, default=12, help="of an image")
    parser.add_argument("--correcting", action="store_true", help="strokes where the forest is wrong, not anywhere")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training; 0 for none")
    parser.add_argument("--epochs", type=int, help="of each training, instead of minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--times", action="store_true", help="also measure the answer time, on a machine at rest")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows: dict[str, list[dict[str, Any]]] = {}
    known: dict[str, Any] = {"command": given_command(), "cores": os.cpu_count(), "sets": rows}
    known |= {"epochs": given.epochs} if given.epochs else {"minutes": given.minutes}
    for name in given.sets:
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                row = measure(name, given, seed, Path(folder))
            if row is not None:
                print(name, json.dumps(row), flush=True)
                rows.setdefault(name, []).append(row)
                write_json(given.out, known)


if __name__ == "__main__":
    main()
