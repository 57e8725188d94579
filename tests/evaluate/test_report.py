"""Reports: what they say, what they leave out, and that no name is taken for anything else than text."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
import json
import math
from pathlib import Path

import pytest
import report_samples as samples

from netpress import InvalidConfig
from netpress.evaluate import report
from netpress.evaluate.report import bars, curves, files, palette, tables, text
from netpress.evaluate.report.findings import Findings
from netpress.evaluate.results import Measurement

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


class Reader(html.parser.HTMLParser):
    """Collects the elements, the addresses and the text of a page; fails on elements that are not closed."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {name: value or "" for name, value in attrs}
        assert not [name for name in values if name.startswith("on")]
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        self.labels += [values["aria-label"]] if tag == "svg" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(folder: Path, name: str) -> Reader:
    return Reader((folder / name).read_text(encoding="utf-8"))


# Numbers


def test_metric_has_the_decimals_of_its_tolerance() -> None:
    percent = text.Metric(samples.summary())
    assert percent.text(81.4) == "81.40 %"
    assert percent.text(-0.001, unit=False) == "0.00"
    assert percent.text(-0.5, unit=False) == "−0.50"
    assert percent.loss_text(0.5) == "0.50 points"
    assert percent.interval_text((79.7, 83.1)) == "79.70 to 83.10"
    assert percent.text(None) == percent.interval_text(None) == percent.loss_text(None) == text.NOTHING
    assert percent.text(math.inf) == "∞"
    bits = text.Metric(samples.summary(unit="bit", tolerance=0.01, float_metric=1.9451))
    assert bits.text(1.94512) == "1.945 bit"
    exact = text.Metric(samples.summary(unit="", tolerance=0.0, float_metric=0.82))
    assert exact.text(0.82034) == "0.8203"
    assert exact.loss_text(0.01) == "0.0100"
    assert text.Metric(samples.summary(tolerance=0.0, float_metric=math.nan)).text(math.nan) == text.NOTHING


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (99_950, "100 kB"), (999_999, "1 MB")],
)  # fmt: skip
def test_bytes(count: float | None, shown: str) -> None:
    assert text.bytes_text(count) == shown


def test_file_names() -> None:
    taken = {"index"}
    names = [text.file_stem(name, taken) for name in ("a/b", "a-b", "A-B", "../..", "", "index", samples.HOSTILE)]
    assert names == ["a-b", "a-b-2", "A-B-3", "task", "task-2", "index-2", "script-alert-x-script-x_1-amp"]


# Findings


def test_equal_divergence_finds_the_ratio_of_two_curves() -> None:
    task = samples.summary()

    def curve(tool: str, factor: float) -> list[Measurement]:
        return [
            Measurement(group="sweep", tool=tool, setting=str(i), size=int(factor * 2.0 ** (20 - i)), divergence=2.0**i)
            for i in range(8)
        ]

    found = Findings(dataclasses.replace(samples.complete(), summary=task, measurements=(
        *curve("netpress", 0.9), *curve("netpress, calibrated", 0.6), *curve("NNCodec", 1.0), *curve("NNCodec DQ", 0.8)
    )))  # fmt: skip
    assert found.equal_divergence is not None
    assert found.equal_divergence.ratio == pytest.approx(0.75, rel=1e-3)
    compared = found.compared("netpress")
    assert compared is not None
    assert compared.ratio == pytest.approx(0.9 / 0.8, rel=1e-3)
    assert found.compared("absent") is None


def test_findings() -> None:
    found = Findings(samples.complete())
    assert found.tools[:3] == ["netpress", "netpress, calibrated", "NNCodec DQ + opt_qp"]
    assert found.ours is not None
    assert found.theirs is not None
    assert (found.ours.tool, found.theirs.tool) == ("netpress, calibrated", "NNCodec DQ + opt_qp, batch norm folded")
    assert found.rate(found.ours) == pytest.approx(found.ours.size / 1_089_896)
    assert found.transparent_ratio == pytest.approx(found.ours.size / found.theirs.size)
    assert found.reaches_reported is True
    low = Findings(samples.complete(reported_range=(0.01, 0.02)))
    assert low.reaches_reported is False
    assert [m.tool for m in found.failed] == ["NNCodec DQ"]
    assert all(m.error is None for tool in found.tools for m in found.curve(tool))


def test_tools_off_are_compared_at_equal_divergence() -> None:
    """A stream that is as large as that of all tools, but twice as far off, counts as the bytes it saves too little."""

    def point(group: str, tool: str, size: int, divergence: float) -> Measurement:
        return Measurement(group=group, tool=tool, setting="", size=size, divergence=divergence)

    curve = [point("sweep", "netpress", 1000 * 2**i, 0.64 / 4**i) for i in range(4)]
    rows = [point("ablation", "all tools", 2000, 0.16), point("ablation", "no trellis", 2000, 0.32)]
    results = dataclasses.replace(samples.complete(original_bytes=10_000), measurements=(*curve, *rows))
    drawing = bars.ablation(Findings(results))
    assert drawing is not None
    assert drawing.description == "all tools: 20.0 %; no trellis: 28.3 % (+41.4 %)."
    assert drawing.note == "Bytes at the divergence of all tools."
    alone = bars.ablation(Findings(dataclasses.replace(results, measurements=tuple(rows))))
    assert alone is not None
    assert alone.description == "all tools: 20.0 %; no trellis: 20.0 % (+0.0 %)."
    assert alone.note == "Divergence of the outputs: 0.16 to 0.32."


def test_missing_parts_are_none() -> None:
    for results in (samples.failed(), dataclasses.replace(samples.sparse(), measurements=())):
        found = Findings(results)
        assert (found.ours, found.theirs, found.equal_divergence, found.reaches_reported) == (None,) * 4
        assert curves.rate_quality(found) is curves.rate_divergence(found) is bars.ablation(found) is None
        assert bars.coders(found) is bars.tensor_sizes(results.details) is curves.overview([found]) is None


# Colours


def test_every_shade_of_a_plot_becomes_a_variable() -> None:
    drawing = curves.rate_quality(Findings(samples.complete()))
    assert drawing is not None
    content = drawing.inline("p")
    assert "var(--ours-1)" in content
    assert "var(--report)" in content
    assert not [word for word in content.split("#")[1:] if word[:6].lower().strip("0123456789abcdef") == ""]


def test_contrast() -> None:
    """Text can be read and lines be seen on light and on dark pages."""

    def luminance(shade: str) -> float:
        channels = [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for side in (0, 1):
        paper = luminance(palette.COLOURS["paper"][side])
        for role, shades in palette.COLOURS.items():
            if role in ("paper", "panel", "line", "report"):
                continue
            high, low = sorted((luminance(shades[side]), paper), reverse=True)
            wanted = 4.5 if role in ("ink", "muted", "good", "bad", "ours-1") else 3
            assert (high + 0.05) / (low + 0.05) >= wanted, (role, side)


def test_tools_differ_in_colour_and_marker() -> None:
    tools = [f"netpress {i}" for i in range(4)] + [f"NNCodec {i}" for i in range(6)] + list("abcdefgh")
    assert len(set(palette.styles(tools).values())) == len(tools)


# Pages


def test_pages_are_well_formed(folder: Path) -> None:
    for path in folder.glob("*.html"):
        reader = page(folder, path.name)
        assert len(reader.ids) == len(set(reader.ids))
        assert reader.tags.count("script") == 1
        assert all(len(label) > 20 for label in reader.labels)
        outside = [link for link in reader.links if not link.startswith("#") and link != "data:,"]
        assert all((folder / link).is_file() for link in outside), outside
        inside = [link[1:] for link in reader.links if link.startswith("#")]
        assert set(inside) <= set(reader.ids)
        assert "http" not in path.read_text(encoding="utf-8")


def test_a_page_has_every_part(folder: Path) -> None:
    reader = page(folder, "cifar10-resnet20.html")
    assert reader.tags.count("svg") == 5 + 12
    words = reader.text
    for part in (
        "81.40 %", "6.0 %", "stages.2.blocks.7.conv.weight",
        "0.73 ×", "3–12 %", "VGG16, ResNet-50, MobileNet v2; reached", "float network",
        "verification report: 3–12 %", "tolerance: 0.50 points", "no trellis", "bzip2", "The largest 12 of 24 tensors",
        "residual network of 20 layers", "2 cores, x86_64", "the peer ended with signal 11",
        "Float network: top-1 accuracy 81.40 % (95 %: 79.70 to 83.10) on 2000 samples.",
    ):  # fmt: skip
        assert part in words, part


def test_missing_parts_leave_no_holes(folder: Path) -> None:
    reader = page(folder, "only-a-sweep.html")
    assert reader.tags.count("svg") == 2
    for part in ("NNCodec", "Verification report", "Tools off", "General coders", "Weights", "nan", "None"):
        assert part not in reader.text, part


def test_errors_stand_in_their_place(folder: Path) -> None:
    reader = page(folder, "nerf-lego.html")
    assert "The task failed. no lego.safetensors" in reader.text
    assert "svg" not in reader.tags
    assert "nan" not in reader.text
    index = page(folder, "index.html").text
    assert "nerf-lego no lego.safetensors in data/nerf-lowres only-a-sweep" in index
    assert index.count("nan") == 0


def test_what_was_measured_before_a_failure_is_shown(tmp_path: Path) -> None:
    report.write([dataclasses.replace(samples.sparse(), error="the disk is full")], tmp_path)
    reader = page(tmp_path, "only-a-sweep.html")
    assert "The task failed. the disk is full" in reader.text
    assert "81.40 %" in reader.text
    assert reader.tags.count("svg") == 2
    assert "**Results.** The task failed: the disk is full Float network" in (tmp_path / "only-a-sweep.md").read_text()


def test_names_are_text(folder: Path) -> None:
    reader = page(folder, "script-alert-x-script-x_1-amp.html")
    shown = "<script>alert('x')</script> $x_1$ | 名前 \\x00\\ud800 \"&amp;"
    assert shown in reader.text
    assert shown in page(folder, "index.html").text
    assert reader.tags.count("script") == 1
    markdown = (folder / "overview.md").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert('x')&lt;/script&gt; \\$x\\_1\\$ \\| 名前 \\\\x00" in markdown
    row = next(line for line in markdown.splitlines() if "alert" in line)
    assert row.replace("\\|", "").count("|") == 13


def test_a_page_can_be_made_again(folder: Path, tmp_path: Path) -> None:
    """The same results give the same bytes."""
    report.write([samples.sparse()], tmp_path)
    first = (tmp_path / "only-a-sweep.html").read_bytes()
    report.write([samples.sparse()], tmp_path)
    assert (tmp_path / "only-a-sweep.html").read_bytes() == first
    assert b"All tasks" not in first  # a task alone has no neighbours


# Files


def test_json(folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text(encoding="ascii"))
    assert content["format"] == files.FORMAT
    names = [task["summary"]["name"] for task in content["tasks"]]
    assert names == [result.summary.name for result in samples.book()]
    first = content["tasks"][0]
    assert first["findings"]["netpress_transparent_bytes"] == 65378
    assert len(first["measurements"]) == len(samples.complete().measurements)
    assert content["tasks"][3]["summary"]["float_metric"] is None


def test_csv(folder: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8"), newline="")))

    tasks = rows("overview.csv")
    assert [row["task"] for row in tasks[:4]] == ["cifar10-resnet20", "charlm-lstm", "denoise-dncnn", "nerf-lego"]
    assert float(tasks[0]["netpress_transparent_rate"]) == pytest.approx(65378 / 1_089_896)
    assert tasks[3]["error"].startswith("no lego")
    measured = rows("measurements.csv")
    assert len(measured) == sum(len(result.measurements) for result in samples.book())
    assert json.loads(measured[0]["options"]) == {"qp": -36}
    assert float(measured[0]["loss_low"]) < float(measured[0]["loss"]) < float(measured[0]["loss_high"])


def test_markdown(folder: Path) -> None:
    lines = (folder / "cifar10-resnet20.md").read_text(encoding="utf-8").splitlines()
    headings = [line.partition(".")[0].strip("*") for line in lines if line.startswith("**")]
    assert headings == ["Use case", "Network", "Layers", "Data", "Environment", "Source", "Licence", "Results"]
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 5
    assert len({line.count("|") for line in table}) == 1


def test_undescribed_task_has_the_whole_template() -> None:
    entries = dict(files.template_entries(Findings(samples.complete(description={}))))
    assert [*entries][:5] == ["use case", "network", "layers", "data", "environment"]
    assert entries["network"] == "not described"
    assert entries["results"].startswith("Float network")


def test_table_of_measurements_has_a_row_for_each() -> None:
    found = Findings(samples.complete())
    table = tables.measurement_table(found, found.results.measurements, "all")
    assert len(table.rows) == len(found.results.measurements)
    for row in table.rows:
        assert len(row.cells) == (2 if row.error else len(table.columns))


def test_figures_as_files(tmp_path: Path) -> None:
    report.write([samples.sparse()], tmp_path, figures=["svg", "png"])
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == [f"only-a-sweep-{key}.{kind}" for key in ("divergence", "quality") for kind in ("png", "svg")]
    assert (tmp_path / "figures" / names[0]).read_bytes().startswith(b"\x89PNG")
    drawing = (tmp_path / "figures" / names[1]).read_text(encoding="utf-8")
    assert "<svg" in drawing
    assert "var(--" not in drawing


# Use


def test_progress(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    report.write([samples.failed("a"), samples.failed("b")], tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="no results"):
        report.write([], tmp_path)
    with pytest.raises(InvalidConfig, match="as svg or png, not 'pdf'"):
        report.write([samples.failed()], tmp_path, figures=["pdf"])
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InvalidConfig, match="files that are not a report"):
        report.write([samples.failed()], tmp_path)
    (tmp_path / "results.json").write_text("{}", encoding="ascii")
    with pytest.raises(InvalidConfig, match="files that are not a report"):
        report.write([samples.failed()], tmp_path)
    report.write([samples.failed()], tmp_path, force=True)
    report.write([samples.failed()], tmp_path)  # now it is one
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_missing_package(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(InvalidConfig, match=rf"need the package '{package}'; pip install 'netpress\[evaluate\]'"):
        report.write([samples.sparse()], tmp_path)
