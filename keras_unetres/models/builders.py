"""The table of builders by name, through which run folders rebuild their models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import RunFolderError, UnetresError, shortened

from .fcn import build_fcn
from .own_network import build_own
from .resnet import build_resnet
from .unet import build_unet

BUILDERS: dict[str, Callable[..., keras.Model]] = {
    builder.__name__: builder for builder in (build_fcn, build_own, build_resnet, build_unet)
}


def build(builder: str, arguments: dict[str, Any]) -> keras.Model:
    """Build a model by the name of its builder.

    Raises:
        RunFolderError: an unknown builder, or arguments it does not take.
    """
    if builder not in BUILDERS:
        raise RunFolderError("the model's builder is not known", expected=", ".join(BUILDERS), found=builder)
    try:
        return BUILDERS[builder](**arguments)
    except UnetresError:
        raise
    except Exception as error:  # of Keras and TensorFlow, down to memory that does not suffice: any kind
        said = shortened(error, 300) or type(error).__name__
        raise RunFolderError(
            f"the builder does not take these arguments: {said}", fix="lower the size, filters or depth"
        ) from error


def assign(variables: dict[str, keras.Variable], tensors: dict[str, np.ndarray], file: Any = None) -> None:
    """Set variables by name after checking that names, shapes and dtypes are all as expected.

    Raises:
        RunFolderError: a tensor is missing, unknown, of another shape or dtype, or not finite.
    """
    if set(variables) != set(tensors):
        missing, strange = sorted(set(variables) - set(tensors)), sorted(set(tensors) - set(variables))
        raise RunFolderError(
            "tensors are not those of the model", file=file, found=f"missing {missing[:3]}, unknown {strange[:3]}"
        )
    for name, variable in variables.items():
        value = tensors[name]
        if tuple(variable.shape) != value.shape or str(variable.dtype) != str(value.dtype):
            raise RunFolderError(
                f"tensor {name} has another form",
                file=file,
                expected=f"{tuple(variable.shape)} {variable.dtype}",
                found=f"{value.shape} {value.dtype}",
            )
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise RunFolderError(f"tensor {name} has values that are not finite", file=file)
    for name, variable in variables.items():
        variable.assign(tensors[name])
