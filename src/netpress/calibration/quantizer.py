"""The integers of a model, chosen so that its outputs keep their values at the lowest rate.

Source: docs/notes/calibrated-quantisation.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.calibration.statistics import ROWS, TABLE, Calibration, LayerStatistics
from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats import open_source
from netpress.parallel import Progress, ordered_map
from netpress.quantize.feedback import LARGEST_LEVEL, Form, factor, quantize_feedback, quantize_feedback_rows
from netpress.quantize.levels import quantize
from netpress.quantize.step_size import qp_for_step, qp_range, step_size
from netpress.quantize.tensor import QuantizedTensor

__all__ = ["calibrated_qps", "layer_densities", "quantize_model"]

# Slope of the squared error of the trellis at high rates, in squared steps per bit: 2 ln 2 times its noise.
_SLOPE = 4 * (math.log(2) / 6) * 0.7
_DATA_FREE_LAMBDA_SCALE = 0.25
# A row matters at least this much of the mean: calibration data that never use it do not make it worthless.
_LEAST_IMPORTANCE = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class _Layer:
    """One weight with its form. ``importance`` has one entry per row, mean 1; ``scale`` is that of the divergence."""

    weights: npt.NDArray[np.float32]
    statistics: LayerStatistics
    form: Form
    importance: npt.NDArray[np.float64]
    scale: float

    @property
    def density(self) -> float:
        """Divergence that a white error of variance 1 of one weight makes on average, after feedback."""
        return self.scale * float(self.form.importance.mean(dtype=np.float64))


def quantize_model(
    source: Any,
    calibration: Calibration,
    *,
    qp: int,
    qps: Mapping[str, int] | None = None,
    qp_density: int = 2,
    use_dq: bool = True,
    lambda_scale: float = 0.35,
    allocation: float = 1.0,
    row_importance: bool = False,
    damping: float = 0.01,
    passes: int = 2,
    progress: Progress | None = None,
) -> dict[str, QuantizedTensor]:
    """Quantise the weights of a model with the knowledge of a calibration.

    Args:
        source: the model, in the forms that :func:`netpress.encode` takes.
        calibration: of :func:`netpress.calibrate`, for this model.
        qp: quantisation parameter of a weight of average sensitivity. The steps of layers follow their sensitivities;
            the mean over all weights of the logarithm of the step is that of ``qp``.
        qps: name -> qp, for weights that are to get exactly that.
        qp_density: 0..7, that of the encoder.
        use_dq: dependent quantisation, else uniform.
        lambda_scale: weight of the rate, at least 0; 1 is the slope of the rate-distortion curve at high rates. Uniform
            quantisation ignores it: shrinking levels is a bias that the feedback has to carry.
        allocation: 1 gives all layers the same slope of divergence over bits, 0 the same step; between them, the
            logarithm of the step is interpolated.
        row_importance: let rows that matter more have more bits; those of embeddings always do.
        damping: share of the mean diagonal that is added to the moments.
        passes: searches with the rate, each with the statistics of the one before.
        progress: called after each weight.

    Returns:
        Integers by name for the argument ``quantized`` of :func:`netpress.encode`: of all weights that the calibration
        knows. Weights that it did not reach, or that are too many steps large for feedback, are quantised without data.

    Raises:
        InvalidModel: the calibration does not fit the model; names the weight.
        InvalidConfig: an option is out of range.
    """
    if lambda_scale < 0 or not 0 <= allocation <= 2:
        raise InvalidConfig("lambda_scale must be at least 0 and allocation 0..2")
    arrays, layers = _layers(source, calibration, damping, unreached=True)
    chosen = _layer_qps(layers, qp, qp_density, allocation)
    chosen.update({n: q for n, q in (qps or {}).items() if n in arrays})

    def quantized(name: str) -> QuantizedTensor:
        layer = layers.get(name)
        own = chosen.get(name, qp)
        if layer is None or not _can_feed_back(layer, step_size(own, qp_density)):
            return _without_data(name, arrays[name], own, qp_density, use_dq)
        # A bit is worth the same divergence in all layers whose steps follow the sensitivities.
        slope = _SLOPE * step_size(own, qp_density) ** 2 * float(layer.form.importance.mean(dtype=np.float64))
        levels = _fed_back(
            name,
            layer,
            row_importance,
            qp=own,
            qp_density=qp_density,
            dependent=use_dq,
            rate_weight=lambda_scale * slope if use_dq else 0.0,
            passes=passes,
        )
        return QuantizedTensor(levels, own, use_dq)

    total = sum(a.size for a in arrays.values())
    result: dict[str, QuantizedTensor] = {}
    done = 0
    for name, tensor in zip(arrays, ordered_map(quantized, arrays), strict=True):
        result[name] = tensor
        done += arrays[name].size
        if progress is not None:
            progress(done, total, name)
    return result


def calibrated_qps(
    source: Any,
    calibration: Calibration,
    *,
    qp: int,
    qp_density: int = 2,
    allocation: float = 1.0,
    damping: float = 0.01,
) -> dict[str, int]:
    """Return the qps that :func:`quantize_model` gives the weights that the calibration knows; arguments likewise."""
    _, layers = _layers(source, calibration, damping, unreached=False)
    return _layer_qps(layers, qp, qp_density, allocation)


def layer_densities(source: Any, calibration: Calibration, *, damping: float = 0.01) -> dict[str, float]:
    """Return by name the divergence that a white error of variance 1 of one weight makes on average, after feedback.

    0 where nothing depends on a layer, or sensitivities were not collected.
    """
    _, layers = _layers(source, calibration, damping, unreached=False)
    return {n: 0.0 if layer.statistics.sensitivity is None else layer.density for n, layer in layers.items()}


def _layers(
    source: Any, calibration: Calibration, damping: float, *, unreached: bool
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, _Layer]]:
    """Return the weights that the calibration knows, if wanted also those it did not reach, and the layers."""
    with open_source(source) as model:
        missing = sorted(set(calibration.layers) - set(model.names))
        if missing:
            raise InvalidModel("is calibrated, but the model does not have it", tensor=missing[0])
        wanted = set(calibration.layers) | set(calibration.unreached if unreached else ())
        arrays = {n: np.ascontiguousarray(model.load(n), np.float32) for n in model.names if n in wanted}
    reached = [n for n in arrays if n in calibration.layers]
    made = ordered_map(lambda n: _layer(n, arrays[n], calibration.layers[n], damping), reached)
    return arrays, dict(zip(reached, made, strict=True))


def _layer(name: str, weights: npt.NDArray[np.float32], statistics: LayerStatistics, damping: float) -> _Layer:
    rows = weights.shape[0]
    if statistics.layout == TABLE:
        columns = math.prod(weights.shape[1:])
        form = Form(np.zeros((1, columns, 1), np.float32), np.ones((1, columns), np.float32))
        uses = statistics.moments.reshape(-1).astype(np.float64)
        sensitivity = uses if statistics.sensitivity is None else statistics.sensitivity
    else:
        form = factor(statistics.moments, damping=damping, name=name)
        sensitivity = np.ones(rows) if statistics.sensitivity is None else statistics.sensitivity
    if sensitivity.shape != ((1,) if statistics.layout == ROWS and statistics.sensitivity is not None else (rows,)):
        raise InvalidModel(f"its calibration has another shape than {weights.shape}", tensor=name)
    scale = float(sensitivity.mean()) if sensitivity.size else 0.0
    importance = np.ones(rows)
    if statistics.layout != ROWS and scale > 0:
        importance = np.maximum(sensitivity / scale, _LEAST_IMPORTANCE)
    return _Layer(weights, statistics, form, importance, scale)


def _layer_qps(layers: Mapping[str, _Layer], qp: int, qp_density: int, allocation: float) -> dict[str, int]:
    """Return the qp of each layer: the square of the step is inverse to what an error of one weight does."""
    low, high = qp_range(qp_density)
    usable = {n: layer for n, layer in layers.items() if layer.density > 0 and layer.weights.size}
    if any(layer.statistics.sensitivity is None for layer in layers.values()) or not usable:
        return dict.fromkeys(layers, qp)
    sizes = sum(layer.weights.size for layer in usable.values())
    mean = sum(layer.weights.size * math.log(layer.density) for layer in usable.values()) / sizes
    qps = {}
    for name, layer in layers.items():
        # Outputs that do not depend on a layer on these data: at most 8 times the average step.
        ratio = mean - math.log(layer.density) if layer.density > 0 else math.inf
        exponent = min(max(allocation * ratio / 2, -math.log(64)), math.log(8)) if allocation else 0.0
        step = step_size(qp, qp_density) * math.exp(exponent)
        qps[name] = min(max(round(qp_for_step(step, qp_density)), low), high)
    return qps


def _can_feed_back(layer: _Layer, step: float) -> bool:
    if layer.statistics.layout == ROWS and layer.form.block != layer.form.columns:
        return False  # kernel positions of one input may lie in different blocks
    return bool(np.abs(layer.weights).max(initial=0) <= LARGEST_LEVEL * step)


def _without_data(
    name: str, weights: npt.NDArray[np.float32], qp: int, qp_density: int, use_dq: bool
) -> QuantizedTensor:
    levels, used = quantize(
        weights,
        qp=qp,
        qp_density=qp_density,
        dependent=use_dq,
        lambda_scale=_DATA_FREE_LAMBDA_SCALE if use_dq else 0.0,
        reference=False,
        name=name,
    )
    return QuantizedTensor(levels, used, use_dq)


def _fed_back(name: str, layer: _Layer, row_importance: bool, **options: Any) -> npt.NDArray[np.int32]:
    if layer.statistics.layout == ROWS:
        return quantize_feedback_rows(layer.weights, layer.form, name=name, **options)
    importance = layer.importance if row_importance or layer.statistics.layout == TABLE else None
    return quantize_feedback(layer.weights, layer.form, row_importance=importance, name=name, **options)
