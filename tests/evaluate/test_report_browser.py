"""Reports in a browser: pages render without a word on the console, at the width of a desktop and of a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("NETPRESS_CHROMIUM") or next((path for n in NAMES if (path := shutil.which(n))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (install it, or set NETPRESS_CHROMIUM)")

PAGES = ("index", "cifar10-resnet20", "nerf-lego", "script-alert-x-script-x_1-amp")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        # No sandbox: the pages are ours, and the super-user of a container cannot have one.
        started = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page that notes what the browser complains about."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")], ids=["desktop", "phone"])
def test_pages_render(browser: Any, folder: Path, width: int, scheme: str) -> None:
    for path in (folder / f"{name}.html" for name in PAGES):
        size = {"width": width, "height": 800}
        with Opened(browser, path, viewport=size, color_scheme=scheme) as opened:
            page = opened.page
            assert opened.complaints == []
            assert [url for url in opened.requests if not url.startswith(("data:", path.as_uri()))] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("[...document.querySelectorAll('h1, h2, h3, figure, dl')].every(element => "
                                 "element.getBoundingClientRect().right <= innerWidth + 1)")  # fmt: skip
            assert page.locator("h1").count() == 1
            heights = page.evaluate("[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect().height)")
            assert all(height > 20 for height in heights)
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(254, 254, 254)") == (scheme == "light")


def test_text_of_plots_stays_inside(browser: Any, folder: Path) -> None:
    """No label of a plot is cut off at its edge."""
    script = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
        const outer = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < outer.left - 2 || box.right > outer.right + 2
                || box.top < outer.top - 2 || box.bottom > outer.bottom + 2;
        }).map(text => text.textContent);
    })"""
    for path in (folder / f"{name}.html" for name in PAGES):
        with Opened(browser, path, viewport={"width": 1280, "height": 800}) as opened:
            assert opened.page.evaluate(script) == []


def test_plots_follow_the_colours_of_the_page(browser: Any, folder: Path) -> None:
    script = "getComputedStyle(document.querySelector('svg text')).fill"
    found = {}
    for scheme in ("light", "dark"):
        with Opened(browser, folder / "cifar10-resnet20.html", color_scheme=scheme) as opened:
            found[scheme] = opened.page.evaluate(script)
    assert found == {"light": "rgb(90, 101, 117)", "dark": "rgb(163, 173, 187)"}


def test_the_overview_sorts(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "index.html") as opened:
        page = opened.page

        def column(number: int) -> list[str]:
            return page.locator(f"#tasks tbody tr > :nth-child({number})").all_inner_texts()

        heading = page.locator("#tasks thead th").nth(2)
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        assert column(3) == ["6.0 %"] * 4 + ["7.2 %"]  # the failed task has no third cell
        assert column(1)[-1] == "nerf-lego"
        heading.locator("button").click()
        assert column(3) == ["7.2 %"] + ["6.0 %"] * 4
        assert column(1)[-1] == "nerf-lego"
        page.locator("#tasks thead th button").first.click()
        names = [name for name in column(1) if not name.startswith("<")]
        assert names == ["charlm-lstm", "cifar10-resnet20", "denoise-dncnn", "nerf-lego", "only-a-sweep"]


def test_the_overview_does_without_scripts(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "index.html", java_script_enabled=False) as opened:
        assert opened.page.locator("#tasks tbody tr").count() == 6
        assert opened.page.locator("#tasks button").count() == 0
        opened.page.locator("#tasks a").first.click()
        assert opened.page.locator("h1").inner_text() == "cifar10-resnet20"
