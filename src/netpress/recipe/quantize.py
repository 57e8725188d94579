"""Calibrated quantisation as a stage."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import torch

from netpress.calibration.measured import calibrate
from netpress.calibration.quantizer import quantize_model
from netpress.calibration.statistics import Calibration
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import coded_parameters
from netpress.recipe.stage import Stage

__all__ = ["Quantize"]

_LAMBDA_SCALE = 0.35
_SENSITIVITY_EXPONENT = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantize(Stage):
    """Quantises the weights so that the outputs change least on the task's calibration data, which needs no labels.

    Errors are fed back to weights that are not quantised yet, and layers get steps by their sensitivity; see
    :func:`netpress.quantize_model`. Factors of decomposed weights take part. Weights of transposed convolutions whose
    batch norm is folded are left to the encoder.
    """

    qp: int = -24
    """Quantisation parameter of a weight of average sensitivity."""
    lambda_scale: float | None = None
    """Weight of the rate, from 0. None: 0.35."""
    sensitivity_exponent: float | None = None
    """1: all layers at the same slope of divergence over bits; 0: all with the same step. None: 1."""
    allocation: float | None = None
    """The old name of ``sensitivity_exponent``, for one release."""

    def __post_init__(self) -> None:
        self.check_number("qp", -128, 127)
        self.check_number("lambda_scale", 0, 1e3, optional=True)
        self.check_number("sensitivity_exponent", 0, 2, optional=True)
        self.check_number("allocation", 0, 2, optional=True)
        if self.allocation is not None:
            message = f"stage {self.name}: allocation is called sensitivity_exponent now"
            warnings.warn(f"{message}; the old name goes with the next release", DeprecationWarning, stacklevel=3)
            if self.sensitivity_exponent is not None:
                raise self.invalid("allocation is the old name of sensitivity_exponent: give only one of them")

    def to_dict(self) -> dict[str, Any]:
        """See :meth:`Stage.to_dict`; numbers that are those of None are left out."""
        same = {
            "lambda_scale": _LAMBDA_SCALE,
            "sensitivity_exponent": _SENSITIVITY_EXPONENT,
            "allocation": _SENSITIVITY_EXPONENT,
        }
        return {name: value for name, value in super().to_dict().items() if name not in same or value != same[name]}

    def needs(self) -> tuple[str, ...]:
        """See :meth:`Stage.needs`."""
        return ("calibration_batches",)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        return self.apply(candidate, self.calibrate(candidate, progress), progress)

    def calibrate(self, candidate: Candidate, progress: Progress | None = None) -> Calibration:
        """Collect the statistics of a candidate's weights; they hold for every qp."""
        task = candidate.task
        return calibrate(
            candidate.module,
            task.batches("calibration"),
            forward=task.output,
            outputs=task.outputs,
            progress=progress,
            seed=self.seed,
        )

    def apply(self, candidate: Candidate, calibration: Calibration, progress: Progress | None = None) -> dict[str, Any]:
        """Quantise the weights of a candidate with its statistics; returns facts as :meth:`run` does."""
        config = candidate.config()
        tensors = coded_parameters(candidate.module)
        skipped = {*candidate.turned(), *candidate.quantized}
        layers = {name: layer for name, layer in calibration.layers.items() if name in tensors and name not in skipped}
        quantized = quantize_model(
            {name: tensors[name].detach().cpu().numpy() for name in layers},
            dataclasses.replace(calibration, layers=layers, unreached=()),
            qp=int(self.qp),
            qp_density=config.qp_density,
            use_dq=config.use_dq,
            lambda_scale=_LAMBDA_SCALE if self.lambda_scale is None else self.lambda_scale,
            sensitivity_exponent=next(
                (value for value in (self.sensitivity_exponent, self.allocation) if value is not None),
                _SENSITIVITY_EXPONENT,
            ),
            progress=progress,
        )
        with torch.no_grad():
            for name, tensor in quantized.items():
                tensors[name].copy_(torch.from_numpy(tensor.values(config.qp_density)))
                candidate.quantized[name] = tensor
        return {
            "qps": {name: tensor.qp for name, tensor in quantized.items()},
            "unreached": list(calibration.unreached),
        }
