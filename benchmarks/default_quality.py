"""What the default settings keep: the metric of every network before and after ``netpress.encode(module)``, and bytes.

    python benchmarks/default_quality.py [--task NAME ...] [--data CORPUS] [--quick] [--json FILE]

No options are given to the encoder: each weight gets a step of its own. The metric is that of the task on some of its
evaluation samples, of the float network and of what is decoded; the difference has the standard error of the samples as
resampling them in pairs shows it. Tasks in the output that are not measured now are kept.
"""

from __future__ import annotations

import time
from pathlib import Path

import netpress
import runner
from netpress import evaluate
from pages.default_quality import default_quality_table

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


def measure(name: str, data: Path) -> runner.Found:
    """Return the figures of one task."""
    task = runner.load(name, data, TASKS[name])
    module = task.model()  # type: ignore[misc]
    before = task.scores(module)
    start = time.perf_counter()
    stream = netpress.encode(module)
    seconds = time.perf_counter() - start
    after = task.scores(evaluate.decoded_network(task, stream))
    found = {
        "metric": task.metric,
        "unit": task.unit,
        "direction": task.direction,
        "samples": len(before.samples),
        "float": before.value,
        "decoded": after.value,
        "standard_error": evaluate.standard_error(after, before),
        "float_bytes": sum(value.numel() * value.element_size() for value in module.state_dict().values()),
        "bytes": len(stream),
        "encode_seconds": seconds,
    }
    print("\n".join(default_quality_table({name: found})[2:]), flush=True)
    return found


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = runner.parser(__doc__, TASKS, None)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.set_defaults(threads=1)
    arguments = parser.parse_args()
    runner.run(
        arguments,
        list(TASKS),
        lambda name, _: measure(name, arguments.data),
        asked=QUICK if arguments.quick else None,
        table=default_quality_table,
    )


if __name__ == "__main__":
    main()
