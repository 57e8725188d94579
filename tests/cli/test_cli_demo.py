"""netpress demo."""

from __future__ import annotations

from cli_runner import Run

from netpress.demo import EFFORTS, QPS


def test_table(run: Run) -> None:
    result = run("demo")
    assert result.exit_code == 0
    assert result.stderr == ""
    for text in ("597 images", "float32 file", "zlib, level 9", "99.50%", *(f"effort {effort}" for effort in EFFORTS)):
        assert text in result.stdout


def test_json(run: Run) -> None:
    rows = run("demo", "--json").json
    assert len(rows) == 2 + len(EFFORTS) + len(QPS)
    assert rows[0]["setting"] == "float32 file"
    assert set(rows[0]) == {*("setting", "bytes", "share", "bits_per_weight", "accuracy", "accuracy_change", "seconds")}
