"""The integers of a model, chosen so that its outputs keep their values at the lowest rate.

Source: docs/notes/calibrated-quantisation.md.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream.reader import NetpressWarning
from netpress.calibration.corrections import Outlet, centred, find_outlets, output_shifts
from netpress.calibration.statistics import ROWS, TABLE, Calibration, LayerStatistics
from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats import Source, open_source
from netpress.parallel import Progress, ordered_map
from netpress.quantize.allocation import qps_by_sensitivity
from netpress.quantize.feedback import LARGEST_LEVEL, Form, factor, quantize_feedback, quantize_feedback_rows
from netpress.quantize.levels import quantize
from netpress.quantize.step_size import step_size
from netpress.quantize.tensor import QuantizedTensor

__all__ = [
    "CorrectedModel",
    "layer_densities",
    "quantize_corrected",
    "quantize_model",
]

LAMBDA_SCALE = 0.5
SENSITIVITY_EXPONENT = 0.8
ROW_DAMPING = 0.3

# Slope of the squared error of the trellis at high rates, in squared steps per bit: 2 ln 2 times its noise.
_RATE_SLOPE = 4 * (math.log(2) / 6) * 0.7
_DATA_FREE_LAMBDA_SCALE = 0.25
# A row matters at least this share of the mean: calibration data that never use a row do not make it worthless.
_LEAST_IMPORTANCE = 0.05
# Rows are multiplied by this power of the root of how much they matter, and at most by the factor.
_ROW_EXPONENT = 0.5
_LARGEST_ROW_FACTOR = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class _CalibratedLayer:
    """One weight with its form. ``importance`` has one entry per row, mean 1; ``scale`` is that of the divergence.

    ``row_form`` is that of the joint moments of the rows, where they are known.
    """

    weights: npt.NDArray[np.float32]
    statistics: LayerStatistics
    form: Form
    importance: npt.NDArray[np.float64]
    scale: float
    row_form: Form | None = None

    @property
    def density(self) -> float:
        """Divergence that a white error of variance 1 of one weight makes on average, after feedback."""
        return self.scale * self.price

    @property
    def price(self) -> float:
        """Cost of a squared error of one weight in the search, on average."""
        rows = 1.0 if self.row_form is None else float(self.row_form.importance.mean(dtype=np.float64))
        return rows * float(self.form.importance.mean(dtype=np.float64))


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizerOptions:
    """The options of :func:`quantize_model`."""

    qp: int
    qps: Mapping[str, int] | None = None
    qp_density: int = 2
    use_dq: bool = True
    lambda_scale: float | None = None
    sensitivity_exponent: float | None = None
    row_importance: bool = False
    damping: float = 0.01
    row_damping: float | None = ROW_DAMPING
    passes: int = 2
    progress: Progress | None = None
    row_steps: bool = True

    @property
    def rate_weight(self) -> float:
        """``lambda_scale``, or its default."""
        return LAMBDA_SCALE if self.lambda_scale is None else self.lambda_scale

    @property
    def exponent(self) -> float:
        """``sensitivity_exponent``, or its default."""
        return SENSITIVITY_EXPONENT if self.sensitivity_exponent is None else self.sensitivity_exponent

    def __post_init__(self) -> None:
        if self.rate_weight < 0 or not 0 <= self.exponent <= 2:
            raise InvalidConfig("lambda_scale must be at least 0 and sensitivity_exponent 0..2")
        if self.row_damping is not None and self.row_damping <= 0:
            raise InvalidConfig("row_damping must be above 0")


@dataclasses.dataclass(frozen=True, slots=True)
class CorrectedModel:
    """What :func:`quantize_corrected` made: arguments for :func:`netpress.encode`.

    Args:
        source: the model, in which vectors have taken over what was lost in the weights that they follow.
        quantized: the integers of its weights by name.
    """

    source: Source
    quantized: Mapping[str, QuantizedTensor]


def quantize_model(
    source: Any,
    calibration: Calibration,
    *,
    qp: int,
    base: Any = None,
    qps: Mapping[str, int] | None = None,
    qp_density: int = 2,
    use_dq: bool = True,
    lambda_scale: float | None = None,
    sensitivity_exponent: float | None = None,
    row_importance: bool = False,
    damping: float = 0.01,
    row_damping: float | None = ROW_DAMPING,
    passes: int = 2,
    progress: Progress | None = None,
    allocation: float | None = None,
) -> dict[str, QuantizedTensor]:
    """Quantise the weights of a model with the knowledge of a calibration.

    Args:
        source: the model, in the forms that :func:`netpress.encode` takes.
        calibration: of :func:`netpress.calibrate`, for this model.
        qp: quantisation parameter of a weight of average sensitivity. The steps of layers follow their sensitivities;
            the mean over all weights of the logarithm of the step is that of ``qp``.
        base: the model that the receiver holds, in the same forms: the integers are those of the difference, for
            :func:`netpress.encode` with the same ``base``.
        qps: name -> qp, for weights that are to get exactly that.
        qp_density: 0..7, that of the encoder.
        use_dq: dependent quantisation, else uniform.
        lambda_scale: weight of the rate, at least 0; 1 is the slope of the rate-distortion curve at high rates; None:
            0.5. Uniform quantisation ignores it: shrinking levels is a bias that the feedback has to carry.
        sensitivity_exponent: 1 gives all layers the same slope of divergence over bits, 0 the same step; between them,
            the logarithm of the step is interpolated; None: 0.8.
        row_importance: let rows that matter more have more bits; those of embeddings always do, and those of layers
            whose rows are quantised jointly.
        damping: share of the mean diagonal that is added to the moments of the inputs.
        row_damping: the same for the joint moments of rows, above 0: the errors of a row are also made up for by the
            rows after it. None: rows are on their own.
        passes: searches with the rate, each with the statistics of the one before.
        progress: called after each weight.
        allocation: the old name of ``sensitivity_exponent``, for one release.

    Returns:
        Integers by name for the argument ``quantized`` of :func:`netpress.encode`: of all weights that the calibration
        knows. Weights that it did not reach, or that are too many steps large for feedback, are quantised without data.

    Raises:
        InvalidModel: the calibration does not fit the model; names the weight.
        InvalidConfig: an option is out of range.
    """
    options = QuantizerOptions(
        qp=qp,
        qps=qps,
        qp_density=qp_density,
        use_dq=use_dq,
        lambda_scale=lambda_scale,
        sensitivity_exponent=renamed_allocation(sensitivity_exponent, allocation),
        row_importance=row_importance,
        damping=damping,
        row_damping=row_damping,
        passes=passes,
        progress=progress,
    )
    with open_source(source) as model:
        arrays, layers = _layers(model, calibration, options, {}, base)
    return _quantized(arrays, layers, options)


def renamed_allocation(sensitivity_exponent: float | None, allocation: float | None) -> float | None:
    """Return the exponent of a caller's caller, who may have given it by its old name, which brings a warning.

    Raises:
        InvalidConfig: it was given by both names.
    """
    if allocation is None:
        return sensitivity_exponent
    message = "allocation is called sensitivity_exponent here now; the old name goes with the next release"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    if sensitivity_exponent is not None:
        raise InvalidConfig("allocation is the old name of sensitivity_exponent: give only one of them")
    return allocation


def quantize_corrected(source: Any, calibration: Calibration, *, qp: int, **options: Any) -> CorrectedModel:
    """Quantise the weights of a model, and let the vectors after them take over part of what is lost.

    The function of the network is that of the model with the weights of :func:`quantize_model`, but nearer to that of
    the float network in as many bytes; its single tensors are not all near the original ones:

    * a bias, or the mean of a batch norm, takes up the shift that the errors make on average, so the weight is
      quantised for inputs without their means;
    * rows whose batch norm is known (torch modules only) are multiplied by powers of how much they matter, and so get
      steps of their own; the factor of the batch norm takes that back.

    Args:
        source, calibration, qp, **options: as for :func:`quantize_model`; ``row_steps=False`` leaves rows as they are.

    Raises:
        InvalidModel, InvalidConfig: as for :func:`quantize_model`.
    """
    if "allocation" in options:
        old = options.pop("allocation")
        options["sensitivity_exponent"] = renamed_allocation(options.get("sensitivity_exponent"), old)
    try:
        settings = QuantizerOptions(qp=qp, **options)
    except TypeError as error:
        raise InvalidConfig(str(error)) from None
    model = open_source(source)
    outlets = find_outlets(model, calibration)
    arrays, layers = _layers(model, calibration, settings, outlets)
    taking_over = {name for outlet in outlets.values() for name in (outlet.bias, outlet.mean, outlet.gamma) if name}
    vectors = {name: model.load(name).astype(np.float32) for name in taking_over}
    for name in outlets:
        factors = _row_factors(layers[name]) if outlets[name].gamma and settings.row_steps else None
        if factors is not None:
            outlets[name].scale(vectors, factors)
            layers[name] = _scaled(name, layers[name], factors, settings)
            arrays[name] = layers[name].weights
    quantized = _quantized(arrays, layers, settings)
    for name, outlet in outlets.items():
        after = quantized[name].values(settings.qp_density)
        outlet.shift(vectors, output_shifts(arrays[name], after, calibration.layers[name]))
    changed = {name: arrays[name] for name in outlets}
    return CorrectedModel(model.replaced({**vectors, **changed}), quantized)


def _quantized(
    arrays: Mapping[str, npt.NDArray[np.float32]], layers: Mapping[str, _CalibratedLayer], options: QuantizerOptions
) -> dict[str, QuantizedTensor]:
    qp, qp_density, use_dq = options.qp, options.qp_density, options.use_dq
    layer_qps = _layer_qps(layers, qp, qp_density, options.exponent)
    layer_qps.update({n: q for n, q in (options.qps or {}).items() if n in arrays})
    cut = [n for n, layer in layers.items() if _is_cut(layer)]
    if cut:
        what = "only parts of the moments of these weights were kept, so they are quantised without data"
        warnings.warn(f"{what}; raise memory_bytes: {', '.join(cut)}", NetpressWarning, stacklevel=4)

    def quantized(name: str) -> QuantizedTensor:
        layer = layers.get(name)
        layer_qp = layer_qps.get(name, qp)
        if layer is None or not _can_feed_back(layer, step_size(layer_qp, qp_density)):
            return _without_data(name, arrays[name], layer_qp, qp_density, use_dq)
        # A bit is worth the same divergence in all layers whose steps follow the sensitivities.
        slope = _RATE_SLOPE * step_size(layer_qp, qp_density) ** 2 * layer.price
        levels = _fed_back(
            name,
            layer,
            options.row_importance,
            qp=layer_qp,
            qp_density=qp_density,
            dependent=use_dq,
            rate_weight=options.rate_weight * slope if use_dq else 0.0,
            passes=options.passes,
        )
        return QuantizedTensor(levels, layer_qp, use_dq)

    total = sum(a.size for a in arrays.values())
    result: dict[str, QuantizedTensor] = {}
    done = 0
    for name, tensor in zip(arrays, ordered_map(quantized, arrays), strict=True):
        result[name] = tensor
        done += arrays[name].size
        if options.progress is not None:
            options.progress(done, total, name)
    return result


def layer_densities(source: Any, calibration: Calibration) -> dict[str, float]:
    """Return by name what :func:`quantize_model` takes for the divergence per squared error of one weight of a layer.

    0 where nothing depends on a layer, or sensitivities were not collected.
    """
    with open_source(source) as model:
        _, layers = _layers(model, calibration, QuantizerOptions(qp=0), {})
    return {n: 0.0 if layer.statistics.sensitivity is None else layer.density for n, layer in layers.items()}


def _layers(
    model: Source, calibration: Calibration, options: QuantizerOptions, outlets: Mapping[str, Outlet], base: Any = None
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, _CalibratedLayer]]:
    """Return the weights that the calibration knows, also those it did not reach, and the layers."""
    missing = sorted(set(calibration.layers) - set(model.names))
    if missing:
        raise InvalidModel("is calibrated, but the model does not have it", tensor=missing[0])
    calibrated = set(calibration.layers) | set(calibration.unreached)
    unknown = [n for n in _weights(model) if n not in calibrated]
    if unknown:
        what = "the calibration does not know these weights, which are quantised without data"
        warnings.warn(f"{what}: {', '.join(unknown)}", NetpressWarning, stacklevel=4)
    arrays = {n: np.ascontiguousarray(model.load(n), np.float32) for n in model.names if n in calibrated}
    if base is not None:
        with open_source(base) as old:
            arrays = {n: _difference(n, value, old) for n, value in arrays.items()}
    reached = [n for n in arrays if n in calibration.layers]

    def prepared(name: str) -> _CalibratedLayer:
        statistics = calibration.layers[name]
        statistics = centred(statistics) if name in outlets else statistics
        return _layer(name, arrays[name], statistics, options)

    return arrays, dict(zip(reached, ordered_map(prepared, reached), strict=True))


def _difference(name: str, value: npt.NDArray[np.float32], base: Source) -> npt.NDArray[np.float32]:
    if name not in base or base.shape(name) != value.shape:
        raise InvalidModel("is not in the base, or has another shape there: it has no difference", tensor=name)
    difference: npt.NDArray[np.float32] = value - base.load(name).astype(np.float32)
    return difference


def _weights(model: Source) -> list[str]:
    """Names of the weights of a torch module; those of other sources may be anything."""
    module: Any = model.torch_module
    if module is None:
        return []
    parameters = module.named_parameters(remove_duplicate=False)
    return [name for name, p in parameters if p.ndim > 1 and p.is_floating_point()]


def _layer(
    name: str, weights: npt.NDArray[np.float32], statistics: LayerStatistics, options: QuantizerOptions
) -> _CalibratedLayer:
    rows = weights.shape[0]
    if statistics.layout == TABLE:
        columns = math.prod(weights.shape[1:])
        form = Form(np.zeros((1, columns, 1), np.float32), np.ones((1, columns), np.float32))
        uses = statistics.moments.reshape(-1).astype(np.float64)
        sensitivity = uses if statistics.sensitivity is None else statistics.sensitivity
    else:
        form = statistics.form(damping=options.damping, name=name)
        sensitivity = np.ones(rows) if statistics.sensitivity is None else statistics.sensitivity
    if sensitivity.shape != ((1,) if statistics.layout == ROWS and statistics.sensitivity is not None else (rows,)):
        raise InvalidModel(f"its calibration has another shape than {weights.shape}", tensor=name)
    scale = float(sensitivity.mean()) if sensitivity.size else 0.0
    importance = np.ones(rows)
    if statistics.layout != ROWS and scale > 0:
        importance = np.maximum(sensitivity / scale, _LEAST_IMPORTANCE)
    row_form = None
    if options.row_damping is not None and statistics.row_moments is not None and form.groups == 1:
        if len(statistics.row_moments) != rows:
            raise InvalidModel(f"its calibration has another shape than {weights.shape}", tensor=name)
        row_form = factor(statistics.row_moments[None], damping=options.row_damping, name=name)
    return _CalibratedLayer(weights, statistics, form, importance, scale, row_form)


def _row_factors(layer: _CalibratedLayer) -> npt.NDArray[np.float32] | None:
    """Return what rows are multiplied by, so that those that matter more get finer steps; None if that is unknown.

    The square root of what would give all rows the same slope: what the search leaves to the rows at the end.
    """
    if layer.row_form is None:
        return None
    factors = layer.row_form.importance[0].astype(np.float64) ** (_ROW_EXPONENT / 2)
    factors /= math.exp(float(np.log(factors).mean()))
    clipped: npt.NDArray[np.float32] = np.clip(factors, 1 / _LARGEST_ROW_FACTOR, _LARGEST_ROW_FACTOR).astype(np.float32)
    return clipped


def _scaled(
    name: str, layer: _CalibratedLayer, factors: npt.NDArray[np.float32], options: QuantizerOptions
) -> _CalibratedLayer:
    """Return the layer with its rows multiplied."""
    assert layer.statistics.row_moments is not None
    rows, block = layer.statistics.row_moments.shape
    moments = layer.statistics.row_moments.copy()
    for start in range(0, rows, block):
        own = factors[start : start + block]
        moments[start : start + block, : len(own)] /= own[:, None] * own[None, :]
    index = np.arange(rows)
    mean = moments[index, index % block].mean(dtype=np.float64)
    row_form = factor(moments[None] / np.float32(mean), damping=options.row_damping or ROW_DAMPING, name=name)
    weights = layer.weights * factors.reshape(-1, *(1,) * (layer.weights.ndim - 1))
    return dataclasses.replace(layer, weights=weights, scale=layer.scale * float(mean), row_form=row_form)


def _layer_qps(layers: Mapping[str, _CalibratedLayer], qp: int, qp_density: int, exponent: float) -> dict[str, int]:
    """Return the qp of each layer."""
    if any(layer.statistics.sensitivity is None for layer in layers.values()):
        return dict.fromkeys(layers, qp)
    densities = {name: layer.density for name, layer in layers.items()}
    sizes = {name: layer.weights.size for name, layer in layers.items()}
    return qps_by_sensitivity(densities, sizes, qp=qp, qp_density=qp_density, exponent=exponent)


def _is_cut(layer: _CalibratedLayer) -> bool:
    """Whether the kernel positions of one input may lie in different blocks of moments."""
    return layer.statistics.layout == ROWS and layer.form.block != layer.form.columns


def _can_feed_back(layer: _CalibratedLayer, step: float) -> bool:
    if _is_cut(layer):
        return False
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


def _fed_back(name: str, layer: _CalibratedLayer, row_importance: bool, **options: Any) -> npt.NDArray[np.int32]:
    if layer.statistics.layout == ROWS:
        return quantize_feedback_rows(layer.weights, layer.form, name=name, **options)
    importance = layer.importance if row_importance or layer.statistics.layout == TABLE else None
    return quantize_feedback(
        layer.weights, layer.form, row_importance=importance, row_form=layer.row_form, name=name, **options
    )
