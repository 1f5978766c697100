"""The style of all figures: colours, fonts, sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

#: Ten colours that colour-blind people can distinguish: the "muted" scheme of Paul Tol
#: (SRON/EPS/TN/09-002, 2021) and a dark grey.
COLOURS: tuple[str, ...] = (
    "#332288",
    "#cc6677",
    "#117733",
    "#88ccee",
    "#aa4499",
    "#ddcc77",
    "#44aa99",
    "#882255",
    "#555555",
    "#999933",
)
#: Shapes distinguish curves where colours do not, for example in print.
MARKERS = "os^Dv*Pp<>"
#: A white outline that keeps text readable on top of points and lines.
HALO = withStroke(linewidth=3.5, foreground="white")
#: Style of a value that is written next to its point.
NUMBER: Any = {"textcoords": "offset points", "color": "#333333", "path_effects": [HALO]}
#: The look of every figure, whatever a notebook has set for its own.
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "figure.dpi": 100,
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
