"""Optimizers, learning-rate schedules, precisions and compilers by name."""

OPTIMIZERS = ("adamw", "sgd")  # Loshchilov 2019; Nesterov momentum 0.9
SEARCHES = ("none", "quick", "full")  # how many networks are compared before one is trained
SCHEDULES = ("cosine", "poly", "constant")  # how the rate falls after its warm-up
PRECISIONS = ("auto", "float32", "bfloat16", "float16")  # of the numbers that a step computes with
COMPILERS = ("auto", "xla", "graph")  # XLA; or TensorFlow's own graph of operations
NORM_STATISTICS = ("precise", "moving")  # of BatchNormalization at inference: measured, or gathered while training
# How much less often a class is than the others, to the power by which its pixels weigh more.
CLASS_WEIGHTS = {"equal": 0.0, "softened": 0.5, "balanced": 1.0}
