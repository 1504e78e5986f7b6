"""How pictures look, and how they are written: SVG for a page that is light or dark, and PNG."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from utils.report.canvas import Figure, LinearSegmentedColormap, drawn_with, to_rgba

# Colours as they are in the files, on white, and on a dark page: a CSS variable each.
PAPER, INK, FAINT = "#ffffff", "#1a1d21", "#c9ced6"
SERIES = ("#0067a5", "#c44e00", "#00795a", "#a83f86", "#7d5c00", "#5b4fc7", "#54595f")
LIGHT = {"--paper": PAPER, "--ink": INK, "--faint": FAINT} | {
    f"--c{i}": colour for i, colour in enumerate(SERIES)
}
DARK = {
    "--paper": "#1b1f26", "--ink": "#e8eaed", "--faint": "#454c57", "--c0": "#56b4e9",
    "--c1": "#ff8a4c", "--c2": "#2bc79a", "--c3": "#f08cc4", "--c4": "#e2b93b", "--c5": "#a79bff",
    "--c6": "#b9c0c9",
}  # fmt: skip
MARKERS, DASHES = "os^Dv", ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
# From the first task to the last: the same on both pages, and seen on both.
BETWEEN = ("#2f86c1", "#857c6d", "#d2651c")
TASKS = LinearSegmentedColormap.from_list("tasks", BETWEEN)
MAPS = "cividis"  # of heat maps: even in lightness, for any colour vision

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is a $
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "sparse-syn",
}


@dataclass(frozen=True)
class Picture:
    """A figure with the heading it belongs under, its file's name, the title above it, and what it
    shows, in words.
    """

    heading: str
    name: str
    title: str
    alt: str
    figure: Figure

    def svg(self) -> str:
        """As SVG, without links; its colours are those of LIGHT."""
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with style():
            self.figure.savefig(text, format="svg", metadata=nothing)
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(self.alt)}"', 1)

    def png(self) -> bytes:
        data = io.BytesIO()
        with style():
            self.figure.savefig(data, format="png", dpi=160, metadata={"Description": self.alt})
        return data.getvalue()


def inline(svg: str, prefix: str) -> str:
    """The SVG as a part of a page: its colours are variables, its ids its own, its size free."""
    for variable, colour in LIGHT.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"(url\(#|href=\"#)", rf"\1{prefix}-", svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    start, rest = svg.split(">", 1)
    start = re.sub(r' (width|height|version)="[^"]*"', "", start)
    return f"{start}>{rest}".strip()


def luminance(colour: Any) -> float:
    """How light a colour that matplotlib knows is, from 0 to 1 (WCAG 2's relative luminance)."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgba(colour)[:3]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Any, other: Any) -> float:
    """Of two colours, from 1 to 21 (WCAG 2): 4.5 for letters, 3 for lines."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def readable_on(colour: Any) -> str:
    """Black or nearly white, whichever is read better on this colour."""
    return max(("#000000", "#fdfdfd"), key=lambda ink: contrast(ink, colour))


@contextmanager
def style() -> Iterator[None]:
    """Pictures made in it look as above, whatever matplotlib is set to elsewhere."""
    with drawn_with(_RC), warnings.catch_warnings():
        # A name in other letters than the font has: boxes in the PNG, right in SVG and tables.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
