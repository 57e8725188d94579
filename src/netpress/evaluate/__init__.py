"""Measures what compression does to the networks of tasks: sweeps, stores, reports, rivals.

A task is asked for by name and finds its weights and data in a folder:

    task = netpress.evaluate.load("cifar10-resnet20", data="corpus")
    print(task.scores(task.model()).value, task.unit)

Tasks are entry points of the group ``netpress.tasks`` of any package; ``pip install netpress-zoo`` adds 36. What the
evaluation needs is installed by ``pip install netpress[evaluate]``; importing this package loads none of it.
"""

from __future__ import annotations

from netpress.compare import confidence_interval, divergence, resample, standard_error
from netpress.evaluate.registry import load, tasks
from netpress.evaluate.task_sets import TaskFacts
from netpress.evaluate.transparency import TransparentPoint, decoded_network, transparent_point

__all__ = [
    "TaskFacts",
    "TransparentPoint",
    "confidence_interval",
    "decoded_network",
    "divergence",
    "load",
    "resample",
    "standard_error",
    "tasks",
    "transparent_point",
]
