"""Drawings for the notebooks' explanations, made for this kit."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor

_ENCODER, _DECODER, _CODE, _INK = "#4477AA", "#228833", "#EE6677", "#333333"


def draw_autoencoder(image: Tensor, code_size: int = 2) -> Figure:
    """An image on its way through encoder, code and decoder.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1]; it is shown at both ends.
        code_size: how many numbers the code has.
    """
    figure, axes = plt.subplots(figsize=(9, 2.9), layout="constrained")
    axes.set(xlim=(0, 18), ylim=(-0.9, 5.4), aspect="equal")
    axes.axis("off")

    pixels = image.squeeze().cpu().numpy()
    for left, label in ((0.3, "image $x$"), (14.7, r"reconstruction $\hat{x}$")):
        axes.imshow(pixels, cmap="gray_r", extent=(left, left + 3, 1, 4), vmin=0, vmax=1)
        axes.add_patch(Rectangle((left, 1), 3, 3, fill=False, edgecolor=_INK, linewidth=1))
        axes.text(left + 1.5, 0.45, label, ha="center", va="center", color=_INK)
        axes.text(left + 1.5, -0.25, "784 numbers", ha="center", va="center", color=_INK, size=8)

    _trapezium(axes, 4.5, 7.7, 1.9, 0.65, _ENCODER, "encoder $f$")
    _trapezium(axes, 10.3, 13.5, 0.65, 1.9, _DECODER, "decoder $g$")

    for number in range(code_size):
        bottom = 2.5 - 0.6 * code_size + 1.2 * number
        box = Rectangle((8.5, bottom + 0.1), 1, 1, facecolor=_CODE, edgecolor="white", alpha=0.9)
        axes.add_patch(box)
        label = f"$z_{code_size - number}$"
        axes.text(9, bottom + 0.6, label, ha="center", va="center", color="white", size=11)
    axes.text(9, 0.45, "code $z$", ha="center", va="center", color=_INK)
    axes.text(9, -0.25, f"{code_size} numbers", ha="center", va="center", color=_INK, size=8)

    for start, end in ((3.4, 4.4), (7.8, 8.4), (9.6, 10.2), (13.6, 14.6)):
        _arrow(axes, (start, 2.5), (end, 2.5))
    _arrow(axes, (16.2, 4.15), (1.8, 4.15), curve=0.09, style="<->", dashed=True)
    axes.text(9, 5.1, r"compare:  $L = \|x - \hat{x}\|^2$", ha="center", va="center", color=_INK)
    plt.close(figure)
    return figure


def _trapezium(
    axes: Axes,
    left: float,
    right: float,
    high_left: float,
    high_right: float,
    colour: str,
    label: str,
) -> None:
    corners = [
        (left, 2.5 - high_left),
        (left, 2.5 + high_left),
        (right, 2.5 + high_right),
        (right, 2.5 - high_right),
    ]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="none", alpha=0.9))
    axes.text((left + right) / 2, 2.5, label, ha="center", va="center", color="white", size=11)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    curve: float = 0.0,
    style: str = "-|>",
    dashed: bool = False,
) -> None:
    arrow = FancyArrowPatch(
        start,
        end,
        arrowstyle=style,
        connectionstyle=f"arc3,rad={curve}",
        mutation_scale=11,
        color=_INK,
        linewidth=1.1,
        linestyle="--" if dashed else "-",
    )
    axes.add_patch(arrow)
