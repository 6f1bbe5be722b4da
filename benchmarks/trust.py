"""Whether a file knows when not to be believed: calibration, promised risk, unfamiliar pictures; to results/trust.json.

    python benchmarks/trust.py --runs FOLDER [NAME ...]

Trains small networks (8 filters, minutes) below FOLDER on the data sets below the folder that UNETRES_DATA names, or
takes the runs and files that are there: FOLDER/NAME and FOLDER/NAME.tflite. `dsb_dark` are the dark pictures of
dsb2018; its stained sections are left out of the training.

Calibration: the expected calibration error (15 bins) of answers and of classes, on test images, before and after, of
the int8 file and of the float32 file, each calibrated on the validation images by itself.

Promised risk: over 200 random halves of all held-out images, the mean risk of the one half with the threshold of the
other, the share of halves above the level, and of the pixels that are given up. Of camvid 8 are cars, 3 is road.

Unfamiliar pictures: for eight corruptions at five strengths and for pictures of other kinds, the share that is warned
of, and the AUROC of the verdict against untouched test images. Over all corrupted and untouched pictures, the AUROC of
"its mIoU is below the 5th percentile of the validation images'" by the verdict (`joined`), by the mIoU that the file
expects of its own mask (`quality`), by the numbers that tell both (`distance` of the picture, the network's `doubt`
inside of regions, `borders`: how far it is from the usual one there), and beside those by the expected IoU, mean
entropy, energy and largest logit. The mIoU is that of the picture alone. With --peers it is of the files and sets that
`benchmarks/peers.py --runs FOLDER` left there, calibrated first: dsb2018, camvid; of isbi2012 one image is held out
there, by which nothing can be told.

Suspects: a tenth of the masks, all parts together, get a fault (the largest object dropped, the mask shifted by 8 px,
another image's mask); the share of them that is in the first 12 % and 25 % of the list.

Next: of all dsb2018, 60 images are for the score and 16 for choosing weights. A network that has seen 20 others chooses
40 by `unetres next`; a new one learns from these 60, others from 60 and from 120 at random that hold the same 20, each
about as many steps. The mIoU on the 60, for each seed that is given.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA, left_out
from PIL import Image
from real_data import ROOT, machine, scored, train_run, unetres
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from keras_unetres.data.synthetic import write_cells
from keras_unetres.scores.confusion import Confusion
from keras_unetres.scores.reliability import measure_reliability
from keras_unetres.tasks import TASKS
from keras_unetres.tasks.reading import read_for
from keras_unetres.trust.calibrate import fit_calibration, log_loss
from keras_unetres.trust.familiarity import seen_features
from keras_unetres.trust.risk import THRESHOLDS, Curves, keep_promise, read_promise, risk_curves
from keras_unetres.trust.scored_pixels import score_pixels
from keras_unetres.workflows.calibrate import calibrate
from keras_unetres.workflows.next_images import next_images
from keras_unetres.workflows.suspects import suspects
from unetres_edge import Segmenter
from unetres_edge.errors import DataError
from unetres_edge.files import make_folder, write_json
from unetres_edge.images.decode import read_image
from unetres_edge.model.familiarity import ALARM, border_shifts
from unetres_edge.results.doubt import SURE, doubts_of

SMALL = "--filters 8 --learning-rate 0.002 --ema 0.98"
RUNS = {
    "isbi2012": f"--epochs 22 --batch 2 {SMALL} --per-image 1 99 --val-from '1[6-9].png' --test-from '2[0-3].png'",
    "dsb_dark": f"--epochs 8 --batch 8 {SMALL} --per-image 1 99 --masks instances --target separated "
    "--augment microscopy",
    "camvid": f"--epochs 40 --batch 4 {SMALL} --ignore 11 --fit resize --class-weights softened",
}
DRAWN, POOL = "drawn", "dsb2018"  # 100 drawn cells, of which masks alone are judged; pictures to choose from
ALONE = {DRAWN: {"suspects"}, POOL: {"suspects", "next"}}  # what is measured of data without a run of its own
FIRST, MORE, SCORED, CHECKED = 20, 40, 60, 16  # images: labelled at first, then, for the score, for choosing weights
STEPS, SIDE, BATCH = 720, 128, 8  # of each training of what to label next: steps, about, px, crops
NEXT = (
    f"--size {SIDE} --batch {BATCH} {SMALL} --per-image 1 99 --masks instances --target separated --augment microscopy"
)
PEERS = ("dsb2018", "camvid")
OTHERS = {
    POOL: ("isbi2012", "camvid"),
    "isbi2012": ("dsb_dark", "dsb_stained", "camvid"),
    "dsb_dark": ("dsb_stained", "isbi2012", "camvid"),
    "camvid": ("isbi2012", "dsb_dark", "dsb_stained"),
}
KINDS = ("blur", "noise", "jpeg", "gamma", "swap", "scale", "dirt", "defocus")
PARTS = ("calibration", "risk", "familiarity", "cost", "suspects", "next")
FAULTS = (
    "dropped",
    "shifted",
    "another's",
)  # a tenth of the masks, in turn; classes are not swapped where there is one
READING: dict[str, dict[str, Any]] = dict.fromkeys(
    ("dsb_dark", POOL), {"masks_are": "instances", "target": "separated"}
)
RISKS = {
    "isbi2012": ("miss", "error"),
    "dsb_dark": ("miss", "false", "error"),
    "camvid": ("miss(8)", "miss(3)", "error"),
}
LEVELS, SPLITS = (0.05, 0.1), 200
SCORES = ("expected_iou", "entropy", "energy", "max_logit")  # what others tell bad masks by
COUNT = 8  # test pictures that are corrupted, and pictures of each other kind


def main() -> None:
    """Measure the runs named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*RUNS, *ALONE, []], help="runs (all)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of what to label next (0 1 2)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--runs", type=Path, help="where runs and files are, or are made")
    where.add_argument("--peers", type=Path, help="where benchmarks/peers.py left files and sets: familiarity of these")
    options = parser.parse_args()
    results = make_folder(ROOT / "benchmarks" / "results") / "trust.json"
    with tempfile.TemporaryDirectory() as temporary:
        places = data_sets(Path(temporary))
        if options.peers:
            for name in options.names or PEERS:
                keep(results, f"{name} of peers", {"familiarity": of_peers(name, options.peers, places)})
            return
        for name in options.names or (*RUNS, *ALONE):
            if name not in places:
                print(left_out(name))
                continue
            for part in sorted(set(options.parts) & ALONE.get(name, set(PARTS) - {"next"}), key=PARTS.index):
                if part == "next":
                    row: dict[str, Any] = {part: labelled_next(places[name], options.runs, options.seeds)}
                else:
                    row = measure(name, part, places, options.runs)
                keep(results, name, row)


def keep(results: Path, name: str, row: dict[str, Any]) -> None:
    """Put what was measured of a run into the file of results, and print it."""
    rows = json.loads(results.read_text())["runs"] if results.is_file() else {}
    rows[name] = rows.get(name, {}) | row
    write_json(results, {"machine": machine(), "runs": rows})
    for part in set(row) & set(PARTS):
        print(name, part, row[part]["summary"] if part == "familiarity" else row[part], flush=True)


def of_peers(name: str, folder: Path, places: dict[str, Path]) -> dict[str, Any]:
    """Return what is measured of unfamiliar pictures, of a file and a set that `benchmarks/peers.py` made."""
    parts = folder / "sets" / name
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "model.tflite"
        calibrate(folder / f"{name}_keras-unetres_10_0" / "int8.tflite", parts / "data", out=file)
        with Segmenter(file) as segmenter:
            card = segmenter.card
            records = {
                "val": read_for(card, str(parts / "data"), "val"),
                "test": read_for(card, str(parts / "test"), "all"),
            }
            return familiarity(name, segmenter, records, places)


def data_sets(folder: Path) -> dict[str, Path]:
    """Return where each data set is; dsb2018 is parted into dark pictures and stained sections."""
    places = {name: DATA / name for name in ("isbi2012", "camvid") if (DATA / name).is_dir()}
    places[DRAWN] = write_cells(folder / DRAWN, num_images=100, size=(64, 64))
    source = DATA / "dsb2018"
    if not source.is_dir():
        return places
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for path in sorted((source / "images").iterdir()):
        values = np.asarray(Image.open(path).convert("RGB")).astype(float)
        kinds[bool(np.abs(values[..., 0] - values[..., 2]).mean() > 2)].append(path.name)
    dark = kinds[False]
    np.random.default_rng(0).shuffle(dark)
    for part, names in {"train": dark[:99], "val": dark[99:141], "test": dark[141:]}.items():
        link(source, folder / "dsb_dark" / part, names)
    link(source, folder / "dsb_stained", kinds[True])
    return {**places, "dsb_dark": folder / "dsb_dark", "dsb_stained": folder / "dsb_stained", POOL: source}


def link(source: Path, folder: Path, names: list[str]) -> None:
    for kind in ("images", "masks"):
        make_folder(folder / kind)
        for name in names:
            (file,) = (source / kind).glob(f"{Path(name).stem}.*")
            (folder / kind / file.name).symlink_to(file)


def measure(name: str, part: str, places: dict[str, Path], runs: Path) -> dict[str, Any]:
    """Return a part of what is measured of one run."""
    if part == "suspects":
        return {part: suspects_found(name, places[name])}
    run, data = runs / name, str(places[name])
    files = {"int8": runs / f"{name}.tflite", "float32": runs / f"{name}_float32.tflite"}
    if not files["int8"].is_file():
        train_run(data, run, shlex.split(RUNS[name]))
        unetres("export", run, "--out", files["int8"], "--data", data, "--max-drop", 5)
    if not files["float32"].is_file():
        unetres("export", run, "--out", files["float32"], "--recipe", "float32", "--no-gate")
    with Segmenter(files["int8"]) as segmenter, Segmenter(files["float32"]) as exact:
        records = {part: read_for(segmenter.card, data, part) for part in ("val", "test")}
        row: dict[str, Any] = {
            "options": options_of(run),
            "images": {split: len(each) for split, each in records.items()},
        }
        if part == "cost":
            return row | {part: cost(segmenter, records["test"][0].image)}
        if part == "calibration":
            return row | {part: {"int8": calibration(segmenter, records), "float32": calibration(exact, records)}}
        if part == "risk":
            return row | {part: {text: risk(segmenter, records, text) for text in RISKS[name]}}
        return row | {part: familiarity(name, segmenter, records, places)}


def suspects_found(name: str, data: Path) -> dict[str, Any]:
    """Return where `unetres suspects` puts masks with planted faults: a tenth of the masks of a copy of the data."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "data"
        shutil.copytree(data, copy)  # what links point to, not links
        masks = sorted(path for path in copy.rglob("*") if path.is_file() and path.parent.name == "masks")
        chosen = np.random.default_rng(0).permutation(len(masks))[: round(len(masks) / 10)].tolist()
        planted = {}
        for number, place in enumerate(chosen):
            kind = FAULTS[number % len(FAULTS)]
            if plant(masks, place, kind, name in READING):
                planted[masks[place].stem] = kind
        rows = suspects(copy, reading=READING.get(name), say=lambda line: None)
    order = [Path(row["image"]).stem for row in rows]
    places = {stem: order.index(stem) for stem in planted}

    def share(most: float, kind: str | None = None) -> float:
        asked = [place for stem, place in places.items() if kind in (None, planted[stem])]
        return round(float(np.mean([place < most * len(rows) for place in asked])), 3)

    return {
        "images": len(rows),
        "planted": {kind: list(planted.values()).count(kind) for kind in FAULTS},
        "found_in_first_12_percent": share(0.12),
        "found_in_first_25_percent": share(0.25),
        "found_in_first_12_percent_by_kind": {kind: share(0.12, kind) for kind in FAULTS},
    }


def labelled_next(source: Path, runs: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the scores of networks that learn from chosen images and from others, seed by seed."""
    files = {path.name: path for path in sorted((source / "images").iterdir())}
    rows = []
    for seed in seeds:
        names = np.random.default_rng(seed).permutation(list(files)).tolist()
        held = {"test": names[:SCORED], "val": names[SCORED : SCORED + CHECKED]}
        pool, place = names[SCORED + CHECKED :], runs / f"next_{seed}"
        first = learn(place / "first", source, {"train": pool[:FIRST], **held}, seed)
        with tempfile.TemporaryDirectory() as out:
            rest = [files[name] for name in pool[FIRST:]]
            listed = next_images(first, rest, out, count=MORE, say=lambda line: None)
        sets = {
            "chosen 60": [*pool[:FIRST], *(Path(row["image"]).name for row in listed)],
            "random 60": pool[: FIRST + MORE],
            "random 120": pool[: 2 * (FIRST + MORE)],
        }
        row: dict[str, Any] = {"seed": seed, "first 20": miou_of(first)}
        for what, train in sets.items():
            row[what] = miou_of(learn(place / what.replace(" ", "_"), source, {"train": train, **held}, seed))
        rows.append(row)
        print(row, flush=True)
    return {"pool": len(pool), "options": NEXT, "steps_about": STEPS, "miou": rows}


def learn(run: Path, source: Path, parts: dict[str, list[str]], seed: int) -> Path:
    """Return a run that was trained on a part of the images; its data lies beside it."""
    data = run.with_name(f"{run.name}_data")
    if not data.is_dir():
        for part, names in parts.items():
            link(source, data / part, names)
    passes = passes_of([source / "images" / name for name in parts["train"]])
    train_run(str(data), run, [*shlex.split(NEXT), "--epochs", str(passes), "--seed", str(seed)])
    return run


def miou_of(run: Path) -> float:
    return round(float(scored(str(run), str(run.with_name(f"{run.name}_data")))["miou"]), 4)


def passes_of(images: Sequence[Path]) -> int:
    """Return the passes over images that take about so many steps: in a pass, crops are as many as cover them."""
    crops = sum(float(np.prod(Image.open(image).size)) for image in images) / SIDE**2
    return max(1, round(STEPS * BATCH / crops))


def plant(masks: list[Path], place: int, kind: str, instances: bool) -> bool:
    """Put a fault into a mask file; return whether it can have that one."""
    with Image.open(masks[place]) as image:
        mask, palette = np.array(image), image.getpalette()
    if kind == "dropped":
        objects = mask if instances else ndimage.label(mask > 0)[0]
        ids, counts = np.unique(objects[objects > 0], return_counts=True)
        if len(ids) < 2:
            return False
        mask[objects == ids[counts.argmax()]] = 0
    elif kind == "shifted":
        mask = np.roll(mask, 8, axis=1)
        mask[:, :8] = 0
    else:
        others = [other for other in masks if other != masks[place] and Image.open(other).size == mask.shape[::-1]]
        if not others:
            return False
        mask = np.array(Image.open(others[place % len(others)]))
    changed = Image.fromarray(mask)
    if palette:
        changed.putpalette(palette)
    changed.save(masks[place])
    return True


def options_of(run: Path) -> str:
    """Return the options that a run was trained with."""
    from keras_unetres.runs import RunFolder
    from keras_unetres.tasks.reports import command_of

    return command_of(RunFolder(run).read_info(), "RUN").partition(" --out RUN ")[2]


def calibration(segmenter: Segmenter, records: dict[str, Any]) -> dict[str, Any]:
    """Return the calibration error on the test part before and after."""
    task = TASKS[segmenter.card.task]
    val, test = (score_pixels(segmenter, task, records[part], pixels=16_384) for part in ("val", "test"))
    found = fit_calibration(val)
    row: dict[str, Any] = {"temperature": found.temperature, "biases": bool(found.bias)}
    for when, how in (("before", None), ("after", found)):
        every = np.ones(len(test.labels), bool)
        measured = measure_reliability(
            test.scores, test.labels, test.activation, segmenter.card.class_names, [(every, how)]
        )
        classes = [bins.error for bins in measured.classes.values()]
        row |= {
            f"ece_{when}": round(measured.answers.error, 4),
            f"ece_class_{when}": round(float(np.mean(classes)), 4),
            f"ece_class_worst_{when}": round(max(classes), 4),
            f"log_loss_{when}": round(log_loss(test, how), 4),
        }
    return row


def risk(segmenter: Segmenter, records: dict[str, Any], text: str) -> dict[str, Any]:
    """Return what a promise keeps over random halves of all held-out images, at two levels."""
    card = segmenter.card
    found: dict[str, Any] = {}
    curves = None
    for level in LEVELS:
        promise = read_promise(f"{text}<={level}", card.class_names, card.background)
        if curves is None:
            held = [*records["val"], *records["test"]]
            curves = risk_curves(segmenter, held, promise, len(held))
        count = len(curves.risks)
        rng, means, shares = np.random.default_rng(0), [], []
        try:
            for _ in range(SPLITS):
                order = rng.permutation(count)
                half, rest = order[: count // 2], order[count // 2 :]
                kept = keep_promise(promise, Curves(curves.risks[half], curves.given_up[half]))
                at = int(np.searchsorted(THRESHOLDS, kept.threshold - 1e-9))
                means.append(curves.risks[rest, at].mean())
                shares.append(curves.given_up[rest, at].mean())
        except DataError as error:
            found[f"{level:g}"] = {"images": count, "refused": str(error)}
            continue
        found[f"{level:g}"] = {
            "images": count,
            "mean_risk": round(float(np.mean(means)), 4),
            "splits_above": round(float(np.mean(np.array(means) > level)), 3),
            "given_up": round(float(np.mean(shares)), 4),
            "risk_without": round(float(curves.risks[:, -1].mean()), 4),
        }
    return found


def familiarity(name: str, segmenter: Segmenter, records: dict[str, Any], places: dict[str, Path]) -> dict[str, Any]:
    """Return the alarms and the AUROCs of unfamiliar pictures."""
    known = segmenter.card.familiarity
    assert known is not None
    test = [(record.image, record.mask) for record in records["test"]]
    limit = float(np.percentile([seen(segmenter, r.image, r.mask)["miou"] for r in records["val"]], 5))
    untouched = [seen(segmenter, *pair) for pair in test]
    rows: dict[str, Any] = {}
    everything = list(untouched)
    for kind in KINDS:
        for strength in range(5):
            changed = [seen(segmenter, *pair) for pair in corrupted(test[:COUNT], kind, strength)]
            if changed:
                rows[f"{kind} {strength + 1}"] = summed(changed, untouched, limit)
                everything += changed
    others = {}
    for other in OTHERS[name]:
        if other in places:
            shown = [seen(segmenter, image, None) for image in pictures(places[other], segmenter)]
            others[other] = summed(shown, untouched, None)
    bad = np.array([row["miou"] < limit for row in everything])
    auroc = {
        key: round(float(roc_auc_score(bad, [row[key] for row in everything])), 4) if 0 < bad.sum() < len(bad) else None
        for key in ("joined", "quality", "distance", "borders", "doubt", *SCORES)
    }
    told = [np.array([row[key] for row in everything]) for key in ("quality", "miou")]
    of_untouched = [values[: len(untouched)] for values in told]
    summary = {
        "limit_miou": round(limit, 4),
        "false_alarms": round(float(np.mean([row["p"] <= ALARM for row in untouched])), 4),
        "bad_share": round(float(bad.mean()), 4),
        "auroc_bad": auroc,
        "false_alarms_of_good": round(
            float(np.mean([row["p"] <= ALARM for row in untouched if row["miou"] >= limit])), 4
        ),
        "correlation_of_quality": round(-float(np.corrcoef(*told)[0, 1]), 4),
        "correlation_of_quality_untouched": round(-float(np.corrcoef(*of_untouched)[0, 1]), 4),
        "bad_warned_of": round(float(np.mean([row["p"] <= ALARM for row in everything if row["miou"] < limit])), 4),
    }
    verdict = "trees" if known.quality else "nearest picture, doubt and borders, the last one twice"
    return {"verdict": verdict, "summary": summary, "corruptions": rows, "others": others}


def seen(segmenter: Segmenter, image: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
    """Return what is measured of one picture; higher is less like the training images, mIoU apart."""
    card = segmenter.card
    result = segmenter.segment(image, scores=True)
    chances = result.probabilities()
    scores = result.scores
    assert card.familiarity is not None and scores is not None and result.familiarity is not None
    known, features = card.familiarity, seen_features(card.preprocessing, image)
    doubts = doubts_of(scores, card.activation, card.calibration)
    row = {
        "p": result.familiarity,
        "joined": -float(known.usualness(features, doubts, known.expected_quality(features, doubts))[-1]),
        "distance": known.distance(features),
        "borders": float(border_shifts([*known.borders, doubts.border])[-1]),
        "doubt": doubts.inside / SURE,
        "entropy": float(-(chances * np.log(np.maximum(chances, 1e-12))).sum(-1).mean()),
        "energy": float(-np.logaddexp.reduce(scores, -1).mean()),
        "max_logit": float(-scores.max(-1).mean()),
        "expected_iou": -result.expected_iou(),
        "quality": -(result.quality or 0.0),
    }
    if mask is not None:
        row["miou"] = Confusion.of(mask, result.class_map, len(card.class_names)).mean_iou() or 0.0
    return row


def summed(rows: list[dict[str, float]], untouched: list[dict[str, float]], limit: float | None) -> dict[str, float]:
    """Return the alarms of some pictures, and how well the verdict parts them from untouched ones."""
    is_other = [False] * len(untouched) + [True] * len(rows)
    verdicts = [row["joined"] for row in (*untouched, *rows)]
    found = {
        "alarms": round(float(np.mean([row["p"] <= ALARM for row in rows])), 3),
        "auroc": round(float(roc_auc_score(is_other, verdicts)), 3),
    }
    if limit is not None:
        mious = np.array([row["miou"] for row in rows])
        found |= {"miou": round(float(mious.mean()), 3), "bad": round(float((mious < limit).mean()), 3)}
    return found


def pictures(place: Path, segmenter: Segmenter) -> Iterator[np.ndarray]:
    """Yield some pictures of a data set, with the channels that a network takes."""
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.parent.name == "images")
    for index in np.linspace(0, len(files) - 1, COUNT).astype(int):
        yield read_image(files[index])


def cost(segmenter: Segmenter, image: np.ndarray) -> dict[str, float]:
    """Return what telling takes, as share of all the time of a picture, and what it adds to the card."""
    card = segmenter.card
    pre, known = card.preprocessing, card.familiarity
    assert known is not None
    scores = segmenter.segment(image, scores=True).scores
    assert scores is not None
    prepared = pre.prepare(image)
    prepared = prepared if pre.fit == "crop" else pre.place(*prepared.shape[:2]).image(prepared)
    whole, judged = [], []
    for _ in range(19):
        start = time.process_time()
        segmenter.segment(image)
        whole.append(time.process_time() - start)
        start = time.thread_time()  # the threads of the network may still spin
        known.judge(known.features_of(prepared), doubts_of(scores, card.activation, card.calibration))
        judged.append(time.thread_time() - start)
    return {
        "ms_of_telling": round(1e3 * min(judged), 2),
        "share_of_time": round(min(judged) / min(whole), 4),
        "bytes_of_card": len(str(known.to_dict())),
    }


def corrupted(
    pairs: list[tuple[np.ndarray, np.ndarray]], kind: str, strength: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pictures with a corruption of a strength from 0 to 4, and their masks."""
    for number, (image, mask) in enumerate(pairs):
        color = image.ndim == 3 and image.shape[-1] >= 3
        if kind == "swap" and not (color and np.ptp(image[..., :3].astype(int), -1).max() > 0):
            continue
        values = image[..., :3] if color else image.reshape(image.shape[:2])
        yield corrupt(values.astype(np.float32), mask, kind, strength, np.random.default_rng(number))


def corrupt(
    values: np.ndarray, mask: np.ndarray, kind: str, strength: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return one corrupted picture, uint8, and its mask."""
    color = values.ndim == 3
    more = (slice(None), slice(None), None) if color else (slice(None), slice(None))
    if kind == "blur":
        sigma = (0.7, 1.2, 2, 3, 5)[strength]
        values = ndimage.gaussian_filter(values, (sigma, sigma, 0) if color else sigma)
    elif kind == "noise":
        values = values + rng.normal(0, (4, 8, 16, 32, 64)[strength], values.shape)
    elif kind == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(values.astype(np.uint8)).save(buffer, "JPEG", quality=(60, 40, 25, 12, 5)[strength])
        values = np.asarray(Image.open(buffer)).astype(np.float32)
    elif kind == "gamma":
        values = 255 * (values / 255) ** (0.8, 0.65, 0.5, 0.35, 0.2)[strength]
    elif kind == "swap":
        share = (strength + 1) / 5
        values = (1 - share) * values + share * values[..., ::-1]
    elif kind == "scale":
        factor = (1.2, 1.5, 2, 2.5, 3)[strength]
        values = ndimage.zoom(values, (factor, factor, 1) if color else factor, order=1)
        mask = ndimage.zoom(mask, factor, order=0)
    elif kind == "dirt":
        y, x = np.mgrid[: values.shape[0], : values.shape[1]]
        for _ in range((2, 4, 8, 16, 32)[strength]):
            radius = rng.uniform(0.03, 0.1) * min(values.shape[:2])
            far = np.hypot(y - rng.uniform(0, len(y)), x - rng.uniform(0, x.shape[1])) / radius
            values = values * (1 - 0.7 * np.clip(1.5 - far, 0, 1))[more]
    else:  # defocus: the disc of a lens out of focus
        radius = (1, 2, 3, 5, 8)[strength]
        disc = (np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius + 0.3).astype(np.float32)
        values = ndimage.convolve(values, (disc / disc.sum())[more])
    return np.clip(values, 0, 255).astype(np.uint8), mask


if __name__ == "__main__":
    main()
