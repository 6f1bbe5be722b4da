"""What losses and metrics ask of Keras's backend: sums over the devices of a step, and whether it is being traced."""

from __future__ import annotations

from typing import Any

import keras


def across_replicas(tensor: Any) -> Any:
    """Return the sum of a tensor over all replicas of the step, and the tensor itself where there is only one.

    There is more than one only where Keras runs on TensorFlow, inside `Strategy.run` of `tf.distribute`.

    The gradient is computed without communication: it is the gradient of this replica times the number of replicas.
    That is exact only if every replica computes the same function of the sum, as the losses here do. A second
    all-reduce in the backward pass could hang or mix up values: TensorFlow may run the operations of different replicas
    in different orders, so that two sums in one loss would be taken for each other.
    """
    context = _replica_context()
    if context is None:
        return tensor
    import tensorflow as tf

    @tf.custom_gradient
    def total(x: Any) -> tuple[Any, Any]:
        return context.all_reduce("sum", x), lambda upstream: upstream * context.num_replicas_in_sync

    return total(tensor)


def share_of_replica(loss: Any) -> Any:
    """Return the part of a global loss that one replica hands to Keras: the loss over the number of replicas.

    It is what Keras's own losses return: Keras multiplies it by that number for its logs, and the optimizer sums the
    gradients of all replicas.
    """
    context = _replica_context()
    return loss if context is None else loss / context.num_replicas_in_sync


def is_traced(tensor: Any) -> bool:
    """Return whether a tensor belongs to a graph that is being traced, and has no value yet."""
    if keras.backend.backend() == "jax":
        return any(kind.__name__ == "Tracer" for kind in type(tensor).__mro__)
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly() or bool(tf.is_symbolic_tensor(tensor))


def _replica_context() -> Any:
    """Return TensorFlow's replica context if there is more than one replica, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
