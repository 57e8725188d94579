"""What ``netpress demo`` shows: a small trained network, before and after compression.

The network is a classifier of handwritten digits, trained by ``tools/train_demo.py`` on scikit-learn's digits.
"""

from __future__ import annotations

from netpress.demo.network import accuracy, load_model, load_test_set, predict, read_float_file
from netpress.demo.run import EFFORTS, QPS, DemoRow, run_demo

__all__ = [
    "EFFORTS",
    "QPS",
    "DemoRow",
    "accuracy",
    "load_model",
    "load_test_set",
    "predict",
    "read_float_file",
    "run_demo",
]
