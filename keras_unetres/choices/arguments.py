"""Arguments of public functions: one of a wrong kind is named by what its annotation says."""

from __future__ import annotations

import ast
import collections.abc
import functools
import inspect
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from unetres_edge.errors import UsageError, shortened

_F = TypeVar("_F", bound=Callable[..., Any])
_BARE = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}
_MODELS = (
    "a model in memory is taken by export, quantize, quantize_aware, prune_model, cluster_model, evaluate and predict"
)
_ANY = object()  # of an annotation that is not known here, such as a class that would have to be imported


def checks_kinds(function: _F) -> _F:
    """Return a function that names an argument of another kind than its annotation, where it would fail without a name.

    What the function refuses in its own words stays as it is, and so does what it takes beyond its annotations. Text in
    the place of a list of text is named at once: it would be taken for a list of its letters.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _refuse_letters(function, signature, args, kwargs)
        try:
            return function(*args, **kwargs)
        except _BARE as error:
            try:
                arguments = signature.bind(*args, **kwargs).arguments
            except TypeError:  # an argument that is missing, or one too many, which Python names
                raise error from None
            wrong = _find_wrong(function, arguments)
            if wrong is None:
                raise
            raise wrong from error

    return typing.cast(_F, checked)


def _refuse_letters(function: Any, signature: inspect.Signature, args: Any, kwargs: Any) -> None:
    """Refuse text where a list of text is taken.

    Raises:
        UsageError: there is one.
    """
    try:
        arguments = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:  # which the call itself names
        return
    for name, value in arguments.items():
        if isinstance(value, str) and any(_is_list_of_text(kind) for kind in _kinds(function, name)):
            wrong = _find_wrong(function, {name: value})
            if wrong is not None:
                raise wrong


def _is_list_of_text(kind: Any) -> bool:
    return typing.get_origin(kind) in (list, collections.abc.Sequence) and _is_text(typing.get_args(kind))


def _find_wrong(function: Callable[..., Any], arguments: Mapping[str, Any]) -> UsageError | None:
    """Return the error of the first argument that is of a wrong kind, or None."""
    for name, value in arguments.items():
        kinds = _kinds(function, name)
        if not any(_fits(value, kind) for kind in kinds):
            return UsageError(
                f"{name} is wrong",
                expected=" or ".join(dict.fromkeys(map(_said, kinds))),
                found=f"{shortened(repr(value), 80)} ({type(value).__name__})",
                fix=_fix(value, kinds),
            )
    return None


def _fix(value: Any, kinds: tuple[Any, ...]) -> str | None:
    if isinstance(value, str) and any(map(_is_list_of_text, kinds)):
        return f"pass [{shortened(repr(value), 80)}]"
    return _MODELS if _holds_layers(value) else None


def _holds_layers(value: Any) -> bool:
    """Whether something is a layer or model of Keras, or a list of such."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return any(kind.__module__.startswith("keras.src.") for each in values for kind in type(each).__mro__)


@functools.cache
def _kinds(function: Callable[..., Any], name: str) -> tuple[Any, ...]:
    """Return the kinds that an argument may have, as far as they are known."""
    annotation = inspect.signature(function).parameters[name].annotation
    if not isinstance(annotation, str):
        return _parts(annotation)
    module = vars(sys.modules[function.__module__])
    kinds: list[Any] = []
    for part in _alternatives(ast.parse(annotation, mode="eval").body):
        try:
            root = ast.unparse(part).partition(".")[0]  # such as keras, imported for type checkers alone
            known = {root: sys.modules[root], **module} if root in sys.modules else dict(module)
            kinds += _parts(eval(ast.unparse(part), known))  # the annotation of this package's own function
        except (AttributeError, NameError):
            kinds.append(_ANY)
    return tuple(kinds)


def _alternatives(node: ast.expr) -> Iterable[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node


def _parts(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (type(None) if annotation is None else annotation,)


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is _ANY:  # an object of a class
        return not isinstance(value, (str, bytes, numbers.Number, list, tuple, Mapping))
    if kind in (Any, inspect.Parameter.empty) or isinstance(kind, TypeVar):
        return True
    if origin is typing.Literal:
        return value in inner
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ == "bool"
    if kind in (int, float):
        abstract = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, abstract) and not isinstance(value, bool)
    if origin is tuple:
        return _fits_tuple(value, inner)
    if origin in (list, collections.abc.Sequence, collections.abc.Iterable):
        holds = isinstance(value, origin) or (
            origin is not list and hasattr(value, "__array__") and not _is_text(inner)
        )
        is_text = isinstance(value, (str, bytes))
        items = value if isinstance(value, (list, tuple)) else ()
        return holds and not is_text and all(any(_fits(each, part) for part in _parts(inner[0])) for each in items)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping)
    if origin is collections.abc.Callable:
        return callable(value)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike)
    plain = origin or kind
    return isinstance(value, plain) if isinstance(plain, type) else True


def _is_text(inner: tuple[Any, ...]) -> bool:
    return any(part is str or typing.get_origin(part) is os.PathLike for part in _parts(inner[0]))


def _fits_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return False
    if inner and inner[-1] is Ellipsis:
        return all(any(_fits(each, part) for part in _parts(inner[0])) for each in value)
    fits = (any(_fits(each, part) for part in _parts(kind)) for each, kind in zip(value, inner, strict=False))
    return len(value) == len(inner) and all(fits)


def _said(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is _ANY:
        return "what the documentation says"
    if origin is os.PathLike:
        return "a path"
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    if origin is collections.abc.Callable:
        return "a function"
    if origin is collections.abc.Mapping:
        return "a dictionary"
    if origin is tuple and inner[-1] is not Ellipsis:
        return "(" + ", ".join(" or ".join(map(_said, _parts(each))) for each in inner) + ")"
    if origin in (tuple, list, collections.abc.Sequence, collections.abc.Iterable):
        return "a list of " + " or ".join(map(_said, _parts(inner[0])))
    return getattr(kind, "__name__", str(kind))
