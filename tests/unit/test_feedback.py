import numpy as np
import pytest

import netpress
from netpress import native
from netpress.errors import InvalidModel
from netpress.quantize import feedback
from netpress.quantize.feedback import factor, form_error, quantize_feedback
from netpress.quantize.levels import quantize
from netpress.quantize.step_size import step_size
from netpress.quantize.tensor import QuantizedTensor

_NEXT = [(0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6)]


def problem(seed, rows, columns, samples=None):
    """Weights, and second moments of correlated inputs."""
    random = np.random.default_rng(seed)
    mixing = np.eye(columns) + random.standard_normal((columns, columns)) / np.sqrt(columns)
    inputs = random.standard_normal((samples or 4 * columns, columns)) @ mixing
    weights = (0.1 * random.standard_normal((rows, columns))).astype(np.float32)
    return weights, inputs.T @ inputs / len(inputs)


def states_of(levels):
    """The states of the trellis along a path; fails for a level that is not on it."""
    state, states = 0, []
    for level in levels.reshape(-1).tolist():
        odd = state & 1
        coded = (level + (odd if level > 0 else -odd if level < 0 else 0)) >> 1
        assert level == 2 * coded - (odd if coded > 0 else -odd if coded < 0 else 0)
        state = _NEXT[state][coded & 1]
        states.append(state)
    return states


def run_core(weights, form, step, **options):
    levels = np.empty(weights.shape, np.int32)
    rows, columns = weights.shape
    state = native.quantize_feedback(
        weights.reshape(-1),
        levels.reshape(-1),
        rows,
        columns,
        influence=form.influence.reshape(-1),
        importance=form.importance.reshape(-1),
        row_importance=options.pop("row_importance", np.ones(rows, np.float32)),
        groups=form.groups,
        block=form.block,
        step=step,
        **options,
    )
    return levels, state


def plain_uniform(weights, form, step):
    """Error feedback in single precision, column by column."""
    scaled = weights * np.float32(1 / np.float64(np.float32(step)))
    levels = np.zeros(weights.shape, np.int32)
    for r, row in enumerate(scaled):
        base = row.copy()
        for j in range(len(row)):
            level = np.float32(np.rint(base[j]))
            levels[r, j] = level
            base[j + 1 :] += form.influence[0, j, j + 1 :] * (row[j] - level)
    return levels


def rate_of(rates, state, neighbour, level):
    """Price of a level."""
    if level == 0:
        return rates.zero[neighbour, state]
    negative = int(level < 0)
    nonzero = rates.nonzero[negative, neighbour, state]
    return nonzero + rates.magnitude[negative, (abs(int(level)) + 1) // 2]


def plain_trellis(weights, form, step, rates):
    """Per-survivor processing with whole pasts instead of a window, one candidate after the other."""
    scaled = (weights * np.float32(1 / np.float64(np.float32(step)))).astype(np.float32)
    survivors = {0: (np.float32(0), 0, [])}  # state: cost, neighbour class, levels
    for row in scaled:
        for j, weight in enumerate(row):
            offers = {}
            for state in sorted(survivors):
                cost, neighbour, path = survivors[state]
                target = weight
                for k in range(j):
                    error = row[k] - np.float32(path[len(path) - j + k])
                    target = target + form.influence[0, k, j] * error
                for level in candidates(target, state):
                    error = abs(target) - np.float32(abs(level))
                    total = cost + (error * error) * form.importance[0, j]
                    total = total + (rate_of(rates, state, neighbour, level) if rates is not None else np.float32(0))
                    coded = (level + ((state & 1) if level > 0 else -(state & 1) if level < 0 else 0)) >> 1
                    after = _NEXT[state][coded & 1]
                    if after not in offers or total < offers[after][0]:
                        offers[after] = (total, 0 if level == 0 else 1 if level < 0 else 2, [*path, level])
            survivors = offers
    return np.array(min(survivors.values(), key=lambda s: s[0])[2], np.int32).reshape(weights.shape)


def candidates(target, state):
    sign = -1 if np.signbit(target) else 1
    size = abs(float(target))
    firsts = (2, 4) if state % 2 == 0 else (1, 3)
    return [0] + [sign * (first + 4 * max(0, int(np.rint((size - first) / 4)))) for first in firsts]


class TestFactor:
    def test_its_product_is_the_form(self):
        _, moments = problem(0, 1, 30)
        form = factor(moments, damping=0.01)
        unit = np.eye(30) + np.triu(form.influence[0], 1).T
        again = unit.T @ np.diag(form.importance[0]) @ unit
        np.testing.assert_allclose(again, moments + 0.01 * np.trace(moments) / 30 * np.eye(30), atol=1e-4)

    def test_the_identity_influences_nothing(self):
        form = factor(np.eye(5), damping=0)
        np.testing.assert_array_equal(form.influence[0], np.eye(5))
        np.testing.assert_array_equal(form.importance[0], np.ones(5))

    def test_blocks_are_factored_apart(self):
        _, moments = problem(1, 1, 10)
        blocks = np.zeros((1, 10, 4))
        for start in (0, 4, 8):
            width = min(4, 10 - start)
            blocks[0, start : start + width, :width] = moments[start : start + width, start : start + width]
        form = factor(blocks, damping=0)
        alone = factor(moments[4:8, 4:8], damping=0)
        np.testing.assert_array_equal(form.influence[0, 4:8], alone.influence[0])
        np.testing.assert_array_equal(form.importance[0, 4:8], alone.importance[0])

    def test_dead_inputs_leave_the_plain_error(self):
        np.testing.assert_array_equal(factor(np.zeros((3, 3))).importance, np.ones((1, 3)))

    def test_fewer_samples_than_columns(self):
        weights, moments = problem(2, 4, 40, samples=10)
        levels = quantize_feedback(weights, factor(moments), qp=-20)
        plain, _ = quantize(weights, qp=-20, qp_density=2, dependent=True)
        step = step_size(-20, 2)
        assert form_error(weights - levels * step, moments) < form_error(weights - plain * step, moments)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_moments_that_are_not_finite(self, value):
        moments = np.eye(4)
        moments[1, 2] = value
        with pytest.raises(InvalidModel, match=r"fc.*not finite"):
            factor(moments, name="fc")

    def test_moments_that_are_no_moments(self):
        with pytest.raises(InvalidModel, match="negative diagonal"):
            factor(-np.eye(3))
        with pytest.raises(InvalidModel, match="semidefinite"):
            factor(np.array([[1.0, 5.0], [5.0, 1.0]]))


class TestTwins:
    @pytest.mark.parametrize("seed", range(4))
    def test_uniform(self, seed):
        weights, moments = problem(seed, 5, 40)
        form = factor(moments)
        levels, _ = run_core(weights, form, 0.03, dependent=False)
        np.testing.assert_array_equal(levels, plain_uniform(weights, form, 0.03))

    @pytest.mark.parametrize("rated", [False, True])
    @pytest.mark.parametrize("seed", range(6))
    def test_trellis(self, seed, rated):
        # No more weights than the window holds, so that no decision is made early.
        weights, moments = problem(seed, [1, 4, 9][seed % 3], [70, 19, 8][seed % 3])
        form = factor(moments)
        rates = None
        if rated:
            first, _ = run_core(weights, form, 0.05, dependent=True)
            rates = native.FrozenRates.of_levels(first.reshape(-1), dependent=True, lambda_=0.2)
        levels, _ = run_core(weights, form, 0.05, dependent=True, rates=rates)
        np.testing.assert_array_equal(levels, plain_trellis(weights, form, 0.05, rates))

    @pytest.mark.parametrize("step", [0.004, 0.05, 0.3])
    @pytest.mark.parametrize("seed", range(3))
    def test_scalar_and_vector_versions(self, seed, step):
        weights, moments = problem(seed, 12, 150)
        form = factor(moments)
        options = {"dependent": True, "row_importance": np.linspace(0, 2, 12, dtype=np.float32)}
        first, _ = run_core(weights, form, step, **options)
        rates = native.FrozenRates.of_levels(first.reshape(-1), dependent=True, lambda_=0.1)
        for given in (None, rates):
            fast = run_core(weights, form, step, rates=given, **options)
            scalar = run_core(weights, form, step, rates=given, scalar=True, **options)
            np.testing.assert_array_equal(fast[0], scalar[0])
            assert fast[1] == scalar[1]


class TestQuantizeFeedback:
    def test_the_identity_gives_the_nearest_levels(self):
        weights, _ = problem(0, 8, 60)
        levels = quantize_feedback(weights, factor(np.eye(60)), qp=-18, dependent=False)
        np.testing.assert_array_equal(levels, quantize(weights, qp=-18, qp_density=2, dependent=False)[0])

    def test_the_identity_gives_the_distortion_of_the_trellis(self):
        weights, _ = problem(0, 30, 200)
        step = step_size(-18, 2)
        levels = quantize_feedback(weights, factor(np.eye(200)), qp=-18)
        best, _ = quantize(weights, qp=-18, qp_density=2, dependent=True)
        ratio = np.square(weights - levels * step).sum() / np.square(weights - best * step).sum()
        assert 1 - 1e-6 < ratio < 1.005  # decisions after a delay

    @pytest.mark.parametrize("dependent", [False, True])
    @pytest.mark.parametrize(("rows", "columns"), [(64, 9), (16, 27), (20, 144), (3, 200)])
    def test_the_outputs_are_better_than_without(self, rows, columns, dependent):
        step = step_size(-20, 2)
        for seed in range(5):
            weights, moments = problem(seed, rows, columns)
            levels = quantize_feedback(weights, factor(moments), qp=-20, dependent=dependent)
            plain, _ = quantize(weights, qp=-20, qp_density=2, dependent=dependent)
            assert form_error(weights - levels * step, moments) < form_error(weights - plain * step, moments)

    @pytest.mark.parametrize("dependent", [False, True])
    @pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 5), (7, 3), (5, 4, 3, 3), (40, 90), (90, 2)])
    def test_a_stream_carries_the_levels(self, shape, dependent):
        weights = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        columns = int(np.prod(shape[1:]))
        _, moments = problem(3, 1, columns)
        tensor = QuantizedTensor(quantize_feedback(weights, factor(moments), qp=-8, dependent=dependent), -8, dependent)
        decoded = netpress.decode(netpress.encode({"w": weights}, quantized={"w": tensor}))["w"]
        np.testing.assert_array_equal(decoded, tensor.values())

    def test_rates_save_bits(self):
        weights, moments = problem(5, 40, 120)
        form = factor(moments)
        price = 0.3 * step_size(-14, 2) ** 2
        for dependent in (False, True):
            sizes = []
            for rate_weight in (0.0, price):
                levels = quantize_feedback(weights, form, qp=-14, dependent=dependent, rate_weight=rate_weight)
                if dependent:
                    states_of(levels)
                tensor = QuantizedTensor(levels, -14, dependent, codebook=False)
                sizes.append(len(netpress.encode({"w": weights}, quantized={"w": tensor})))
            assert sizes[1] < 0.97 * sizes[0]

    def test_groups_are_layers_of_their_own(self):
        weights, first = problem(6, 12, 30)
        _, second = problem(7, 1, 30)
        levels = quantize_feedback(weights, factor(np.stack([first, second])), qp=-20, dependent=False)
        for half, moments in ((slice(0, 6), first), (slice(6, 12), second)):
            alone = quantize_feedback(weights[half], factor(moments[None]), qp=-20, dependent=False)
            form = factor(moments)
            assert form.importance.shape == (1, 30)
            np.testing.assert_array_equal(levels[half], alone)

    @pytest.mark.parametrize(("rows", "columns", "groups"), [(60, 40, 1), (60, 40, 3), (60, 40, 60), (7, 30, 1)])
    def test_stripes(self, monkeypatch, rows, columns, groups):
        monkeypatch.setattr(feedback, "_STRIPE_WEIGHTS", 300)
        weights, moments = problem(8, rows, columns)
        form = factor(np.broadcast_to(moments, (groups, columns, columns)))
        results = [quantize_feedback(weights, form, qp=-20, threads=n) for n in (1, 2, 5)]
        states_of(results[0])
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])
        plain, _ = quantize(weights, qp=-20, qp_density=2, dependent=True)
        step = step_size(-20, 2)
        assert form_error(weights - results[0] * step, moments) < form_error(weights - plain * step, moments)

    def test_rows_that_matter_more_get_finer_levels(self):
        weights, moments = problem(9, 30, 50)
        importance = np.where(np.arange(30) < 15, 10.0, 0.1)
        step = step_size(-12, 2)
        levels = quantize_feedback(
            weights, factor(moments), qp=-12, row_importance=importance, rate_weight=0.3 * step**2
        )
        errors = np.square(weights - levels * step).sum(axis=1)
        assert errors[:15].sum() < 0.7 * errors[15:].sum()

    def test_no_weights(self):
        assert quantize_feedback(np.zeros((0, 4), np.float32), factor(np.eye(4)), qp=0).shape == (0, 4)

    def test_what_does_not_fit(self):
        weights, moments = problem(0, 6, 10)
        form = factor(moments)
        with pytest.raises(InvalidModel, match="do not fit"):
            quantize_feedback(weights[:, :9], form, qp=-20)
        with pytest.raises(InvalidModel, match="do not fit"):
            quantize_feedback(weights, factor(np.stack([moments] * 4)), qp=-20)
        with pytest.raises(InvalidModel, match="row importance"):
            quantize_feedback(weights, form, qp=-20, row_importance=np.full(6, np.nan))
        with pytest.raises(InvalidModel, match="not finite"):
            quantize_feedback(np.where(weights > 0.1, np.nan, weights).astype(np.float32), form, qp=-20, name="w")
        with pytest.raises(InvalidModel, match="too many steps"):
            quantize_feedback(weights, form, qp=-120)


@pytest.mark.parametrize("columns", [80, 81, 82, 160])
def test_a_stripe_ends_in_its_state_wherever_decisions_become_final(columns):
    # Along weights of zero, the survivors go round in cycles of the trellis and never have a common past: those of the
    # end state ended when decisions became final in the last three weights.
    for seed in range(10):
        weights = np.zeros((1, columns), np.float32)
        weights[0, :6] = 0.1 * np.random.default_rng(seed).standard_normal(6)
        levels, state = run_core(weights, factor(np.eye(columns)), 0.05, dependent=True, end_state=0)
        assert state == 0
        assert states_of(levels)[-1] == 0


def joint_error(errors, moments, rows):
    return np.trace(rows @ errors @ moments @ errors.T)


class TestRowsThatMatterJointly:
    @pytest.mark.parametrize("dependent", [False, True])
    @pytest.mark.parametrize("block", [7, 3])
    def test_row_after_row_in_plain_steps(self, dependent, block):
        weights, moments = problem(11, 7, 100)
        _, rows = problem(12, 1, 7, samples=9)
        blocks = np.zeros((1, 7, block))
        for start in range(0, 7, block):
            part = slice(start, min(start + block, 7))
            blocks[0, part, : part.stop - start] = rows[part, part]
        form, row_form = factor(moments), factor(blocks)
        step = np.float32(0.05)
        options = {"dependent": dependent, "row_importance": row_form.importance[0]}
        levels, state = run_core(
            weights, form, step, row_influence=row_form.influence.reshape(-1), row_block=block, **options
        )
        reciprocal = np.float32(1 / np.float64(step))
        errors = np.zeros_like(weights)
        expected, at = np.zeros_like(levels), 0
        for r in range(7):
            effective = weights[r] * reciprocal
            for k in range(r // block * block, r):
                effective = effective + row_form.influence[0, k, r % block] * errors[k]
            # A step of 1, so that the effective weights reach the core as they are.
            importance = row_form.importance[0, r : r + 1]
            own, at = run_core(
                effective[None], form, 1.0, dependent=dependent, row_importance=importance, start_state=at
            )
            expected[r] = own[0]
            errors[r] = weights[r] * reciprocal - own[0].astype(np.float32)
        np.testing.assert_array_equal(levels, expected)
        assert state == at

    @pytest.mark.parametrize("dependent", [False, True])
    def test_the_joint_error_falls(self, dependent):
        step = step_size(-20, 2)
        ratios = []
        for seed in range(5):
            weights, moments = problem(seed, 30, 60)
            # The rows feed few outputs: many errors make up for each other.
            behind = np.random.default_rng(seed).standard_normal((6, 30))
            rows = behind.T @ behind
            errors = [
                weights
                - quantize_feedback(weights, factor(moments), qp=-20, dependent=dependent, row_form=row_form) * step
                for row_form in (None, factor(rows))
            ]
            ratios.append(joint_error(errors[1], moments, rows) / joint_error(errors[0], moments, rows))
        assert max(ratios) < 0.5

    def test_stripes(self, monkeypatch):
        monkeypatch.setattr(feedback, "_STRIPE_WEIGHTS", 300)
        weights, moments = problem(8, 60, 40)
        blocks = np.concatenate([problem(seed, 1, 12, samples=15)[1] for seed in range(5)])[None]
        row_form = factor(blocks)
        results = [quantize_feedback(weights, factor(moments), qp=-20, row_form=row_form, threads=n) for n in (1, 2, 5)]
        states_of(results[0])
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])

    def test_what_does_not_fit(self):
        weights, moments = problem(0, 6, 10)
        with pytest.raises(InvalidModel, match="form of its rows"):
            quantize_feedback(weights, factor(moments), qp=-20, row_form=factor(np.eye(5)))
        with pytest.raises(InvalidModel, match="form of its rows"):
            quantize_feedback(weights, factor(np.stack([moments] * 2)), qp=-20, row_form=factor(np.eye(6)))
