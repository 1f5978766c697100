"""Diagrams of the models, for the explanations in the notebooks."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from torch import Tensor

from helpers.plotting.sketch import CHANCE, CODE, DECODER, ENCODER, GIVEN, Sketch


def draw_autoencoder(image: Tensor, code_size: int = 2) -> Figure:
    """An image on its way through encoder, code and decoder.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1]; it is shown at both ends.
        code_size: number of values in the code.
    """
    sketch = Sketch(18, 9)
    sketch.image(0.3, image, "image $x$", "784 numbers")
    sketch.image(14.7, image, r"reconstruction $\hat{x}$", "784 numbers")
    sketch.trapezium(4.5, 7.7, 1.9, 0.65, ENCODER, "encoder $f$")
    sketch.trapezium(10.3, 13.5, 0.65, 1.9, DECODER, "decoder $g$")
    for number in range(code_size):
        bottom = 2.6 - 0.6 * code_size + 1.2 * number
        sketch.box(8.5, bottom, 1, 1, CODE, f"$z_{code_size - number}$")
    sketch.label(9, "code $z$", f"{code_size} numbers")
    sketch.flow(3.4, 4.4, 7.8, 8.4, 9.6, 10.2, 13.6, 14.6)
    sketch.compare(1.8, 16.2, r"compare:  $L = \|x - \hat{x}\|^2$")
    return sketch.figure


def draw_denoiser(image: Tensor, std: float = 0.5) -> Figure:
    """A clean image to which noise is added, and the denoised image, which is compared with it.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1].
        std: standard deviation of the noise.
    """
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    sketch = Sketch(22.5, 10)
    sketch.image(0.3, image, "clean image $x$")
    sketch.image(5.3, (image + std * noise).clamp(0, 1), r"noisy image $\tilde{x}$")
    sketch.text(4.3, 2.85, "+ noise", 9)
    sketch.trapezium(9.5, 12.3, 1.9, 0.8, ENCODER, "encoder $f$")
    sketch.box(13, 1.9, 1.2, 1.2, CODE, "$z$")
    sketch.trapezium(14.9, 17.7, 0.8, 1.9, DECODER, "decoder $g$")
    sketch.image(18.9, image, r"denoised $\hat{x}$")
    sketch.flow(3.4, 5.2, 8.4, 9.4, 12.4, 12.9, 14.3, 14.8, 17.8, 18.8)
    sketch.compare(1.8, 20.4, r"compare with the clean image:  $L = \|x - \hat{x}\|^2$")
    return sketch.figure


def draw_vae(
    image: Tensor, condition: str = "", output: str = r"reconstruction $\hat{x}$"
) -> Figure:
    """An image, the distribution of its codes, one code drawn from it, and the image it gives.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1]; it is shown at both ends.
        condition: what encoder and decoder are given in addition, such as "label $c$".
        output: what the image at the decoder's end is called.
    """
    sketch = Sketch(22.5, 10, height=7.6)
    sketch.image(0.3, image, "image $x$", "784 numbers")
    sketch.trapezium(4.3, 7.3, 1.9, 0.95, ENCODER, "encoder")
    sketch.box(8.3, 2.7, 1.9, 0.9, CODE, r"$\mu$")
    sketch.box(8.3, 1.4, 1.9, 0.9, CODE, r"$\log\sigma^2$")
    sketch.label(9.25, r"$q(z\,|\,x)$", "$Z$ numbers each")
    sketch.box(11.9, 4.9, 1.9, 0.9, CHANCE, r"$\varepsilon$")
    sketch.text(12.85, 6.1, r"drawn from $\mathcal{N}(0, I)$", 9)
    sketch.box(11.9, 2.05, 1.9, 0.9, CODE, "$z$")
    sketch.label(12.85, r"$z = \mu + \sigma\varepsilon$", "$Z$ numbers")
    sketch.trapezium(15, 18, 0.95, 1.9, DECODER, "decoder")
    sketch.image(19.1, image, output, "784 numbers")
    sketch.flow(3.4, 4.2, 13.9, 14.9, 18.1, 19)
    sketch.arrow((7.4, 2.75), (8.2, 3.1))
    sketch.arrow((7.4, 2.25), (8.2, 1.9))
    sketch.arrow((10.3, 3.1), (11.8, 2.65))
    sketch.arrow((10.3, 1.9), (11.8, 2.35))
    sketch.arrow((12.85, 4.8), (12.85, 3.05))
    if condition:
        for middle in (5.8, 16.5):
            sketch.box(middle - 1.1, 5.6, 2.2, 0.9, GIVEN, condition)
            sketch.arrow((middle, 5.5), (middle, 4.1))
    return sketch.figure


def draw_completion(image: Tensor) -> Figure:
    """A quarter of an image, and two ways to predict the rest from it.

    Args:
        image: (28, 28) or (1, 28, 28) in [0, 1].
    """
    pixels = image.squeeze()
    visible = torch.full_like(pixels, 0.35)
    visible[14:, :14] = pixels[14:, :14]
    sketch = Sketch(20, 9.5, height=8.2)
    sketch.image(0.5, visible, "visible quarter $c$", "196 numbers")
    sketch.trapezium(9.5, 12.5, 0.95, 1.9, ENCODER, "baseline", middle=1.2)
    sketch.trapezium(9.5, 12.5, 0.95, 1.9, DECODER, "decoder", middle=5.1)
    sketch.box(5.2, 5.4, 1.9, 0.9, CHANCE, "$z$")
    sketch.text(6.15, 6.5, r"drawn from $\mathcal{N}(0, I)$", 9)
    sketch.arrow((3.6, 2.2), (9.4, 1.3))
    sketch.arrow((3.6, 2.9), (9.4, 4.7))
    sketch.arrow((7.2, 5.8), (9.4, 5.4))
    sketch.flow(12.6, 14.2, height=1.2)
    sketch.flow(12.6, 14.2, height=5.1)
    sketch.text(14.4, 1.2, "one answer,\na blur of all", ha="left", va="center")
    many = "another $z$, another answer:\neach of them a digit"
    sketch.text(14.4, 5.1, many, ha="left", va="center")
    return sketch.figure


def draw_quantiser(image: Tensor) -> Figure:
    """An image, its array of vectors, the codebook, and the array of nearest codes.

    Args:
        image: (3, 32, 32) in [0, 1].
    """
    colours = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377")
    chance = torch.Generator().manual_seed(5)
    words = torch.randint(len(colours), (16,), generator=chance).tolist()
    sketch = Sketch(24, 10, height=7.4)
    sketch.image(0.3, image, "image $x$", "32 x 32 x 3")
    sketch.trapezium(4, 6.6, 1.9, 1.1, ENCODER, "encoder")
    sketch.cells(7.5, ["#BBBBBB"] * 16, "outputs $z_e$", "8 x 8 vectors")
    sketch.cells(13.3, [colours[word] for word in words], "nearest codes $z_q$", "64 words")
    sketch.trapezium(17, 19.6, 1.1, 1.9, DECODER, "decoder")
    sketch.image(20.5, image, r"reconstruction $\hat{x}$", "32 x 32 x 3")
    for number, colour in enumerate(colours):
        sketch.box(9.6 + 0.9 * number, 5.2, 0.8, 0.8, colour, f"$e_{number + 1}$")
    sketch.text(12, 6.2, "codebook")
    sketch.flow(3.4, 3.9, 6.7, 7.4, 10, 13.2, 15.9, 16.9, 19.7, 20.4)
    sketch.text(11.6, 2.8, "nearest", 9)
    sketch.arrow((11.6, 5.1), (11.6, 3.3))
    sketch.arrow((13.2, 1.7), (10, 1.7), dashed=True)
    sketch.text(11.6, 0.95, "backwards:\nstraight through", 9, "black", va="center")
    return sketch.figure


def draw_variations(image: Tensor) -> Figure:
    """An image, its mean code, and codes drawn around it at two scales of the variance.

    Args:
        image: (3, h, w) in [0, 1].
    """
    noise = torch.randn(2, 60, generator=torch.Generator().manual_seed(4))
    sketch = Sketch(21, 9.5, height=7.2)
    sketch.image(0.3, image, "image $x$")
    sketch.trapezium(4.1, 7.1, 1.9, 0.95, ENCODER, "encoder")
    sketch.trapezium(13.9, 16.9, 0.95, 1.9, DECODER, "decoder")
    x, y = 10.5, 2.9
    for scale, colour in ((1.0, CHANCE), (0.09, CODE)):
        wide, high = 1.05 * scale**0.5, 0.75 * scale**0.5
        sketch.axes.scatter(x + wide * noise[0], y + high * noise[1], 6, colour)
        for width in (2, 4):
            size = (wide * width, high * width)
            ring = Ellipse((x, y), *size, fill=False, edgecolor=colour, alpha=0.5)
            sketch.axes.add_patch(ring)
    sketch.text(10.5, 5.5, "codes $z$")
    sketch.text(10.5, 0.45, r"around $\mu$, as wide as $\sqrt{s}\,\sigma$")
    sketch.text(9.2, -0.35, "$s = 0.09$", 9, CODE)
    sketch.text(11.8, -0.35, "$s = 1$", 9, CHANCE)
    for number in range(3):
        height = 3.9 - 1.4 * number
        sketch.text(18.9, height, f"variation {number + 1}", 10, ha="left", va="center")
        sketch.arrow((17, 2.5), (18.7, height))
    sketch.flow(3.4, 4)
    sketch.arrow((7.2, 2.5), (7.9, 2.6))
    sketch.arrow((13.1, 2.6), (13.8, 2.5))
    return sketch.figure


def draw_stages(image: Tensor) -> Figure:
    """An image on its way through the autoencoder of Stable Diffusion.

    Args:
        image: (3, h, w) in [0, 1]; it is shown at both ends.
    """
    #: Heights of the arrays in units, and their sizes in pixels and channels.
    stages = ((4.0, "56", "$b$"), (2.8, "28", "$2b$"), (2.0, "14", "$4b$"), (1.4, "7", "$4b$"))
    sketch = Sketch(22.65, 9.5, height=7.6, bottom=-1.4)
    sketch.figure.set_size_inches(9.5, 3.1)
    for left, name in ((0.2, "image $x$"), (18.45, r"image $\hat{x}$")):
        extent = (left, left + 3.8, 0.1, 3.9)
        sketch.axes.imshow(image.permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest")
        sketch.text(left + 1.9, 4.4, name, va="center")
        sketch.text(left + 1.9, -0.5, "56 x 56 x 3", 8, va="center")
    for start, colour, name in ((4.4, ENCODER, "encoder"), (13.55, DECODER, "decoder")):
        sketch.text(start + 2.3, 5.5, name, colour=colour, weight="bold")
        for number, (height, pixels, channels) in enumerate(
            stages if name == "encoder" else reversed(stages)
        ):
            left = start + 1.15 * number
            sketch.box(left, 2 - height / 2, 0.9, height, colour, channels, 9, flat=True)
            sketch.text(left + 0.45, -0.5, pixels, 8, va="center")
    sketch.box(9.35, 2.15, 1.6, 1.0, CODE, r"$\mu$", 9, flat=True)
    sketch.box(9.35, 0.85, 1.6, 1.0, CODE, r"$\log\sigma^2$", 9, flat=True)
    sketch.text(10.15, -0.5, "moments\n7 x 7 x 8", 8, va="center")
    sketch.flow(11, 11.95, height=2)
    sketch.text(11.55, 3.6, "draw,\nscale", 8, va="center")
    sketch.box(12.05, 1.5, 1.0, 1.0, CODE, "$z$", 11, flat=True)
    sketch.text(12.55, -0.5, "latent\n7 x 7 x 4", 8, va="center")
    return sketch.figure


def draw_text_to_image() -> Figure:
    """From a text and noise, through the U-Net and the scheduler, to latents and an image."""
    sketch = Sketch(25, 10.5, height=8.6)
    sketch.text(2.2, 6.4, '"a red seven"', 12, va="center")
    sketch.box(4.6, 5.8, 2.4, 1.2, GIVEN, "tokenizer")
    sketch.box(8.2, 5.8, 3, 1.2, ENCODER, "text encoder")
    sketch.text(5.8, 7.25, "77 numbers", 8)
    sketch.text(9.7, 7.25, "77 vectors", 8)
    greys = torch.rand(64, generator=torch.Generator().manual_seed(3)).tolist()
    sketch.cells(0.9, [str(round(grey, 2)) for grey in greys], "noise", "4 x h x w")
    sketch.box(8.2, 1.5, 3, 2, DECODER, "U-Net")
    sketch.box(13, 1.5, 2.2, 2, CODE, "guidance")
    sketch.box(16.4, 1.5, 2.4, 2, CHANCE, "scheduler")
    sketch.trapezium(20.3, 22.2, 0.9, 1.9, DECODER, "decoder")
    sketch.text(23.7, 2.5, "image", 12, va="center")
    sketch.flow(3.9, 4.5, 7.1, 8.1, height=6.4)
    sketch.flow(3.5, 8.1, 15.3, 16.3, 18.9, 20.2, 22.3, 23)
    sketch.flow(11.3, 12.9, height=2.9)
    sketch.flow(11.3, 12.9, height=2.1)
    sketch.arrow((9.7, 5.7), (9.7, 3.6))
    sketch.text(12.1, 3.1, r"$\varepsilon_c$")
    sketch.text(12.1, 1.35, r"$\varepsilon_u$")
    sketch.text(10, 4.6, r"$c$", ha="left")
    sketch.text(19.55, 2.8, "at last", 8)
    sketch.arrow((17.6, 1.4), (6.2, 2.3), curve=-0.25, dashed=True)
    sketch.text(12.2, -0.55, "once at each time $t$: a little less noise")
    return sketch.figure
