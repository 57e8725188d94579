"""The uses of coded networks that the standard's verification report names, and the tasks that stand for them."""

from __future__ import annotations

import dataclasses
import math

from netpress import InvalidConfig, Task
from netpress.evaluate.results import Interval

__all__ = ["USE_CASES", "UseCase", "counted_loss", "tolerance", "use_case_of"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UseCase:
    """A row of the report.

    Attributes:
        name: of the use.
        model: the networks that the report has; empty if it has none.
        rate: their size at transparent quality as a share of the float network, in words.
        range: the lowest and the highest of these shares, 0 to 1.
        tasks: names of the tasks of netpress that stand for it; empty if none does yet.
    """

    name: str
    model: str = ""
    rate: str = ""
    range: Interval | None = None
    tasks: tuple[str, ...] = ()


USE_CASES = (
    UseCase(
        name="image super-resolution",
        model="Swin2SR; EDSR",
        rate="9-15 %; 15 %",
        range=(0.09, 0.15),
        tasks=("superres-imdn-x2", "superres-imdn-x4", "superres-carn-m", "superres-vdsr"),
    ),
    UseCase(
        name="image restoration",
        model="NAFNet",
        rate="18 %",
        range=(0.18, 0.18),
        tasks=("denoise-dncnn", "denoise-nafnet"),
    ),
    UseCase(
        name="learned quality metric",
        model="LPIPS, AlexNet backbone",
        rate="9 %",
        range=(0.09, 0.09),
        tasks=("perceptual-mobilenet",),
    ),
    UseCase(
        name="image compression",
        model="autoencoder",
        rate="17 %",
        range=(0.17, 0.17),
        tasks=(
            "image-autoencoder",
            "image-autoencoder-rate",
            "image-autoencoder-small",
            "image-autoencoder-small-rate",
        ),
    ),
    UseCase(
        name="scene representation",
        model="DyNeRF, MixVoxels",
        rate="10-20 %",
        range=(0.10, 0.20),
        tasks=("nerf-lego", "nerf-hotdog", "inr-siren-kodim15", "inr-siren-kodim23"),
    ),
    UseCase(
        name="point cloud",
        model="GRASP-Net, 3-d convolutions",
        rate="20 %",
        range=(0.20, 0.20),
        tasks=("pointcloud-autoencoder", "pointcloud-pointnet"),
    ),
    UseCase(
        name="classification, convolutions",
        model="VGG16, ResNet-50, MobileNet v2",
        rate="3-12 %",
        range=(0.03, 0.12),
        tasks=(
            "cifar10-resnet20",
            "cifar10-resnet32",
            "cifar10-resnet56",
            "imagenet-mobilenetv1",
            "imagenet-darknet",
            "vgg-cifar10",
        ),
    ),
    UseCase(
        name="classification, transformer",
        model="Swin",
        rate="10-12 %",
        range=(0.10, 0.12),
        tasks=("vit-cifar10", "swin-cifar10"),
    ),
    UseCase(
        name="detection",
        model="Swin; YOLOv3",
        rate="16 %; 10 %",
        range=(0.10, 0.16),
        tasks=("detection-fastestdet",),
    ),
    UseCase(name="segmentation", tasks=("camvid-espnet",)),
    UseCase(
        name="acoustic scenes",
        model="DCASE baseline",
        rate="4 %",
        range=(0.04, 0.04),
        tasks=("kws-ds-cnn", "fsdd-cnn"),
    ),
    UseCase(
        name="recommender",
        model="candidate generation, ranking",
        rate="2-4 %",
        range=(0.02, 0.04),
        tasks=("recsys-mlp", "recsys-gmf"),
    ),
    UseCase(
        name="adaptive bitrate",
        model="Pensieve, five rounds of updates",
        rate="20 %",
        range=(0.20, 0.20),
        tasks=("pensieve", "pensieve-rounds"),
    ),
    UseCase(name="language", model="BERT", rate="15 %", range=(0.15, 0.15), tasks=("sentence-minilm",)),
    UseCase(name="language model", tasks=("charlm-lstm", "charlm-decoder")),
)
"""All fifteen rows, in the order of the report's table in the documentation.

Source: verification test report of MPEG on neural network coding.
"""

_FIDELITY = {"nerf-lego": 37.7, "nerf-hotdog": 44.0}
"""dB against the images of the float network at which the PSNR against photographs, 21.4 and 27.7 dB by the training of
these networks, is 0.1 dB lower, if the errors of network and coding are independent."""


def use_case_of(task: Task) -> UseCase | None:
    """Return the row that a task stands for: by its name, or by the text "use case" of its description."""
    words = task.description.get("use case")
    return next((case for case in USE_CASES if task.name in case.tasks or case.name == words), None)


def tolerance(task: Task, float_metric: float) -> float:
    """Return the loss that counts as transparent, in the unit of the metric.

    0.5 points of a percentage and 0.1 dB, else 0.5 % of the float metric. Where the metric is the fidelity to the float
    network, its own PSNR says nothing; there it is what leads to a fixed fidelity. The text "tolerance" in the
    description of a task, a number, overrules all.

    Args:
        task: any task.
        float_metric: metric of its float network.

    Raises:
        InvalidConfig: the text is no number from 0.
    """
    known = {"%": 0.5, "dB": 0.1}
    found = known.get(task.unit, 0.005 * abs(float_metric))
    if task.name in _FIDELITY:
        found = max(found, float_metric - _FIDELITY[task.name])
    words = task.description.get("tolerance")
    if words is not None:
        try:
            found = float(words)
        except ValueError:
            found = math.nan
        if not 0 <= found < math.inf:
            raise InvalidConfig(f"task {task.name!r}: the tolerance is a number from 0, not {words!r}")
    return found


def counted_loss(task: Task, loss: float) -> float:
    """Return what counts of a loss: all of it, or its magnitude if the task's description has the text "both ways".

    Some metrics get better where a network breaks, such as the rate of images that it codes.
    """
    return abs(loss) if "both ways" in task.description else loss
