"""Int8 files of a network as it is and refined without labels, of which `ku.export` writes one."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ConversionError, UnetresError, UsageError
from unetres_edge.files import read_bytes

from ..choices.recipes import INT8, Recipe
from ..scores.agreement import DISAGREES
from ..tasks.task import Loaded
from ..verify.proof import Candidate, Proof
from .export_source import Source

if TYPE_CHECKING:
    from ..tflite import Exported

_AGREEMENT = "agreement: "  # begins a warning of `check_agreement`
_IMAGES = 64
_REFINED = "It was refined without labels"
_WAYS = (
    "train it quantization-aware, take recipe static_wi8_ai16 or float16, or name data to score it on, with which "
    "recipe auto keeps a few layers in float32; or pass allow_disagreement=True (--allow-disagreement)"
)


@dataclass(frozen=True)
class Form:
    """A network as it is converted.

    Args:
        loaded: the model and its card.
        images: calibration images (N, h, w, C) float32 that it was refined with; None of the plain one.
    """

    loaded: Loaded
    images: np.ndarray | None = None

    def put_into(self, candidate: Candidate) -> Candidate:
        """Return a candidate with this form of its network."""
        if self.images is None:
            return candidate
        return replace(candidate, loaded=self.loaded, refinement=_told(_REFINED))

    def compared(self, done: Exported, origin: Loaded, allowed: bool, say: Callable[[str], None]) -> Exported:
        """Return a file as compared with the float network, where it was with its own quantized one.

        Raises:
            ConversionError: it answers otherwise, and that is not allowed.
        """
        if self.images is None:
            return done
        from ..tflite.agreement import check_labels, label_agreement

        pre, model = origin.card.preprocessing, origin.model
        agreement = label_agreement(model, model, read_bytes(done.path), done.card, pre, self.images)
        with telling(say):
            check_labels(agreement, allowed=allowed)
        return replace(done, agreement=agreement.share, num_calibration=len(self.images))


def find_form(
    source: Source, proved: Callable[[Form], Proof], refine: bool | None, recipe: Recipe, say: Callable[[str], None]
) -> Proof:
    """Return the file that is to be published, refined where that was asked for or helps.

    Args:
        source: what is exported.
        proved: converts a form of its network and scores the file.
        refine: whether to refine; None where the plain file loses more than is allowed, or answers otherwise.
        recipe: recipe of the file.
        say: callback for lines to the user.

    Raises:
        ConversionError: an unscored file answers otherwise than the model, refined, too, if that may be tried.
        UsageError: refinement was asked for, and the network cannot be.
    """
    if refine:
        say("refining for int8 ...")
        return proved(_refined(source))
    may_refine = refine is None and recipe.name == INT8 and _is_float(source)
    plain = Form(source.loaded)
    try:
        proof = proved(plain)
    except ConversionError as error:
        if not may_refine or error.kind != DISAGREES:
            raise
        return _second_try(source, proved, error, say)
    return _better(source, proved, proof, say) if may_refine and proof.loses else proof


def _better(source: Source, proved: Callable[[Form], Proof], plain: Proof, say: Callable[[str], None]) -> Proof:
    """Return the file that loses less, the plain one or a refined one, with the figures of both."""
    say(
        f"refining   plain int8 {_loss(plain)}, more than the {plain.receipt.max_drop:g} allowed: trying without "
        "labels, in minutes (--no-refine leaves it) ..."
    )
    try:
        refined = proved(_refined(source))
    except UnetresError as error:
        say(f"refining   not possible: {error.message}")
        return plain.after(_told(f"It could not be refined: {error.message}", used=False, plain=plain.figures()))
    worse = refined.points >= plain.points
    line = f"Refined without labels it {_loss(refined)}" if worse else f"{_REFINED}: plain int8 {_loss(plain)}"
    told = _told(line, used=not worse, plain=plain.figures(), refined=refined.figures())
    return plain.after(told) if worse else refined.after(told)


def _second_try(
    source: Source, proved: Callable[[Form], Proof], plain: ConversionError, say: Callable[[str], None]
) -> Proof:
    """Return a refined file where the plain one, which nothing scores, answers otherwise than the model."""
    say(f"refining   plain int8 answers otherwise than Keras ({plain.found}): trying without labels, in minutes ...")
    try:
        refined = proved(_refined(source))
    except UnetresError as error:
        known = error.kind == DISAGREES
        after = f"refined, {error.found}" if known else f"it could not be refined: {error.message}"
        raise ConversionError(
            plain.message, expected=plain.expected, found=f"{plain.found}; {after}", fix=_WAYS, kind=DISAGREES
        ) from error
    return refined.after(_told(f"{_REFINED}: of plain int8, {plain.found}", refined=refined.figures()))


def _told(line: str, *, used: bool = True, plain: Any = None, refined: Any = None) -> dict[str, Any]:
    """Return what a receipt says of refinement, JSON values."""
    return {"line": f"{line}.", "used": used, "plain": plain, "refined": refined}


def _loss(proof: Proof) -> str:
    return f"{'loses' if proof.points > 0 else 'gains'} {abs(proof.points):.2f} points of {proof.receipt.score}"


def _is_float(source: Source) -> bool:
    from ..models.fake_quant import is_quantization_aware

    return not is_quantization_aware(source.loaded.model)


def _refined(source: Source) -> Form:
    """Return the network of a source, refined for int8.

    Raises:
        UsageError: it is quantization-aware already, has no calibration images, or a layer has no int8 form.
        ConversionError: calibration images that are none, or an activation that is not finite.
    """
    from ..data.calibration import collect_calibration
    from ..quantization import quantize_aware

    loaded = source.loaded
    if not _is_float(source):
        raise UsageError("the network is quantized already", file=source.name, fix="refine what it was made from")
    if source.calibration is None:
        raise UsageError("refinement needs calibration images", fix="pass calibration=, images without labels")
    pre = loaded.card.preprocessing
    images = collect_calibration(source.calibration, pre, count=_IMAGES)
    with telling(lambda line: None):  # its file is compared
        model = quantize_aware(loaded.model, images, preprocessing=pre, refine=True, allow_disagreement=True)
    return Form(replace(loaded, model=model), images)


@contextlib.contextmanager
def telling(say: Callable[[str], None]) -> Iterator[None]:
    """Say what is warned of agreement while this is open; other warnings stay what they are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        if str(each.message).startswith(_AGREEMENT):
            say(str(each.message).removeprefix(_AGREEMENT))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
