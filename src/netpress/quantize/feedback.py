"""Quantisation with error feedback: what a layer's inputs say about which errors of its weights matter.

Source: docs/notes/calibrated-quantisation.md. Error feedback: Hassibi and Stork, Second order derivatives for network
pruning: optimal brain surgeon (1992); Frantar et al., GPTQ (2022); Chee et al., QuIP (2023), whose form without an
inverse is used. Per-survivor processing: Raheli, Polydoros and Tzou (1995).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel, Reason
from netpress.native import FrozenRates, failing_as, flat
from netpress.native import quantize_feedback as quantize_stripe
from netpress.quantize.step_size import step_size

__all__ = [
    "LARGEST_LEVEL",
    "Form",
    "factor",
    "factor_with_mean",
    "feed_back",
    "form_error",
    "quantize_feedback",
    "quantize_feedback_rows",
]

Matrix = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int32]

# A stripe of rows that is quantised on its own: its path through the trellis starts and ends in state 0, which costs a
# fraction of a bit per stripe.
_STRIPE_WEIGHTS = 1 << 18
LARGEST_LEVEL = 1 << 20
"""Largest magnitude of a weight in steps for which errors are fed back."""


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The quadratic form that a layer's inputs give to the errors of its weights, factored for error feedback.

    With ``e`` the errors of a row, its cost is the sum over columns ``j`` of
    ``importance[j] * (e[j] + sum over k < j of influence[k, j] * e[k])**2``.

    ``influence`` is float32 of shape (groups, columns, block): entry ``[g, k, i]`` is that of column ``k`` on column
    ``i`` of the block of columns that ``k`` lies in. ``importance`` is float32 of shape (groups, columns).

    ``mean`` and ``carry``, float32 of shape (groups, columns), are there where blocks act on each other through the
    means of the inputs: the errors of column ``j`` and of those before it in its block are then taken with ``carry``
    times the sum of ``mean[k] * e[k]`` over the columns ``k`` of the blocks before.
    """

    influence: Matrix
    importance: Matrix
    mean: Matrix | None = None
    carry: Matrix | None = None

    @property
    def groups(self) -> int:
        """Runs of rows with a form of their own."""
        return int(self.importance.shape[0])

    @property
    def columns(self) -> int:
        """Columns of the weight matrix."""
        return int(self.importance.shape[1])

    @property
    def block(self) -> int:
        """Width of a block of columns."""
        return int(self.influence.shape[2])


def factor(moments: npt.NDArray[np.floating], *, damping: float = 0.01, name: str | None = None) -> Form:
    """Factor the second moments of a layer's inputs.

    Args:
        moments: ``E[x x^T]``, symmetric and positive semidefinite: shape (columns, columns), (groups, columns, columns)
            for layers with groups, (groups, columns, block) where only blocks on the diagonal are known, or
            (groups, columns, 1) for the diagonal alone.
        damping: what is added to the diagonal, as a share of its mean. It keeps moments from few samples regular.
        name: of the tensor, for errors.

    Returns:
        The form; in single precision, computed in double.

    Raises:
        InvalidModel: the moments are not finite, or not positive semidefinite.

    Complexity: columns * block**2 / 3 multiplications per group.
    """
    if moments.ndim == 2:
        moments = moments[None]
    groups, columns, block = moments.shape
    if not np.isfinite(moments).all():
        raise InvalidModel("the second moments of the inputs are not finite", tensor=name)
    influence = np.zeros(moments.shape, np.float32)
    importance = np.zeros((groups, columns), np.float32)
    for group in range(groups):
        diagonal = moments[group, np.arange(columns), np.arange(columns) % block].astype(np.float64)
        mean = float(diagonal.mean()) if columns else 0.0
        if (diagonal < -1e-6 * abs(mean)).any() or mean < 0:
            raise InvalidModel("the second moments of the inputs have a negative diagonal", tensor=name)
        # A layer whose inputs are all zero: no error matters, so all matter alike.
        added = damping * mean if mean > 0 else 1.0
        for start in range(0, columns, block):
            width = min(block, columns - start)
            part = moments[group, start : start + width, :width].astype(np.float64)
            lower = _lower_factor(part, max(added, 1e-12 * mean), name)
            scale = np.diagonal(lower)
            influence[group, start : start + width, :width] = (lower / scale[:, None]).T
            importance[group, start : start + width] = scale**2
    return Form(influence, importance)


def factor_with_mean(
    moments: npt.NDArray[np.floating],
    mean: npt.NDArray[np.floating],
    *,
    damping: float = 0.01,
    name: str | None = None,
) -> Form:
    """Factor second moments of which narrow blocks on the diagonal are known; outside of them, inputs are independent.

    The whole matrix is then ``blocks + mean mean^T``, and its factor needs no more memory than its blocks.

    Args:
        moments: ``E[x x^T]``, the blocks on the diagonal, shape (groups, columns, block); block divides columns.
        mean: ``E[x]``, shape (groups, columns).
        damping: what is added to the diagonal of the covariance, as a share of the mean of the second moments.
        name: of the tensor, for errors.

    Returns:
        The form, with ``mean`` and ``carry``.

    Raises:
        InvalidModel: moments or means are not finite, or the moments not positive semidefinite.

    Complexity: columns * block**2 multiplications per group.

    Source: block elimination from the last columns to the first. What is left of the means after some blocks is again
    a multiple of ``mean mean^T`` (the matrix inversion lemma).
    """
    groups, columns, block = moments.shape
    if mean.shape != (groups, columns) or columns % block:
        raise InvalidModel(f"moments of shape {moments.shape} and means of {mean.shape} do not fit", tensor=name)
    if not (np.isfinite(moments).all() and np.isfinite(mean).all()):
        raise InvalidModel("the moments of the inputs are not finite", tensor=name)
    shape = (groups, columns // block, block)
    m = mean.astype(np.float64).reshape(shape)
    covariance = moments.astype(np.float64).reshape(*shape, block) - m[..., :, None] * m[..., None, :]
    index = np.arange(block)
    powers = moments.reshape(*shape, block)[..., index, index].mean(axis=(1, 2), dtype=np.float64)
    added = np.where(powers > 0, damping * powers, 1.0)
    covariance[..., index, index] = np.maximum(covariance[..., index, index], 0) + added[:, None, None]
    try:
        solved = m / covariance[..., 0] if block == 1 else np.linalg.solve(covariance, m[..., None])[..., 0]
        # What is left of mean mean^T at each block, after those that come later.
        shares = (m * solved).sum(axis=2)
        left = 1 / (1 + shares[:, ::-1].cumsum(axis=1)[:, ::-1] - shares)
        own = covariance + left[:, :, None, None] * (m[..., :, None] * m[..., None, :])
        lower = np.sqrt(own) if block == 1 else np.linalg.cholesky(own[..., ::-1, ::-1]).swapaxes(-1, -2)
    except np.linalg.LinAlgError:
        raise InvalidModel("the second moments of the inputs are not positive semidefinite", tensor=name) from None
    lower = lower[..., ::-1, ::-1]
    scale = lower[..., index, index]
    influence = (lower / scale[..., :, None]).swapaxes(-1, -2)
    # own^-1 (left * m), by the same lemma.
    carry = solved * (left / (1 + left * shares))[..., None]
    flat = (groups, columns)
    return Form(
        np.ascontiguousarray(influence, np.float32).reshape(groups, columns, block),
        np.ascontiguousarray(scale**2, np.float32).reshape(flat),
        np.ascontiguousarray(m, np.float32).reshape(flat),
        np.ascontiguousarray(carry, np.float32).reshape(flat),
    )


def _lower_factor(moments: npt.NDArray[np.float64], added: float, name: str | None) -> npt.NDArray[np.float64]:
    """Return the lower triangular R with ``R^T R`` = moments + added * identity."""
    damped = moments[::-1, ::-1].copy()
    damped[np.diag_indices_from(damped)] += added
    try:
        upper = np.linalg.cholesky(damped).T
    except np.linalg.LinAlgError:
        raise InvalidModel("the second moments of the inputs are not positive semidefinite", tensor=name) from None
    lower: npt.NDArray[np.float64] = upper[::-1, ::-1]
    return lower


def quantize_feedback(
    weights: npt.NDArray[np.float32],
    form: Form,
    *,
    qp: int,
    qp_density: int = 2,
    dependent: bool = True,
    row_importance: npt.NDArray[np.floating] | None = None,
    row_form: Form | None = None,
    rate_weight: float = 0.0,
    passes: int = 2,
    unary_length: int = 11,
    threads: int | None = None,
    name: str | None = None,
) -> Levels:
    """Quantise a weight so that the outputs of its layer keep their values.

    Columns are quantised one after the other in the order of the stream; the target of each takes up what the errors
    of those before it do to the outputs. With ``dependent``, each of the eight survivors of the trellis search has its
    own errors and targets.

    Args:
        weights: finite float32, at least two dimensions; the first one counts the rows, the others are the columns.
        form: of :func:`factor`, for as many columns; its groups divide the rows.
        qp: quantisation parameter, at most ``LARGEST_LEVEL`` steps below the largest weight.
        qp_density: 0..7.
        dependent: whether the levels form a path through the trellis of dependent quantisation.
        row_importance: how much errors of each row matter, at least 0; None: all alike.
        row_form: how much errors of the rows matter jointly: the factors of a matrix with one row and column for each
            row of the weight, whose blocks are runs of rows that influence each other. For a form of one group; its
            ``importance`` takes the place of ``row_importance``. None: rows are on their own.
        rate_weight: lambda, the price of a bit in units of ``importance * row_importance * error**2``, at least 0.
        passes: searches with a rate, each with the statistics of the one before; ignored without a rate.
        unary_length: of the coding, 1..256, for the rate.
        threads: the largest number of threads; None: all cores. The result is the same for any number.
        name: of the tensor, for errors.

    Returns:
        int32 levels, shape of the weights.

    Raises:
        InvalidModel: weights or importances are not finite, do not fit the form, or are too large for the step.

    Complexity: columns / 2 + 50 operations on 8 numbers per weight and pass, and half the block of ``row_form`` on one.
    """
    rows = weights.shape[0]
    flat = np.ascontiguousarray(weights, np.float32).reshape(rows, math.prod(weights.shape[1:]))
    if not np.isfinite(flat).all():
        raise InvalidModel("the weights are not finite", tensor=name)
    if flat.shape[1] != form.columns or rows % form.groups:
        raise InvalidModel(
            f"moments of {form.groups} groups of {form.columns} inputs do not fit shape {weights.shape}", tensor=name
        )
    step = float(np.float32(step_size(qp, qp_density)))
    importance = np.ones(rows, np.float32) if row_importance is None else np.asarray(row_importance, np.float32)
    if row_form is not None:
        if form.groups != 1 or row_form.importance.shape != (1, rows):
            raise InvalidModel("the form of its rows does not fit", tensor=name)
        importance = row_form.importance[0]
    if row_form is not None and form.carry is not None:
        raise InvalidModel("a form with means goes without a form of its rows", tensor=name)
    if importance.shape != (rows,) or not np.isfinite(importance).all() or (importance < 0).any():
        raise InvalidModel("there must be one row importance of at least 0 for each row", tensor=name)
    if not flat.size:
        return np.zeros(weights.shape, np.int32)
    search = _LevelSearch(flat, form, importance, row_form, step, dependent, threads, name)
    levels = search.run(None)
    if rate_weight > 0:
        for _ in range(passes):
            # Costs are in squared steps.
            levels = search.run(_rates(levels, dependent, unary_length, rate_weight / (step * step)))
    return levels.reshape(weights.shape)


def feed_back(
    weights: npt.NDArray[np.float32],
    form: Form,
    *,
    step: float,
    dependent: bool,
    rates: FrozenRates | None = None,
    threads: int = 1,
    name: str | None = None,
) -> Levels:
    """Return the levels of one search of :func:`quantize_feedback`, with rates in squared steps times importance."""
    rows = weights.shape[0]
    matrix = flat(weights.astype(np.float32, copy=False)).reshape(rows, math.prod(weights.shape[1:]))
    search = _LevelSearch(matrix, form, np.ones(rows, np.float32), None, step, dependent, threads, name)
    return search.run(rates).reshape(weights.shape)


def _rates(levels: Levels, dependent: bool, unary_length: int, price: float) -> FrozenRates:
    return FrozenRates.of_levels(levels.reshape(-1), dependent=dependent, unary_length=unary_length, lambda_=price)


def _too_large(name: str | None) -> Callable[[str, Reason], InvalidModel]:
    message = "a weight is too many steps large for error feedback"
    return lambda _, reason: InvalidModel(message, tensor=name, reason=reason)


@dataclasses.dataclass(frozen=True, slots=True)
class _LevelSearch:
    """The stripes of one weight."""

    weights: Matrix
    form: Form
    importance: Matrix
    row_form: Form | None
    step: float
    dependent: bool
    threads: int | None
    name: str | None

    def run(self, rates: FrozenRates | None) -> Levels:
        """Return the levels, quantised stripe by stripe."""
        levels = np.empty(self.weights.shape, np.int32)
        stripes = self._stripes()
        if len(stripes) == 1:
            self._run_stripe(levels, stripes[0], rates)
            return levels
        with ThreadPoolExecutor(self.threads or os.cpu_count() or 1) as pool:
            for future in [pool.submit(self._run_stripe, levels, stripe, rates) for stripe in stripes]:
                future.result()
        return levels

    def _stripes(self) -> list[tuple[int, int]]:
        """Return first row and end of each stripe; a stripe holds whole groups or lies in one."""
        rows, columns = self.weights.shape
        in_group = rows // self.form.groups
        wanted = -(-_STRIPE_WEIGHTS // columns)
        if self.row_form is not None:
            block = self.row_form.block
            starts = list(range(0, rows, -(-wanted // block) * block))
        elif wanted >= in_group:
            starts = list(range(0, rows, wanted // in_group * in_group))
        else:
            parts = -(-in_group // wanted)
            starts = [g + in_group * i // parts for g in range(0, rows, in_group) for i in range(parts)]
        return list(zip(starts, [*starts[1:], rows], strict=True))

    def _run_stripe(self, levels: Levels, stripe: tuple[int, int], rates: FrozenRates | None) -> None:
        first, end = stripe
        in_group = self.weights.shape[0] // self.form.groups
        groups = slice(first // in_group, -(-end // in_group))
        influence, importance = self.form.influence[groups], self.form.importance[groups]
        rows: dict[str, Any] = {}
        if self.row_form is not None:
            rows = {
                "row_influence": self.row_form.influence[0, first:end].reshape(-1),
                "row_block": self.row_form.block,
            }
        if self.form.mean is not None and self.form.carry is not None:
            rows = {"mean": self.form.mean[groups].reshape(-1), "carry": self.form.carry[groups].reshape(-1)}
        with failing_as(_too_large(self.name)):
            quantize_stripe(
                self.weights[first:end].reshape(-1),
                levels[first:end].reshape(-1),
                end - first,
                self.form.columns,
                influence=influence.reshape(-1),
                importance=importance.reshape(-1),
                row_importance=self.importance[first:end],
                groups=influence.shape[0],
                block=self.form.block,
                step=self.step,
                dependent=self.dependent,
                rates=rates,
                end_state=0 if end < self.weights.shape[0] else -1,
                **rows,
            )


def quantize_feedback_rows(
    weights: npt.NDArray[np.float32],
    form: Form,
    *,
    qp: int,
    qp_density: int = 2,
    dependent: bool = True,
    rate_weight: float = 0.0,
    passes: int = 2,
    unary_length: int = 11,
    name: str | None = None,
) -> Levels:
    """Quantise a weight whose first dimension counts the inputs, as in transposed convolutions.

    Errors of a row reach the rows after it, and the kernel positions after them in their own.

    Args:
        weights: finite float32, shape (inputs, outputs / groups, kernel ...).
        form: of :func:`factor`, for groups of (inputs / groups) x kernel positions.
        qp, qp_density, dependent, rate_weight, passes, unary_length, name: as for :func:`quantize_feedback`.

    Returns:
        int32 levels, shape of the weights.

    Raises:
        InvalidModel: as for :func:`quantize_feedback`.
    """
    rows = weights.shape[0]
    kernel = math.prod(weights.shape[2:])
    blocks = np.ascontiguousarray(weights, np.float32).reshape(rows, math.prod(weights.shape[1:2]), kernel)
    if not np.isfinite(blocks).all():
        raise InvalidModel("the weights are not finite", tensor=name)
    if form.groups * form.columns != rows * kernel or form.block != form.columns:
        raise InvalidModel(
            f"moments of {form.groups} groups of {form.columns} inputs do not fit shape {weights.shape}", tensor=name
        )
    if not blocks.size:
        return np.zeros(weights.shape, np.int32)
    step = float(np.float32(step_size(qp, qp_density)))
    levels = _run_rows(blocks, form, step, dependent, None, name)
    for _ in range(passes if rate_weight > 0 else 0):
        rates = _rates(levels, dependent, unary_length, rate_weight / (step * step))
        levels = _run_rows(blocks, form, step, dependent, rates, name)
    return levels.reshape(weights.shape)


def _run_rows(
    weights: Matrix,
    form: Form,
    step: float,
    dependent: bool,
    rates: FrozenRates | None,
    name: str | None,
) -> Levels:
    """Return the levels of one search, row after row of shape (outputs, kernel)."""
    rows, outputs, kernel = weights.shape
    levels = np.empty(weights.shape, np.int32)
    targets = weights.copy()
    ones = np.ones(outputs, np.float32)
    in_group = rows // form.groups
    state = 0
    for row in range(rows):
        group, place = divmod(row, in_group)
        positions = slice(place * kernel, (place + 1) * kernel)
        influence = form.influence[group, positions]
        with failing_as(_too_large(name)):
            state = quantize_stripe(
                weights[row].reshape(-1),
                levels[row].reshape(-1),
                outputs,
                kernel,
                influence=np.ascontiguousarray(influence[:, positions]).reshape(-1),
                importance=form.importance[group, positions],
                row_importance=ones,
                groups=1,
                block=kernel,
                step=step,
                dependent=dependent,
                rates=rates,
                targets=targets[row].reshape(-1),
                start_state=state,
            )
        end = (group + 1) * in_group
        if row + 1 < end:
            errors = weights[row] - levels[row].astype(np.float32) * np.float32(step)
            reached = (errors @ influence[:, positions.stop :]).reshape(outputs, end - row - 1, kernel)
            targets[row + 1 : end] += reached.transpose(1, 0, 2)
    return levels


def form_error(
    errors: npt.NDArray[np.floating],
    moments: npt.NDArray[np.floating],
    row_importance: npt.NDArray[np.floating] | None = None,
) -> float:
    """Return ``tr(E H E^T)``, rows weighted.

    Args:
        errors: shape (rows, ...): weights less their quantised values.
        moments: as for :func:`factor`.
        row_importance: shape (rows,); None: all 1.
    """
    moments = moments[None] if moments.ndim == 2 else moments
    groups, columns, block = moments.shape
    rows = errors.shape[0]
    e = errors.reshape(groups, rows // groups, columns).astype(np.float64)
    costs = np.zeros((groups, rows // groups))
    for start in range(0, columns, block):
        width = min(block, columns - start)
        part = e[:, :, start : start + width]
        costs += ((part @ moments[:, start : start + width, :width].astype(np.float64)) * part).sum(axis=2)
    weights = np.ones(rows) if row_importance is None else row_importance
    return float((costs.reshape(-1) * weights).sum())
