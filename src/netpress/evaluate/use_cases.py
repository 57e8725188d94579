"""The uses of coded networks that the standard's verification report names, and the tasks that stand for them."""

from __future__ import annotations

import dataclasses
import math

from netpress import InvalidConfig, Task
from netpress.evaluate.results import Interval
from netpress.evaluate.task_sets import facts_of, known_facts

__all__ = ["USE_CASES", "UseCase", "counted_loss", "tolerance", "use_case_of"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UseCase:
    """A row of the report.

    Attributes:
        name: of the use.
        model: the networks that the report has; empty if it has none.
        rate: their size at transparent quality as a share of the float network, in words.
        range: the lowest and the highest of these shares, 0 to 1.
    """

    name: str
    model: str = ""
    rate: str = ""
    range: Interval | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the installed tasks that stand for it, as their packages say; empty if none does."""
        return tuple(name for name, facts in known_facts().items() if facts.use_case == self.name)


USE_CASES = (
    UseCase(name="image super-resolution", model="Swin2SR; EDSR", rate="9-15 %; 15 %", range=(0.09, 0.15)),
    UseCase(name="image restoration", model="NAFNet", rate="18 %", range=(0.18, 0.18)),
    UseCase(name="learned quality metric", model="LPIPS, AlexNet backbone", rate="9 %", range=(0.09, 0.09)),
    UseCase(name="image compression", model="autoencoder", rate="17 %", range=(0.17, 0.17)),
    UseCase(name="scene representation", model="DyNeRF, MixVoxels", rate="10-20 %", range=(0.10, 0.20)),
    UseCase(name="point cloud", model="GRASP-Net, 3-d convolutions", rate="20 %", range=(0.20, 0.20)),
    UseCase(
        name="classification, convolutions", model="VGG16, ResNet-50, MobileNet v2", rate="3-12 %", range=(0.03, 0.12)
    ),
    UseCase(name="classification, transformer", model="Swin", rate="10-12 %", range=(0.10, 0.12)),
    UseCase(name="detection", model="Swin; YOLOv3", rate="16 %; 10 %", range=(0.10, 0.16)),
    UseCase(name="segmentation"),
    UseCase(name="acoustic scenes", model="DCASE baseline", rate="4 %", range=(0.04, 0.04)),
    UseCase(name="recommender", model="candidate generation, ranking", rate="2-4 %", range=(0.02, 0.04)),
    UseCase(name="adaptive bitrate", model="Pensieve, five rounds of updates", rate="20 %", range=(0.20, 0.20)),
    UseCase(name="language", model="BERT", rate="15 %", range=(0.15, 0.15)),
    UseCase(name="language model"),
)
"""All fifteen rows, in the order of the report's table in the documentation.

Source: verification test report of MPEG on neural network coding.
"""


def use_case_of(task: Task) -> UseCase | None:
    """Return the row that a task stands for: as its package says, or by the text "use case" of its description."""
    name = facts_of(task.name).use_case or task.description.get("use case")
    return next((case for case in USE_CASES if case.name == name), None)


def tolerance(task: Task, float_metric: float) -> float:
    """Return the loss that counts as transparent, in the unit of the metric.

    0.5 points of a percentage and 0.1 dB, else 0.5 % of the float metric; more where the task's package names a
    transparent metric that is farther away. The text "tolerance" in the description of a task, a number, overrules all.

    Args:
        task: any task.
        float_metric: metric of its float network.

    Raises:
        InvalidConfig: the text is not a number from 0.
    """
    by_unit = {"%": 0.5, "dB": 0.1}
    result = by_unit.get(task.unit, 0.005 * abs(float_metric))
    transparent = facts_of(task.name).transparent_metric
    if transparent is not None:
        sign = 1 if task.direction == "max" else -1
        result = max(result, sign * (float_metric - transparent))
    stated = task.description.get("tolerance")
    if stated is not None:
        try:
            result = float(stated)
        except ValueError:
            result = math.nan
        if not 0 <= result < math.inf:
            raise InvalidConfig(f"task {task.name!r}: the tolerance is a number from 0, not {stated!r}")
    return result


def counted_loss(task: Task, loss: float) -> float:
    """Return what counts of a loss: all of it, or its magnitude if the task's description has the text "both ways".

    Some metrics get better where a network breaks, such as the rate of images that it codes.
    """
    return abs(loss) if "both ways" in task.description else loss
