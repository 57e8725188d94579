"""Tasks and scores."""

import numpy as np
import pytest

from netpress import InvalidConfig, Scores, Task


def test_scores_default_to_the_mean() -> None:
    assert Scores(np.array([1.0, 2.0, 6.0])).value == 3.0
    assert Scores(np.array([1.0, 2.0, 6.0]), np.median).value == 2.0


@pytest.mark.parametrize("result", [0.5, np.float32(0.5), [0, 1], np.array([0.25, 0.75])])
def test_results_of_evaluate(result: object) -> None:
    assert Task(evaluate=lambda module: result).scores(None).value == 0.5


@pytest.mark.parametrize(("result", "message"), [(float("nan"), "NaN"), ([], "no samples"), ("good", "str")])
def test_results_that_are_no_metric(result: object, message: str) -> None:
    with pytest.raises(InvalidConfig, match=f"'mine'.*{message}"):
        Task(name="mine", evaluate=lambda module: result).scores(None)


def test_batches_start_anew() -> None:
    task = Task(train_batches=lambda: iter([1, 2]), calibration_batches=[3])
    assert [list(task.batches("train")) for _ in range(2)] == [[1, 2], [1, 2]]
    assert list(task.batches("calibration")) == [3]


def test_missing_and_exhausted_batches() -> None:
    with pytest.raises(InvalidConfig, match="no train_batches"):
        Task().batches("train")
    with pytest.raises(InvalidConfig, match="only once"):
        Task(train_batches=iter([1])).batches("train")
    with pytest.raises(InvalidConfig, match="no evaluate"):
        Task().scores(None)


def test_output_of_a_network() -> None:
    assert Task().output(lambda x: x + 1, (1, "label")) == 2
    assert Task().output(lambda a, b: a - b, {"b": 1, "a": 3}) == 2
    assert Task(forward=lambda module, batch: batch * 3).output(None, 2) == 6


@pytest.mark.parametrize("field", [{"direction": "up"}, {"outputs": "image"}])
def test_fields_are_checked(field: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match=next(iter(field))):
        Task(**field)  # type: ignore[arg-type]


class _Somewhere:
    """A stand-in for a tensor."""

    def __init__(self, device: str) -> None:
        self.device = device

    def to(self, device: str) -> "_Somewhere":
        return _Somewhere(device)


class _Network:
    def parameters(self) -> object:
        return iter([_Somewhere("cuda")])

    def __call__(self, x: _Somewhere) -> str:
        return x.device


def test_batches_go_where_the_network_is() -> None:
    for batch in (_Somewhere("cpu"), (_Somewhere("cpu"), 3), [_Somewhere("cpu")]):
        assert Task().output(_Network(), batch) == "cuda"
    assert Task(forward=lambda module, batch: batch["x"].device).output(_Network(), {"x": _Somewhere("cpu")}) == "cuda"
