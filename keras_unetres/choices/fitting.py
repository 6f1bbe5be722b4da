"""Optimizers and learning-rate schedules by name."""

OPTIMIZERS = ("adamw", "sgd")  # Loshchilov 2019; Nesterov momentum 0.9
SCHEDULES = ("cosine", "poly", "constant")  # how the rate falls after its warm-up
