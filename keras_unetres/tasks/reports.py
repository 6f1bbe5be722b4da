"""The report of a run: its figures on images it was not trained on, gathered for the page."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge.command_line import option_words, path_word, words_of
from unetres_edge.errors import UsageError
from unetres_edge.files import check_report, write_report
from unetres_edge.settings import get
from unetres_edge.terminal import counted

from ..runs import Plan, RunFolder, RunInfo
from ..settings import TrainSettings, flat_options
from .loading import package_versions

if TYPE_CHECKING:
    from ..data import Dataset, Records
    from .review import Segments

_CHOSE_WEIGHTS = (
    "These are the validation images. They chose the weights: of all epochs, one that scored best on them was kept. "
    "The scores are therefore optimistic."
)
_KEEP_APART = " There is no test part; images kept apart as one would tell more."
_LEARNED = "The network was trained on these images, so the scores say nothing of how it does on new ones."


def make_report(
    run: RunFolder | None,
    segmenter: Segments,
    records: Records,
    split: str,
    say: Callable[[str], None] = print,
    *,
    out: str | os.PathLike[str] | None = None,
    notes: Sequence[str] = (),
    model: str | os.PathLike[str] = "",
) -> dict[str, Any]:
    """Score records that are read already, and write the report.

    Args:
        run: the run folder, or None for a model file.
        segmenter: a segmenter of the weights that were kept.
        records: the images, in memory or not; each is looked at once.
        split: the part they are.
        say: callback for lines to the user.
        out: the .html to write; None for `report.html` in the run folder.
        notes: sentences that a reader has to know, beside what the part's name tells.
        model: the file, where there is no run.

    Returns:
        The figures, as in the .json.
    """
    from ..pages.frame import write_page
    from ..pages.report import ReportContent, report_figures, report_page
    from .review import review

    page = page_file(run, model, out)
    info = None if run is None else run.read_info()
    all_notes = list(notes)
    if split == "val":
        all_notes.append(_CHOSE_WEIGHTS + ("" if info is None or info.data.splits.get("test") else _KEEP_APART))
    elif split in ("train", "all"):
        all_notes.append(_LEARNED if split == "train" else _LEARNED.replace("these images", "a part of these images"))
    history, kept = ([], None) if run is None or info is None else (_history(run, info.plan), _kept_epoch(run))
    content = ReportContent(
        title=f"Report of {os.path.basename(os.path.abspath(run.path if run is not None else model))}",
        summary=_summary(info, segmenter, len(history)),
        split=split,
        class_names=segmenter.card.class_names,
        class_colors=segmenter.card.class_colors,
        review=review(segmenter, records, total=len(records)),
        notes=all_notes,
        history=history,
        kept_epoch=kept,
        facts={**_search_facts(run), **_facts(info, segmenter)},
        command="" if run is None or info is None else command_of(info, run.path),
    )
    figures = report_figures(content)
    write_page(page, report_page(content))
    write_report(page.with_suffix(".json"), figures)
    miou, around = figures["miou"], figures["miou_interval"]
    score = "mIoU absent" if miou is None else f"mIoU {miou:.4f}"
    between = f" (95 %: {around[0]:.3f} to {around[1]:.3f})" if around else ""
    objects = figures["objects"]
    if objects is not None and objects["ap50"] is not None:
        matched = f"{objects['num_proposed']} of {counted(objects['num_objects'], 'object')}"
        score = f"AP@0.5 {objects['ap50']:.4f}, {matched}, {score}"
    say(f"report    {page}: {score}{between} on {counted(len(records), 'image')} ({split})")
    return figures


def page_file(run: RunFolder | None, model: str | os.PathLike[str], out: str | os.PathLike[str] | None) -> Path:
    """Return where the report is written: `out`, or `report.html` of the run.

    Raises:
        UsageError, FileSystemError: no place, no .html, or a folder that does not exist or cannot be written.
        ExistsError: something else than a report is there.
    """
    from ..pages.frame import check_page

    if out is None:
        if run is None:
            raise UsageError("the report of a model file needs a place", file=model, fix="pass --out FILE.html")
        out = run.path / "report.html"
    check_page(out)
    file = Path(out)
    check_report(
        file.with_suffix(".json"), dict.fromkeys(("title", "split", "num_images", "notes", "facts", "command"))
    )
    return file


def command_of(info: RunInfo, run: str | os.PathLike[str]) -> str:
    """Return the command line that trains such a run again, with every setting that is not the default.

    Args:
        info: content of `run.json`.
        run: the run folder.
    """
    out = option_words("--out", [os.fspath(run)])
    words = ["unetres", "train", path_word(os.fspath(info.data.path or "DATA")), *out]
    return shlex.join([*words, *words_of(info.train_settings(run))])


def changes_since(info: RunInfo, dataset: Dataset, records: Records) -> list[str]:
    """Return what has to be said of images that are not those the run knew of."""
    from ..data.records import fingerprint

    if fingerprint(dataset, records.classes) == info.data.fingerprint:
        return []
    where = os.path.abspath(dataset.root)
    if info.data.path not in (None, where, str(dataset.root)):
        note = f"The images are those of another data set, {where}."
    else:
        note = "The data set has changed since the run was trained: files, their parts, or the meaning of mask values."
    learned = set(info.data.splits.get("train", ()))
    again = sum(sample.name in learned for sample in records.samples)
    if again:
        note += f" {again} of the {len(records)} images have names of images that the network was trained on."
    return [note]


def _history(run: RunFolder, plan: Plan | None) -> list[dict[str, float]]:
    """Return the rows of `history.csv`, with the learning rate of each epoch's last step."""
    rows = run.read_history()
    if plan is None or any("learning_rate" in row for row in rows):
        return rows
    return [{**row, "learning_rate": plan.rate(int(row["epoch"]) * plan.steps_per_epoch - 1)} for row in rows]


def _kept_epoch(run: RunFolder) -> int | None:
    checkpoint = run.read_checkpoint()
    return None if checkpoint is None else checkpoint[1].get("best_epoch") or None


def _summary(info: RunInfo | None, segmenter: Segments, epochs: int) -> str:
    card = segmenter.card
    size = f"{card.preprocessing.size[0]} x {card.preprocessing.size[1]}"
    if info is None:
        return f"{card.recipe}, head {card.head}, input {size}"
    encoder = info.model.arguments.get("encoder")
    known = {"build_unet": "U-Net", "build_fcn": "FCN", "build_own": info.model.arguments.get("name", "")}
    network = known.get(info.model.builder, info.model.builder)
    parts = [
        f"{network} on {encoder}" if encoder else network,
        f"input {size}",
        counted(len(card.class_names), "class", "classes"),
    ]
    return ", ".join([*parts, counted(epochs, "epoch")])


def _facts(info: RunInfo | None, segmenter: Segments) -> dict[str, dict[str, object]]:
    """Return the tables at the end of the page."""
    here: dict[str, object] = {**package_versions(), "Python": platform.python_version(), "system": platform.platform()}
    fields_of_input = segmenter.card.preprocessing.to_dict()
    pre: dict[str, object] = {name.replace("_", " "): _say(value) for name, value in fields_of_input.items()}
    if info is None:
        return {"Input": pre, "Versions": here}
    data, classes = info.data, info.classes
    sizes = ", ".join(f"{len(names):,} {split}" for split, names in data.splits.items())
    plan = {} if info.plan is None else info.plan.to_dict()
    facts: dict[str, dict[str, object]] = {
        "Data set": {
            "path": data.path or "arrays",
            "images": sizes,
            "classes": ", ".join(classes.names),
            **({"note": classes.note} if classes.note else {}),
            **{name.replace("_", " "): _say(value) for name, value in info.reading.to_dict().items()},
            "fingerprint": data.fingerprint,
        },
        "Network": {
            "builder": info.model.builder,
            **{name.replace("_", " "): _say(value) for name, value in _arguments(info).items()},
        },
        "Input": pre,
        "Plan": {name.replace("_", " "): _say(value) for name, value in plan.items()},
        "Settings": _settings(info.train_settings(), network=not _is_own(info)),
        "Versions it was trained with": dict(info.versions),
    }
    if info.speed is not None:
        facts["Plan"] |= {name.replace("_", " "): f"{value} s" for name, value in asdict(info.speed).items()}
    changed = {name: version for name, version in here.items() if info.versions.get(name) != version}
    return {**facts, "Where it was scored": changed}


def _search_facts(run: RunFolder | None) -> dict[str, dict[str, object]]:
    """Return the table of the networks that were compared, if there were any."""
    search = None if run is None else run.read_search()
    if search is None:
        return {}
    facts: dict[str, object] = {}
    for tried in filter(lambda tried: tried.rungs, search.candidates):
        last, cost = tried.rungs[-1], tried.cost
        facts[tried.words] = (
            f"validation {last.score:.4f} after {last.share:.0%} of its training; {cost.ms:.3g} ms a tile, "
            f"{cost.kb:.4g} kB{'; chosen' if tried.name == search.best else ''}"
        )
    return {"Networks compared": facts}


def _is_own(info: RunInfo) -> bool:
    """Whether the network was the user's own, whose settings no training has chosen."""
    return info.model.builder == "build_own"


def _arguments(info: RunInfo) -> dict[str, object]:
    """Return what the network is built from; of one of the user's own its layers are counted."""
    arguments = dict(info.model.arguments)
    return {**arguments, "layers": len(arguments["layers"])} if _is_own(info) else arguments


def _settings(settings: TrainSettings, *, network: bool) -> dict[str, object]:
    """Return the settings that have a value, by their names on the command line, with those of the network or not."""
    named = {name: option for name, option in flat_options().items() if network or option.path[0] != "network"}
    values = {name: get(settings, option) for name, option in named.items()}
    return {name.replace("_", " "): _say(value) for name, value in values.items() if value is not None}


def _say(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_say(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
