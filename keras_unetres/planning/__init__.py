"""From a data set and minutes to the settings of a training, each decision with its reason.

It decides how a network is trained, and how large it is; which classes there are the data set says.
"""

from .decisions import Decision, TrainingPlan
from .fingerprint import Fingerprint, describe
from .rules import Budget, decide
from .training import plan_training

__all__ = ["Budget", "Decision", "Fingerprint", "TrainingPlan", "decide", "describe", "plan_training"]
