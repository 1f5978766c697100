"""How the codes of many images lie, taken together."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from helpers.plotting import COLOURS, new_figure

_N_BINS, _REACH = 61, 4.0


def plot_aggregate(codes: Tensor) -> Figure:
    """How often each number of a code takes which value, beside the prior's density N(0, 1).

    Args:
        codes: (N, Z), drawn from the posteriors of N images.

    Raises:
        ValueError: if it is no batch of codes.
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
