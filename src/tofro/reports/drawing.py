"""The ground that every figure of a report stands on: one style, a legend that fits, SVG for the page and PDF for a paper.

In: a matplotlib figure that was drawn in :data:`STYLE`. Out: :class:`Figure`, whose SVG keeps text as text, follows the page's
light and dark, and has the same bytes every time. What is drawn is in ``figures.py`` and beside it. Imports matplotlib: lazily
used.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

WIDTH, HEIGHT = 4.7, 3.1  # inches; at 96 px an inch a column of the page
CHARACTER = 0.068  # inches that a character of a legend or a tick takes on average
ROW = 0.19  # inches of a legend's row
TEXT, FAINT, GRID, PAPER = "#1d2126", "#9aa0a6", "#e6e6e2", "#fefefe"  # as printed; `finish` puts the page's own there
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.id": None,
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "text.color": TEXT,
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.unicode_minus": True,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Figure:
    """One drawing: ``svg`` to put into a page, ``csv`` with what it shows, and the canvas that both come from."""

    name: str
    title: str
    caption: str
    svg: str
    csv: str
    canvas: Canvas = field(repr=False, compare=False)

    @property
    def pdf(self) -> bytes:
        """The drawing as PDF without a date, its text as fonts."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            FigureCanvasPdf(self.canvas).print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        return buffer.getvalue()


def new_canvas(height: float = HEIGHT) -> tuple[Canvas, Axes]:
    """Return an empty figure of one panel."""
    canvas, grid = new_panels(1, height)
    return canvas, grid[0]


def new_panels(
    rows: int, height: float, ratios: Sequence[float] | None = None, share: bool = False, columns: int = 1, width: float = WIDTH
) -> tuple[Canvas, list[Axes]]:
    """Return an empty figure of several panels; with ``share`` they have one x axis."""
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        grid = canvas.subplots(rows, columns, squeeze=False, height_ratios=ratios, sharex=share)
    return canvas, list(grid.ravel())


def wrapped(label: str, width: int = 27) -> str:
    """Return a label on at most two lines, cut where it is longer."""
    lines = textwrap.wrap(label, width, max_lines=2, placeholder="…", break_on_hyphens=False) or [label]
    return "\n".join(lines)


def add_legend(axes: Axes, width: float = WIDTH) -> None:
    """Put the axes' legend above all panels, in as many columns as fit, and make the figure taller by what it takes."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    shown = [textwrap.shorten(label, 56, placeholder="…") for label in unique]
    widest = max((len(label) for label in shown), default=1) * CHARACTER + 0.42
    columns = int(min(max(1, width // widest), 4, len(shown)))
    canvas = axes.get_figure()
    assert isinstance(canvas, Canvas)
    canvas.set_figheight(canvas.get_figheight() + ROW * max(0, -(-len(shown) // columns) - 1))
    with matplotlib.rc_context(STYLE):
        canvas.legend(
            unique.values(),
            shown,
            loc="outside upper left",
            ncols=columns,
            handlelength=2.2,
            columnspacing=1.4,
            borderaxespad=0.1,
        )


def spread(place: float, count: int, width: float = 0.36) -> np.ndarray:
    """``count`` heights around ``place``, so that equal values stay visible."""
    return place + (np.linspace(-width / 2, width / 2, count) if count > 1 else np.zeros(count))


def finish(canvas: Canvas, name: str, title: str, caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Figure:
    """Write the canvas as SVG without date and size, with the page's colours and fonts and ids of its own."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        FigureCanvasSVG(canvas).print_svg(buffer, metadata={"Date": None, "Creator": None})
    canvas.set_layout_engine("none")  # a second drawing, as PDF, keeps every place
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)  # matplotlib repeats every text in one
    svg = re.sub(r' (d|x|y|transform)="([^"]*)"', _rounded, svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1), count=1)
    svg = svg.replace(TEXT, "currentColor")
    svg = svg.replace(FAINT, f"var(--faint, {FAINT})").replace(GRID, f"var(--hair, {GRID})").replace(PAPER, "var(--paper, #fff)")
    svg = svg.replace("font-family: 'DejaVu Sans'", "font-family: system-ui, sans-serif")
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title, quote=True)}" stroke-linejoin="round" ', 1)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[_plain(one) for one in row] for row in rows])
    return Figure(name, title, caption, svg.strip(), text.getvalue(), canvas)


def _plain(value: object) -> object:
    """Return a number with the digits that a drawing can show, anything else as it is."""
    return f"{float(value):.7g}" if isinstance(value, float | np.floating) else value


def _rounded(attribute: re.Match[str]) -> str:
    """Return a coordinate attribute with hundredths of a point, where matplotlib writes millionths."""
    shorter = re.sub(r"([0-9]+[.][0-9]{2})[0-9]+", r"\1", attribute[2])
    return f' {attribute[1]}="{shorter}"'
