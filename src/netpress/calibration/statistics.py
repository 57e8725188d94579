"""What calibration collects: arrays without a framework, that can be saved, loaded and merged."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel
from netpress.quantize.feedback import Form, factor, factor_with_mean

__all__ = ["COLUMNS", "ROWS", "TABLE", "Calibration", "LayerStatistics"]

Array = npt.NDArray[np.float32]

COLUMNS = "columns"
"""Each row of the weight makes an output from the inputs, which are its columns: linear layers, convolutions."""
ROWS = "rows"
"""The first dimension of the weight counts inputs: transposed convolutions, products of inputs and weight."""
TABLE = "table"
"""Each row of the weight is an output: embeddings."""

_LAYOUTS = (COLUMNS, ROWS, TABLE)
_FORMAT = "netpress calibration 1"


@dataclasses.dataclass(frozen=True, slots=True)
class LayerStatistics:
    """The inputs of one weight, and how much errors of its outputs matter.

    With ``x`` the inputs that one output is made of, a weight of layout ``"columns"`` has as many inputs as columns
    (kernel positions count: the last dimensions of the weight), one of layout ``"rows"`` as many as (first dimension /
    groups) x kernel positions, and a ``"table"`` none.

    Args:
        layout: ``"columns"``, ``"rows"`` or ``"table"``.
        moments: float32, mean of ``x x^T``, shape (groups, inputs, block): the blocks on the diagonal, all of it where
            block = inputs. For a table: share of uses of each row, shape (1, rows, 1).
        mean: float32, mean of ``x``, shape (groups, inputs); zero for a table.
        count: number of ``x`` seen, per group; 0 where the moments follow from the network alone.
        sensitivity: float64, shape (rows of the weight,): twice the divergence of the network's outputs per unit of
            ``e^T moments e`` with ``e`` the errors of a row, of ``e^T e`` for a table. Shape (1,) for ``"rows"``: the
            same for all outputs. After measuring, up to a factor that all layers share. None: not collected.
        row_moments: float32, shape (rows of the weight, block): how much errors of two rows matter jointly, relative to
            the mean of one row; the blocks on the diagonal. None: not collected.
        bias: name of the parameter that is added to the outputs and to nothing else; None: there is none.
    """

    layout: str
    moments: Array
    mean: Array
    count: int
    sensitivity: npt.NDArray[np.float64] | None = None
    row_moments: Array | None = None
    bias: str | None = None

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            raise InvalidConfig(f"a layout is one of {', '.join(_LAYOUTS)}, not {self.layout!r}")
        if self.moments.ndim != 3 or self.mean.shape != self.moments.shape[:2]:
            raise InvalidConfig(f"moments of shape {self.moments.shape} and means of {self.mean.shape} do not fit")

    def form(self, *, damping: float, name: str | None = None) -> Form:
        """Return what errors of a row cost, for all layouts but a table.

        Without samples only blocks of the moments are known; inputs of different blocks are then independent.

        Args:
            damping: share of the mean diagonal that is added.
            name: of the weight, for errors.

        Raises:
            InvalidModel: the moments are not finite; names the weight.
        """
        if self.count == 0:
            return factor_with_mean(self.moments, self.mean, damping=damping, name=name)
        return factor(self.moments, damping=damping, name=name)

    def merged(self, other: LayerStatistics, share: float) -> LayerStatistics:
        """Return the statistics of both; ``share`` is the part of the samples that are this one's.

        Raises:
            InvalidConfig: they are of different layers.
        """
        if self.layout != other.layout or self.moments.shape != other.moments.shape:
            raise InvalidConfig("statistics of different layers or memory budgets cannot be merged")
        weight = self.count / max(self.count + other.count, 1)
        sensitivity = None
        if self.sensitivity is not None and other.sensitivity is not None:
            sensitivity = share * self.sensitivity + (1 - share) * other.sensitivity
        row_moments = None
        if self.row_moments is not None and other.row_moments is not None:
            row_moments = np.float32(share) * self.row_moments + np.float32(1 - share) * other.row_moments
        return LayerStatistics(
            self.layout,
            np.float32(weight) * self.moments + np.float32(1 - weight) * other.moments,
            np.float32(weight) * self.mean + np.float32(1 - weight) * other.mean,
            self.count + other.count,
            sensitivity,
            row_moments,
            self.bias if self.bias == other.bias else None,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What :func:`netpress.calibrate` collected.

    Args:
        layers: statistics by name of the weight; a weight with several names has them under each.
        samples: number of samples that were run.
        vectors: mean squared gradient of the divergence by name, shape of the parameter, for parameters of one
            dimension; empty without sensitivities.
        unreached: weights of two or more dimensions that no layer used in a way that is understood.
    """

    layers: Mapping[str, LayerStatistics]
    samples: int
    vectors: Mapping[str, npt.NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    unreached: tuple[str, ...] = ()

    @property
    def has_sensitivities(self) -> bool:
        """Whether it tells how much errors of every layer matter."""
        return all(layer.sensitivity is not None for layer in self.layers.values())

    def merge(self, other: Calibration) -> Calibration:
        """Return the calibration of both sets of samples.

        Raises:
            InvalidConfig: they belong to different networks.
        """
        share = self.samples / max(self.samples + other.samples, 1)
        layers = dict(self.layers)
        for name, layer in other.layers.items():
            layers[name] = layers[name].merged(layer, share) if name in layers else layer
        vectors = dict(self.vectors)
        for name, squares in other.vectors.items():
            if name in vectors and vectors[name].shape != squares.shape:
                raise InvalidConfig(f"parameter {name!r} has another shape in the other calibration")
            vectors[name] = share * vectors[name] + (1 - share) * squares if name in vectors else squares
        unreached = tuple(sorted((set(self.unreached) | set(other.unreached)) - set(layers)))
        return Calibration(layers, self.samples + other.samples, vectors, unreached)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a safetensors file.

        Raises:
            OSError: the file cannot be written.
        """
        from safetensors.numpy import save_file

        arrays: dict[str, npt.NDArray[Any]] = {}
        layouts = {}
        for name, layer in self.layers.items():
            layouts[name] = [layer.layout, layer.count, layer.bias]
            arrays["moments:" + name] = np.ascontiguousarray(layer.moments)
            arrays["mean:" + name] = np.ascontiguousarray(layer.mean)
            if layer.sensitivity is not None:
                arrays["sensitivity:" + name] = np.ascontiguousarray(layer.sensitivity)
            if layer.row_moments is not None:
                arrays["rows:" + name] = np.ascontiguousarray(layer.row_moments)
        for name, squares in self.vectors.items():
            arrays["vector:" + name] = np.ascontiguousarray(squares)
        about = {"layers": layouts, "samples": self.samples, "unreached": self.unreached}
        save_file(arrays, path, metadata={"format": _FORMAT, "calibration": json.dumps(about)})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: the file cannot be read.
            InvalidModel: it is not a calibration.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"no such file: {os.fspath(path)!r}")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise InvalidModel(f"{os.fspath(path)!r} is not a calibration: {error}") from None
        if metadata.get("format") != _FORMAT:
            raise InvalidModel(f"{os.fspath(path)!r} is not a calibration of this version")
        about = json.loads(metadata["calibration"])
        layers = {
            name: LayerStatistics(
                layout,
                arrays["moments:" + name],
                arrays["mean:" + name],
                count,
                arrays.get("sensitivity:" + name),
                arrays.get("rows:" + name),
                *bias,
            )
            # Files of version 0.1 have no bias.
            for name, (layout, count, *bias) in about["layers"].items()
        }
        vectors = {name.removeprefix("vector:"): a for name, a in arrays.items() if name.startswith("vector:")}
        return Calibration(layers, about["samples"], vectors, tuple(about["unreached"]))
