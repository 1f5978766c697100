"""Figures of images: grids, and rows to compare."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.plotting.style import bare, new_figure


def visualize_img_batch(images: Tensor, n: int = 32, title: str | None = None) -> Figure:
    """The first ``n`` images of a batch as a grid, eight in a row.

    Args:
        images: (N, 1, h, w), (N, 3, h, w) or (N, h, w), floating point in [0, 1].
        n: largest number of images to show.
        title: above the grid; by default the number of images shown.

    Raises:
        ValueError: if ``images`` is not a batch of images.
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
    """One row for each batch, with image i of each batch in column i; keys are the labels.

    Args:
        rows: for example ``{"noisy": noisy, "denoised": output, "clean": images}``; shapes as in
            :func:`visualize_img_batch`, the same in every row.
        n: largest number of columns.
        title: above the figure.

    Raises:
        ValueError: if a row is not a batch of images, or if the rows differ in image size.
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
    """Originals in the upper row, their reconstructions in the lower row.

    Args:
        originals: (N, 1, h, w), (N, 3, h, w) or (N, h, w) in [0, 1].
        reconstructions: the same shape.
        n: largest number of pairs.

    Raises:
        ValueError: if one of them is not a batch of images, or if their image sizes differ.
    """
    return plot_image_rows({"original": originals, "reconstruction": reconstructions}, n)


#: White pixels between two images of a grid.
GAP = 2


def as_pixels(images: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A batch of images as (N, h, w, 3) in [0, 1]; values outside this range are clipped.

    Raises:
        ValueError: with one sentence, if it is not a batch of images.
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
    """Images (N, h, w, 3) side by side in one image (H, W, 3), with white gaps, in pixels."""
    n, height, width, _ = pixels.shape
    rows = math.ceil(n / columns)
    canvas = np.ones(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), dtype=np.float32
    )
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas
