"""The style of all figures: colours, fonts, sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

#: Ten colours that differ for everybody: also for people with deuteranopia or protanopia, each two
#: are at least 25 apart in CIELAB. Found by search, with the darker ones first, for lines.
COLOURS: tuple[str, ...] = (
    "#332288",
    "#cc6677",
    "#326d9c",
    "#8c4d00",
    "#6a004a",
    "#d1ad2c",
    "#a0cb7b",
    "#26d1d0",
    "#3b3a1b",
    "#c790ff",
)
#: Shapes distinguish curves where colours do not, for example in print.
MARKERS = "os^Dv*Pp<>"
#: Every figure is a card of this colour: light, so that the colours show, and not a slab of white
#: in a dark page.
CARD = "#eceff2"
#: An outline that keeps text readable on top of points and lines.
HALO = withStroke(linewidth=3.5, foreground=CARD)
#: Style of a value that is written next to its point.
NUMBER: Any = {"textcoords": "offset points", "color": "#333333", "path_effects": [HALO]}
#: The look of every figure, whatever a notebook has set for its own.
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.facecolor": CARD,
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "figure.constrained_layout.h_pad": 0.12,  # inches
    "figure.constrained_layout.w_pad": 0.12,
    "figure.dpi": 100,
    "figure.facecolor": CARD,
    "font.size": 10,
    "grid.alpha": 0.25,
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one plot, in the style of the course; width and height are in inches."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axes
        finally:
            # Otherwise Jupyter would show it twice: as an open figure and as the result.
            plt.close(figure)


def bare(axes: Axes) -> None:
    """Remove frame and grid, for images."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
