"""A recipe: stages that make a network smaller, one after the other, and the stream at the end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig, RecipeError
from netpress.files import atomic_writer
from netpress.parallel import Progress
from netpress.recipe.stage import Stage, stage_from_dict
from netpress.task import Task

if TYPE_CHECKING:
    from torch import nn


__all__ = ["Recipe", "RecipeResult", "StageReport"]

_LOG = logging.getLogger(__name__)
_CHECKPOINT = "recipe-checkpoint.pt"


@dataclasses.dataclass(frozen=True)
class StageReport:
    """The network after a stage, coded and decoded: what it costs and what it is worth.

    ``metric`` is None where the task has no ``evaluate``. ``facts`` are the stage's own.
    """

    stage: str
    parameters: int
    bytes: int
    metric: float | None
    seconds: float
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class RecipeResult:
    """The outcome of a recipe.

    ``data`` is the stream, ``module`` the network that :func:`netpress.decode` gives back (original layers, decoded
    weights), ``working_module`` the one with the layers that stages put in (float weights). ``reports`` starts with the
    original, coded with the recipe's settings alone.
    """

    data: bytes
    module: Any
    working_module: Any
    reports: tuple[StageReport, ...]
    baseline: float | None
    metric_name: str
    unit: str

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the stream to a file, which appears when it is complete; return the number of bytes."""
        with atomic_writer(path) as file:
            file.write(self.data)
        return len(self.data)

    def table(self) -> str:
        """Return the reports as a table in Markdown."""
        unit = f" ({self.unit})" if self.unit else ""
        lines = [f"| stage | parameters | bytes | {self.metric_name}{unit} |", "|---|---:|---:|---:|"]
        baseline = "" if self.baseline is None else f"{self.baseline:.4g}"
        lines.append(
            f"| float network | {self.reports[0].parameters} | {4 * self.reports[0].parameters} | {baseline} |"
        )
        for report in self.reports:
            metric = "" if report.metric is None else f"{report.metric:.4g}"
            lines.append(f"| {report.stage} | {report.parameters} | {report.bytes} | {metric} |")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A list of stages, and the settings of the encoder; frozen, with a JSON round trip.

    Args:
        stages: run in this order.
        config: settings of the encoder at the end; stages add blocks, folding and qps to them.

    Example:
        >>> import netpress
        >>> recipe = netpress.Recipe([netpress.Sparsify(share=0.5), netpress.Cluster(bits=4)])
        >>> netpress.Recipe.from_dict(recipe.to_dict()) == recipe
        True
    """

    stages: tuple[Stage, ...]
    config: EncodeConfig

    def __init__(self, stages: Sequence[Stage], config: EncodeConfig | None = None) -> None:
        for stage in stages:
            if not isinstance(stage, Stage):
                raise InvalidConfig(f"a recipe consists of stages, not of {type(stage).__name__}")
        object.__setattr__(self, "stages", tuple(stages))
        object.__setattr__(self, "config", EncodeConfig.with_options(config, {}))
        if self.config.is_reference or self.config.differences or self.config.blocks:
            raise InvalidConfig(
                "a recipe codes whole networks, with blocks of its own and without the reference preset"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe ready for JSON and TOML."""
        content: dict[str, Any] = {"stages": [stage.to_dict() for stage in self.stages]}
        config = self.config.to_dict()
        if config:
            content["encode"] = config
        return content

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of :meth:`to_dict`.

        Raises:
            InvalidConfig: a stage or setting is unknown, or a value is out of range.
        """
        unknown = set(values) - {"stages", "encode"}
        if unknown:
            raise InvalidConfig(f"a recipe has no {min(unknown)!r}, only stages and encode")
        stages = values.get("stages", [])
        if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
            raise InvalidConfig("stages is a list of tables, each with the name of its stage")
        return cls([stage_from_dict(stage) for stage in stages], EncodeConfig.from_dict(values.get("encode", {})))

    def run(
        self,
        module: nn.Module | None = None,
        task: Task | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        report_every_stage: bool = True,
    ) -> RecipeResult:
        """Apply the stages to a copy of a network, and code it.

        Args:
            module: the network, unchanged afterwards; None: that of the task.
            task: data, loss and metric, as far as the stages need them.
            folder: where the state after each stage is kept; a later run with the same recipe and network goes on from
                there. It holds Python objects: use only folders that nobody else writes to.
            progress: called with steps done, steps in all, and what is being done.
            report_every_stage: code, decode and evaluate after each stage, not only at the end.

        Raises:
            RecipeError: a stage cannot run (said before anything starts) or fails; names stage and layer.
            InvalidConfig: settings do not fit.
        """
        task = task or Task()
        if module is None:
            if task.model is None:
                raise RecipeError("there is no network: neither the task nor the call gives one")
            module = task.model()
        for stage in self.stages:
            stage.check(module, task)
        return _Run(self, module, task, folder, progress, report_every_stage).result()


class _Run:
    """One run of a recipe."""

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        task: Task,
        folder: str | os.PathLike[str] | None,
        progress: Progress | None,
        report_every_stage: bool,
    ) -> None:
        from netpress.recipe.candidate import Candidate

        self.recipe, self.task, self.progress = recipe, task, progress
        self.every = report_every_stage
        self.candidate = Candidate.start(module, task, recipe.config.to_dict())
        self.reports: list[StageReport] = []
        self.checkpoint = None if folder is None else Path(folder) / _CHECKPOINT
        self.key = _key(recipe, module) if folder is not None else ""

    def result(self) -> RecipeResult:
        task, stages = self.task, self.recipe.stages
        baseline = None if task.evaluate is None else task.scores(self.candidate.original).value
        self._resume()
        if not self.reports:
            self._report("coded as it is", 0.0, {}, always=self.every or not stages)
        for i in range(max(0, len(self.reports) - 1), len(stages)):
            stage = stages[i]
            start = time.perf_counter()
            try:
                facts = stage.run(self.candidate, self._stage_progress(stage))
            except RecipeError as error:
                if error.stage is None:
                    raise RecipeError(error.message, stage=stage.name, layer=error.layer) from error
                raise
            _LOG.info("stage %s took %.1f s", stage.name, time.perf_counter() - start)
            self._report(stage.name, time.perf_counter() - start, facts, always=self.every or i + 1 == len(stages))
            self._save()
        self.candidate.recipe = self.recipe.to_dict()
        data = self.candidate.encode()
        return RecipeResult(
            data,
            self.candidate.restored(data),
            self.candidate.module,
            tuple(self.reports),
            baseline,
            task.metric,
            task.unit,
        )

    def _stage_progress(self, stage: Stage) -> Progress | None:
        if self.progress is None:
            return None
        report = self.progress
        return lambda done, total, what: report(done, total, f"{stage.name}: {what}")

    def _report(self, name: str, seconds: float, facts: Mapping[str, Any], *, always: bool) -> None:
        size, metric = 0, None
        if always:
            data = self.candidate.encode()
            scores = self.candidate.scores(data)
            size, metric = len(data), None if scores is None else scores.value
        self.reports.append(StageReport(name, self.candidate.parameter_count, size, metric, seconds, dict(facts)))

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        import torch

        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        candidate = self.candidate
        state = {field.name: getattr(candidate, field.name) for field in dataclasses.fields(candidate)}
        del state["task"], state["original"]
        with atomic_writer(self.checkpoint) as file:
            torch.save({"key": self.key, "state": state, "reports": self.reports}, file)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        import torch

        saved = torch.load(self.checkpoint, weights_only=False)
        if saved["key"] != self.key:
            raise RecipeError(f"{self.checkpoint.parent} holds the state of another recipe or network")
        for name, value in saved["state"].items():
            setattr(self.candidate, name, value)
        self.reports = saved["reports"]


def _key(recipe: Recipe, module: nn.Module) -> str:
    """Return what a recipe and a network have in common with no other."""
    import torch

    digest = hashlib.sha256(json.dumps(recipe.to_dict(), sort_keys=True).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
