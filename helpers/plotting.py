"""The figures of the course.

Every function returns a matplotlib ``Figure``: as the last line of a notebook cell it is shown
once; ``display(figure)`` shows it from anywhere, ``figure.savefig("name.png")`` keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import Tensor, nn

from helpers.training import History

__all__ = [
    "latent_span",
    "plot_image_rows",
    "plot_latent_space",
    "plot_latent_space_images",
    "plot_losses",
    "plot_reconstructions",
    "plot_sweep",
    "visualize_img_batch",
]

#: A module, or a function such as ``lambda images: vae.mu_layer(vae.encoder(images))``.
Network = nn.Module | Callable[[Tensor], Any]

#: Ten colours that people with colour-blindness can tell apart: the "muted" scheme of Paul Tol
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

#: Shapes tell curves apart where colours do not: in print, say.
MARKERS = "os^Dv*Pp<>"

#: A white rim that keeps text readable on top of dots and lines.
HALO = withStroke(linewidth=3.5, foreground="white")

#: A value written beside its point.
NUMBER: Any = {"textcoords": "offset points", "color": "#333333", "path_effects": [HALO]}

#: How every figure looks, whatever the notebook has set for its own.
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


def visualize_img_batch(images: Tensor, n: int = 32, title: str | None = None) -> Figure:
    """The first ``n`` images of a batch as a grid, eight in a row.

    Args:
        images: (N, 1, h, w), (N, 3, h, w) or (N, h, w), floating point in [0, 1].
        n: how many to show, at most.
        title: above the grid; by default it says how many images are shown.

    Raises:
        ValueError: if ``images`` is no batch of images.
    """
    pixels = as_pixels(images)
    shown = pixels[:n]
    columns = min(8, len(shown))
    rows = math.ceil(len(shown) / columns)
    with new_figure(0.85 * columns + 0.2, 0.85 * rows + 0.4) as (figure, axes):
        axes.imshow(mosaic(shown, columns))
        axes.axis("off")
        axes.set_title(title or f"{len(shown)} of {len(pixels)} images", loc="left")
    return figure


def plot_image_rows(rows: Mapping[str, Tensor], n: int = 10, title: str | None = None) -> Figure:
    """Batches above each other, image i of each in column i; the key of a row is its label.

    Args:
        rows: for example ``{"noisy": noisy, "denoised": output, "clean": images}``; shapes as in
            :func:`visualize_img_batch`, the same in every row.
        n: how many columns, at most.
        title: above the figure.

    Raises:
        ValueError: if a row is no batch of images, or if the rows differ in image size.
    """
    batches = [as_pixels(images) for images in rows.values()]
    if not batches:
        raise ValueError("There are no rows of images to show.")
    sizes = {batch.shape[1:] for batch in batches}
    if len(sizes) > 1:
        raise ValueError(
            f"Every row should have images of one size, but there are "
            f"{' and '.join(str(tuple(size)) for size in sorted(sizes))}."
        )
    columns = min(n, *(len(batch) for batch in batches))
    height = batches[0].shape[1]
    with new_figure(0.85 * columns + 1.3, 0.85 * len(batches) + (0.4 if title else 0.15)) as (
        figure,
        axes,
    ):
        axes.imshow(mosaic(np.concatenate([batch[:columns] for batch in batches]), columns))
        bare(axes)
        axes.tick_params(length=0)
        axes.set_xticks([])
        step = height + GAP
        axes.set_yticks([row * step + height / 2 for row in range(len(batches))], list(rows))
        if title:
            axes.set_title(title, loc="left")
    return figure


def plot_reconstructions(originals: Tensor, reconstructions: Tensor, n: int = 10) -> Figure:
    """Originals above what the model made of them, column by column.

    Args:
        originals: (N, 1, h, w), (N, 3, h, w) or (N, h, w) in [0, 1].
        reconstructions: the same shape.
        n: how many pairs, at most.

    Raises:
        ValueError: if one of them is no batch of images, or if their image sizes differ.
    """
    return plot_image_rows({"original": originals, "reconstruction": reconstructions}, n)


def plot_losses(
    history_or_losses: History | Sequence[float] | Mapping[str, Sequence[float]],
    threshold: float | None = None,
    title: str | None = None,
    ylabel: str = "loss, mean of the epoch",
) -> Figure:
    """The loss of every epoch, with the value of the last one written beside it.

    Args:
        history_or_losses: a history, its losses, or several curves by name, such as
            ``{"training": ..., "test": ...}``.
        threshold: drawn as a dashed line: the loss must end below it.
        title: by default the name in the history, if there is one.
        ylabel: name the loss and its unit, such as "BCE + KL, nats per image".
    """
    curves: Mapping[str, Sequence[float]]
    if isinstance(history_or_losses, History):
        curves = {"": history_or_losses.losses}
        title = title or f"Training of {history_or_losses.name}"
    elif isinstance(history_or_losses, Mapping):
        curves = history_or_losses
    else:
        curves = {"": history_or_losses}

    with new_figure(6.4, 4.0) as (figure, axes):
        for (name, losses), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
            if not losses:
                continue
            label = f"{name}, last {losses[-1]:.4g}"
            epochs = range(1, len(losses) + 1)
            axes.plot(epochs, losses, marker=marker, markersize=5, color=colour, label=label)
            if len(curves) == 1:
                end = (epochs[-1], losses[-1])
                axes.annotate(f"{losses[-1]:.4g}", end, (0, 9), **NUMBER, ha="center")
        longest = max((len(losses) for losses in curves.values()), default=0)
        if longest == 0:
            axes.text(0.5, 0.5, "no epoch yet", ha="center", transform=axes.transAxes)
        elif len(curves) > 1:
            axes.legend(frameon=False)
        axes.set_xlim(0.5, max(longest, 2) + 0.5)
        if threshold is not None:
            lasts = [losses[-1] for losses in curves.values() if losses]
            draw_threshold(axes, threshold, above=min(lasts, default=0) > threshold)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        if title:
            axes.set_title(title, loc="left")
    return figure


def plot_sweep(
    xs: Sequence[int],
    ys: Sequence[float],
    xlabel: str = "latent size (numbers per image)",
    ylabel: str = "loss after training",
    title: str | None = None,
    threshold: float | None = None,
) -> Figure:
    """One result for each size that was tried, on an axis that doubles from tick to tick.

    Args:
        xs: the sizes, positive.
        ys: what came of each.
        xlabel: what was varied.
        ylabel: what was measured, with its unit.
        title: above the figure.
        threshold: drawn as a dashed line.

    Raises:
        ValueError: if the two differ in length, are empty, or a size is not positive.
    """
    if len(xs) != len(ys) or not xs:
        raise ValueError(
            f"There should be one y for each x, but there are {len(xs)} xs and {len(ys)} ys."
        )
    if min(xs) <= 0:
        raise ValueError(f"The sizes should be positive, but one of them is {min(xs)}.")
    points = sorted(zip(xs, ys, strict=True))
    with new_figure(6.4, 4.0) as (figure, axes):
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[0])
        for x, y in points:
            axes.annotate(f"{y:.3g}", (x, y), (4, 6), **NUMBER)
        if threshold is not None:
            draw_threshold(axes, threshold, above=points[-1][1] > threshold)
        axes.set_xscale("log", base=2)
        axes.set_xticks([x for x, _ in points], [f"{x:g}" for x, _ in points])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.08, y=0.15)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if title:
            axes.set_title(title, loc="left")
    return figure


def plot_latent_space(
    encoder: Network,
    loader: Iterable[Sequence[Tensor]],
    device: str | torch.device | None = None,
    max_points: int = 5000,
) -> Figure:
    """Where the encoder puts the images: one dot an image, coloured by its digit.

    A code of more than two numbers is projected on its first two principal components; the title
    says so, and how much of the variance they hold.

    Args:
        encoder: (N, 1, 28, 28) -> (N, Z) with Z of at least 2. If it returns several tensors, as a
            VAE's encoder does, the first one (the mean) is drawn.
        loader: batches of (images, labels).
        device: where the encoder is; by default the device of its parameters.
        max_points: how many images to draw, at most: the first ones of the loader.

    Raises:
        ValueError: if the codes cannot be drawn.
    """
    codes, labels = encode(encoder, loader, device, max_points)
    points, held = principal_components(codes)
    classes = sorted(set(labels.tolist()))
    colour_of = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(classes)}
    with new_figure(7.0, 6.0) as (figure, axes):
        # One scatter, in the order of the loader: digit by digit, the last would hide the others.
        colours = [colour_of[label] for label in labels.tolist()]
        axes.scatter(points[:, 0], points[:, 1], s=8, alpha=0.7, linewidths=0, c=colours)
        for label in classes:
            axes.scatter([], [], s=40, color=colour_of[label], label=str(label))
            # Ten colours are many: the digit itself stands in the middle of its dots.
            middle = np.median(points[labels == label], axis=0)
            axes.annotate(
                str(label),
                (middle[0], middle[1]),
                ha="center",
                va="center",
                size=15,
                weight="bold",
                path_effects=[HALO],
            )
        axes.legend(title="digit", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        axes.set_box_aspect(1)
        if codes.shape[1] == 2:
            axes.set_xlabel("$z_1$, first number of the code")
            axes.set_ylabel("$z_2$, second number of the code")
            axes.set_title(f"Latent space: {len(codes):,} images", loc="left")
        else:
            axes.set_xlabel("first principal component")
            axes.set_ylabel("second principal component")
            axes.set_title(
                f"Latent space: {len(codes):,} images\n{codes.shape[1]} numbers each, projected "
                f"on two by PCA ({held:.0%} of the variance)",
                loc="left",
            )
    return figure


def latent_span(
    encoder: Network,
    loader: Iterable[Sequence[Tensor]],
    device: str | torch.device | None = None,
    max_points: int = 5000,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The range of the first two numbers of the codes, without the outermost 1% on each side.

    For :func:`plot_latent_space_images`, since a plain autoencoder puts its codes anywhere::

        span, span_y = latent_span(model.encoder, loader, device)
        plot_latent_space_images(model.decoder, device, span=span, span_y=span_y)

    Arguments and errors are those of :func:`plot_latent_space`.
    """
    codes, _ = encode(encoder, loader, device, max_points)
    low, high = np.quantile(codes[:, :2], [0.01, 0.99], axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def plot_latent_space_images(
    decoder: Network,
    device: str | torch.device | None = None,
    n: int = 20,
    span: tuple[float, float] = (-3.0, 3.0),
    span_y: tuple[float, float] | None = None,
) -> Figure:
    """What the decoder makes of ``n`` x ``n`` points of a two-dimensional latent space.

    The image at (z_1, z_2) stands where :func:`plot_latent_space` puts the code (z_1, z_2).

    Args:
        decoder: (N, 2) -> (N, 1, h, w) or (N, 3, h, w) in [0, 1].
        device: where the decoder is; by default the device of its parameters.
        n: points in each direction.
        span: first and last z_1.
        span_y: first and last z_2; by default the same as ``span``.

    Raises:
        ValueError: if a span is empty, or if the decoder returns no batch of images.
    """
    span_y = span if span_y is None else span_y
    if n < 2 or span[0] >= span[1] or span_y[0] >= span_y[1]:
        raise ValueError(
            f"A grid needs n of at least 2 and spans (low, high), but it got n={n}, span={span} "
            f"and span_y={span_y}."
        )
    first, second = np.linspace(*span, n), np.linspace(*span_y, n)
    # Row by row from the top of the picture, where z_2 is largest.
    points = np.stack(np.meshgrid(first, second[::-1]), axis=-1).reshape(-1, 2)
    device = find_device(decoder, device)
    with evaluating(decoder):
        images = decoder(torch.tensor(points, dtype=torch.float32, device=device))
    # Half a step around the outermost points: each image is centred on its own.
    x_half, y_half = (first[1] - first[0]) / 2, (second[1] - second[0]) / 2
    with new_figure(7.0, 7.0) as (figure, axes):
        axes.imshow(
            mosaic(as_pixels(images), n, gap=0),
            extent=(
                first[0] - x_half,
                first[-1] + x_half,
                second[0] - y_half,
                second[-1] + y_half,
            ),
            aspect="auto",
        )
        bare(axes)
        axes.set_box_aspect(1)
        axes.set_xlabel("$z_1$, first number of the code")
        axes.set_ylabel("$z_2$, second number of the code")
        axes.set_title(
            f"What the decoder makes of {n} x {n} points of the latent space", loc="left"
        )
    return figure


#: White pixels between two images of a grid.
GAP = 2


def as_pixels(images: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A batch of images as (N, h, w, 3) in [0, 1]; values outside are clipped.

    Raises:
        ValueError: with one sentence, if it is no batch of images.
    """
    batch = torch.as_tensor(images).detach().cpu()
    if batch.ndim == 3:
        batch = batch.unsqueeze(1)
    if batch.ndim != 4 or batch.shape[1] not in (1, 3) or 0 in batch.shape:
        raise ValueError(
            f"A batch of images should have shape (N, 1, h, w), (N, 3, h, w) or (N, h, w), but "
            f"this has shape {tuple(torch.as_tensor(images).shape)}."
        )
    if not batch.is_floating_point():
        raise ValueError(
            f"Images should be floating-point numbers in [0, 1], but these are {batch.dtype}: "
            f"divide whole numbers from 0 to 255 by 255."
        )
    pixels = batch.float().clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    return pixels.numpy()


def mosaic(
    pixels: np.ndarray[Any, np.dtype[np.float32]], columns: int, gap: int = GAP
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Images (N, h, w, 3) side by side in one (H, W, 3), ``gap`` white pixels between them."""
    n, height, width, _ = pixels.shape
    rows = math.ceil(n / columns)
    canvas = np.ones(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), dtype=np.float32
    )
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def encode(
    encoder: Network,
    loader: Iterable[Sequence[Tensor]],
    device: str | torch.device | None,
    max_points: int,
) -> tuple[np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, Any]]:
    """Codes (N, Z) and labels (N,) of the first ``max_points`` images of the loader.

    Raises:
        ValueError: if there are none, if Z is 1, or if a code is not finite.
    """
    device = find_device(encoder, device)
    codes: list[Tensor] = []
    labels: list[Tensor] = []
    with evaluating(encoder):
        for images, digits, *_ in loader:
            output = encoder(images.to(device))
            code = output[0] if isinstance(output, tuple | list) else output
            codes.append(code.flatten(1).float().cpu())
            labels.append(digits.cpu())
            if sum(map(len, codes)) >= max_points:
                break
    if not codes:
        raise ValueError("The loader gave no batch to draw.")
    z = torch.cat(codes)[:max_points]
    if z.shape[1] < 2:
        raise ValueError(
            f"A picture of the latent space needs codes of at least two numbers, but the encoder "
            f"returned shape {tuple(z.shape)}."
        )
    if not bool(torch.isfinite(z).all()):
        raise ValueError("The encoder gave NaN or infinite numbers: has the training diverged?")
    return z.numpy(), torch.cat(labels)[:max_points].numpy()


def principal_components(
    codes: np.ndarray[Any, np.dtype[np.float32]],
) -> tuple[np.ndarray[Any, Any], float]:
    """Codes (N, Z) as points (N, 2), and the share of the variance that these hold.

    Two numbers stay as they are; more are projected on the two directions of largest variance.
    """
    if codes.shape[1] == 2:
        return codes, 1.0
    centred = codes.astype(np.float64) - codes.mean(axis=0)
    # Eigenvectors of the covariance, the largest eigenvalue last. It is only Z x Z, and unlike
    # torch.pca_lowrank it draws no random numbers.
    variances, directions = np.linalg.eigh(centred.T @ centred)
    held = variances[-2:].sum() / max(variances.sum(), 1e-12)
    return centred @ directions[:, :-3:-1], float(held)


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Evaluation mode and no gradients inside; each layer's own mode again afterwards."""
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def find_device(network: Network, device: str | torch.device | None) -> torch.device:
    """``device``, or where the parameters of ``network`` are, or the CPU."""
    if device is not None:
        return torch.device(device)
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of one plot, in inches, in the style of the course."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axes
        finally:
            # Jupyter shows every open figure below the cell, and the returned one as its result.
            plt.close(figure)


def draw_threshold(axes: Axes, threshold: float, *, above: bool) -> None:
    """A dashed line with its value, which a training must end below; ``above``: it ended above."""
    axes.axhline(threshold, color="#333333", linestyle="--", linewidth=1.2)
    axes.annotate(
        f"pass mark: below {threshold:g}",
        (1, threshold),
        # On the right, on the side of the line where the curves do not end.
        (-6, -13 if above else 5),
        xycoords=axes.get_yaxis_transform(),
        **{**NUMBER, "ha": "right"},
    )


def bare(axes: Axes) -> None:
    """No frame and no grid: for axes that hold images."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
