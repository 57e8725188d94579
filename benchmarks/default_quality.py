"""What the default settings keep: the metric of every network before and after ``netpress.encode(module)``, and bytes.

    python benchmarks/default_quality.py [--task NAME ...] [--data CORPUS] [--quick] [--json FILE]

No options are given to the encoder: each weight gets a step of its own. The metric is that of the task on some of its
evaluation samples, of the float network and of what is decoded; the difference has the standard error of the samples as
resampling them in pairs shows it. Tasks in the output that are not measured now are kept.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import peer
import torch
from result_tables import default_quality_table

import netpress
from netpress import Task, evaluate
from netpress.formats.pytorch import to_torch

# Evaluation samples; None: all.
TASKS: dict[str, int | None] = {
    "cifar10-resnet20": 300,
    "cifar10-resnet56": 250,
    "vit-cifar10": 300,
    "kws-ds-cnn": 300,
    "fsdd-cnn": None,
    "charlm-lstm": 8,
    "recsys-gmf": None,
    "recsys-mlp": None,
    "pensieve": None,
    "imagenet-mobilenetv1": 100,
    "denoise-dncnn": 2,
    "superres-imdn-x2": 2,
    "inr-siren-kodim15": None,
}
QUICK = ("charlm-lstm", "recsys-gmf", "fsdd-cnn")


def load(name: str, data: Path, limit: int | None) -> Task:
    """Return a task with some of its samples."""
    return evaluate.load(name, data=data, **({} if limit is None else {"limit": limit}))


def measure(name: str, data: Path, limit: int | None) -> dict[str, Any]:
    """Return the figures of one task."""
    task = load(name, data, limit)
    module = task.model()  # type: ignore[misc]
    before = task.scores(module)
    start = time.perf_counter()
    stream = netpress.encode(module)
    seconds = time.perf_counter() - start
    state = netpress.decode(stream)
    module.load_state_dict({key: to_torch(np.ascontiguousarray(value)) for key, value in state.items()})
    after = task.scores(module)
    own = module.state_dict().values()
    return {
        "metric": task.metric,
        "unit": task.unit,
        "direction": task.direction,
        "samples": len(before.samples),
        "float": before.value,
        "decoded": after.value,
        "standard_error": evaluate.standard_error(after, before),
        "float_bytes": sum(value.numel() * value.element_size() for value in own),
        "bytes": len(stream),
        "encode_seconds": seconds,
    }


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=peer.SHARED / "corpus", help="folder laid out like the corpus")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; can be repeated")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = arguments.json is not None and arguments.json.exists()
    tasks: dict[str, Any] = json.loads(arguments.json.read_text())["tasks"] if known else {}
    for name in arguments.task or (QUICK if arguments.quick else TASKS):
        tasks[name] = measure(name, arguments.data, TASKS[name])
        print("\n".join(default_quality_table({name: tasks[name]})[2:]), flush=True)
        if arguments.json:
            ordered = {task: tasks[task] for task in TASKS if task in tasks}
            about = {"netpress": netpress.__version__, "torch": torch.__version__}
            arguments.json.write_text(json.dumps({"tasks": ordered, "about": about}, indent=1) + "\n")
    print("\n".join(default_quality_table(tasks)))


if __name__ == "__main__":
    main()
