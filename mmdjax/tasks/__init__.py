"""Tasks say what a label is, once: regression, classification or multi label."""

from mmdjax.tasks.classification import Classification
from mmdjax.tasks.multi_label import MultiLabel
from mmdjax.tasks.registry import KINDS, SENTIMENT, from_dict, make
from mmdjax.tasks.regression import Regression
from mmdjax.tasks.task import METRICS, Metric, Task, metric

__all__ = [
    "KINDS",
    "METRICS",
    "SENTIMENT",
    "Classification",
    "Metric",
    "MultiLabel",
    "Regression",
    "Task",
    "from_dict",
    "make",
    "metric",
]
