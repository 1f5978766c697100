"""Figures of the latent space: where the codes are, and what the decoder makes of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.plotting.images import as_pixels, mosaic
from helpers.plotting.style import COLOURS, HALO, bare, new_figure

#: A module, or a function such as ``lambda images: vae.mu_layer(vae.encoder(images))``.
Network = nn.Module | Callable[[Tensor], Any]


def plot_latent_space(
    encoder: Network,
    loader: Iterable[Sequence[Tensor]],
    device: str | torch.device | None = None,
    max_points: int = 5000,
) -> Figure:
    """Where the encoder puts the images: one dot for each image, coloured by its digit.

    Codes of more than two numbers are projected onto their first two principal components; the
    title says so, with the share of the variance.

    Args:
        encoder: (N, 1, 28, 28) -> (N, Z) with Z of at least 2. If it returns several tensors, as a
            VAE's encoder does, the first one (the mean) is drawn.
        loader: batches of (images, labels).
        device: where the encoder is; by default the device of its parameters.
        max_points: largest number of images; they are the first ones of the loader.

    Raises:
        ValueError: if the codes cannot be drawn.
    """
    codes, labels = codes_of(encoder, loader, device, max_points)
    points, held = principal_components(codes)
    classes = sorted(set(labels.tolist()))
    colour_of = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(classes)}
    with new_figure(7.0, 6.0) as (figure, axes):
        # One scatter plot in the order of the loader: drawn digit by digit, the last would hide the
        # others.
        colours = [colour_of[label] for label in labels.tolist()]
        axes.scatter(points[:, 0], points[:, 1], s=8, alpha=0.7, linewidths=0, c=colours)
        # Ten colours are hard to tell apart: the digit is also written among its dots.
        middles = np.array([np.median(points[labels == label], axis=0) for label in classes])
        extent = np.maximum(np.ptp(points, axis=0), 1e-9)
        middles = moved_apart(middles / extent, 0.05) * extent
        for label, middle in zip(classes, middles, strict=True):
            axes.scatter([], [], s=40, color=colour_of[label], label=str(label))
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


def moved_apart(points: np.ndarray, least: float) -> np.ndarray:
    """Points (M, 2), moved until any two are about ``least`` apart, so that no label hides another.

    Points that are far enough from all others stay where they are.
    """
    points = points + 1e-6 * np.arange(len(points))[:, None]  # equal points part, too
    for _ in range(100):
        steps = points[:, None] - points[None]
        distances = np.linalg.norm(steps, axis=2) + np.eye(len(points))
        missing = np.maximum(least - distances, 0)
        if not missing.any():
            break
        points = points + 0.5 * ((missing / distances)[:, :, None] * steps).sum(axis=1)
    return points


def latent_span(
    encoder: Network,
    loader: Iterable[Sequence[Tensor]],
    device: str | torch.device | None = None,
    max_points: int = 5000,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The range of the first two numbers of the codes, without the outermost 1% on each side.

    For :func:`plot_latent_space_images`, since the codes of an autoencoder may be anywhere::

        span, span_y = latent_span(model.encoder, loader, device)
        plot_latent_space_images(model.decoder, device, span=span, span_y=span_y)

    Arguments and errors are those of :func:`plot_latent_space`.
    """
    codes, _ = codes_of(encoder, loader, device, max_points)
    low, high = np.quantile(codes[:, :2], [0.01, 0.99], axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def plot_latent_space_images(
    decoder: Network,
    device: str | torch.device | None = None,
    n: int = 20,
    span: tuple[float, float] = (-3.0, 3.0),
    span_y: tuple[float, float] | None = None,
) -> Figure:
    """What the decoder makes of ``n`` x ``n`` points of a latent space of two dimensions.

    The image of (z_1, z_2) is where :func:`plot_latent_space` puts the code (z_1, z_2).

    Args:
        decoder: (N, 2) -> (N, 1, h, w) or (N, 3, h, w) in [0, 1].
        device: where the decoder is; by default the device of its parameters.
        n: number of points in each direction.
        span: first and last z_1.
        span_y: first and last z_2; by default the same as ``span``.

    Raises:
        ValueError: if a span is empty, or if the decoder does not return a batch of images.
    """
    span_y = span if span_y is None else span_y
    if n < 2 or span[0] >= span[1] or span_y[0] >= span_y[1]:
        raise ValueError(
            f"A grid needs n of at least 2 and spans (low, high), but it got n={n}, span={span} "
            f"and span_y={span_y}."
        )
    first, second = np.linspace(*span, n), np.linspace(*span_y, n)
    # Row by row, from the top of the picture, where z_2 is largest.
    points = np.stack(np.meshgrid(first, second[::-1]), axis=-1).reshape(-1, 2)
    device = find_device(decoder, device)
    with evaluating(decoder):
        images = decoder(torch.tensor(points, dtype=torch.float32, device=device))
    # Half a step beyond the outermost points, so that each image is centred on its point.
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


def codes_of(
    encoder: Network,
    loader: Iterable[Sequence[Tensor]],
    device: str | torch.device | None,
    max_points: int,
) -> tuple[np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, Any]]:
    """Codes (N, Z) and labels (N,) of the first ``max_points`` images of the loader.

    Raises:
        ValueError: if there are no batches, if Z is 1, or if a code is not finite.
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
    """Codes (N, Z) as points (N, 2), and the share of the variance that these have.

    Codes of two numbers do not change; longer ones are projected onto the two directions of largest
    variance.
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
    """Evaluation mode and no gradients in the block; afterwards each layer has its mode again."""
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
    """``device``, or by default the device of the parameters of ``network``, or the CPU."""
    if device is not None:
        return torch.device(device)
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device
