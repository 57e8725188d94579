"""The zoo as a package: what it offers, and what it says where something is missing."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from corpus import CORPUS, needs_corpus

import netpress.evaluate
from netpress import InvalidConfig, Task

pytest.importorskip("torch")
pytest.importorskip("netpress_zoo")

from netpress.evaluate import plans
from netpress.evaluate.plans import FULL, QUICK, starting_order
from netpress.evaluate.use_cases import USE_CASES, tolerance
from netpress_zoo.facts import FACTS


def test_every_task_is_described() -> None:
    """Each function is one entry point; each task has facts and stands for one row of the report."""
    ours = {entry.name for entry in entry_points(group="netpress.tasks") if entry.value.startswith("netpress_zoo.")}
    assert set(FACTS) == ours <= set(netpress.evaluate.tasks())
    assert {name for case in USE_CASES for name in case.tasks} >= ours


def test_plans_know_the_tasks() -> None:
    order = starting_order(sorted(FACTS))
    assert sorted(order) == sorted(FACTS)
    assert order[:2] == ["sentence-minilm", "imagenet-mobilenetv1"]
    assert (QUICK.samples("pensieve"), FULL.samples("pensieve")) == (40, None)
    assert plans.SAMPLES["pensieve"] == (40, None)


def test_transparent_metrics() -> None:
    assert tolerance(Task(name="nerf-lego", unit="dB"), 40.0) == pytest.approx(2.3)
    assert tolerance(Task(name="nerf-hotdog", unit="dB"), 40.0) == pytest.approx(0.1)


def test_the_former_modules_lead_here() -> None:
    for name in ("netpress.evaluate.networks", "netpress.evaluate.training"):
        sys.modules.pop(name, None)
        with pytest.warns(DeprecationWarning, match="has moved to netpress_zoo"):
            importlib.import_module(name)
    former = importlib.import_module("netpress.evaluate.networks.cifar10")
    assert former.FILES == importlib.import_module("netpress_zoo.cifar10").FILES


def test_unknown_task() -> None:
    with pytest.raises(InvalidConfig, match=r"no task 'cifar'.*cifar10-resnet20"):
        netpress.evaluate.load("cifar")


def test_missing_data(tmp_path: Path) -> None:
    """The message names the folder that was searched, and everything that should be there."""
    (tmp_path / "cifar10-resnet").mkdir()
    (tmp_path / "cifar10-resnet" / "test_2000.npz").touch()
    with pytest.raises(InvalidConfig) as caught:
        netpress.evaluate.load("cifar10-resnet20", tmp_path)
    message = str(caught.value)
    assert f"no resnet20.safetensors, train_5000.npz in {tmp_path / 'cifar10-resnet'}" in message
    assert "cifar10-resnet/test_2000.npz: test images, uint8 (n, 32, 32, 3)" in message


@needs_corpus
def test_unknown_option() -> None:
    with pytest.raises(InvalidConfig, match="does not take size; its options are: data, limit"):
        netpress.evaluate.load("cifar10-resnet20", CORPUS, size=3)
