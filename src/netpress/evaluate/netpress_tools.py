"""netpress as a tool: without data, calibrated, and with one of its parts off at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

import netpress
from netpress import Calibration, TensorInfo
from netpress.compare import has_batch_norms
from netpress.evaluate.tools import Made, Tool, stream_tool

__all__ = ["NetpressTools"]

# The encoder's own rules for vectors, for ablations that switch one of them off (a test compares them): how much finer
# they are than weights whose steps follow sizes or sensitivities, and their qp where only one for weights is given.
VECTORS_FINER, FINE_VECTOR_QP = 14, -75
# Of everything that is not a weight, and of weights without data.
_STEPS = {"allocation": "size"}
_OF_THE_QUANTISER = frozenset(
    {"use_dq", "lambda_scale", "sensitivity_exponent", "allocation", "row_damping", "row_steps"}
)


class NetpressTools:
    """netpress on one network, as :func:`netpress.compress` encodes it: batch norms folded, vectors finer than weights.

    Without data steps follow from the sizes of the weights, with data from their sensitivities.

    Args:
        module: the float network.
        effort: of the encoder, 1 to 9.
        calibrate: makes the calibration, when it is needed; None where there is no data for one.
        about_calibration: what it is made of, in the types of JSON.
    """

    def __init__(
        self,
        module: nn.Module,
        effort: int,
        calibrate: Callable[[], Calibration] | None = None,
        about_calibration: Mapping[str, Any] | None = None,
    ) -> None:
        self.module, self.effort = module, effort
        self.has_norms = has_batch_norms(module)
        self._calibrate, self._about = calibrate, dict(about_calibration or {})

    @functools.cached_property
    def _calibration(self) -> Calibration:
        assert self._calibrate is not None
        return self._calibrate()

    def tools(self) -> list[Tool]:
        """Return netpress without data and, where there is a calibration, with it."""
        found = [self.variant("netpress", calibrated=False, group="sweep")]
        if self._calibrate is not None:
            found.append(self.variant("netpress, calibrated", calibrated=True, group="sweep"))
        return found

    def ablations(self) -> list[Tool]:
        """Return netpress at its best, and without one of its parts at a time."""
        parts: dict[str, dict[str, Any]] = {
            "all tools": {},
            "no trellis": {"use_dq": False},
            "no rate term": {"lambda_scale": 0.0},
            "no parameter search": {"context_search": False},
            "fine vectors": {"nonweight_qp": FINE_VECTOR_QP},
        }
        if self.has_norms:
            parts["no batch-norm folding"] = {"fold_batch_norm": False}
        if self._calibrate is None:
            parts["the same step for all weights"] = {"allocation": "equal"}
            return [self.variant(name, calibrated=False, **off) for name, off in parts.items()]
        parts["no steps by sensitivity"] = {"allocation": 0.0}
        parts["rows on their own"] = {"row_damping": None}
        parts["no corrections of vectors"] = {"corrections": False}
        parts["no error feedback"] = {"feedback": False}
        return [self.variant(name, calibrated=True, **off) for name, off in parts.items()]

    def variant(self, name: str, *, calibrated: bool, group: str = "ablation", **off: Any) -> Tool:
        """Return netpress with some options changed.

        Args:
            name, group: as in :class:`Tool`.
            calibrated: with the calibration, or without data.
            off: options of the encoder and, if calibrated, of :func:`netpress.quantize_model`; ``feedback`` and
                ``corrections`` may be False.
        """

        def encode(qp: int) -> bytes:
            return self._calibrated(qp, **off) if calibrated else self._data_free(qp, **off)

        about = self._about if calibrated else _STEPS
        options = {"effort": self.effort, **about, **off}
        tool = stream_tool(name, encode, start=-20 if calibrated else -22, options=options, group=group)
        return dataclasses.replace(tool, make=self._after_calibration(tool.make)) if calibrated else tool

    def _after_calibration(self, make: Callable[[int], Made]) -> Callable[[int], Made]:
        def made(qp: int) -> Made:
            _ = self._calibration  # made once, for all settings: not part of the time
            return make(qp)

        return made

    def _options(self, qp: int, **off: Any) -> dict[str, Any]:
        """Settings of the encoder that all streams share."""
        shared = {"qp": qp, "effort": self.effort, **_STEPS, "fold_batch_norm": self.has_norms}
        if off.get("allocation") == "equal":  # the steps of vectors stay
            shared["nonweight_qp"] = qp - VECTORS_FINER
        return {**shared, **off}

    def _data_free(self, qp: int, **off: Any) -> bytes:
        return netpress.encode(self.module, **self._options(qp, **off))

    def _calibrated(self, qp: int, feedback: bool = True, corrections: bool = True, **off: Any) -> bytes:
        chosen = {name: value for name, value in off.items() if name in _OF_THE_QUANTISER}
        coder = self._options(qp, **{name: off[name] for name in off if name not in _OF_THE_QUANTISER - {"use_dq"}})
        if "allocation" in chosen:  # as stores of results name it
            chosen["sensitivity_exponent"] = chosen.pop("allocation")
        if feedback and corrections:
            model = netpress.quantize_corrected(self.module, self._calibration, qp=qp, **chosen)
            return netpress.encode(model.source, quantized=model.quantized, **coder)
        quantized = netpress.quantize_model(self.module, self._calibration, qp=qp, **chosen)
        if feedback:
            return netpress.encode(self.module, quantized=quantized, **coder)
        qps = {name: tensor.qp for name, tensor in quantized.items()}
        return netpress.encode(self.module, qp_per_tensor=qps, **coder)

    def integers(self, qp: int) -> tuple[dict[str, np.ndarray[Any, Any]], int]:
        """Return the integers of the weights at a qp by uniform quantisation, and the bytes netpress takes for them.

        The bytes are those of the data units of these weights alone, headers included; nothing is folded.
        """
        plain = {"use_dq": False, "codebook_mode": 0, "fold_batch_norm": False}
        if self._calibrate is not None:
            quantized = netpress.quantize_model(self.module, self._calibration, qp=qp, use_dq=False)
            stream = netpress.encode(self.module, quantized=quantized, **self._options(qp, **plain))
            levels = {name: tensor.levels for name, tensor in quantized.items()}
        else:
            stream = self._data_free(qp, **plain)
            decoded = netpress.decode(stream)
            steps = {t.name: t.step for t in _tensors_of(stream) if len(t.shape) > 1 and t.kind == "uniform"}
            levels = {n: np.rint(decoded[n] / step).astype(np.int32) for n, step in steps.items() if step}
        sizes = (t.payload_bytes + t.header_bytes for t in _tensors_of(stream) if t.name in levels)
        return levels, sum(sizes)


def _tensors_of(stream: bytes) -> tuple[TensorInfo, ...]:
    return netpress.Stream(stream).info().tensors
