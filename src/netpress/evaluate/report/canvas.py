"""Figures in the style of the reports, and what becomes of them: drawings for a page, files."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from netpress import InvalidConfig
from netpress.evaluate.report.palette import colour_of, with_variables
from netpress.evaluate.report.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FILE_FORMATS", "WIDTH", "Drawing", "canvas"]

WIDTH = 400
"""Width of a drawing in its own units; text is 10 or 11 of them high, so that it can be read on a phone too."""

FILE_FORMATS = ("svg", "png")
_DOTS_PER_INCH = 200
_UNITS_PER_INCH = 72
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', sans-serif"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Attributes:
        key: short name, for files and addresses.
        title: heading.
        description: what it shows in a sentence or two, for those who do not see it.
        figure: of matplotlib.
        note: how to read it.
    """

    key: str
    title: str
    description: str
    figure: Figure
    note: str = ""

    def inline(self, prefix: str) -> str:
        """Return an SVG element for an HTML page, in the colours of its style sheet.

        Args:
            prefix: makes the ids in the drawing unique on the page.
        """
        with _style({"svg.fonttype": "none", "svg.hashsalt": prefix}):
            content = io.BytesIO()
            self.figure.savefig(content, format="svg", transparent=True, metadata=_NO_METADATA)
        # The document is matplotlib's own, of labels without control characters.
        root = ElementTree.fromstring(content.getvalue())
        _for_html(root, prefix)
        root.attrib.pop("width", None)
        root.attrib.pop("height", None)
        root.set("role", "img")
        root.set("aria-label", f"{printable(self.title)}. {printable(self.description)}")
        return ElementTree.tostring(root, encoding="unicode", method="html")

    def write(self, path: Path) -> None:
        """Write the figure as a file of its own; the ending of the name is one of :data:`FILE_FORMATS`."""
        with _style({"svg.fonttype": "path", "svg.hashsalt": self.key}):
            metadata = _NO_METADATA if path.suffix == ".svg" else None
            self.figure.savefig(path, dpi=_DOTS_PER_INCH, facecolor=colour_of("paper"), metadata=metadata)


_NO_METADATA: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@contextlib.contextmanager
def _style(settings: dict[str, Any]) -> Iterator[None]:
    """Matplotlib's settings while a figure is drawn; names in any script are fine, whatever its own font has."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise InvalidConfig(f"plots need the package {error.name!r}; pip install 'netpress[evaluate]'") from error
    base: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.size": 11,
        "text.color": colour_of("ink"),
        "text.parse_math": False,
        "axes.edgecolor": colour_of("line"),
        "axes.facecolor": "none",
        "axes.labelcolor": colour_of("muted"),
        "axes.linewidth": 1.0,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.unicode_minus": True,
        "grid.color": colour_of("line"),
        "grid.linewidth": 0.8,
        "xtick.color": colour_of("line"),
        "ytick.color": colour_of("line"),
        "xtick.labelcolor": colour_of("muted"),
        "ytick.labelcolor": colour_of("muted"),
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
        "lines.linewidth": 1.8,
        "lines.markersize": 5.5,
        "figure.facecolor": "none",
    }
    with warnings.catch_warnings(), mpl.rc_context({**base, **settings}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@contextlib.contextmanager
def canvas(
    height: float, width: float = WIDTH, box: tuple[float, float, float, float] | None = None
) -> Iterator[tuple[Figure, Axes]]:
    """Make an empty figure; what is drawn in the block has the style.

    Args:
        height: in units of the drawing.
        width: in units of the drawing.
        box: left, bottom, width and height of the axes, as shares of the figure; None finds room for the labels, which
            takes half of the time that a drawing takes.
    """
    with _style({}):
        from matplotlib.figure import Figure

        size = (width / _UNITS_PER_INCH, height / _UNITS_PER_INCH)
        if box is not None:
            figure = Figure(figsize=size)
            yield figure, figure.add_axes(box)
        else:
            figure = Figure(figsize=size, layout="constrained")
            yield figure, figure.add_subplot()


def _for_html(root: ElementTree.Element, prefix: str) -> None:
    """Make the elements of an SVG document ones of an HTML page: no name spaces, own ids, colours by role."""
    links = {
        match
        for element in root.iter()
        for value in element.attrib.values()
        for match in re.findall(r"(?:^#|url\(#)([\w-]+)", value)
    }
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}metadata":
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        attributes = dict(element.attrib)
        element.attrib.clear()
        for name, value in attributes.items():
            if name == "id":
                if value in links:
                    element.set("id", f"{prefix}-{value}")
                continue
            if name == _LINK:
                element.set("href", "#" + prefix + "-" + value.removeprefix("#"))
                continue
            value = re.sub(r"url\(#([\w-]+)\)", rf"url(#{prefix}-\1)", with_variables(value))
            element.set(name, re.sub(r"'DejaVu Sans'[^;]*", _SANS, value) if "font" in value else value)
