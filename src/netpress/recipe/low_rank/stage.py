"""Low-rank decomposition (core experiment 1)."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import (
    CONVOLUTIONS,
    TRANSPOSED_CONVOLUTIONS,
    FactorizedConv,
    FactorizedConvTranspose,
    FactorizedLinear,
    TuckerConv,
    replace_layer,
)
from netpress.recipe.low_rank.ranks import Spectrum, rank_for_energy, rank_for_error, ranks_for_budget
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["LowRank"]

Array = npt.NDArray[Any]
_METHODS = ("auto", "rows", "columns", "tucker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank(Stage):
    """Replaces weights by two factors of lower rank each, where that saves parameters.

    Linear layers, convolutions and transposed ones without groups (1-d to 3-d) take part. Exactly one of ``kept``,
    ``ranks``, ``error`` and ``energy`` says how far to go. The network then runs with two (or three) layers in the
    place of one, can be retrained so, and is coded as decomposed data units; a decoder gives the factors or the
    weights.

    Source: response to core experiment 1 of MPEG's neural network compression, 2019.
    """

    kept: float | None = None
    """Share of the network's parameters that is left afterwards, 0..1; shared out among the layers so that the relative
    squared errors sum to the least."""
    ranks: Mapping[str, int] | None = None
    """Rank by path of the layer; other layers stay as they are."""
    error: float | None = None
    """Mean squared error per weight that each layer may have."""
    energy: float | None = None
    """Share of the squares of its weights that each layer keeps, 0..1."""
    layers: tuple[str, ...] = ("*",)
    """Paths of the layers that may be decomposed; ``*`` stands for any characters."""
    excluded: tuple[str, ...] = ()
    """Paths of layers that are left alone, such as the first and the last one."""
    method: str = "auto"
    """How convolutions are unfolded: ``"rows"`` (output channels by all else), ``"columns"`` (output channels and
    height by input channels and width), ``"tucker"`` (three layers), or ``"auto"`` for what has the least error at the
    same number of values."""
    weighted: bool | None = None
    """Minimise the error of the outputs on the task's calibration data rather than that of the weights. None: where the
    task has such data."""

    def __post_init__(self) -> None:
        given = [name for name in ("kept", "ranks", "error", "energy") if getattr(self, name) is not None]
        if len(given) != 1:
            raise self.invalid("exactly one of kept, ranks, error and energy says how far to go")
        self.check_number("kept", 0.0, 1.0, optional=True)
        self.check_number("energy", 0.0, 1.0, optional=True)
        self.check_number("error", 0.0, 1e30, optional=True)
        self.check_choice("method", _METHODS)
        if self.ranks is not None and any(not isinstance(rank, int) or rank < 1 for rank in self.ranks.values()):
            raise self.invalid("ranks are whole numbers from 1")

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        if self.weighted and task.calibration_batches is None:
            raise RecipeError("the task has no calibration_batches, which weighted=True needs", stage=self.name)
        found = dict(module.named_modules())
        for path, rank in (self.ranks or {}).items():
            if path not in found:
                raise RecipeError("there is no such layer", stage=self.name, layer=path)
            if not _can_be_decomposed(found[path]):
                kind = type(found[path]).__name__
                raise RecipeError(f"a {kind} cannot be decomposed", stage=self.name, layer=path)
            matrix = _unfolded(cast(Any, found[path]).weight.detach(), self._unfolding(found[path]))
            if rank > min(matrix.shape):
                raise RecipeError(
                    f"rank {rank} is larger than the full rank {min(matrix.shape)}", stage=self.name, layer=path
                )
        if self.ranks is None and not self._layers(module):
            raise RecipeError("no layer can be decomposed", stage=self.name)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        layers = self._layers(candidate.module)
        weighted = candidate.task.calibration_batches is not None if self.weighted is None else self.weighted
        # The columns of a transposed convolution's weight are not inputs.
        seen = {path: layer for path, layer in layers.items() if not isinstance(layer, TRANSPOSED_CONVOLUTIONS)}
        moments = candidate.input_moments(seen) if weighted else {}
        plans: dict[str, _Plan] = {}
        for done, (path, layer) in enumerate(layers.items()):
            if progress is not None:
                progress(done, len(layers), path)
            # A grouped convolution has several groups of inputs for the columns of one weight.
            moment = moments[path] if path in moments and len(moments[path]) == 1 else None
            plans[path] = self._plan(layer, None if moment is None else moment[0])
        chosen = self._ranks(candidate, plans)
        facts: dict[str, Any] = {}
        for path, rank in chosen.items():
            if rank is None:
                continue
            layer, plan = layers[path], plans[path]
            new: nn.Module = plan.layer(layer, rank)
            how = plan.unfolding
            if self.method in ("auto", "tucker") and (tucker := _tucker(layer, plan, rank, self.method)) is not None:
                new, how = tucker, "tucker"
            replace_layer(candidate.module, path, new)
            candidate.quantized.pop(f"{path}.weight", None)
            candidate.masks.pop(f"{path}.weight", None)
            facts[path] = {"rank": rank, "unfolding": how, "error": plan.spectrum.error(rank)}
        return {"layers": facts, "weighted": weighted}

    def _layers(self, module: nn.Module) -> dict[str, nn.Module]:
        """Return the layers that may be decomposed."""
        result = {}
        for path, layer in module.named_modules():
            if not _can_be_decomposed(layer) or _is_used_directly(module, path):
                continue
            if self.ranks is not None:
                wanted = path in self.ranks
            else:
                wanted = any(fnmatch.fnmatchcase(path, pattern) for pattern in self.layers)
                wanted = wanted and not any(fnmatch.fnmatchcase(path, pattern) for pattern in self.excluded)
            if wanted:
                result[path] = layer
        return result

    def _unfolding(self, layer: Any) -> str:
        return "columns" if self.method == "columns" and _can_split(layer) else "rows"

    def _plan(self, layer: nn.Module, moments: Array | None) -> _Plan:
        unfolding = self._unfolding(layer)
        plan = _Plan.make(layer, unfolding, moments if unfolding == "rows" else None)
        if self.method != "auto" or not _can_split(layer):
            return plan
        other = _Plan.make(layer, "columns", None)
        # Compared without the inputs, which only one of them can use, at half of the values.
        plain = _Plan.make(layer, "rows", None)
        half = plain.spectrum.full_cost // 2
        errors = [p.spectrum.error(half // p.spectrum.cost) for p in (plain, other)]
        return plan if errors[0] <= errors[1] else other

    def _ranks(self, candidate: Candidate, plans: Mapping[str, _Plan]) -> dict[str, int | None]:
        if self.ranks is not None:
            return dict(self.ranks)
        spectra = {path: plan.spectrum for path, plan in plans.items()}
        if self.kept is not None:
            whole = sum(p.numel() for p in candidate.module.parameters())
            decomposable = sum(spectrum.full_cost for spectrum in spectra.values())
            budget = round(self.kept * whole) - (whole - decomposable)
            return ranks_for_budget(spectra, budget)
        chosen: dict[str, int | None] = {}
        for path, plan in plans.items():
            if self.energy is not None:
                rank = rank_for_energy(plan.spectrum, self.energy)
            else:
                rank = rank_for_error(
                    Spectrum(plan.plain_values, plan.spectrum.rows, plan.spectrum.columns), self.error or 0
                )
            chosen[path] = rank if rank <= plan.spectrum.break_even else None
        return chosen


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The singular value decomposition of a layer's unfolded weight, weighted by ``root`` (columns x columns) or
    not."""

    unfolding: str
    u: Array
    spectrum: Spectrum
    vt: Array
    plain_values: Array

    @classmethod
    def make(cls, layer: Any, unfolding: str, moments: Array | None) -> _Plan:
        matrix = _unfolded(layer.weight.detach(), unfolding).astype(np.float64)
        plain = np.linalg.svd(matrix, compute_uv=False)
        if moments is None:
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        else:
            # The error of the outputs is |(W - GH) root|, so that product is what is approximated.
            root = np.linalg.cholesky(moments)
            u, s, vt = np.linalg.svd(matrix @ root, full_matrices=False)
            vt = np.linalg.solve(root.T, vt.T).T
        return cls(unfolding, u, Spectrum(s, *matrix.shape), vt, plain)

    def layer(self, layer: Any, rank: int) -> nn.Module:
        """Return the layer with factors of a rank, in equal shares of the singular values."""
        u, s, vt = self.u[:, :rank], self.spectrum.values[:rank], self.vt[:rank]
        # Equal norms of each column of G and row of H suit one step size for both.
        norms = np.maximum(np.linalg.norm(vt, axis=1), 1e-30)
        share = np.sqrt(s * norms)
        g, h = u * share, vt * (share / norms)[:, None]
        if rank > 0 and self.spectrum.values[0] == 0:
            g, h = np.zeros_like(g), np.zeros_like(h)
        kind = layer.weight
        first, second = (torch.from_numpy(np.ascontiguousarray(f)).to(kind.device, kind.dtype) for f in (g, h))
        if isinstance(layer, nn.Linear):
            return FactorizedLinear(first, second, None if layer.bias is None else layer.bias.detach().clone())
        if isinstance(layer, TRANSPOSED_CONVOLUTIONS):
            return FactorizedConvTranspose(layer, first, second)
        return FactorizedConv(layer, first, second, self.unfolding)


def _unfolded(weight: torch.Tensor, unfolding: str) -> Array:
    array: Array = weight.cpu().float().numpy()
    if unfolding == "columns":
        out, channels, height, width = array.shape
        return array.transpose(0, 2, 1, 3).reshape(out * height, channels * width)
    return array.reshape(len(array), -1)


def _can_be_decomposed(layer: Any) -> bool:
    return type(layer) in (nn.Linear, *CONVOLUTIONS) or (type(layer) in TRANSPOSED_CONVOLUTIONS and layer.groups == 1)


def _can_split(layer: nn.Module) -> bool:
    """Whether a convolution can run as one along the rows and one along the columns."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and min(layer.kernel_size) > 1


def _is_used_directly(module: nn.Module, path: str) -> bool:
    """Whether the layer's weight is read by its parent, as that of an attention's output is."""
    parent = module.get_submodule(path.rpartition(".")[0])
    return isinstance(parent, nn.MultiheadAttention)


def _tucker(layer: Any, plan: _Plan, rank: int, method: str) -> nn.Module | None:
    """Return a Tucker-2 decomposition with at most as many values as ``rank`` has, if it has less error."""
    if not isinstance(layer, CONVOLUTIONS) or layer.groups != 1 or layer.padding_mode != "zeros":
        return None
    if max(layer.kernel_size) == 1:
        return None
    weight = layer.weight.detach().cpu().double().numpy()
    budget = rank * plan.spectrum.cost
    sizes = _tucker_ranks(weight, budget)
    if sizes is None:
        return None
    left, core, right = _partial_tucker(weight, sizes)
    rebuilt = np.einsum("oa,ab...,bi->oi...", left, core, right)
    error = float(np.square(weight - rebuilt).sum() / max(np.square(weight).sum(), 1e-300))
    plain = Spectrum(plan.plain_values, plan.spectrum.rows, plan.spectrum.columns)
    if method == "auto" and error >= plain.error(rank):
        return None
    kind = layer.weight
    tensors = [torch.from_numpy(np.ascontiguousarray(f)).to(kind.device, kind.dtype) for f in (left, core, right)]
    return TuckerConv(layer, *tensors)


def _tucker_ranks(weight: Array, budget: int) -> tuple[int, int] | None:
    """Return output and input rank within a number of values, by the spectra of both unfoldings."""
    out, channels, *taps = weight.shape
    window = int(np.prod(taps))
    tails = []
    for axis in (0, 1):
        values = np.linalg.svd(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1), compute_uv=False)
        tails.append(np.append(np.cumsum(np.square(values)[::-1])[::-1], 0.0))
    best: tuple[float, tuple[int, int]] | None = None
    for a in range(1, out + 1):
        b = min((budget - a * out) // (a * window + channels), channels)
        if b < 1:
            break
        if a > b * window or b > a * window:
            continue  # no core has such ranks
        bound = float(tails[0][a] + tails[1][b])
        if best is None or bound < best[0]:
            best = (bound, (a, int(b)))
    return None if best is None else best[1]


def _partial_tucker(weight: Array, ranks: tuple[int, int]) -> tuple[Array, Array, Array]:
    from tensorly.decomposition import partial_tucker

    (core, (left, right)), _ = partial_tucker(weight, rank=list(ranks), modes=[0, 1], init="svd")
    return left, core, right.T
