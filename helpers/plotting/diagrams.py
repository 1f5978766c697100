"""Drawings for the notebooks' explanations, made for this kit."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, Polygon, Rectangle
from torch import Tensor

_ENCODER, _DECODER, _CODE, _INK = "#4477AA", "#228833", "#EE6677", "#333333"
_CHANCE, _GIVEN = "#AA3377", "#997700"


def draw_autoencoder(image: Tensor, code_size: int = 2) -> Figure:
    """An image on its way through encoder, code and decoder.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1]; it is shown at both ends.
        code_size: how many numbers the code has.
    """
    figure, axes = _canvas(18, 9)
    _image(axes, 0.3, image, "image $x$", "784 numbers")
    _image(axes, 14.7, image, r"reconstruction $\hat{x}$", "784 numbers")
    _trapezium(axes, 4.5, 7.7, 1.9, 0.65, _ENCODER, "encoder $f$")
    _trapezium(axes, 10.3, 13.5, 0.65, 1.9, _DECODER, "decoder $g$")
    for number in range(code_size):
        bottom = 2.6 - 0.6 * code_size + 1.2 * number
        _box(axes, 8.5, bottom, 1, 1, _CODE, f"$z_{code_size - number}$")
    _label(axes, 9, "code $z$", f"{code_size} numbers")
    for start, end in ((3.4, 4.4), (7.8, 8.4), (9.6, 10.2), (13.6, 14.6)):
        _arrow(axes, (start, 2.5), (end, 2.5))
    _compare(axes, 1.8, 16.2, r"compare:  $L = \|x - \hat{x}\|^2$")
    return figure


def draw_denoiser(image: Tensor, std: float = 0.5) -> Figure:
    """A clean image that is spoiled, denoised, and compared with itself.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1].
        std: standard deviation of the noise.
    """
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    figure, axes = _canvas(22.5, 10)
    _image(axes, 0.3, image, "clean image $x$", "")
    _image(axes, 5.3, (image + std * noise).clamp(0, 1), r"noisy image $\tilde{x}$", "")
    _arrow(axes, (3.4, 2.5), (5.2, 2.5))
    axes.text(4.3, 2.85, "+ noise", ha="center", color=_INK, size=9)
    _trapezium(axes, 9.5, 12.3, 1.9, 0.8, _ENCODER, "encoder $f$")
    _box(axes, 13, 1.9, 1.2, 1.2, _CODE, "$z$")
    _trapezium(axes, 14.9, 17.7, 0.8, 1.9, _DECODER, "decoder $g$")
    _image(axes, 18.9, image, r"denoised $\hat{x}$", "")
    for start, end in ((8.4, 9.4), (12.4, 12.9), (14.3, 14.8), (17.8, 18.8)):
        _arrow(axes, (start, 2.5), (end, 2.5))
    _compare(axes, 1.8, 20.4, r"compare with the clean image:  $L = \|x - \hat{x}\|^2$")
    return figure


def draw_vae(image: Tensor, condition: str = "") -> Figure:
    """An image, the distribution of its codes, one code drawn from it, and the image it gives.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1]; it is shown at both ends.
        condition: what encoder and decoder are given in addition, such as "label $c$".
    """
    figure, axes = _canvas(22.5, 10, height=7.6)
    _image(axes, 0.3, image, "image $x$", "784 numbers")
    _trapezium(axes, 4.3, 7.3, 1.9, 0.95, _ENCODER, "encoder")
    _box(axes, 8.3, 2.7, 1.9, 0.9, _CODE, r"$\mu$")
    _box(axes, 8.3, 1.4, 1.9, 0.9, _CODE, r"$\log\sigma^2$")
    _label(axes, 9.25, r"$q(z\,|\,x)$", "$Z$ numbers each")
    _box(axes, 11.9, 4.9, 1.9, 0.9, _CHANCE, r"$\varepsilon$")
    axes.text(12.85, 6.1, r"drawn from $\mathcal{N}(0, I)$", ha="center", color=_INK, size=9)
    _box(axes, 11.9, 2.05, 1.9, 0.9, _CODE, "$z$")
    _label(axes, 12.85, r"$z = \mu + \sigma\varepsilon$", "$Z$ numbers")
    _trapezium(axes, 15, 18, 0.95, 1.9, _DECODER, "decoder")
    _image(axes, 19.1, image, r"reconstruction $\hat{x}$", "784 numbers")
    for start, end in (
        ((3.4, 2.5), (4.2, 2.5)),
        ((7.4, 2.75), (8.2, 3.1)),
        ((7.4, 2.25), (8.2, 1.9)),
        ((10.3, 3.1), (11.8, 2.65)),
        ((10.3, 1.9), (11.8, 2.35)),
        ((12.85, 4.8), (12.85, 3.05)),
        ((13.9, 2.5), (14.9, 2.5)),
        ((18.1, 2.5), (19, 2.5)),
    ):
        _arrow(axes, start, end)
    if condition:
        for middle in (5.8, 16.5):
            _box(axes, middle - 1.1, 5.6, 2.2, 0.9, _GIVEN, condition)
            _arrow(axes, (middle, 5.5), (middle, 4.1))
    return figure


def draw_completion(image: Tensor) -> Figure:
    """A quarter of an image, and two ways to predict the rest from it.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1].
    """
    pixels = image.squeeze()
    visible = torch.full_like(pixels, 0.35)
    visible[14:, :14] = pixels[14:, :14]
    figure, axes = _canvas(20, 9.5, height=8.2)
    _image(axes, 0.5, visible, "visible quarter $c$", "196 numbers")
    _trapezium(axes, 9.5, 12.5, 0.95, 1.9, _ENCODER, "baseline", middle=1.2)
    _trapezium(axes, 9.5, 12.5, 0.95, 1.9, _DECODER, "decoder", middle=5.1)
    _box(axes, 5.2, 5.4, 1.9, 0.9, _CHANCE, "$z$")
    axes.text(6.15, 6.5, r"drawn from $\mathcal{N}(0, I)$", ha="center", color=_INK, size=9)
    for start, end in (
        ((3.6, 2.2), (9.4, 1.3)),
        ((3.6, 2.9), (9.4, 4.7)),
        ((7.2, 5.8), (9.4, 5.4)),
        ((12.6, 1.2), (14.2, 1.2)),
        ((12.6, 5.1), (14.2, 5.1)),
    ):
        _arrow(axes, start, end)
    axes.text(14.4, 1.2, "one answer,\na blur of all", va="center", color=_INK)
    axes.text(
        14.4, 5.1, "another $z$, another answer:\neach of them a digit", va="center", color=_INK
    )
    return figure


def draw_quantiser(image: Tensor) -> Figure:
    """An image, its array of vectors, the codebook, and the array of nearest codes.

    Args:
        image: (3, 32, 32) in [0, 1].
    """
    colours = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377")
    chance = torch.Generator().manual_seed(5)
    figure, axes = _canvas(24, 10, height=7.4)
    _image(axes, 0.3, image, "image $x$", "32 x 32 x 3")
    _trapezium(axes, 4, 6.6, 1.9, 1.1, _ENCODER, "encoder")
    _array(axes, 7.5, ["#BBBBBB"] * 16, "outputs $z_e$", "8 x 8 vectors")
    words = torch.randint(len(colours), (16,), generator=chance).tolist()
    _array(axes, 13.3, [colours[word] for word in words], "nearest codes $z_q$", "64 words")
    _trapezium(axes, 17, 19.6, 1.1, 1.9, _DECODER, "decoder")
    _image(axes, 20.5, image, r"reconstruction $\hat{x}$", "32 x 32 x 3")
    for number, colour in enumerate(colours):
        _box(axes, 9.6 + 0.9 * number, 5.2, 0.8, 0.8, colour, f"$e_{number + 1}$")
    axes.text(12, 6.2, "codebook", ha="center", color=_INK)
    for start, end in (
        ((3.4, 2.5), (3.9, 2.5)),
        ((6.7, 2.5), (7.4, 2.5)),
        ((10, 2.5), (13.2, 2.5)),
        ((15.9, 2.5), (16.9, 2.5)),
        ((19.7, 2.5), (20.4, 2.5)),
    ):
        _arrow(axes, start, end)
    axes.text(11.6, 2.8, "nearest", ha="center", color=_INK, size=9)
    _arrow(axes, (11.6, 5.1), (11.6, 3.3))
    _arrow(axes, (13.2, 1.7), (10, 1.7), dashed=True)
    axes.text(11.6, 0.95, "backwards:\nstraight through", ha="center", va="center", size=9)
    return figure


def draw_variations(image: Tensor) -> Figure:
    """An image, its mean code, and draws around it at two scales of the variance.

    Args:
        image: (3, h, w) in [0, 1].
    """
    noise = torch.randn(2, 60, generator=torch.Generator().manual_seed(4))
    figure, axes = _canvas(21, 9.5, height=7.2)
    _image(axes, 0.3, image, "image $x$", "")
    _trapezium(axes, 4.1, 7.1, 1.9, 0.95, _ENCODER, "encoder")
    _trapezium(axes, 13.9, 16.9, 0.95, 1.9, _DECODER, "decoder")
    centre = (10.5, 2.9)
    for scale, colour in ((1.0, _CHANCE), (0.09, _CODE)):
        root = scale**0.5
        axes.scatter(
            centre[0] + 1.05 * root * noise[0], centre[1] + 0.75 * root * noise[1], 6, colour
        )
        for width in (2, 4):
            size = (1.05 * root * width, 0.75 * root * width)
            axes.add_patch(Ellipse(centre, *size, fill=False, edgecolor=colour, alpha=0.5))
    axes.text(10.5, 5.5, "codes $z$", ha="center", color=_INK)
    axes.text(10.5, 0.45, r"around $\mu$, as wide as $\sqrt{s}\,\sigma$", ha="center", color=_INK)
    axes.text(9.2, -0.35, "$s = 0.09$", ha="center", color=_CODE, size=9)
    axes.text(11.8, -0.35, "$s = 1$", ha="center", color=_CHANCE, size=9)
    for number in range(3):
        axes.text(
            18.9, 3.9 - 1.4 * number, f"variation {number + 1}", va="center", color=_INK, size=10
        )
        _arrow(axes, (17, 2.5), (18.7, 3.9 - 1.4 * number))
    for start, end in (
        ((3.4, 2.5), (4, 2.5)),
        ((7.2, 2.5), (7.9, 2.6)),
        ((13.1, 2.6), (13.8, 2.5)),
    ):
        _arrow(axes, start, end)
    return figure


def draw_text_to_image() -> Figure:
    """From a text and noise, by way of the U-Net and the scheduler, to latents and an image."""
    figure, axes = _canvas(25, 10.5, height=8.6)
    axes.text(2.2, 6.4, '"a red seven"', ha="center", va="center", color=_INK, size=12)
    _box(axes, 4.6, 5.8, 2.4, 1.2, _GIVEN, "tokenizer")
    _box(axes, 8.2, 5.8, 3, 1.2, _ENCODER, "text encoder")
    axes.text(5.8, 7.25, "77 numbers", ha="center", color=_INK, size=8)
    axes.text(9.7, 7.25, "77 vectors", ha="center", color=_INK, size=8)
    greys = torch.rand(64, generator=torch.Generator().manual_seed(3)).tolist()
    _array(axes, 0.9, [str(round(grey, 2)) for grey in greys], "noise", "4 x h x w")
    _box(axes, 8.2, 1.5, 3, 2, _DECODER, "U-Net")
    _box(axes, 13, 1.5, 2.2, 2, _CODE, "guidance")
    _box(axes, 16.4, 1.5, 2.4, 2, _CHANCE, "scheduler")
    _trapezium(axes, 20.3, 22.2, 0.9, 1.9, _DECODER, "decoder")
    axes.text(23.7, 2.5, "image", ha="center", va="center", color=_INK, size=12)
    for start, end in (
        ((3.9, 6.4), (4.5, 6.4)),
        ((7.1, 6.4), (8.1, 6.4)),
        ((9.7, 5.7), (9.7, 3.6)),
        ((3.5, 2.5), (8.1, 2.5)),
        ((11.3, 2.9), (12.9, 2.9)),
        ((11.3, 2.1), (12.9, 2.1)),
        ((15.3, 2.5), (16.3, 2.5)),
        ((18.9, 2.5), (20.2, 2.5)),
        ((22.3, 2.5), (23, 2.5)),
    ):
        _arrow(axes, start, end)
    axes.text(12.1, 3.1, r"$\varepsilon_c$", ha="center", color=_INK)
    axes.text(12.1, 1.35, r"$\varepsilon_u$", ha="center", color=_INK)
    axes.text(10, 4.6, r"$c$", color=_INK)
    axes.text(19.55, 2.8, "at last", ha="center", color=_INK, size=8)
    _arrow(axes, (17.6, 1.4), (6.2, 2.3), curve=-0.25, dashed=True)
    axes.text(12.2, -0.55, "once at each time $t$: a little less noise", ha="center", color=_INK)
    return figure


def _array(axes: Axes, left: float, colours: list[str], name: str, size: str) -> None:
    """A square array of cells, 2.5 units wide, with its name and size below."""
    side = round(len(colours) ** 0.5)
    width = 2.5 / side
    for number, colour in enumerate(colours):
        row, column = divmod(number, side)
        corner = (left + width * column, 3.75 - width * (row + 1))
        axes.add_patch(Rectangle(corner, width, width, facecolor=colour, edgecolor="white"))
    _label(axes, left + 1.25, name, size)


def _canvas(width: float, inches: float, height: float = 6.3) -> tuple[Figure, Axes]:
    """An empty drawing of ``width`` by ``height`` units; things stand around height 2.5."""
    figure, axes = plt.subplots(figsize=(inches, inches * height / width), layout="constrained")
    axes.set(xlim=(0, width), ylim=(-0.9, height - 0.9), aspect="equal")
    axes.axis("off")
    plt.close(figure)
    return figure, axes


def _image(axes: Axes, left: float, image: Tensor, name: str, size: str) -> None:
    """An image, 3 units wide, with its name and size below."""
    grey = image.squeeze().ndim == 2
    pixels = (image.squeeze() if grey else image.permute(1, 2, 0)).cpu().numpy()
    axes.imshow(pixels, cmap="gray_r", extent=(left, left + 3, 1, 4), vmin=0, vmax=1)
    axes.add_patch(Rectangle((left, 1), 3, 3, fill=False, edgecolor=_INK, linewidth=1))
    _label(axes, left + 1.5, name, size)


def _label(axes: Axes, x: float, name: str, size: str = "") -> None:
    """What stands at ``x``, and how much it is."""
    axes.text(x, 0.45, name, ha="center", va="center", color=_INK)
    axes.text(x, -0.25, size, ha="center", va="center", color=_INK, size=8)


def _box(
    axes: Axes, left: float, bottom: float, width: float, height: float, colour: str, label: str
) -> None:
    axes.add_patch(
        Rectangle((left, bottom), width, height, facecolor=colour, edgecolor="white", alpha=0.9)
    )
    middle = (left + width / 2, bottom + height / 2)
    axes.text(*middle, label, ha="center", va="center", color="white", size=11)


def _compare(axes: Axes, left: float, right: float, label: str) -> None:
    """A dashed arrow over everything, between the two that are compared."""
    _arrow(
        axes,
        (right, 4.15),
        (left, 4.15),
        curve=1.6 / (right - left) / 1.3,
        style="<->",
        dashed=True,
    )
    axes.text((left + right) / 2, 5.15, label, ha="center", va="center", color=_INK)


def _trapezium(
    axes: Axes,
    left: float,
    right: float,
    high_left: float,
    high_right: float,
    colour: str,
    label: str,
    middle: float = 2.5,
) -> None:
    corners = [
        (left, middle - high_left),
        (left, middle + high_left),
        (right, middle + high_right),
        (right, middle - high_right),
    ]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="none", alpha=0.9))
    axes.text((left + right) / 2, middle, label, ha="center", va="center", color="white", size=11)


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
