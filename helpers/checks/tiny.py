"""A model of the kit's own, on which a student's training loop is tried out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TinyAutoencoder(nn.Module):
    """An autoencoder with one linear layer on each side: (N, 1, 28, 28) -> (N, 3) -> (N, 1, 28, 28).

    Attributes:
        was_training: whether it was in training mode at each call so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
        self.was_training: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 1, 28, 28)."""
        self.was_training.append(self.training and torch.is_grad_enabled())
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions
