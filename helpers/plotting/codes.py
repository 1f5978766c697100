"""Figures of codes: a codebook and its use, lengths of vectors, the aggregate posterior."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.plotting.latent import principal_components
from helpers.plotting.style import COLOURS, new_figure


def plot_codebook(codes: Tensor, usage: Tensor, title: str = "Codebook") -> Figure:
    """The vectors of a codebook in the plane; the area of each shows how often it is used.

    Vectors that are never used are crosses. The projection is UMAP if it is installed, else PCA.

    Args:
        codes: (K, D).
        usage: number of times each vector was used, (K,).
        title: above the figure.
    """
    points, method = _project(codes.detach().cpu().float().numpy())
    counts = usage.detach().cpu().float().numpy()
    used = counts > 0
    share = counts / max(counts.sum(), 1)
    entropy = -(share[used] * np.log(share[used])).sum()
    with new_figure(6.4, 4.6) as (figure, axes):
        x, y = points[:, 0], points[:, 1]
        axes.scatter(x[~used], y[~used], marker="x", s=25, color="#999999", label="never used")
        areas = 15 + 600 * share[used]
        axes.scatter(x[used], y[used], s=areas, color=COLOURS[0], alpha=0.7, label="used")
        axes.set_title(
            f"{title}: {used.sum()} of {len(counts)} codes used, perplexity {np.exp(entropy):.0f}",
            loc="left",
        )
        axes.set_xlabel(f"first axis ({method})")
        axes.set_ylabel("second axis")
        for handle in axes.legend(frameon=False).legend_handles:
            handle.set_sizes([40])  # type: ignore[union-attr]
    return figure


def plot_spread(vectors: Mapping[str, Tensor]) -> Figure:
    """Box plots of the lengths of vectors on a logarithmic axis, with whiskers from 5% to 95%.

    Args:
        vectors: (M, D) for each name.
    """
    lengths = {
        name: torch.linalg.vector_norm(rows.detach().cpu().double(), dim=1).clamp(min=1e-12).numpy()
        for name, rows in vectors.items()
    }
    with new_figure(6.8, 0.6 * len(lengths) + 1.2) as (figure, axes):
        names = list(reversed(lengths))
        axes.boxplot(
            [lengths[name] for name in names],
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            widths=0.55,
            medianprops={"color": COLOURS[1], "linewidth": 2},
        )
        axes.set_yticks(range(1, len(names) + 1), names)
        axes.set_xscale("log")
        axes.set_xlabel("length of the vectors")
        axes.grid(axis="y", visible=False)
    return figure


def _project(codes: Any) -> tuple[Any, str]:
    """Points (K, 2), and the name of the method."""
    try:
        from umap import UMAP
    except ImportError:
        points, held = principal_components(codes)
        return points, f"PCA, {held:.0%} of the variance"
    mapper = UMAP(n_neighbors=3, min_dist=0.1, metric="cosine", random_state=0)
    return mapper.fit_transform(codes), "UMAP"


_N_BINS, _REACH = 61, 4.0


def plot_aggregate(codes: Tensor) -> Figure:
    """The distribution of each number of a code, with the prior's density N(0, 1).

    Args:
        codes: (N, Z), drawn from the posteriors of N images.

    Raises:
        ValueError: if it is not a batch of codes.
    """
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"Codes should be (N, Z), but they are {tuple(codes.shape)}.")
    edges = torch.linspace(-_REACH, _REACH, _N_BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    width = 2 * _REACH / _N_BINS
    with new_figure(6.4, 4.0) as (figure, axes):
        for number, values in enumerate(codes.detach().float().cpu().T):
            density = torch.histogram(values, edges).hist / (len(values) * width)
            label = f"each of the {codes.shape[1]} numbers of a code" if number == 0 else None
            axes.plot(middles, density, color=COLOURS[0], alpha=0.4, label=label)
        prior = torch.exp(-(middles**2) / 2) / math.sqrt(2 * math.pi)
        axes.plot(middles, prior, "--", color="black", linewidth=2, label="prior, N(0, 1)")
        axes.set_xlabel("value")
        axes.set_ylabel("density")
        axes.legend(frameon=False)
    return figure
