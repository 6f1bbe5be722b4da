"""`unetres calibrate`, and its part in an export: probabilities that are right, familiarity, promised risks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge import Segmenter
from unetres_edge.errors import DataError, ExistsError, FileSystemError, ReceiptError, UsageError
from unetres_edge.files import check_report, check_writable, read_bytes, write_bytes, write_json, write_report
from unetres_edge.model.card import Card, read_card
from unetres_edge.model.familiarity import FEWEST

from ..choices.arguments import checks_kinds
from ..runs import RunInfo
from ..settings import CalibrateSettings
from ..trust.risk import read_promise
from ..verify.held_out import HeldOut, read_held_out
from ..verify.receipt import read_receipt, receipt_files


@checks_kinds
def calibrate(
    model: str | os.PathLike[str],
    data: Any,
    *,
    split: str = CalibrateSettings.split,
    risk: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = CalibrateSettings.overwrite,
    json_file: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Find what makes the probabilities of a model file right, and write it into the file's card.

    Network, scores and labels stay what they are; `Result.confidence` becomes the share of such pixels that are right.
    The card also gets what tells pictures unlike those of the training part: `Result.familiarity`.

    Args:
        model: `.tflite` with a card and scores.
        data: data set, as `open_dataset` takes it; read as the training data was.
        split: "train", "val", "test" or "all", which the network was not trained on.
        risk: promises about the pixels that are not given up, such as "miss<=0.05", "false(cell)<=0.1" or
            "error<=0.02": the mean over images of the share of the classes' pixels that are taken for others, of others
            that are taken for the classes, or of kept pixels that are wrong.
        out: the `.tflite` to write; None for the file itself. A receipt beside that file then tells of it, too.
        overwrite: whether to replace an earlier file at `out`.
        json_file: file for the figures, too.
        say: callback for lines to the user.

    Returns:
        JSON values: the "calibration" of the card, the calibration error "before" and "after", in all and by class,
        and the images that it was "measured_on": those of the part, each by what the others gave.

    Raises:
        UsageError: the file gives no scores, or `out` is no `.tflite`.
        DataError: the data set has faults, does not have this part, no label in it, or too few images for a promise.
        ExistsError: `out` is there already, or something else than earlier figures in the place of `json_file`.
        ModelError: the file cannot be used.
    """
    target = Path(model if out is None else out)
    if target.suffix != ".tflite":
        raise UsageError("the output is not a .tflite", file=target, expected="a name ending in .tflite")
    if out is not None and os.path.lexists(target) and not overwrite:
        raise ExistsError("the output exists already", file=target, fix="pass --overwrite, or another --out")
    check_writable(target)
    if json_file is not None:
        check_report(json_file, dict.fromkeys(("measured_on", "before", "after")))
    content = read_bytes(model, "model file")
    card = read_card(content, file=os.fspath(model))
    if card.head != "logits":
        raise UsageError("a file without scores cannot be calibrated", file=model, fix="export it with --head logits")
    for text in risk:
        read_promise(text, card.class_names, card.background)
    held = read_held_out(card, data, split, None)
    calibrated, figures = calibrate_file(content, held, None, say=say)
    calibrated = familiarise(calibrated, read_training(card, data), held, say=say)
    figures |= expected_quality(calibrated, held, say=say)
    calibrated = promise(calibrated, held, risk, say=say)
    write_bytes(target, calibrated)
    say(f"wrote      {target}")
    if out is None:
        _tell_receipt(Path(model), card, calibrated, figures, say)
    if json_file is not None:
        write_report(json_file, figures)
    return figures


def calibrate_file(
    data: bytes, validation: HeldOut, test: HeldOut | None, *, say: Callable[[str], None]
) -> tuple[bytes, dict[str, Any]]:
    """Return a file with what makes its probabilities right in its card, and how right they are, JSON values.

    Where it makes those of the test images worse, it is left out, and the values say so.

    Args:
        data: bytes of a `.tflite` with scores.
        validation: the images that it is found on.
        test: other images to measure it on; None for those of `validation`, each by what the others gave.
        say: callback for a line to the user.

    Raises:
        DataError: nothing in `validation` is labelled.
    """
    from ..scores.reliability import measure_reliability
    from ..tflite.seal import add_card
    from ..trust.calibrate import fit_calibration, left_out_calibrations, log_loss_of
    from ..trust.scored_pixels import score_pixels

    card = replace(read_card(data), calibration=None, promises=())
    with validation.task.open_file(data) as opened:
        pixels = score_pixels(opened, validation.task, validation.records)
        calibration = fit_calibration(pixels, biases=validation.task.biased, split=validation.about.split)
        if calibration is None:
            raise DataError("nothing in these images is labelled", file=validation.about.path)
        parts = left_out_calibrations(pixels, like=calibration)
        measured, about = pixels, f"{validation.about}, each by what the others gave"
        if test is not None:
            tested = score_pixels(opened, test.task, test.records, name="measuring")
            if len(tested.labels):
                measured, about, parts = tested, str(test.about), [(tested.labels == tested.labels, calibration)]

    def figures_of(how: Any) -> dict[str, Any]:
        reliability = measure_reliability(
            measured.scores, measured.labels, measured.activation, card.class_names, how
        ).to_dict()
        return {"log_loss": round(log_loss_of(measured, how), 6), **reliability}

    before, after = figures_of([(chosen, None) for chosen, _ in parts]), figures_of(parts)
    if measured is not pixels and after["log_loss"] > before["log_loss"]:
        why = (
            f"what was found on {validation.about} makes the probabilities of {about} worse (log loss "
            f"{before['log_loss']:.4f}, with it {after['log_loss']:.4f}): the two parts differ"
        )
        say(f"not calibrated: {why}")
        return add_card(data, card), {"why_not": why}
    biased = " and a bias a class" if calibration.bias else ""
    say(
        f"calibrated on {validation.about}: temperature {calibration.temperature:.3g}{biased}; "
        f"calibration error {before['ece']:.4f}, now {after['ece']:.4f} ({about})"
    )
    figures = {"calibration": calibration.to_dict(), "measured_on": about, "before": before, "after": after}
    return add_card(data, replace(card, calibration=calibration)), figures


def read_training(card: Card, data: Any, info: RunInfo | None = None) -> HeldOut | None:
    """Return the training part of a data set; None where it has none."""
    try:
        return read_held_out(card, data, "train", info)
    except DataError:
        return None


def familiarise(data: bytes, training: HeldOut | None, held: HeldOut, *, say: Callable[[str], None]) -> bytes:
    """Return a file whose card can tell pictures unlike those that the network was trained on.

    Of classifiers, and where there are fewer than 19 pictures in all, it is the file as it was, and a line says why.

    Args:
        data: bytes of a `.tflite`.
        training: the pictures that the network was trained on; None without.
        held: pictures that it was not trained on.
        say: callback for a line to the user.
    """
    from ..tflite.seal import add_card
    from ..trust.familiarity import fit_familiarity, network_doubts, picture_table
    from ..trust.quality import grow_trees

    card = replace(read_card(data), familiarity=None)
    if not card.per_pixel or training is None:
        return data
    names, first, second = picture_table(card.preprocessing, training.records, held.records)
    with held.task.open_file(add_card(data, card)) as opened:
        assert isinstance(opened, Segmenter)
        doubts = network_doubts(opened, held.records)
        familiarity = fit_familiarity(first, second, names, doubts)
        if familiarity is None:
            say(f"unlike the training images: not told, of fewer than {FEWEST} images in all")
            return data
        if familiarity.promised and doubts:
            trees = grow_trees(familiarity, opened, training.records, list(zip(second, doubts, strict=True)))
            familiarity = replace(familiarity, quality=trees)
    say(f"unlike the training images: told by {familiarity.images} images and {familiarity.held_out} held out")
    if not familiarity.promised:
        say(f"note       {familiarity.held_out} held out cannot promise that false alarms are few: it takes {FEWEST}")
    return add_card(data, replace(card, familiarity=familiarity))


def expected_quality(data: bytes, held: HeldOut, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Return {"quality": what a file expects of its masks beside what they have, JSON values}; {} where it cannot tell.

    Args:
        data: bytes of a `.tflite`.
        held: images that the network was not trained on.
        say: callback for a line to the user.
    """
    from ..trust.quality import measure_quality

    known = read_card(data).familiarity
    if known is None or known.quality is None:
        return {}
    with held.task.open_file(data) as opened:
        assert isinstance(opened, Segmenter)
        measured = measure_quality(opened, held.records)
    if measured is None:
        return {}
    expected, true = np.mean(measured["images"], 0)
    say(
        f"expects    an mIoU of {expected:.3f} of its masks, and they have {true:.3f}; off by "
        f"{measured['mean_error']:.3f} in the mean ({held.about})"
    )
    return {"quality": {"measured_on": str(held.about), **measured}}


def promise(data: bytes, held: HeldOut, risk: Sequence[str], *, say: Callable[[str], None]) -> bytes:
    """Return a file whose card has thresholds that keep what is asked for.

    Args:
        data: bytes of a calibrated `.tflite` of a segmenter.
        held: images that the network was not trained on.
        risk: texts, as `calibrate` takes them.
        say: callback for the line of each.

    Raises:
        UsageError: a text is not understood, or the file is a classifier.
        DataError: so few images cannot promise so little.
    """
    from ..tflite.seal import add_card
    from ..trust.risk import THRESHOLDS, keep_promise, risk_curves

    if not risk:
        return data
    card = read_card(data)
    if not card.per_pixel:
        raise UsageError("--risk is of masks, and the model is a classifier", fix="drop it")
    kept = []
    with held.task.open_file(data) as opened:
        assert isinstance(opened, Segmenter)
        for text in risk:
            wanted = read_promise(text, card.class_names, card.background)
            curves = risk_curves(opened, held.records, wanted, len(held.records))
            fitted = keep_promise(wanted, curves)
            share = curves.given_up[:, int(np.searchsorted(THRESHOLDS, fitted.threshold - 1e-9))].mean()
            say(
                f"promised   {text}, by {fitted.images} images: pixels with a doubt above {fitted.threshold:.3f} are "
                f"given up, {100 * share:.1f} % of those of these images"
            )
            kept.append(fitted)
    return add_card(data, replace(card, promises=tuple(kept)))


def _tell_receipt(model: Path, before: Card, data: bytes, figures: dict[str, Any], say: Callable[[str], None]) -> None:
    """Let the receipt beside a file tell of its calibration, if it is the receipt of that file."""
    json_file, page = receipt_files(model)
    if not json_file.is_file():
        return
    try:
        receipt = read_receipt(json_file)
    except (FileSystemError, ReceiptError) as error:
        say(f"note       the receipt does not tell of it: {error}")
        return
    if receipt.file.sha256 != before.sha256:
        say(f"note       {json_file.name} is of another file, and stays as it is")
        return
    facts = replace(receipt.file, sha256=read_card(data).sha256, num_bytes=len(data))
    updated = replace(receipt, file=facts, reliability=figures)
    write_json(json_file, updated.to_dict())
    write_bytes(page, updated.page())
    say(f"receipt    {page}: tells of it, without the pictures of images")
