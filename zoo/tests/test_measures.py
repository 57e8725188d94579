"""The measures of single tasks on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("netpress_zoo")

from netpress_zoo import camvid, detection, nerf, pensieve, recommender  # noqa: E402


def test_average_precision() -> None:
    assert detection._average_precision(np.array([1, 1, 1.0]), 3) == 1
    assert detection._average_precision(np.array([1, 0, 1.0]), 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert detection._average_precision(np.array([0, 1.0]), 2) == pytest.approx(0.25)
    assert detection._average_precision(np.array([]), 2) == 0


def test_detections_of_one_object() -> None:
    """The better of two boxes of a class stays; a box of another class is none of its business."""
    found = np.array([[1, 0.9, 0, 0, 10, 10], [1, 0.8, 1, 0, 10, 10], [2, 0.7, 0, 0, 10, 10], [1, 0.6, 20, 0, 30, 10]])
    assert detection._suppress(found)[:, 1].tolist() == [0.9, 0.7, 0.6]


def test_boxes_of_no_area() -> None:
    """A damaged network makes them; they overlap with nothing, not even with each other."""
    point, box = np.array([5.0, 5, 5, 5]), np.array([0.0, 0, 10, 10])
    assert detection._overlaps(point, np.stack([point, box])).tolist() == [0, 0]
    assert detection._overlaps(box, np.stack([point, box])).tolist() == [0, 1]


def test_hits() -> None:
    """An object is hit once, and only by a box of its class that overlaps by half."""
    truth = np.array([[1, 0, 0, 10, 10.0]])
    boxes = [[1, 0.9, 0, 0, 10, 4], [1, 0.8, 0, 0, 10, 9], [1, 0.7, 0, 0, 10, 10], [2, 0.6, 0, 0, 10, 10]]
    assert detection._match(np.array(boxes), truth)[:, 2].tolist() == [0, 1, 0, 0]


def test_mean_precision_over_classes() -> None:
    entries = np.array([[1, 0.9, 1], [1, -1, 0], [2, 0.5, 0], [2, -1, 0], [3, 0.4, 1], [-1, -1, -1]])
    assert detection._mean_precision(entries, np.array([1, 2])) == 50
    assert detection._mean_precision(entries, np.array([1, 3])) == 100  # there is no object of class 3


def test_mean_overlap() -> None:
    counts = np.zeros((2, 3, 11))
    counts[0, :, 0] = (6, 10, 8)  # 6 of 12
    counts[1, :, 1] = (5, 5, 5)
    assert camvid._mean_overlap(counts) == pytest.approx(75)


def test_link() -> None:
    """Half a second at 0.8 Mbit/s, then 8 Mbit/s: 95 % of the bytes are payload."""
    link = pensieve._Link(np.array([0.0, 0.5, 10.0]), np.array([99.0, 0.8, 8.0]))
    assert link.download(47_500) == pytest.approx(500)
    assert link.download(95_000) == pytest.approx(100)
    link.wait(9_300)
    assert link.download(95_000 + 47_500) == pytest.approx(600)  # 0.1 s of the end, and from the start again


def test_fine_points_follow_the_weights() -> None:
    edges = torch.linspace(0, 1, 11)[None]
    weights = torch.zeros(1, 10)
    weights[0, 4] = 1
    inside = nerf._sample(edges, weights)[0]
    assert inside.shape == (64,)
    assert ((inside >= 0.4 - 1e-5) & (inside <= 0.5 + 1e-5)).float().mean() > 0.95
    even = nerf._sample(edges, torch.ones(1, 10))[0]
    assert torch.allclose(even, torch.linspace(0, 1, 64), atol=1e-5)


def test_ties_do_not_count_as_hits() -> None:
    """A network that gives all films the same score has found nothing."""

    class Constant(torch.nn.Module):
        def forward(self, pairs: torch.Tensor) -> torch.Tensor:
            return torch.zeros(pairs.shape[:2])

    assert recommender._hits(Constant(), [torch.zeros(3, 100, 2, dtype=torch.long)]).value == 0
