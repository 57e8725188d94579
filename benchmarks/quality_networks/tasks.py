"""The networks of tasks of ``netpress.evaluate``: those of the zoo, and others with a module and batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from measures import Heads, Network, Result, State, same_boxes, same_decisions
from netpress import Scores, Task, evaluate
from netpress.compare import inference, network_with
from netpress.evaluate.classification import classification_task
from netpress.evaluate.data import DataFolder
from netpress.evaluate.samples import Samples, choose

OUTPUT = "output"
"""Name of the one output of a torch module."""

BOX_SCORE = 0.65
"""Boxes of FastestDet with lower scores do not count: those are what its own demonstration draws."""

_ALL = (
    "cifar10-",
    "imagenet-",
    "vit-",
    "swin-",
    "vgg-",
    "kws-",
    "fsdd-",
    "pensieve",
    "charlm-",
    "recsys-",
    "pointcloud-",
)
"""Beginnings of the names of tasks of which all samples are used."""
_SOME = {"camvid-espnet": 24, "detection-fastestdet": None}
"""Samples of the other tasks with decisions; None: all. The rest has twice those of ``netpress evaluate --quick``,
because a relative error varies little between images."""
_QUICK = 200
_HAVE_ALL_IMAGES = ("imagenet-", "camvid-")


def zoo_network(name: str, data: Path, quick: bool = False) -> Network:
    """Return the network of a task of the zoo.

    Args:
        name: of the task.
        data: folder of the corpus.
        quick: whether few samples are enough.
    """
    limit = _limit(name, quick)
    options: dict[str, Any] = {} if limit is None else {"limit": limit}
    if name.startswith(_HAVE_ALL_IMAGES):
        options["all_images"] = True
    return task_network(evaluate.load(name, data=data, **options))


def _limit(name: str, quick: bool) -> int | None:
    """How many samples of a task of the zoo to take; None: all."""
    from netpress_zoo.facts import FACTS

    if name.startswith(_ALL):
        return _QUICK if quick else None
    few = FACTS[name].quick_samples
    return few if quick else _SOME.get(name, few and 2 * few)


def imagenet_network(
    name: str, module: nn.Module, data: Path, prepare: Callable[[Tensor], Tensor], quick: bool = False
) -> Network:
    """Return a network with the 800 images and labels of the tasks of ImageNet.

    Args:
        name: of the network.
        module: the network.
        data: folder of the corpus.
        prepare: inputs of the network, from images with values from 0 to 255.
        quick: whether few images are enough.
    """
    from netpress_zoo import imagenet_images

    folder = DataFolder(name, data, imagenet_images.FOLDER, imagenet_images.FILES)
    pixels = imagenet_images.reader(folder)
    labels = folder.arrays(imagenet_images.FILE)["labels"]
    rows = choose(len(labels), _QUICK if quick else None)
    test = Samples(lambda chosen: prepare(pixels(chosen).float()), rows, labels)
    return task_network(
        classification_task(
            name,
            network=lambda: module,
            weights=lambda: module,
            test=test,
            calibration=None,
            train=None,
            description={},
            size=32,
        )
    )


def task_network(task: Task) -> Network:
    """Return the network of a task with its evaluation batches and its metric."""
    assert task.model is not None
    module: nn.Module = task.model().eval()
    every = {name: value.numpy() for name, value in module.state_dict().items()}

    def run(state: State) -> Result:
        return _run(task, network_with(module, {**every, **state}))

    decide, word = _decision(task)
    agree = None if decide is None else same_decisions(decide)
    if task.name == "detection-fastestdet":
        agree, word = same_boxes(_fastestdet_boxes), "boxes"
    return Network(
        name=task.name,
        source=module,
        tensors={name: value for name, value in every.items() if value.dtype.kind == "f"},
        run=run,
        agree=agree,
        decisions=word,
        logits=(OUTPUT, _class_axis(task)) if task.outputs == "logits" else None,
        output_axes=output_axes(module),
        metric=task.metric,
        unit=task.unit,
        direction=task.direction,
    )


def output_axes(module: nn.Module) -> dict[str, int]:
    """Return the axis of the output channels of the weights that have it elsewhere than in front."""
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return {f"{name}.weight": 1 for name, layer in module.named_modules() if isinstance(layer, transposed)}


def _run(task: Task, module: nn.Module) -> Result:
    """Run a network over the evaluation batches, and for its metric; at once if these are the same runs."""
    expected = iter(task.batches("evaluation"))
    outputs: list[Tensor] = []
    is_same = task.forward is None

    def look(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal is_same
        if is_same:
            batch = next(expected, None)
            is_same = isinstance(batch, Tensor) and len(inputs) == 1 and torch.equal(batch, inputs[0])
            outputs.append(output)

    scores: Scores | None = None
    if task.evaluate is not None:
        handle = module.register_forward_hook(look)
        try:
            scores = task.scores(module)
        finally:
            handle.remove()
    if task.evaluate is None or not is_same or next(expected, None) is not None:
        with inference(module):
            outputs = [task.output(module, batch) for batch in task.batches("evaluation")]
    return Result([{OUTPUT: row.numpy()} for batch in outputs for row in batch.detach().cpu()], scores)


def _class_axis(task: Task) -> int:
    return 0 if task.name == "camvid-espnet" else -1


def _decision(task: Task) -> tuple[Callable[[Heads], np.ndarray] | None, str]:
    """What a network decides from its output for one input, and the word for it."""
    axis = _class_axis(task)
    if task.name == "pointcloud-autoencoder":
        return lambda heads: heads[OUTPUT] > 0, "voxels"
    if task.name.startswith("recsys-"):
        return lambda heads: heads[OUTPUT].argmax(-1), "first film"
    if task.outputs != "logits":
        return None, ""
    words = {"camvid-espnet": "pixels", "charlm-lstm": "characters", "charlm-decoder": "characters"}
    return lambda heads: heads[OUTPUT].argmax(axis), words.get(task.name, "top-1")


def _fastestdet_boxes(heads: Heads) -> np.ndarray:
    from netpress_zoo import detection

    boxes = detection._decode(torch.from_numpy(heads[OUTPUT]), 1, 1)
    return boxes[boxes[:, 1] > BOX_SCORE]
