"""The parts that diagrams of models are drawn with: images, boxes, arrows and labels."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor

from helpers.plotting.style import STYLE

ENCODER, DECODER, CODE, INK = "#4477AA", "#228833", "#EE6677", "#333333"
CHANCE, GIVEN = "#AA3377", "#997700"

Point = tuple[float, float]


class Sketch:
    """An empty drawing of ``width`` by ``height`` units.

    Most things are centred at a height of 2.5, and their labels are at the bottom.

    Args:
        width: in units.
        height: in units.
        inches: width of the figure.
        bottom: height of the lower edge, in units.
    """

    def __init__(
        self, width: float, inches: float, height: float = 6.3, bottom: float = -0.9
    ) -> None:
        size = (inches, inches * height / width)
        with plt.rc_context(STYLE):
            self.figure, self.axes = plt.subplots(figsize=size, layout="constrained")
        self.axes.set(xlim=(0, width), ylim=(bottom, bottom + height), aspect="equal")
        self.axes.axis("off")
        plt.close(self.figure)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float | None = None,
        colour: str = INK,
        ha: str = "center",
        va: str = "baseline",
        weight: str = "normal",
    ) -> None:
        """Write ``text`` at (x, y)."""
        self.axes.text(x, y, text, size=size, color=colour, ha=ha, va=va, weight=weight)

    def label(self, x: float, name: str, size: str = "") -> None:
        """Write a name below the drawing at ``x``, and under it, smaller, a size."""
        self.text(x, 0.45, name, va="center")
        self.text(x, -0.25, size, 8, va="center")

    def image(self, left: float, image: Tensor, name: str, size: str = "") -> None:
        """Show an image (h, w), (1, h, w) or (3, h, w) in [0, 1], 3 units wide, with a label."""
        grey = image.squeeze().ndim == 2
        pixels = (image.squeeze() if grey else image.permute(1, 2, 0)).cpu().numpy()
        self.axes.imshow(pixels, cmap="gray_r", extent=(left, left + 3, 1, 4), vmin=0, vmax=1)
        frame = Rectangle((left, 1), 3, 3, fill=False, edgecolor=INK, linewidth=1)
        self.axes.add_patch(frame)
        self.label(left + 1.5, name, size)

    def cells(self, left: float, colours: list[str], name: str, size: str) -> None:
        """Draw a square array of coloured cells, 2.5 units wide, with a label."""
        side = round(len(colours) ** 0.5)
        width = 2.5 / side
        for number, colour in enumerate(colours):
            row, column = divmod(number, side)
            corner = (left + width * column, 3.75 - width * (row + 1))
            cell = Rectangle(corner, width, width, facecolor=colour, edgecolor="white")
            self.axes.add_patch(cell)
        self.label(left + 1.25, name, size)

    def box(
        self,
        left: float,
        bottom: float,
        width: float,
        height: float,
        colour: str,
        name: str,
        size: float = 11,
        *,
        flat: bool = False,
    ) -> None:
        """Draw a rectangle with a white name in it; ``flat`` has no border and is opaque."""
        alpha, edge = (None, "none") if flat else (0.9, "white")
        corner = (left, bottom)
        box = Rectangle(corner, width, height, facecolor=colour, edgecolor=edge, alpha=alpha)
        self.axes.add_patch(box)
        self.text(left + width / 2, bottom + height / 2, name, size, "white", va="center")

    def trapezium(
        self,
        left: float,
        right: float,
        high_left: float,
        high_right: float,
        colour: str,
        name: str,
        middle: float = 2.5,
    ) -> None:
        """Draw an upright trapezium with a white name; the heights are from its ``middle``."""
        left_side = [(left, middle - high_left), (left, middle + high_left)]
        right_side = [(right, middle + high_right), (right, middle - high_right)]
        shape = Polygon([*left_side, *right_side], facecolor=colour, edgecolor="none", alpha=0.9)
        self.axes.add_patch(shape)
        self.text((left + right) / 2, middle, name, 11, "white", va="center")

    def arrow(
        self,
        start: Point,
        end: Point,
        curve: float = 0.0,
        style: str = "-|>",
        *,
        dashed: bool = False,
    ) -> None:
        """Draw an arrow; ``curve`` is its bend as a share of its length."""
        arrow = FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            connectionstyle=f"arc3,rad={curve}",
            mutation_scale=11,
            color=INK,
            linewidth=1.1,
            linestyle="--" if dashed else "-",
        )
        self.axes.add_patch(arrow)

    def flow(self, *ends: float, height: float = 2.5) -> None:
        """Draw level arrows: from the first number to the second, from the third to the fourth."""
        for start, end in zip(ends[::2], ends[1::2], strict=True):
            self.arrow((start, height), (end, height))

    def compare(self, left: float, right: float, text: str) -> None:
        """Draw a dashed double arrow above everything, between two things that are compared."""
        curve = 1.6 / (right - left) / 1.3
        self.arrow((right, 4.15), (left, 4.15), curve, "<->", dashed=True)
        self.text((left + right) / 2, 5.15, text, va="center")
