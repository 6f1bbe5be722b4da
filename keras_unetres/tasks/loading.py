"""From the name of a model (run folder, `.keras`, `.tflite`) to something that segments images."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge import Card, Preprocessing, Segmenter
from unetres_edge.errors import ModelError, RunFolderError, UnetresError, UsageError, shortened
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.card import default_colors
from unetres_edge.segment.ensemble import join_segmenters

from ..choices.starts import find_model
from ..runs import QUANTIZE_AWARE, STEPS, RunFolder, RunInfo
from .foreign import ForeignFile, describe_file, is_foreign, options_of_file
from .keras_archive import check_archive
from .task import Loaded, Model

if TYPE_CHECKING:
    import keras

IN_MEMORY = "a model in memory"
_REASON = re.compile(r"(?:Exception|Error) encountered(?: during deserialization)?: (.+)")
_MOST_REASON = 300  # letters
_FEW_CLASSES = 12  # that an error lists one by one
_FEW_CHANNELS = 4  # that stand first, where maps are (C, h, w)
_TRIED_SIDES = (256, 224, 64, 188, 572)  # px, of a network that takes any size
PACKAGES = ("keras-unetres", "keras-unetres-edge", "tensorflow", "keras", "numpy", "ai-edge-litert", "pillow")


def package_versions() -> dict[str, str]:
    """Return package name -> installed version, for what decides a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def card_of_run(info: RunInfo, *, halo: int, stride: int = 0, crop: int = 0) -> Card:
    """Return the card that describes the model of a run."""
    return Card(
        class_names=info.classes.names,
        class_colors=info.classes.colors,
        preprocessing=info.preprocessing,
        task=info.task,
        ignore_index=IGNORE if info.classes.ignored else None,
        background=_background(info),
        show=_shown(info),
        halo=halo,
        stride=stride,
        crop=crop,
        dataset=info.reading.to_dict(),
        versions=package_versions(),
    )


def _background(info: RunInfo) -> int:
    """Return the class that is declared as the background, or -1 where its name says it."""
    declared = info.reading.background
    return info.classes.names.index(declared) if declared in info.classes.names else -1


def _shown(info: RunInfo) -> tuple[int, ...]:
    """Return the channels that pictures show, by the settings of the run; of runs of earlier versions none."""
    network = info.settings.get("network")
    return tuple(network.get("show") or ()) if isinstance(network, Mapping) else ()


def build_network(info: RunInfo) -> keras.Model:
    """Return the network of a run, by what `run.json` says: its builder, then the steps of compression applied.

    Its weights are still to be set, all of them.

    Raises:
        RunFolderError: a builder or a step that this version does not know.
    """
    from ..models import build

    model = build(info.model.builder, dict(info.model.arguments))
    for step in info.compress:
        if step.step not in STEPS:
            raise RunFolderError("a step of compression is not known", expected=" or ".join(STEPS), found=step.step)
        if step.step == QUANTIZE_AWARE:  # the others change weights alone
            from ..quantization import build_native, fold

            model = build_native(fold(model), keep_zeros=step.keep_zeros)
    return model


def load_run(path: str | os.PathLike[str]) -> Loaded:
    """Rebuild the model of a run folder with its best weights.

    Raises:
        RunFolderError: not a run folder, damaged, or of another version.
    """
    from ..models import assign
    from ..tflite.export import find_reach
    from ..tflite.model_checks import find_crop

    run = RunFolder(path)
    info = run.read_info()
    tensors = run.read_weights()
    model = build_network(info)
    assign({v.path: v for v in model.weights}, tensors, file=run.path / "weights.safetensors")
    gives_map = len(model.output_shape) == 4  # else it sees the whole image, and is never asked by tiles
    if not gives_map:
        return Loaded(model, card_of_run(info, halo=0))
    halo, stride = find_reach(model)
    return Loaded(model, card_of_run(info, halo=halo, stride=stride, crop=find_crop(model)))


def load_keras(
    path: str | os.PathLike[str],
    preprocessing: Preprocessing | None,
    classes: Sequence[str] | None,
    *,
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Loaded:
    """Load a `.keras` file in Keras's safe mode.

    Args:
        preprocessing: preparation of images for the network, which the file does not say.
        classes: class names; None for their numbers.
        output: name of the output that is meant, of a model with several.
        custom_objects: name -> layer, model or function of your own code that the file names.

    Raises:
        UsageError: no preprocessing given; the error names the options with what the file says.
        ModelError: the file cannot be loaded, or is no segmenter or classifier of such images.
    """
    model = read_keras(path, custom_objects)
    if preprocessing is None:
        raise UsageError(
            "a .keras file does not say how images are fed to it",
            file=path,
            found=_shapes(model),
            fix="pass --size, --channels, --value-range and, where they apply, --mean and --std; in Python "
            "preprocessing=ku.Preprocessing(...)",
        )
    return describe_model(model, preprocessing, classes, output=output, file=path)


def read_keras(path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> keras.Model:
    """Return the model of a `.keras` file, loaded in Keras's safe mode.

    Raises:
        ModelError: it cannot be loaded.
    """
    import keras

    _refuse_others(path)
    if not Path(path).is_file():
        raise ModelError("no such model file", file=path)
    check_archive(path)
    try:
        model = keras.models.load_model(path, custom_objects=custom_objects, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds
        match = re.search(r"Could not locate (?:class|function) '([^']+)'", str(error))
        if match:
            name = match.group(1)
            raise ModelError(
                f"the model holds {name!r}, of your own code, which a file cannot bring along",
                file=path,
                fix=f"pass --import FILE.py, the module that has it, or in Python custom_objects={{{name!r}: {name}}}",
            ) from error
        if "`Lambda` layer" in str(error):
            loaded = f"keras.models.load_model({os.fspath(path)!r}, safe_mode=False)"
            raise ModelError(
                "the model has a Lambda layer, whose code is in the file and is not run from there",
                file=path,
                fix=f"if you trust it, in Python: ku.export({loaded}, ...); or write a layer of your own in its place",
            ) from error
        raise _cannot_load(path, error) from error
    if not isinstance(model, keras.Model):
        raise ModelError("the file holds no model", file=path, expected="keras.Model", found=type(model).__name__)
    return model


def _cannot_load(path: str | os.PathLike[str], error: Exception) -> ModelError:
    """Return the error of a file of which Keras makes no model, with the innermost reason that Keras tells."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":"):  # "... Example error message for object ...:"
        lines[0] = " ".join(lines[:2])
    told = [match.group(1) for match in map(_REASON.match, lines) if match]
    reason = shortened((told or lines)[-1 if told else 0], _MOST_REASON)
    weights = f"model.load_weights({os.fspath(path)!r})"
    return ModelError(
        f"Keras cannot make the model of its file: {reason}",
        file=path,
        expected="layers that get_config() describes, without lambdas",
        fix=f"in Python, by the code that built it: {weights}, and pass model for the file",
    )


def describe_model(
    model: keras.Model,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    *,
    output: str | None = None,
    file: str | os.PathLike[str] | None = None,
) -> Loaded:
    """Return a Keras model in the form that is exported, with the card that describes it.

    Args:
        preprocessing, classes, output: as for `load_keras`.
        file: name of the file in errors.

    Raises:
        UsageError: another input, or another number of classes.
        ConversionError: it is no segmenter or classifier of such images.
    """
    from ..models.inference import inference_form
    from ..tflite.export import find_reach
    from ..tflite.model_checks import check_fit, check_model, find_crop

    shape = (*preprocessing.size, preprocessing.channels)
    try:
        form = inference_form(model, output, shape=shape)
        _check_input(form.model, preprocessing, file)
        count, task = check_model(form.model, shape)
    except UnetresError as error:
        error.file = error.file or (None if file is None else os.fspath(file))
        raise
    crop = find_crop(form.model)
    check_fit(preprocessing, task, crop)
    names = tuple(classes or map(str, range(count)))
    names = ("background", *names) if form.binary and len(names) == 1 else names
    if len(names) != count:
        raise UsageError("number of class names differs from the model", file=file, expected=count, found=len(names))
    halo, stride = find_reach(form.model)
    versions = package_versions()
    card = Card(
        names, default_colors(count), preprocessing, task, halo=halo, stride=stride, crop=crop, versions=versions
    )
    return Loaded(form.model, replace(card, activation=form.activation))


def open_own(
    model: Model,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    *,
    output: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> str | os.PathLike[str] | Loaded | ForeignFile:
    """Return a `keras.Model`, a `.keras` file or a `.tflite` without a card with the card that is made of it.

    Runs and files with a card come back as they are, and a start that comes with the package as its file.

    Raises:
        UsageError: something that is no model, or one that does not say how images meet it.
        ModelError: it cannot be loaded.
    """
    if isinstance(model, (Loaded, ForeignFile)):
        return model
    model = find_model(model)
    if isinstance(model, (str, os.PathLike)):
        if is_foreign(model):
            return describe_file(model, preprocessing, classes)
        if Path(model).suffix != ".keras" or RunFolder.is_run(model):
            return model
        return load_keras(model, preprocessing, classes, output=output, custom_objects=custom_objects)
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError(
            "not a model",
            expected="a run folder, a .tflite or .keras file, or a keras.Model",
            found=type(model).__name__,
        )
    if preprocessing is None:
        raise UsageError(
            "a model does not say how images are fed to it", fix="pass preprocessing=ku.Preprocessing(...)"
        )
    return describe_model(model, preprocessing, classes, output=output)


def name_of(model: Model) -> str:
    """Return how reports name a model: its path, or that it is one in memory."""
    if isinstance(model, ForeignFile):
        return model.file
    return os.fspath(model) if isinstance(model, (str, os.PathLike)) else IN_MEMORY


def options_of(
    file: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None, output: str | None = None
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the options that a `.keras` file, or a `.tflite` without a card, needs, as far as the file tells them.

    Returns:
        Option -> values; words in capitals are for a person to replace. And of a model of several outputs the names of
        those that give scores of an image, maps before classes of the whole; "--output" is the first.

    Raises:
        ModelError: the file cannot be read, or the model takes no images.
        UsageError, ConversionError: no options make it a segmenter or a classifier; what is wrong is named.
    """
    if Path(file).suffix == ".tflite":
        return options_of_file(file), []
    model = read_keras(file, custom_objects)
    try:
        return _options_of_model(model, output)
    except UnetresError as error:
        error.file = error.file or os.fspath(file)
        raise


def _options_of_model(model: keras.Model, output: str | None) -> tuple[dict[str, list[str]], list[str]]:
    shape = _image_shape(model)
    forms = {} if output is not None else _scored_outputs(model, shape)
    outputs = list(forms)
    form = forms[outputs[0]] if outputs else _scored_form(model, output, shape)
    sides, channels = ["PX" if side is None else str(side) for side in shape[:2]], shape[2]
    options = {"--size": sides[:1] if sides[0] == sides[1] else sides}
    options |= {"--channels": ["N" if channels is None else str(channels)], "--value-range": ["LOW", "HIGH"]}
    options |= {"--output": outputs[:1]} if outputs else {}
    scores = getattr(form, "output_shape", None)
    if isinstance(scores, tuple) and len(scores) == 2:
        options["--fit"] = ["resize"]
    if isinstance(scores, tuple) and isinstance(scores[-1], int) and scores[-1] <= _FEW_CLASSES:
        names = ["background"] if len(scores) == 4 else []
        options["--classes"] = [*names, *(f"CLASS{number}" for number in range(len(names), scores[-1]))]
    return options, outputs


def _image_shape(model: keras.Model) -> tuple[int | None, int | None, int | None]:
    """Return (h, w, C) of the images that a model takes, each None where it takes any.

    An input of (C, h, w) counts as one of such images, which is refused or taken by what needs them.

    Raises:
        UsageError: it takes several inputs.
        ModelError: it takes no images.
    """
    from ..models.inference import image_shape

    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        raise UsageError(f"the model has {len(inputs)} inputs", expected="one image", fix="make a model of one input")
    taken = inputs[0].shape[1:] if inputs else image_shape(model)
    if taken is None:
        return None, None, None
    if len(taken) != 3:
        raise ModelError("the model does not take images", expected="(N, H, W, C)", found=(None, *taken))
    first, *rest = taken
    channels_first = first is not None and first <= _FEW_CHANNELS and all(s is None or s > 2 * first for s in rest)
    height, width, channels = (*rest, first) if channels_first else taken
    return height, width, channels


def _scored_outputs(model: keras.Model, shape: tuple[int | None, int | None, int | None]) -> dict[str, Any]:
    """Return name -> form of the outputs that give scores of such images; of a model of one output none.

    Maps come before classes of the whole, and those of many channels, as features have, last of each.

    Raises:
        UsageError, ConversionError: none of several does; what is wrong with the first.
    """
    from ..models.inference import output_names

    names = output_names(model, None if None in shape else shape)
    if len(names) < 2:
        return {}
    forms: dict[str, Any] = {}
    refused: UnetresError | None = None
    for name in names:
        try:
            forms[name] = _scored_form(model, name, shape)
        except UnetresError as error:
            error.message = f"output {name}: {error.message}"
            refused = refused or error
    if not forms and refused is not None:
        raise refused
    return dict(sorted(forms.items(), key=lambda item: _rank(item[1].output_shape)))


def _rank(scores: tuple[int | None, ...]) -> tuple[bool, bool]:
    return len(scores) != 4, (scores[-1] or 0) > _FEW_CLASSES


def _scored_form(model: keras.Model, output: str | None, shape: tuple[int | None, int | None, int | None]) -> Any:
    """Return the form of a model that is exported, after checking that it gives scores of such images.

    Raises:
        UsageError, ConversionError: it does not; of a model that takes any size, at none of those that are tried.
    """
    from ..models.inference import inference_form
    from ..tflite.model_checks import check_model

    form = inference_form(model, output, shape=None if None in shape else shape).model
    height, width, channels = shape
    refused: UnetresError | None = None
    for side in _TRIED_SIDES if None in (height, width) else (0,):
        try:
            check_model(form, (height or side, width or side, channels or 3))
        except UnetresError as error:
            refused = refused or error
        else:
            return form
    assert refused is not None
    raise refused


def _shapes(model: keras.Model) -> str:
    input_shape, output_shape = (getattr(model, name, "?") for name in ("input_shape", "output_shape"))
    return f"a model of {input_shape} -> {output_shape}"


def _refuse_others(path: str | os.PathLike[str]) -> None:
    """Refuse what Keras or TensorFlow wrote in another form, with the line that makes a model of it.

    Raises:
        ModelError: it is one.
    """
    name = os.fspath(path)
    new = name.removesuffix(".h5").removesuffix(".hdf5").removesuffix(".weights") + ".keras"
    if name.endswith(".weights.h5"):
        what, fix = "weights alone, without the network", f"model.load_weights({name!r}); model.save({new!r})"
        fix = f"build the network as it was, then in Python: {fix}"
    elif Path(name).suffix in (".h5", ".hdf5"):
        what = "a model in Keras's old format is not read"
        fix = f"once, in Python: keras.models.load_model({name!r}, compile=False).save({new!r})"
    elif os.path.isfile(os.path.join(name, "saved_model.pb")):
        what = "a SavedModel is not read: it has no layers"
        layer = f"keras.layers.TFSMLayer({name!r}, call_endpoint='serving_default')"
        fix = (
            "save the model as .keras where it is made; or in Python, without training: "
            f"ku.export(keras.Sequential([keras.Input((height, width, channels)), {layer}]), ...)"
        )
    else:
        return
    raise ModelError(what, file=path, expected="a .keras file", fix=fix)


def _check_input(model: keras.Model, pre: Preprocessing, file: str | os.PathLike[str] | None) -> None:
    """Refuse a size or a number of channels that the model does not take."""
    from ..models import check_size

    wanted = (*pre.size, pre.channels)
    taken = getattr(model, "input_shape", None)
    if taken is None:  # not built, as its conversion will say
        return
    if not isinstance(taken, tuple) or len(taken) != 4:
        raise ModelError("the model does not take images", file=file, expected="(N, H, W, C)", found=taken)
    if any(side not in (None, value) for side, value in zip(taken[1:], wanted, strict=True)):
        raise UsageError("the model takes another input", file=file, expected=taken[1:], found=wanted)
    with contextlib.suppress(ModelError):  # not functional, so its graph does not tell
        check_size(model, pre.size)


def refuse_for_own(model: Model, *others: Model, **arguments: object) -> None:
    """Raise UsageError if anything is given that only a model of your own needs, and none of the models is one."""
    names = [name for name, value in arguments.items() if value is not None]
    for each in (model, *others):
        if isinstance(each, (str, os.PathLike)):
            _refuse_others(each)
    if names and not any(needs_own(each) for each in (model, *others)) and Path(find_model(model)).exists():
        raise UsageError(
            f"{', '.join(names)} given for a model that says it itself",
            file=model,
            expected="a .keras file, a keras.Model or a .tflite without a card",
            fix="drop it: this model says it itself",
        )


def open_segmenter(
    model: Model,
    *,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    overlap: int | None = None,
    tta: str = "none",
    others: Sequence[Model] = (),
) -> Segmenter:
    """Return a segmenter for a run folder, a `.keras` file, a model or a `.tflite` file, or for several together.

    Args:
        preprocessing: preparation of images for the network; for `.keras` files and models.
        classes: class names; for `.keras` files and models.
        overlap: px shared by neighbouring tiles.
        tta: test-time augmentation: "none", or the mean over the "flips" of each tile or "all" its flips and turns.
        others: more models; the answer is the mean of all (`join_segmenters` says what they must share).

    Raises:
        UsageError: `preprocessing` or `classes` given for models that know them themselves, or the models cannot be
            joined.
    """
    models = [model, *others]
    refuse_for_own(*models, preprocessing=preprocessing, classes=classes)
    opened = [_open_one(open_own(each, preprocessing, classes), overlap) for each in models]
    return join_segmenters(opened, tta=tta, files=[name_of(each) for each in models])


def needs_own(model: Model) -> bool:
    """Whether a model does not say itself how images are fed to it."""
    if isinstance(model, (str, os.PathLike)):
        return Path(model).suffix == ".keras" or is_foreign(model)
    return True


def _open_one(model: str | os.PathLike[str] | Loaded | ForeignFile, overlap: int | None) -> Segmenter:
    if isinstance(model, ForeignFile):
        return Segmenter(model.file, card=model.card, overlap=overlap)
    if isinstance(model, Loaded):
        return keras_segmenter(model, overlap=overlap)
    if RunFolder.is_run(model):
        return keras_segmenter(load_run(model), overlap=overlap)
    return Segmenter(model, overlap=overlap)


def keras_segmenter(loaded: Loaded, *, overlap: int | None = None) -> Segmenter:
    """Return a segmenter that runs the Keras model itself."""
    from .keras_engine import KerasEngine

    engine = KerasEngine(loaded.model, loaded.card.preprocessing)
    return Segmenter(None, card=loaded.card, engine=engine, overlap=overlap)
