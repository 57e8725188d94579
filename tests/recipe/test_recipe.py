"""Recipes: files, checkpoints, reports, the command line."""

from __future__ import annotations

import json

import pytest
import torch
from networks import make

from netpress import BatchNormFold, EncodeConfig, InvalidConfig, LowRank, Recipe, RecipeError, Retrain, Task

RECIPE = Recipe(
    [BatchNormFold(), LowRank(ranks={"c2": 8, "fc": 3}), Retrain(epochs=2, learning_rate=(1e-3, 1e-4))],
    EncodeConfig(qp=-24, effort=6),
)


def test_json_round_trip() -> None:
    assert Recipe.from_dict(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE


@pytest.mark.parametrize(
    "content",
    [{"stage": []}, {"stages": {}}, {"stages": [1]}, {"stages": [], "encode": {"qpp": 1}}],
)
def test_content_that_is_no_recipe(content: dict) -> None:
    with pytest.raises(InvalidConfig):
        Recipe.from_dict(content)


@pytest.mark.parametrize("config", [EncodeConfig.reference(), EncodeConfig(differences=True)])
def test_settings_that_recipes_cannot_use(config: EncodeConfig) -> None:
    with pytest.raises(InvalidConfig):
        Recipe([], config)


def test_only_stages() -> None:
    with pytest.raises(InvalidConfig, match="str"):
        Recipe(["low_rank"])  # type: ignore[list-item]


def test_there_is_no_network() -> None:
    with pytest.raises(RecipeError, match="no network"):
        Recipe([]).run()


def test_reports_and_record() -> None:
    network, x = make("conv")
    with torch.no_grad():
        wanted = network(x)
    task = Task(
        train_batches=[x], evaluate=lambda m: (m(x) - wanted).square().mean(1).detach(), metric="error", direction="min"
    )
    result = RECIPE.run(network, task)
    assert [report.stage for report in result.reports] == ["coded as it is", "batch_norm_fold", "low_rank", "retrain"]
    assert result.baseline == 0
    # The last report leaves out only the recipe, which the file carries.
    assert 0 < len(result.data) - result.reports[-1].bytes < 300
    assert result.reports[2].parameters < result.reports[1].parameters
    assert float((result.module(x) - wanted).square().mean()) == pytest.approx(result.reports[-1].metric, rel=1e-5)
    table = result.table().splitlines()
    assert len(table) == 2 + 1 + 4
    assert "| error |" in table[0]
    quiet = RECIPE.run(network, task, report_every_stage=False)
    assert quiet.data == result.data
    assert [report.metric is None for report in quiet.reports] == [True, True, True, False]


def test_stopped_and_resumed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = make("conv")
    task = Task(train_batches=[x])
    whole = RECIPE.run(network, task).data
    runs = []
    original = LowRank.run

    def interrupted(self, candidate, progress):
        runs.append("low_rank")
        if len(runs) == 1:
            raise KeyboardInterrupt
        return original(self, candidate, progress)

    folded = []
    first = BatchNormFold.run
    monkeypatch.setattr(BatchNormFold, "run", lambda *args: folded.append(1) or first(*args))
    monkeypatch.setattr(LowRank, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        RECIPE.run(network, task, folder=tmp_path)
    assert RECIPE.run(network, task, folder=tmp_path).data == whole
    assert len(folded) == 1  # the second run went on after it
    with pytest.raises(RecipeError, match="another recipe"):
        Recipe([BatchNormFold()]).run(network, task, folder=tmp_path)
