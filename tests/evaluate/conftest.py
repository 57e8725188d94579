"""What several tests of the evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest
import report_samples as samples


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all kinds of tasks."""
    from netpress.evaluate import report

    path = tmp_path_factory.mktemp("report")
    assert report.write(samples.book(), path) == path / "index.html"
    return path
