"""A drawing of the stages that an image passes in the autoencoder of Stable Diffusion."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor

_ENCODER, _CODE, _DECODER, _INK = "#4477AA", "#EE6677", "#228833", "#333333"
#: Heights of the stages, in units of the drawing, and how they are labelled.
_STAGES = ((4.0, "56", "$b$"), (2.8, "28", "$2b$"), (2.0, "14", "$4b$"), (1.4, "7", "$4b$"))


def draw_stages(image: Tensor) -> Figure:
    """An image on its way through encoder, latent and decoder.

    Args:
        image: (3, h, w) in [0, 1]; it is shown at both ends.
    """
    figure, axes = plt.subplots(figsize=(9.5, 3.1), layout="constrained")
    axes.set(xlim=(0, 24), ylim=(-1.4, 6.2), aspect="equal")
    axes.axis("off")
    _image(axes, 0.2, image, "image $x$", "56 x 56 x 3")
    left = 4.4
    for height, pixels, channels in _STAGES:
        left = _stage(axes, left, height, pixels, channels, _ENCODER)
    axes.text((4.4 + left) / 2, 5.5, "encoder", ha="center", color=_ENCODER, weight="bold")
    begin = left + 0.35
    for bottom, name in ((2.15, r"$\mu$"), (0.85, r"$\log\sigma^2$")):
        axes.add_patch(Rectangle((begin, bottom), 1.6, 1.0, color=_CODE, lw=0))
        axes.text(begin + 0.8, bottom + 0.5, name, ha="center", va="center", color="white", size=9)
    axes.text(begin + 0.8, -0.5, "moments\n7 x 7 x 8", ha="center", va="center", size=8, color=_INK)
    _arrow(axes, begin + 1.65, begin + 2.6)
    axes.text(begin + 2.2, 3.6, "draw,\nscale", ha="center", va="center", size=8, color=_INK)
    axes.add_patch(Rectangle((begin + 2.7, 1.5), 1.0, 1.0, color=_CODE, lw=0))
    axes.text(begin + 3.2, 2.0, "$z$", ha="center", va="center", color="white", size=11)
    axes.text(begin + 3.2, -0.5, "latent\n7 x 7 x 4", ha="center", va="center", size=8, color=_INK)
    start = left = begin + 4.2
    for height, pixels, channels in reversed(_STAGES):
        left = _stage(axes, left, height, pixels, channels, _DECODER)
    axes.text((start + left) / 2, 5.5, "decoder", ha="center", color=_DECODER, weight="bold")
    _image(axes, left + 0.3, image, r"image $\hat{x}$", "56 x 56 x 3")
    axes.set_xlim(0, left + 4.5)
    plt.close(figure)
    return figure


def _stage(
    axes: Axes, left: float, height: float, pixels: str, channels: str, colour: str
) -> float:
    """One size of arrays, as a bar; where the next one may begin."""
    axes.add_patch(Rectangle((left, 2 - height / 2), 0.9, height, color=colour, lw=0))
    axes.text(left + 0.45, 2, channels, ha="center", va="center", color="white", size=9)
    axes.text(left + 0.45, -0.5, pixels, ha="center", va="center", size=8, color=_INK)
    return left + 1.15


def _image(axes: Axes, left: float, image: Tensor, name: str, size: str) -> None:
    """The image, four units wide, with its name above and its size below."""
    pixels = np.asarray(image.permute(1, 2, 0))
    axes.imshow(pixels, extent=(left, left + 3.8, 0.1, 3.9), interpolation="nearest")
    axes.text(left + 1.9, 4.4, name, ha="center", va="center", color=_INK)
    axes.text(left + 1.9, -0.5, size, ha="center", va="center", size=8, color=_INK)


def _arrow(axes: Axes, start: float, end: float) -> None:
    axes.add_patch(
        FancyArrowPatch((start, 2), (end, 2), arrowstyle="-|>", mutation_scale=12, color=_INK)
    )
