"""Figures of a codebook."""

import numpy as np
import torch

from helpers.plotting import plot_codebook, plot_spread
from helpers.plotting.latent import moved_apart


def test_title_counts_codes_and_perplexity() -> None:
    usage = torch.tensor([5.0, 5.0, 0.0, 0.0, 0.0])
    figure = plot_codebook(torch.randn(5, 8), usage, title="Trained")
    assert figure.axes[0].get_title(loc="left") == "Trained: 2 of 5 codes used, perplexity 2"


def test_a_codebook_that_nobody_uses() -> None:
    plot_codebook(torch.zeros(4, 3), torch.zeros(4))


def test_spread_names_each_row_from_the_top() -> None:
    figure = plot_spread({"outputs": torch.randn(100, 4), "codes": torch.zeros(10, 4)})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["codes", "outputs"]  # from the bottom
    assert figure.axes[0].get_xscale() == "log"


def test_labels_that_would_hide_each_other_are_moved_apart() -> None:
    points = np.array([[0.5, 0.5], [0.5, 0.5], [0.51, 0.5], [0.9, 0.1]])
    moved = moved_apart(points, 0.05)
    distances = np.linalg.norm(moved[:, None] - moved[None], axis=2) + np.eye(4)
    assert distances.min() > 0.04
    assert np.abs(moved[3] - points[3]).max() < 1e-4
